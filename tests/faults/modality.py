"""A modality that never gives up: it sends each instance until it is acknowledged.

    python -m faults.modality PORT LEDGER ASSOCIATIONS FIRST COUNT

sends from a process of its own, over several associations at once, until all is acknowledged or
its stdin is closed; then what is under way is finished. Every answer goes into the ledger.
"""

from __future__ import annotations

import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import peers
from faults.ledger import Ledger
from faults.made import Instance, made

from node.dicom.contexts import Proposal
from node.errors import NodeError
from node.network.store_scu import Peer, StoreSCU, connect

#: Instances that go over one association before a new one is made.
BATCH = 10
#: How long it waits before it tries again, and for an answer, in seconds.
PAUSE, PATIENCE = 0.02, 60.0


class Modality:
    """One sender, used from one thread; `close` releases its association."""

    def __init__(self, port: int, ledger: Ledger, patience: float = PATIENCE) -> None:
        self._peer = Peer(
            ae_title=peers.NODE,
            host="127.0.0.1",
            port=port,
            calling_ae_title=peers.MODALITY,
            connect_seconds=patience,
            response_seconds=patience,
        )
        self._ledger = ledger
        self._scu: StoreSCU | None = None
        self._sent = 0

    def send(self, instance: Instance) -> int | None:
        """Send once; the status, or None where there was no answer. Both go into the ledger."""
        answer = self._send(instance)
        self._ledger.write(instance, answer)
        return answer

    def send_until_taken(self, instance: Instance, stop: threading.Event | None = None) -> None:
        """Send again and again until it is acknowledged or `stop` is set."""
        while self.send(instance) != 0 and not (stop is not None and stop.is_set()):
            time.sleep(PAUSE)

    def close(self) -> None:
        """Release the association."""
        if self._scu is not None:
            self._scu.close()
            self._scu = None

    def _send(self, instance: Instance) -> int | None:
        syntax = instance.transfer_syntax_uid
        try:
            scu = self._association_for(instance)
            uids = instance.sop_class_uid, instance.sop_instance_uid
            self._sent += 1
            return scu.send(*uids, syntax, [instance.data_set]).status
        except (NodeError, OSError, KeyError):
            if self._scu is not None:
                self._scu.abort()
                self._scu = None
            return None

    def _association_for(self, instance: Instance) -> StoreSCU:
        if self._scu is not None and (self._sent >= BATCH or not self._scu.is_open):
            self.close()
        if self._scu is None:
            looks = [made(number) for number in range(48)]
            looks.append(instance)
            proposals = {Proposal(one.sop_class_uid, one.transfer_syntax_uid) for one in looks}
            self._scu, self._sent = connect(self._peer, sorted(proposals)), 0
        return self._scu


def send_all(
    port: int, ledger: Ledger, numbers: Iterable[int], stop: threading.Event | None = None
) -> None:
    """Send the instances of these numbers, one after the other, each until it is acknowledged."""
    modality = Modality(port, ledger)
    for number in numbers:
        if stop is not None and stop.is_set():
            break
        modality.send_until_taken(made(number), stop)
    modality.close()


class Sending:
    """`send_all` in a process of its own, over several associations."""

    def __init__(
        self, port: int, ledger: Ledger, *, associations: int, first: int, count: int
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.modality", *map(str, (port, ledger.path, associations)),
             str(first), str(count)],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
        )  # fmt: skip

    @property
    def is_done(self) -> bool:
        """Whether everything was acknowledged."""
        return self._process.poll() is not None

    def finish(self, seconds: float = 60) -> None:
        """Wait until all is acknowledged."""
        assert self._process.wait(seconds) == 0

    def stop(self, seconds: float = 60) -> None:
        """Let it finish what is under way."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(seconds) == 0

    def kill(self) -> None:
        """End it now, if it has not ended."""
        self._process.kill()
        self._process.wait()


def _main(port: int, path: str, associations: int, first: int, count: int) -> None:
    ledger, stop = Ledger(Path(path)), threading.Event()
    threads = [
        threading.Thread(
            target=send_all,
            args=(port, ledger, range(first + at, first + count, associations), stop),
        )
        for at in range(associations)
    ]
    for thread in threads:
        thread.start()
    closed = select.poll()
    closed.register(sys.stdin, select.POLLIN | select.POLLHUP)
    while any(thread.is_alive() for thread in threads):
        if not stop.is_set() and closed.poll(50):
            stop.set()
        elif stop.is_set():
            time.sleep(0.05)


if __name__ == "__main__":
    port, path, *numbers = sys.argv[1:]
    _main(int(port), path, *map(int, numbers))
