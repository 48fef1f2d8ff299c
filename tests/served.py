"""The real command: `dcmpress serve` started, asked, and the instances to send to it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

from node.dicom.contexts import Proposal
from node.dicom.uids import EXPLICIT_VR_LE
from node.network.store_scu import Peer, StoreSCU, connect

ENVIRONMENT = {
    **os.environ,
    "DCMPRESS__SPOOL__RESERVE_BYTES": "0",
    "DCMPRESS__SPOOL__RESERVE_PERCENT": "0",
}


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A `dcmpress serve` and what it printed."""

    def __init__(
        self,
        root: Path,
        *arguments: str,
        safe_path: bool = False,
        within: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        """`within` is a command that runs it; it has to become it."""
        self.root = root
        self.status_port = free_port()
        self.log = root / "log"
        self.process = subprocess.Popen(
            [
                *within, sys.executable, *(["-P"] * safe_path), "-m", "node", "serve",
                "--port", "0", "--state", str(root / "state"), "--store", str(root / "out"),
                "--status-port", str(self.status_port), "--receivers", "2", *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=self.log.open("ab"),
            text=True,
            env=ENVIRONMENT,
            cwd=root,
            pass_fds=pass_fds,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        assert self.line.startswith("listening AE="), self.log.read_text()
        self.port = int(self.line.rsplit(":", 1)[1])

    def children(self) -> dict[str, list[int]]:
        """Process IDs by role."""
        found: dict[str, list[int]] = {"receiver": [], "deliverer": []}
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in path.read_text().split():
            with contextlib.suppress(OSError, ValueError):  # ended, or not yet exec'd
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                role = words[words.index(b"node.service.process") + 1].decode()
                found[role].append(int(child))
        return found

    def processes(self) -> list[int]:
        return [child for role in self.children().values() for child in role]

    def status(self) -> dict[str, object]:
        url = f"http://127.0.0.1:{self.status_port}/api/v1/status"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return dict(json.load(answer))

    def stored(self) -> list[Path]:
        return sorted((self.root / "out").rglob("*.dcm"))

    def connect(self, calling: str = "TEST", called: str = "DCMPRESS") -> StoreSCU:
        """Return an association on which CT instances may be sent."""
        peer = Peer(
            ae_title=called,
            host="127.0.0.1",
            port=self.port,
            calling_ae_title=calling,
            connect_seconds=60,
        )
        return connect(peer, [Proposal(pydicom.examples.ct.SOPClassUID, EXPLICIT_VR_LE)])

    def audit(self) -> list[dict[str, object]]:
        """The audit trail."""
        files = sorted((self.root / "state" / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def events(self, kind: str) -> list[dict[str, object]]:
        """The events of one kind in the audit trail."""
        return [event for event in self.audit() if event["event"] == kind]

    def end(self) -> None:
        """Kill it, however it is."""
        self.process.kill()
        self.process.wait()

    def send(self, count: int = 1) -> list[str]:
        """Send CT instances and return their UIDs, each answered with Success."""
        ds = pydicom.dcmread(pydicom.examples.get_path("ct"))
        scu = self.connect()
        sent = []
        for _ in range(count):
            ds.SOPInstanceUID = generate_uid()
            response = scu.send(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT_VR_LE, [encoded(ds)])
            assert response.status == 0
            sent.append(str(ds.SOPInstanceUID))
        scu.close()
        return sent


def encoded(ds: pydicom.Dataset) -> bytes:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, ds)
    return stream.getvalue()


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "node", *arguments],
        capture_output=True, text=True, timeout=60, cwd=cwd, env=ENVIRONMENT,
    )  # fmt: skip
