"""Fuzz what reads the wire: `python tests/fuzz/fuzz_pdu.py [atheris options]`.

The invariant: whatever arrives, before an association or in one, is answered with PDUs of the
Standard or with nothing; nothing raises, nothing waits, no spill file stays, and memory is given
back. The peer is a socket pair, so an execution costs no port and no thread. Without atheris
(`--count N`) the same target runs on random input.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

import harness  # noqa: E402, first: it sets the path

with harness.instrumented("node.network", "pynetdicom.pdu", "pynetdicom.pdu_items"):
    from network.raw_peer import associate_rq, echo_rq, message, p_data, pdv, store_rq
    from pynetdicom import AE, build_context, evt
    from pynetdicom._globals import MODE_ACCEPTOR
    from pynetdicom.sop_class import CTImageStorage, Verification
    from pynetdicom.transport import AddressInformation

    from node.network.association import NodeAssociation
    from node.network.connection import Connection
    from node.network.dimse import received_data
    from node.network.limits import Limits

SPILL = Path(tempfile.mkdtemp(prefix="fuzz"))
LIMITS = Limits(
    artim_seconds=0.2,
    idle_seconds=0.2,
    pdu_seconds=0.2,
    pdu_bytes_per_second=1e9,
    send_seconds=0.2,
    close_seconds=0.2,
    refuse_seconds=0.2,
    memory_bytes=300,
    instance_bytes=20_000,
    discard_bytes=20_000,
    message_bytes=20_000,
)
_AE = AE("GUARDED")
_CONTEXTS = [build_context(Verification), build_context(CTImageStorage)]
CAUGHT: list[str] = []
_LONGEST_ANSWER = 1 << 20


def store(event: evt.Event) -> int:
    """Look at every byte."""
    assert len(bytes(received_data(event).buffer)) == received_data(event).nbytes
    return 0x0000


def one(data: bytes) -> None:
    """Give `data` to an acceptor, whose first byte chooses what comes before it."""
    if not data:
        return
    ours, theirs = socket.socketpair()
    assoc = NodeAssociation(_AE, MODE_ACCEPTOR, LIMITS, SPILL)
    assoc.set_socket(_PairConnection(assoc, ours))
    assoc.acceptor.ae_title = "GUARDED"
    assoc.acceptor.supported_contexts = _CONTEXTS
    address = AddressInformation("127.0.0.1", 104)
    assoc.acceptor.address_info = assoc.requestor.address_info = address
    assoc.bind(evt.EVT_C_STORE, store)
    try:
        theirs.sendall(_opening(data[0]) + data[1:])
        theirs.shutdown(socket.SHUT_WR)
        assoc.run_reactor()
        check_answers(theirs)
    finally:
        theirs.close()
        ours.close()
    assert not list(SPILL.iterdir())
    assert not CAUGHT, CAUGHT


class _PairConnection(Connection):
    """A connection over a socket pair, which knows no TCP options."""

    def __init__(self, assoc: NodeAssociation, sock: socket.socket) -> None:
        super().__init__(assoc)
        self.socket = sock
        self._is_connected = True
        sock.settimeout(None)


def _opening(choice: int) -> bytes:
    """Return what is sent before the fuzzed bytes: nothing, a request, half a message, ..."""
    begun = p_data(pdv(1, 3, store_rq()))
    openings = [
        b"",
        associate_rq(),
        associate_rq() + message(3, echo_rq()),
        associate_rq() + begun,
        associate_rq() + begun + p_data(pdv(1, 0, bytes(500))),
        associate_rq() + struct.pack(">BxI", 4, 60),
        struct.pack(">BxI", 1, 200) + associate_rq()[6:74],
    ]
    return openings[choice % len(openings)]


def check_answers(theirs: socket.socket) -> None:
    """Assert that what came back is whole PDUs of known types, the last of its kind at the end."""
    answers = b""
    theirs.settimeout(1)
    try:
        while data := theirs.recv(65536):
            answers += data
            assert len(answers) < _LONGEST_ANSWER
    except ConnectionResetError:
        return
    aborts = 0
    while answers:
        kind, length = struct.unpack_from(">BxI", answers)
        assert kind in (2, 3, 4, 6, 7), kind
        assert aborts == 0, "something after A-ABORT"
        aborts += kind == 7
        answers = answers[6 + length :]


class _Caught(logging.Handler):
    """Keeps what was logged as an error: an exception that the association caught."""

    def emit(self, record: logging.LogRecord) -> None:
        # pynetdicom logs how it failed to decode a name, and goes on.
        if record.exc_info and record.name != "pynetdicom.utils":
            CAUGHT.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@contextlib.contextmanager
def listening_for_errors() -> Iterator[None]:
    """Be quiet, but notice errors."""
    handler = _Caught()
    loggers = [logging.getLogger(name) for name in ("node", "pynetdicom")]
    for logger in loggers:
        logger.propagate = False
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.propagate = True
            logger.removeHandler(handler)


def main() -> None:
    """Fuzz, with atheris where it is installed and nothing else is asked for."""
    with listening_for_errors():
        if "--count" in sys.argv:
            rng = random.Random(0)
            for _ in range(int(sys.argv[sys.argv.index("--count") + 1])):
                one(mutated(rng))
            return
        rng = random.Random(1)
        seeds = [mutated(rng) for _ in range(50)]
        harness.run(one, seeds)


def mutated(rng: random.Random) -> bytes:
    """Return a plausible conversation with some bytes changed."""
    talk = bytearray(
        rng.choice([b"", associate_rq()])
        + message(1, store_rq(), bytes(rng.randrange(600)))
        + message(3, echo_rq())
    )
    for _ in range(rng.randrange(1, 6)):
        talk[rng.randrange(len(talk))] = rng.randrange(256)
    return bytes([rng.randrange(7)]) + bytes(talk[: rng.randrange(1, len(talk))])


if __name__ == "__main__":
    main()
