"""A storage SCP that does what it is told, in raw bytes: the faults of an archive, one by one.

Knows the Standard's layout and nothing of ours. For each association a `Part` is played; what
arrived is written down. What is not scripted goes well.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

PATIENCE = 30.0

#: What is done about one C-STORE: a status to answer, or the name of a misdeed.
Deed: TypeAlias = int | str


@dataclass
class Part:
    """What is done in one association.

    `opening`  "" to accept, a triple for A-ASSOCIATE-RJ, or the name of a misdeed
    `takes`    whether a context with this abstract and transfer syntax is accepted
    `deed`     what is done about the instance with this UID in this transfer syntax
    `lets_go`  whether an A-RELEASE-RQ is answered
    """

    opening: str | tuple[int, int, int] = ""
    takes: Callable[[str, str], bool] = lambda abstract, transfer: True
    deed: Callable[[str, str], Deed] = lambda uid, transfer: 0
    lets_go: bool = True


@dataclass
class ScriptedSCP:
    """The parts are played in turn, the last one for ever."""

    parts: list[Part]
    #: UID and transfer syntax of every C-STORE-RQ whose command arrived.
    asked: list[tuple[str, str]] = field(default_factory=list)
    #: UID, transfer syntax and data set of what was answered as taken.
    taken: list[tuple[str, str, bytes]] = field(default_factory=list)
    #: Each association with the contexts that were proposed.
    proposed: list[list[tuple[str, str]]] = field(default_factory=list)
    associations: int = 0
    released: int = 0
    port: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def listening(self) -> Iterator[ScriptedSCP]:
        """Listen until the end of the block."""
        self._closing: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", self.port)) as server:
            self.port = server.getsockname()[1]
            thread = threading.Thread(target=self._accept, args=(server,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self.over.set()
                server.shutdown(socket.SHUT_RDWR)
                for connection in self._closing:
                    connection.close()
                thread.join(PATIENCE)

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            self._closing.append(connection)
            part = self.parts.pop(0) if len(self.parts) > 1 else self.parts[0]
            self.associations += 1
            threading.Thread(target=self._play, args=(connection, part), daemon=True).start()

    def _play(self, connection: socket.socket, part: Part) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            connection.settimeout(PATIENCE)
            _Actor(self, connection, part).play()


class _Actor:
    """One association."""

    def __init__(self, scp: ScriptedSCP, connection: socket.socket, part: Part) -> None:
        self.scp, self.connection, self.part = scp, connection, part
        self.contexts: dict[int, tuple[str, str]] = {}

    def play(self) -> None:
        if self.part.opening == "close at once":
            return
        kind, body = self.read()
        assert kind == 1
        if not self.open(body):
            return
        while True:
            kind, body = self.read()
            if kind == 5:
                self.scp.released += 1
                if self.part.lets_go:
                    self.send(6, bytes(4))
                    return
                continue
            if kind != 4 or not self.store(body):
                return

    def open(self, request: bytes) -> bool:
        opening = self.part.opening
        results = b"".join(self.results(request))
        if isinstance(opening, tuple):
            self.send(3, bytes([0, *opening]))
        elif opening == "abort":
            self.send(7, bytes([0, 0, 2, 0]))
        elif opening == "garbage":
            self.connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        elif opening == "silent":
            with contextlib.suppress(OSError):
                self.connection.recv(1)
        elif not opening:
            titles = request[4:36]
            body = (
                struct.pack(">H2x", 1) + titles + bytes(32) + _item(0x10, b"1.2.840.10008.3.1.1.1")
            )
            user = _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3.4")
            self.send(2, body + results + _item(0x50, user))
            return True
        return False

    def results(self, request: bytes) -> Iterator[bytes]:
        proposed = []
        for kind, value in _items(request[68:]):
            if kind != 0x20:
                continue
            names = {one: name.decode().rstrip("\0") for one, name in _items(value[4:])}
            abstract, transfer = names[0x30], names[0x40]
            proposed.append((abstract, transfer))
            ok = self.part.takes(abstract, transfer)
            if ok:
                self.contexts[value[0]] = (abstract, transfer)
            head = bytes([value[0], 0, 0 if ok else 4, 0])
            yield _item(0x21, head + _item(0x40, transfer.encode()))
        self.scp.proposed.append(proposed)

    def store(self, body: bytes) -> bool:
        """Receive one instance that begins in this P-DATA-TF and do what is to be done about it."""
        pieces = {True: bytearray(), False: bytearray()}
        context_id, uid, deed = 0, "", 0
        while True:
            for context_id, header, fragment in _pdvs(body):
                is_command = bool(header & 1)
                pieces[is_command] += fragment
                if is_command and header & 2:
                    uid = _element(bytes(pieces[True]), 0x1000).rstrip(b"\0 ").decode()
                    transfer = self.contexts[context_id][1]
                    self.scp.asked.append((uid, transfer))
                    deed = self.part.deed(uid, transfer)
                    if deed == "abort before data":
                        self.send(7, bytes(4))
                        return False
                elif not is_command and deed == "abort in data":
                    self.send(7, bytes([0, 0, 2, 0]))
                    return False
                elif not is_command and deed == "stop reading":
                    self.scp.over.wait(PATIENCE)
                    return False
                elif not is_command and deed == "cut in data":
                    _reset(self.connection)
                    return False
                elif not is_command and header & 2:
                    command, data = bytes(pieces[True]), bytes(pieces[False])
                    return self.answer(context_id, uid, deed, command, data)
            if deed == "read slowly":
                time.sleep(0.002)  # a slow line is what is tested
            kind, body = self.read()
            if kind != 4:
                return False

    def answer(self, context_id: int, uid: str, deed: Deed, command: bytes, data: bytes) -> bool:
        message_id = struct.unpack("<H", _element(command, 0x0110))[0]
        if isinstance(deed, int):
            category = deed >> 12
            if deed in (0, 1, 0x0107, 0x0111, 0x0116) or category == 0xB:
                self.scp.taken.append((uid, self.contexts[context_id][1], data))
            self.respond(context_id, message_id, deed)
            return True
        if deed == "wrong message id":
            self.respond(context_id, message_id + 7, 0)
            return True
        if deed == "wrong message ids":
            with contextlib.suppress(OSError):
                while not self.scp.over.wait(0.02):
                    self.respond(context_id, message_id + 7, 0)
            return False
        if deed == "no status":
            self.respond(context_id, message_id, None)
            return True
        if deed == "read slowly":
            self.scp.taken.append((uid, self.contexts[context_id][1], data))
            self.respond(context_id, message_id, 0)
            return True
        if deed == "twice":
            self.scp.taken.append((uid, self.contexts[context_id][1], data))
            self.respond(context_id, message_id, 0)
            self.respond(context_id, message_id, 0)
            return True
        if deed == "release after":
            self.scp.taken.append((uid, self.contexts[context_id][1], data))
            self.respond(context_id, message_id, 0)
            self.send(5, bytes(4))
            while self.read()[0] != 6:
                pass
            return False
        if deed == "abort after":
            self.send(7, bytes(4))
        elif deed == "reset after":
            _reset(self.connection)
        elif deed == "garbage":
            self.connection.sendall(b"\xff" * 64)
        elif deed == "endless":
            self.connection.sendall(struct.pack(">BxI", 4, 0xFFFFFFF0) + bytes(64))
            self.connection.recv(1)
        elif deed == "silent":
            self.connection.recv(1)
        else:
            assert deed == "close after", deed
        return False

    def respond(self, context_id: int, message_id: int, status: int | None) -> None:
        body = _us(0x0100, 0x8001) + _us(0x0120, message_id) + _us(0x0800, 0x0101)
        if status is not None:
            body += _us(0x0900, status)
            if status:
                body += _element_of(0x0902, b"told to say so")
        command = _element_of(0, struct.pack("<I", len(body))) + body
        pdv = struct.pack(">IBB", len(command) + 2, context_id, 3) + command
        self.send(4, pdv)

    def read(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self.exactly(6))
        return kind, self.exactly(length)

    def exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            more = self.connection.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def send(self, kind: int, body: bytes) -> None:
        self.connection.sendall(struct.pack(">BxI", kind, len(body)) + body)


def _reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, length = struct.unpack_from(">BxH", data, position)
        yield kind, data[position + 4 : position + 4 + length]
        position += 4 + length


def _pdvs(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    position = 0
    while position < len(body):
        length, context_id, header = struct.unpack_from(">IBB", body, position)
        yield context_id, header, body[position + 6 : position + 4 + length]
        position += 4 + length


def _element(command: bytes, number: int) -> bytes:
    position = 0
    while position < len(command):
        _, element, length = struct.unpack_from("<HHI", command, position)
        if element == number:
            return command[position + 8 : position + 8 + length]
        position += 8 + length
    raise AssertionError(f"no element {number:04X}")


def _element_of(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def _us(number: int, value: int) -> bytes:
    return _element_of(number, struct.pack("<H", value))
