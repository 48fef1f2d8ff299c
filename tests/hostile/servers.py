"""Receivers to compare: ours, DCMTK's storescp, Orthanc and plain pynetdicom, each a process.

Each is as it comes, but for its AE title, its port, and the time after which it gives a silent
peer up, which is a second wherever there is such a setting. One that ends is started again.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from network.peers import ENVIRONMENT, free_port, wait_until
from network.raw_peer import RELEASE_RQ, RawPeer, associate_rq, echo_rq, message, status
from peers import which

AE_TITLE = "GUARDED"
Command = Callable[[Path, int], list[str]]

_PYNETDICOM = """
import sys
from pynetdicom import AE, AllStoragePresentationContexts, ALL_TRANSFER_SYNTAXES, evt
ae = AE("GUARDED")
ae.require_called_aet = True
ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 1
for context in AllStoragePresentationContexts[:120]:
    ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
ae.add_supported_context("1.2.840.10008.1.1")
def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(sys.argv[2] + "/" + event.request.AffectedSOPInstanceUID.replace("/", "_"))
    return 0
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, store)])
"""


def _ours(folder: Path, port: int) -> list[str]:
    settings = f"""
[node]
ae_title = "{AE_TITLE}"
port = {port}
receivers = 1
state_directory = "{folder}/state"
[limits]
artim_seconds = 1
idle_seconds = 1
pdu_seconds = 1
max_pdu_bytes = 16384
instance_bytes = 10000000
memory_bytes = 50000
[spool]
reserve_bytes = 0
reserve_percent = 0
[status]
port = 0
[[destination]]
name = "disk"
directory = "{folder}/out"
"""
    (folder / "node.toml").write_text(settings)
    return [sys.executable, "-m", "node", "serve", str(folder / "node.toml")]


def _storescp(folder: Path, port: int) -> list[str]:
    (folder / "out").mkdir(exist_ok=True)
    options = ["-aet", AE_TITLE, "-od", str(folder / "out"), "+xa", "-ta", "1", "-td", "1"]
    return ["storescp", *options, str(port)]


def _orthanc(folder: Path, port: int) -> list[str]:
    settings = {
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "DicomCheckCalledAet": True,
        "DicomScpTimeout": 1,
        "HttpServerEnabled": False,
        "StorageDirectory": str(folder / "out"),
        "IndexDirectory": str(folder / "out"),
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    return ["Orthanc", str(folder / "orthanc.json")]


def _pynetdicom(folder: Path, port: int) -> list[str]:
    (folder / "out").mkdir(exist_ok=True)
    return [sys.executable, "-c", _PYNETDICOM, str(port), str(folder / "out")]


COMMANDS: dict[str, Command] = {
    "dcmpress": _ours,
    "storescp": _storescp,
    "Orthanc": _orthanc,
    "pynetdicom": _pynetdicom,
}
#: Another process may take a free port before it is listened on.
_STARTS = 3
_PROGRAMS = {"storescp": "storescp", "Orthanc": "Orthanc"}


def available() -> list[str]:
    """Return the receivers that are installed here."""
    return [name for name in COMMANDS if name not in _PROGRAMS or which(_PROGRAMS[name])]


@dataclass
class Server:
    """One receiver that is started, asked whether it lives, and started again where it does not."""

    name: str
    folder: Path
    port: int = field(default_factory=free_port)
    deaths: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    @property
    def pid(self) -> int:
        """Its process, the first of several."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it answers; elsewhere where its port was taken meanwhile."""
        for _ in range(_STARTS):
            command = COMMANDS[self.name](self.folder, self.port)
            with open(self.folder / "log", "ab") as log:
                process = subprocess.Popen(
                    command, cwd=self.folder, env=ENVIRONMENT, stdout=log, stderr=log
                )
            self.process = process
            wait_until(
                lambda p=process: p.poll() is not None or self.answers(), f"{self.name} answers", 60
            )
            if process.poll() is None:
                return
            self.port = free_port()
        raise AssertionError((self.folder / "log").read_text())

    def answers(self, seconds: float = 2.0) -> bool:
        """Tell whether an honest C-ECHO is answered in that time."""
        try:
            with RawPeer(self.address) as peer:
                peer.sock.settimeout(seconds)
                peer.send([associate_rq(called=AE_TITLE.encode())])
                answers = [peer.receive()]
                peer.send([message(3, echo_rq())])
                answers.append(peer.receive())
                peer.send([RELEASE_RQ])
                peer.receive()
                return answers == ["A-ASSOCIATE-AC", status(0)]
        except (OSError, ValueError, KeyError):
            return False

    def revive(self) -> str:
        """Return what has become of it: "", "deaf", or "DIED"; then it is well again."""
        assert self.process is not None
        if self.process.poll() is not None:
            self.deaths += 1
            self.start()
            return "DIED"
        if self.answers():
            return ""
        with contextlib.suppress(AssertionError):
            wait_until(self.answers, f"{self.name} answers", 5)
            return "deaf for seconds"
        self.stop()
        self.start()
        return "DEAF, restarted"

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def running(name: str) -> Iterator[Server]:
    """Run a receiver."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        server = Server(name, Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()
