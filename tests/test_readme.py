"""README.md's tables of codes and the code say the same: what one has the other has."""

from __future__ import annotations

import ast
import importlib
import itertools
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import readme
from readme import ROOT

import node
from node import cli
from node.dicom import status
from node.errors import InstanceRefused, NodeError
from node.network import acse, services, store_scp

#: Result, source, and reason or diagnostic.
_TRIPLES = frozenset(itertools.product((1, 2), (1, 2, 3), range(1, 11)))
NETWORK = Path(node.__file__).parent / "network"


@pytest.fixture(scope="module", autouse=True)
def everything() -> None:
    """Every module is loaded, so that every failure there is known."""
    for module in pkgutil.walk_packages(node.__path__, "node."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def first_column(heading: str) -> list[str]:
    """The cells in the first column of the table below a heading of README.md."""
    table = readme.text().split(f"### {heading}\n")[1].split("\n#")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip() for row in rows[2:]]


def kinds(failure: type[NodeError]) -> Iterator[type[NodeError]]:
    yield failure
    for kind in failure.__subclasses__():
        yield from kinds(kind)


def test_exit_codes() -> None:
    possible = {0, cli.INTERRUPTED, *(kind.exit_code for kind in kinds(NodeError))}
    assert sorted(map(int, first_column("Exit codes"))) == sorted(possible)


def statuses_named_in(module: object) -> set[int]:
    """The statuses that a module names, whatever for."""
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))  # type: ignore[attr-defined]
    names = [
        each.attr
        for each in ast.walk(tree)
        if isinstance(each, ast.Attribute)
        and isinstance(each.value, ast.Name)
        and each.value.id == "status"
    ]
    return {code for name in names if isinstance(code := getattr(status, name, None), int)}


def test_statuses() -> None:
    refusals = {kind.dimse_status for kind in kinds(InstanceRefused)}  # type: ignore[attr-defined]
    possible = refusals | statuses_named_in(services) | statuses_named_in(store_scp)
    cells = [cell for cell in first_column("What a sender is told") if "RJ" not in cell]
    shown = [int(code, 16) for cell in cells for code in cell.split(", ")]
    assert sorted(shown) == sorted(possible)


def rejections_in(source: str) -> set[tuple[int, ...]]:
    """The triples of result, source and reason that a module has (PS3.8 Table 9-21)."""
    triples = [
        tuple(part.value for part in each.elts if isinstance(part, ast.Constant))
        for each in ast.walk(ast.parse(source))
        if isinstance(each, ast.Tuple) and len(each.elts) == 3
    ]
    return {each for each in triples if all(type(n) is int for n in each) and each in _TRIPLES}


def test_rejections() -> None:
    loaded = [each for name, each in sys.modules.items() if name.startswith("node.network.")]
    constants = [value for module in loaded for value in vars(module).values()]
    possible = {tuple(value[7:10]) for value in constants if is_rejection(value)}
    assert possible
    for module in NETWORK.glob("*.py"):
        possible |= rejections_in(module.read_text("utf-8"))
    # What pynetdicom says by itself is in the table of bad input.
    rows = (ROOT / "tests" / "hostile" / "rows.py").read_text("utf-8")
    possible |= {tuple(map(int, each)) for each in re.findall(r"reject\((\d), (\d), (\d)\)", rows)}
    # Not ours: what pynetdicom would say, which is replaced.
    possible.discard(acse._IDENTITY_REFUSED)
    shown = re.findall(r"A-ASSOCIATE-RJ \((\d),(\d),(\d)\)", readme.text())
    assert {tuple(map(int, each)) for each in shown} == possible


def is_rejection(value: object) -> bool:
    """Tell an A-ASSOCIATE-RJ from all else (PS3.8 9.3.4)."""
    return isinstance(value, bytes) and value.startswith(b"\x03\0\0\0\0\4")
