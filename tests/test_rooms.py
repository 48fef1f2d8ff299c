"""The rooms of the package and the rules between them, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import node

ROOT = Path(node.__file__).parent
MODULES = {
    ".".join(("node", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}
#: Imports go down only. Rooms of one rank: those that may import each other, and those that not.
RANK = {
    "": 9,  # the package itself names what programs may use
    "__main__": 8,
    "cli": 7,
    "service": 6,
    "delivery": 5,
    "network": 4,
    "spool": 3,
    "pixels": 3,
    "dicom": 2,
    "model": 1,
    "events": 1,
    "settings": 1,
    "errors": 0,
    "reasons": 0,
    "words": 0,
}
#: Tables of the Standard's numbers without an import of ours: errors and settings carry them.
LEAVES = {"node.dicom.status", "node.dicom.uids"}
PURE = {
    *(name for name in MODULES if name.startswith("node.dicom")),
    "node.pixels.policy",
    "node.delivery.schedule",
    "node.spool.states",
}
IMPURE_IMPORTS = {"os", "socket", "time", "threading", "subprocess"}
DURABLE = "node.spool.durable"
DURABLE_CALLS = {"fsync", "fdatasync", "rename", "renames", "link", "hardlink_to"}


def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


def imports(module: str) -> Iterator[str]:
    """Every module that `module` imports, wherever in it, as a full name."""
    for found in ast.walk(tree_of(module)):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0, "a relative import"
            name = str(found.module)
            for alias in found.names:
                full = f"{name}.{alias.name}"
                yield full if full in MODULES else name


def room(module: str) -> str:
    """The room of a module: the part of its name behind `node`."""
    return module.split(".")[1] if "." in module else ""


def calls(module: str) -> Iterator[ast.Call]:
    return (found for found in ast.walk(tree_of(module)) if isinstance(found, ast.Call))


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    here = room(module)
    for imported in imports(module):
        if not imported.startswith("node.") or imported in LEAVES or room(imported) == here:
            continue
        there = room(imported)
        assert RANK[there] < RANK[here], f"{module} imports {imported}"


def test_every_room_has_a_rank() -> None:
    assert {room(module) for module in MODULES} == set(RANK)


def test_a_leaf_imports_nothing_of_ours() -> None:
    for leaf in LEAVES:
        assert not [name for name in imports(leaf) if name.startswith("node")]


@pytest.mark.parametrize("module", MODULES)
def test_only_the_network_room_imports_pynetdicom(module: str) -> None:
    if room(module) != "network":
        assert not [name for name in imports(module) if name.split(".")[0] == "pynetdicom"]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {DURABLE}))
def test_only_the_spool_makes_files_durable(module: str) -> None:
    """Calls of os.fsync and its like, of Path.rename and Path.replace, and of shutil.move."""
    for call in calls(module):
        if not isinstance(call.func, ast.Attribute):
            continue
        name, owner = call.func.attr, ast.unparse(call.func.value)
        where = f"{module}:{call.lineno}: {owner}.{name}"
        if owner in ("os", "shutil"):
            assert name not in {*DURABLE_CALLS, "replace", "move"}, where
        elif name == "replace":
            # str.replace has two arguments; Path.replace has one.
            assert len(call.args) != 1 or call.keywords, where
        elif name in ("rename", "hardlink_to"):
            raise AssertionError(where)
    from_os = [
        alias.name
        for found in ast.walk(tree_of(module))
        if isinstance(found, ast.ImportFrom) and found.module in ("os", "shutil")
        for alias in found.names
    ]
    assert not {*DURABLE_CALLS, "replace", "move"} & set(from_os)


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_pure_module_has_no_file_socket_thread_or_clock(module: str) -> None:
    assert not IMPURE_IMPORTS & {name.split(".")[0] for name in imports(module)}
    opened = [
        call.lineno for call in calls(module) if ast.unparse(call.func) in ("open", "io.open")
    ]
    assert not opened, f"{module} opens a file in lines {opened}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_opens_with_its_contract(module: str) -> None:
    assert ast.get_docstring(tree_of(module))
