"""Windows of P-DATA-TF PDUs, through which a data set of any length goes out (PS3.8 9.3.5).

A window is one buffer of PDUs whose headers are written once; it is filled and sent again and
again, with one read and one send for many PDUs. `SourceFailed` tells that the data set could not be
read to its end.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from node.network.kernel import memory
from node.network.limits import KIB
from node.network.pdu_reader import P_DATA_TF

#: PDU header, PDV header (PS3.8 9.3.5 and 9.3.5.1, E.2).
_HEADERS: Final = struct.Struct(">BxIIBB")
_PDV_HEADER_BYTES: Final = 6
_DATA: Final = 0
_LAST_DATA: Final = 2
#: Sent at one go: enough for few system calls, little enough that the peer takes it while the next
#: is filled.
_WINDOW_BYTES: Final = 128 * KIB
#: More than that where PDUs are long: a peer that reads each of them whole would sleep before it.
_LEAST_PDUS: Final = 4

#: So much goes out before more is asked for.
_WORTH_SENDING: Final = 64 * KIB

#: The PDU of a command set with the longest of every parameter is shorter.
_LEAD_BYTES: Final = 512

#: IOV_MAX: `preadv` takes no more, and a peer may ask for PDUs of 16 bytes.
_MOST_VECTORS: Final = 1024

Buffer: TypeAlias = bytes | bytearray | memoryview
#: An open file's descriptor, where in it the data set begins, and its length.
FileSlice: TypeAlias = tuple[int, int, int]


class SourceFailed(Exception):
    """The data set could not be read to its end."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Window:
    """Some P-DATA-TF PDUs in one buffer: full ones, so that only the last one needs a header.

    Before them is room for the PDU of the command set, which is sent together with the first.
    """

    def __init__(self, context_id: int, maximum_pdu_size: int) -> None:
        self.context_id = context_id
        self._last = 0
        self._begin = _LEAD_BYTES
        # Every fragment but the last has an even length (PS3.8 E.1 follows PS3.5 7.1.1).
        self._room = (maximum_pdu_size - _PDV_HEADER_BYTES) & ~1
        self._stride = _HEADERS.size + self._room
        count = min(max(_LEAST_PDUS, _WINDOW_BYTES // self._stride), _MOST_VECTORS)
        self._buffer = memoryview(memory(_LEAD_BYTES + count * self._stride))
        self._holes = [
            self._buffer[start + _HEADERS.size : start + self._stride]
            for start in range(_LEAD_BYTES, len(self._buffer), self._stride)
        ]
        for index in range(count):
            self._write_header(index, self._room, _DATA)

    def reset(self) -> None:
        """Make ready for another data set: the header of the last one's end is undone."""
        self._write_header(self._last, self._room, _DATA)
        self._begin = _LEAD_BYTES

    def lead(self, pdu: bytes) -> bool:
        """Let `pdu` be sent before the first PDU; False where it is too long."""
        if len(pdu) > _LEAD_BYTES:
            return False
        self._begin = _LEAD_BYTES - len(pdu)
        self._buffer[self._begin : _LEAD_BYTES] = pdu
        return True

    def _write_header(self, index: int, length: int, flag: int) -> None:
        pdv = length + 2
        position = _LEAD_BYTES + index * self._stride
        _HEADERS.pack_into(self._buffer, position, P_DATA_TF, pdv + 4, pdv, self.context_id, flag)

    def _filled(self, byte_count: int, is_last: bool) -> memoryview:
        """Return the PDUs with the first `byte_count` bytes in them, the last one marked."""
        begin, self._begin = self._begin, _LEAD_BYTES
        index, rest = divmod(byte_count, self._room)
        if not is_last:
            return self._buffer[begin : _LEAD_BYTES + index * self._stride]
        if rest == 0 and index:
            index, rest = index - 1, self._room
        self._last = index
        self._write_header(index, rest, _LAST_DATA)
        return self._buffer[begin : _LEAD_BYTES + index * self._stride + _HEADERS.size + rest]

    def from_file(self, descriptor: int, offset: int, length: int) -> Iterator[memoryview]:
        """Yield the PDUs that carry a slice of a file."""
        capacity = self._room * len(self._holes)
        while True:
            wanted = min(capacity, length)
            self._read(descriptor, offset, wanted)
            offset, length = offset + wanted, length - wanted
            yield self._filled(wanted, is_last=length == 0)
            if length == 0:
                return

    def _read(self, descriptor: int, offset: int, wanted: int) -> None:
        """Fill the first `wanted` bytes of the holes, in as few calls as the kernel allows."""
        done = 0
        while done < wanted:
            index, inside = divmod(done, self._room)
            holes = [self._holes[index][inside:], *self._holes[index + 1 :]]
            try:
                received = os.preadv(descriptor, holes, offset + done)
            except OSError as error:
                raise SourceFailed(error) from error
            if received == 0:
                raise SourceFailed(OSError("file is shorter than the data set it should hold"))
            done += received

    def from_chunks(self, chunks: Iterable[Buffer]) -> Iterator[memoryview]:
        """Yield the PDUs that carry `chunks`, which may be of any lengths.

        While a chunk is still to be made, the peer gets what is worth a send.
        """
        is_there = isinstance(chunks, Sequence)
        capacity = self._room * len(self._holes)
        filled = 0
        for chunk in _readable(chunks):
            view = memoryview(chunk).cast("B")
            position = 0
            while position < len(view):
                if filled == capacity:
                    yield self._filled(filled, is_last=False)
                    filled = 0
                index, inside = divmod(filled, self._room)
                part = view[position : position + self._room - inside]
                self._holes[index][inside : inside + len(part)] = part
                position += len(part)
                filled += len(part)
            # Something stays, for the last fragment: not every peer takes an empty one.
            full = max(filled - 1, 0) // self._room
            if full * self._room >= _WORTH_SENDING and not is_there:
                yield self._filled(full * self._room, is_last=False)
                filled -= full * self._room
                self._holes[0][:filled] = self._holes[full][:filled]
        yield self._filled(filled, is_last=True)


def _readable(chunks: Iterable[Buffer]) -> Iterator[Buffer]:
    """Yield `chunks`; an `OSError` of theirs must not be taken for one of the connection."""
    try:
        yield from chunks
    except OSError as error:
        raise SourceFailed(error) from error
