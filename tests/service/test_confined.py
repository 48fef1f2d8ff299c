"""The node under the restrictions of its unit: everything works, and nothing else can be done."""

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import confined
import pydicom
import pytest
from served import ENVIRONMENT, Served, wait_for

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "dcmpress.service"

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64"
    or os.geteuid() != 0
    or not shutil.which("systemd-analyze")
    or not confined.HEADER.exists(),
    reason="needs root, systemd and the kernel's headers on x86-64",
)

#: Tries what the unit forbids, and prints what came of it.
ATTEMPTS = """
import mmap, os, resource, socket, sys
def attempt(forbidden):
    try:
        forbidden()
        print("done")
    except OSError as failure:
        print(failure.strerror)
attempt(lambda: open("/etc/dcmpress-was-here", "w"))
attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
attempt(lambda: os.setuid(1))
attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
attempt(lambda: open(sys.argv[1] + "/written", "w"))
attempt(lambda: socket.socket())
"""


def within(folder: Path) -> list[str]:
    script = str(ROOT / "tests" / "confined.py")
    return [sys.executable, script, str(UNIT), str(folder), "--"]


@pytest.fixture(autouse=True)
def _can_be_confined(tmp_path: Path) -> None:
    ended = subprocess.run([*within(tmp_path), "true"], capture_output=True, text=True)
    if ended.returncode:
        pytest.skip(f"this container allows no confinement: {ended.stderr.splitlines()[-1]}")


def test_what_the_unit_forbids_cannot_be_done(tmp_path: Path) -> None:
    command = [*within(tmp_path), sys.executable, "-c", ATTEMPTS, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [
        "Read-only file system",
        "Address family not supported by protocol",
        "Operation not permitted",
        "Operation not permitted",
        "Operation not permitted",
        "done",
        "done",
    ]


def test_the_node_begins_where_the_unit_lets_it_write() -> None:
    """Else it could not make ./received, where the settings name no destination."""
    unit = UNIT.read_text()
    [state] = confined.lines_of(unit, "StateDirectory")
    assert confined.lines_of(unit, "WorkingDirectory") == [f"%S/{state}"]


@pytest.mark.parametrize(
    ("syntax", "uid"),
    [
        ("RLELossless", "1.2.840.10008.1.2.5"),
        ("JPEGLSLossless", "1.2.840.10008.1.2.4.80"),  # in processes with limits of their own
    ],
)
def test_the_node_does_all_it_does(
    syntax: str, uid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "DCMPRESS__COMPRESSION__TRANSFER_SYNTAX", syntax)
    served = Served(tmp_path, within=within(tmp_path))
    try:
        assert served.send(2)
        wait_for(lambda: len(served.stored()) == 2)
        for path in served.stored():
            assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == uid, served.log.read_text()
        assert served.status()["is_ready"]
        [killed, *_] = served.children()["receiver"]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(set(served.children()["receiver"]) - {killed}) == 2)
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "there is no settings file" in served.log.read_text())
        wait_for(lambda: served.status()["is_ready"])
        assert served.send(1)
        served.process.terminate()
        assert served.process.wait(60) == 0
        log = served.log.read_text()
        assert "Traceback" not in log, log
        assert "not permitted" not in log, log
    finally:
        served.end()
