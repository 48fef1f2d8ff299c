"""Where there is no compiler the install goes on, and pylibjpeg-rle serves for the kernel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from pydicom import examples

ROOT = Path(__file__).resolve().parents[2]
WORK = """
import io, sys, pydicom
from node.pixels import compress, rle
from node.pixels.codecs import in_use
from node.pixels.policy import Options
assert rle.__file__.startswith(sys.argv[1]), rle.__file__
assert rle.KERNEL == "pylibjpeg", rle.KERNEL
print(in_use(Options()))
file = open(sys.argv[2], "rb").read()
before, after = (pydicom.dcmread(io.BytesIO(one)) for one in (file, compress(file)))
assert after.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
assert (after.pixel_array == before.pixel_array).all()
"""


def test_an_install_without_a_compiler(tmp_path: Path) -> None:
    wanted = ("setuptools", "wheel")
    if not all(importlib.util.find_spec(name) for name in wanted):
        pytest.skip("setuptools and wheel are not installed: nothing can be built here offline")
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools is older than 77")
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(ROOT / "node", source / "node", ignore=shutil.ignore_patterns("*.so", "*.pyc"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "-w", str(tmp_path / "wheel"), str(source)],
        env=os.environ | {"CC": "false"},
        check=True,
        timeout=200,
    )
    [wheel] = (tmp_path / "wheel").iterdir()
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(installed)
    shown = subprocess.run(
        [sys.executable, "-c", WORK, str(installed), str(examples.get_path("ct"))],
        env=os.environ | {"PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert shown.returncode == 0, shown.stderr
    assert "RLE Lossless by pylibjpeg-rle" in shown.stdout
