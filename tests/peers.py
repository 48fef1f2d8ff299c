"""Peers that a node talks to: DCMTK's and GDCM's programs, and pynetdicom's own SCP, on loopback.

Real programs, never stand-ins. Where one is not installed the test skips with the reason shown,
but in CI (environment variable CI is "true") a missing peer is a failure.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import instances
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from node.dicom.contexts import Proposal
from node.network.store_scu import Peer, StoreSCU, connect


def _others_path() -> str:
    """Return PATH without this environment's programs: pynetdicom has a storescu of its own."""
    ours = Path(sys.prefix, "bin").resolve()
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(each for each in folders if Path(each or ".").resolve() != ours)


#: Without TCP_NODELAY DCMTK waits 40 ms for an acknowledgement in every exchange.
ENVIRONMENT = {**os.environ, "PATH": _others_path(), "TCP_NODELAY": "1"}
#: A peer that takes longer has failed.
PATIENCE = 90.0
#: Somebody else may take a free port first: so many are tried.
_PORTS = 5
#: The AE title of every node and every downstream here.
NODE, MODALITY, DOWNSTREAM = "DCMPRESS", "MODALITY", "DOWNSTREAM"


def which(program: str) -> str | None:
    """Return the path of another implementation's program, None where it is not installed."""
    return shutil.which(program, path=ENVIRONMENT["PATH"])


def need(program: str) -> str:
    """Return the path of `program`, or skip the test where it is not installed."""
    path = which(program)
    if path is None:
        missing(f"{program} is not installed")
    return path


def missing(reason: str) -> None:
    """Skip, or fail in CI, where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI no peer may be missing", pytrace=False)
    pytest.skip(reason)


def version(program: str) -> str:
    """Return what `program --version` begins with, for the header of the test run."""
    path = which(program)
    if path is None:
        return f"{program} absent"
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    first, *_ = [*filter(None, (shown.stdout + shown.stderr).splitlines()), "of unknown version"]
    return first.strip("$ ").split("$")[0].strip()


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a peer's program to its end."""
    return subprocess.run(
        [need(program), *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        check=False,
    )


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait for `condition` to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.005)


def free_port() -> int:
    """Return a port that nobody listens on, of those that the kernel gives to nobody who connects.

    What connects is given one of the others, and would have it before it is listened on.
    """
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            port = random.SystemRandom().randrange(20_000, 32_768)
            probe.bind(("127.0.0.1", port))
            return port


# -- requestors ----------------------------------------------------------------------------------


def storescu(
    port: int, *files: Path, options: Iterable[object] = (), called: str = NODE
) -> subprocess.CompletedProcess[str]:
    """Send with DCMTK's storescu; its output tells the status of each instance."""
    titles = ("-aet", MODALITY, "-aec", called)
    return run("storescu", "-v", *titles, *options, "127.0.0.1", port, *files)


def dcmsend(
    port: int, *files: Path, options: Iterable[object] = (), called: str = NODE
) -> subprocess.CompletedProcess[str]:
    """Send with DCMTK's dcmsend."""
    titles = ("-aet", MODALITY, "-aec", called)
    return run("dcmsend", "-v", *titles, *options, "127.0.0.1", port, *files)


#: What GDCM 3.0.21 says before it ends itself, after an association that was released in order.
_GDCM_DEFECT = "ProtocolStream as nullptr is invalid"


def gdcmscu(port: int, *files: Path, called: str = NODE) -> bool:
    """Send with GDCM's gdcmscu, or send a C-ECHO without files; tell whether it had no complaint.

    Whether everything arrived is for the caller to see: it says nothing of statuses.
    """
    titles = ("--aetitle", MODALITY, "--call", called)
    operation = "--store" if files else "--echo"
    ended = run("gdcmscu", operation, *titles, "127.0.0.1", port, *files)
    return ended.returncode == 0 or _GDCM_DEFECT in ended.stderr


def echoscu(port: int, called: str = NODE) -> subprocess.CompletedProcess[str]:
    """Send a C-ECHO with DCMTK's echoscu."""
    return run("echoscu", "-v", "-aet", MODALITY, "-aec", called, "127.0.0.1", port)


def connected(
    port: int, *proposals: tuple[str, str], called: str = NODE, calling: str = MODALITY
) -> StoreSCU:
    """An association over which data sets go as the bytes they are, looked into by nobody."""
    peer = Peer(ae_title=called, host="127.0.0.1", port=port, calling_ae_title=calling)
    return connect(peer, [Proposal(*proposal) for proposal in proposals])


def send(port: int, ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> int:
    """Send one instance on an association of its own and return the status."""
    scu = connected(port, (str(ds.SOPClassUID), syntax))
    try:
        uids = str(ds.SOPClassUID), str(ds.SOPInstanceUID)
        return scu.send(*uids, syntax, [instances.encoded(ds, syntax)]).status
    finally:
        scu.close()


# -- downstream ----------------------------------------------------------------------------------


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _has_begun_or_ended(process: subprocess.Popen[bytes], port: int) -> bool:
    return process.poll() is not None or _listens(port)


@contextlib.contextmanager
def storescp(folder: Path, *options: str, port: int | None = None) -> Iterator[int]:
    """Run DCMTK's storescp on a port, writing into `folder` what it gets, bit for bit."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [need("storescp"), "-aet", DOWNSTREAM, "-od", str(folder), "+B", *options]
    for _ in range(_PORTS):
        found = port or free_port()
        with subprocess.Popen(
            [*command, str(found)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
        ) as process:
            try:
                wait_until(partial(_has_begun_or_ended, process, found), "storescp listens")
                if process.poll() is None:
                    yield found
                    return
            finally:
                process.kill()
    raise AssertionError("storescp ended: its ports were all taken")


@dataclass
class Downstream:
    """A pynetdicom SCP that answers with the statuses it was told to, the last one for ever."""

    port: int
    statuses: list[int]
    received: list[tuple[str, str, bytes]] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    associations: Callable[[], list[object]] = list

    def answer(self, event: evt.Event) -> Dataset:
        """Note what came and give the next status."""
        with self.lock:
            code = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            request = event.request
            self.received.append(
                (
                    str(request.AffectedSOPInstanceUID),
                    str(event.context.transfer_syntax),
                    request.DataSet.getvalue(),
                )
            )
            self.answered.append(code)
        response = Dataset()
        response.Status = code
        if code:
            response.ErrorComment = f"told to say {code:04X}"
        return response


@contextlib.contextmanager
def downstream(
    *statuses: int,
    sop_classes: Iterable[str],
    transfer_syntaxes: Iterable[str],
    port: int | None = None,
) -> Iterator[Downstream]:
    """Run pynetdicom's SCP, as it comes."""
    ae = AE(ae_title=DOWNSTREAM)
    ae.supported_contexts = [
        build_context(sop_class, list(transfer_syntaxes)) for sop_class in sop_classes
    ]
    peer = Downstream(port or free_port(), list(statuses) or [0])
    server = ae.start_server(
        ("127.0.0.1", peer.port), block=False, evt_handlers=[(evt.EVT_C_STORE, peer.answer)]
    )
    peer.associations = lambda: server.active_associations
    try:
        yield peer
    finally:
        for association in server.active_associations:
            association.abort()
        server.shutdown()
