"""A scripted peer: raw PDUs out, raw PDUs in. Knows the Standard's layout and nothing of ours."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Sequence

VERIFICATION = b"1.2.840.10008.1.1"
CT_IMAGE_STORAGE = b"1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_VR_LE = b"1.2.840.10008.1.2"
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"

#: The peer speaks long before this; a test that gets here has failed.
PATIENCE = 15.0


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(
    context_id: int, abstract: Sequence[bytes] = (CT_IMAGE_STORAGE,), transfer=(IMPLICIT_VR_LE,)
) -> bytes:
    names = b"".join(item(0x30, uid) for uid in abstract)
    names += b"".join(item(0x40, uid) for uid in transfer)
    return item(0x20, bytes([context_id, 0, 0, 0]) + names)


def user_information(maximum_length: int = 16384, more: bytes = b"") -> bytes:
    sub_items = item(0x51, struct.pack(">I", maximum_length)) + item(0x52, b"1.2.3.4")
    return item(0x50, sub_items + more)


def associate_rq(
    *items: bytes,
    called: bytes = b"GUARDED",
    calling: bytes = b"PEER",
    version: int = 1,
    application_context: bytes = APPLICATION_CONTEXT,
    user: bytes | None = None,
) -> bytes:
    """Return an A-ASSOCIATE-RQ; without items it proposes CT storage as 1, verification as 3."""
    contexts = b"".join(items) or context(1) + context(3, [VERIFICATION])
    body = struct.pack(">H2x16s16s32x", version, called.ljust(16), calling.ljust(16))
    body += item(0x10, application_context) + contexts
    body += user_information() if user is None else user
    return pdu(0x01, body)


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def pdv(context_id: int, flags: int, data: bytes, length: int | None = None) -> bytes:
    return (
        struct.pack(">IBB", len(data) + 2 if length is None else length, context_id, flags) + data
    )


def p_data(*pdvs: bytes) -> bytes:
    return pdu(0x04, b"".join(pdvs))


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def us(number: int, value: int) -> bytes:
    return element(number, struct.pack("<H", value))


def ui(number: int, value: bytes) -> bytes:
    return element(number, value + b"\0" * (len(value) % 2))


def command_set(*elements: bytes, group_length: int | None = None) -> bytes:
    body = b"".join(elements)
    return element(0, struct.pack("<I", len(body) if group_length is None else group_length)) + body


def store_rq(
    message_id: int = 7,
    sop_class: bytes | None = CT_IMAGE_STORAGE,
    sop_instance: bytes | None = b"1.2.3",
    data_set: bool = True,
) -> bytes:
    elements = [ui(0x0002, sop_class)] if sop_class is not None else []
    elements += [us(0x0100, 0x0001), us(0x0110, message_id), us(0x0700, 0)]
    elements.append(us(0x0800, 0x0001 if data_set else 0x0101))
    elements += [ui(0x1000, sop_instance)] if sop_instance is not None else []
    return command_set(*elements)


def echo_rq(message_id: int = 7) -> bytes:
    return command_set(
        ui(0x0002, VERIFICATION), us(0x0100, 0x0030), us(0x0110, message_id), us(0x0800, 0x0101)
    )


def message(context_id: int, command: bytes, data: bytes | None = None) -> bytes:
    """Return one message in one PDU a fragment."""
    encoded = p_data(pdv(context_id, 3, command))
    return encoded if data is None else encoded + p_data(pdv(context_id, 2, data))


RELEASE_RQ = pdu(0x05, bytes(4))
RELEASE_RP = pdu(0x06, bytes(4))
ABORT = pdu(0x07, bytes(4))


def abort(source: int, reason: int) -> str:
    return f"A-ABORT({source},{reason})"


def reject(result: int, source: int, reason: int) -> str:
    return f"A-ASSOCIATE-RJ({result},{source},{reason})"


def status(code: int) -> str:
    return f"RSP {code:04X}"


class RawPeer:
    """One connection, read PDU by PDU; `said` tells what the node answered, for comparison."""

    def __init__(self, address: tuple[str, int], wrap=None) -> None:
        self.sock = socket.create_connection(address, timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if wrap is not None:
            self.sock = wrap(self.sock)
        self.said: list[str] = []
        self.accept_body = b""

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *unused: object) -> None:
        self.sock.close()

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send what can be sent; the node may have had enough before the end."""
        try:
            for piece in pieces:
                self.sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                more = self.sock.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                return b""
            data += more
        return data

    def receive(self) -> str:
        """Return the next PDU in words, `closed` at the end."""
        header = self._exactly(6)
        if not header:
            return "closed"
        kind, length = struct.unpack(">BxI", header)
        body = self._exactly(length)
        said = self._in_words(kind, body)
        self.said.append(said)
        return said

    def _in_words(self, kind: int, body: bytes) -> str:
        if kind == 0x02:
            self.accept_body = body
            return "A-ASSOCIATE-AC"
        if kind == 0x03:
            return reject(*body[1:4])
        if kind == 0x07:
            return abort(*body[2:4])
        if kind == 0x04:
            position = body.index(struct.pack("<HHI", 0, 0x0900, 2)) + 8
            return status(struct.unpack_from("<H", body, position)[0])
        return {0x05: "A-RELEASE-RQ", 0x06: "A-RELEASE-RP"}[kind]

    def context_results(self) -> dict[int, int]:
        """Return the results in the A-ASSOCIATE-AC by context ID."""
        results, body, position = {}, self.accept_body, 68
        while position < len(body):
            kind, length = struct.unpack_from(">BxH", body, position)
            if kind == 0x21:
                results[body[position + 4]] = body[position + 6]
            position += 4 + length
        return results

    def until_closed(self) -> float:
        """Read on until the node closes, and return how long that took."""
        begun = time.monotonic()
        while self.receive() != "closed":
            pass
        return time.monotonic() - begun
