"""`dcmpress demo`: every sample goes through a node, and a pixel that differs is seen."""

from __future__ import annotations

import time
from pathlib import Path

import pydicom
from pydicom import examples

from node.cli import demo, main


def test_the_table(capsys):
    began = time.perf_counter()
    assert main(["demo"]) == 0
    assert time.perf_counter() - began < 5
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines()]
    assert sum(row[-1:] == ["identical"] for row in rows) == 9
    assert sum(row[-1:] == ["none"] for row in rows) == 2
    assert ["CT", "16", "bits", "38.9", "kB", "27.1", "kB", "1.43"] in [row[:8] for row in rows]
    assert "storescu -aec DCMPRESS 127.0.0.1 11112" in shown


def test_a_pixel_that_differs_is_seen(monkeypatch, capsys):
    monkeypatch.setattr(demo, "same_pixels", lambda sent, stored: False)
    assert main(["demo"]) == 1
    shown = capsys.readouterr()
    assert "DIFFER" in shown.out
    assert "pixels differ" in shown.err


def test_same_pixels(tmp_path):
    ct = Path(examples.get_path("ct"))
    dataset = pydicom.dcmread(ct)
    changed = bytearray(dataset.PixelData)
    changed[1000] ^= 1
    dataset.PixelData = bytes(changed)
    dataset.save_as(tmp_path / "changed.dcm")
    assert demo.same_pixels(ct, ct) is True
    assert demo.same_pixels(ct, tmp_path / "changed.dcm") is False
    assert demo.same_pixels(Path(examples.get_path("rt_plan")), ct) is None
