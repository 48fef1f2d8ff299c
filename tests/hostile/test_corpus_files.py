"""Every fuzzed and broken file of the corpus, sent to a node by a sender that does not look.

Each gets a status; what got Success is on disk, byte for byte or with its pixels encoded; the node
stays up; its memory and its descriptors return.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from pathlib import Path

import corpus
import instances
import pytest
from hostile.servers import AE_TITLE, Server, running
from hostile.usage import usage
from network.raw_peer import (
    RELEASE_RQ,
    RawPeer,
    associate_rq,
    context,
    message,
    p_data,
    pdv,
    store_rq,
)
from peers import wait_until

from node.spool.arriving import BATCH

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(corpus.corpus_root() is None, reason=corpus.ABSENT),
    pytest.mark.filterwarnings("ignore"),
]

_CT = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT = "1.2.840.10008.1.2.1"
_FRAGMENT = 16000
#: Memory that the allocator keeps for threads it has had.
_SLACK = 48 << 20
#: Files that the spool makes in advance and holds open, and the deliverer's few.
_SPARE = BATCH + 4


def chosen() -> list[dict[str, str]]:
    """The fuzzed ones, and those that pydicom cannot read or that are odd on purpose."""
    return [
        row
        for row in corpus.rows()
        if "fuzz" in row["category"]
        or row["pydicom_readable"] != "y"
        or "on purpose" in row["notes"]
    ]


def data_set_of(path: Path) -> bytes:
    """Cut off what looks like File Meta Information, by its group length or not at all."""
    data = path.read_bytes()
    if data[128:132] != b"DICM":
        return data
    if data[132:140] == b"\2\0\0\0UL\4\0":
        end = 144 + struct.unpack_from("<I", data, 140)[0]
        return data[end:] if end <= len(data) else data[144:]
    return data[132:]


def answer(server: Server, uids: tuple[str, str], syntax: str, data_set: bytes) -> str:
    """Send one instance on an association of its own; return what was said to it."""
    request = associate_rq(
        context(1, [uids[0].encode()], [syntax.encode()]), called=AE_TITLE.encode()
    )
    pieces = [data_set[i : i + _FRAGMENT] for i in range(0, len(data_set), _FRAGMENT)] or [b""]
    with RawPeer(server.address) as peer:
        peer.sock.settimeout(60)
        peer.send([request])
        assert peer.receive() == "A-ASSOCIATE-AC"
        if peer.context_results() != {1: 0} and syntax != _EXPLICIT:
            return answer(server, uids, _EXPLICIT, data_set)  # no UID, nobody could send it so
        peer.send([message(1, store_rq(7, uids[0].encode(), uids[1].encode()))])
        peer.send([p_data(pdv(1, 0, piece)) for piece in pieces[:-1]])
        peer.send([p_data(pdv(1, 2, pieces[-1]))])
        said = peer.receive()
        peer.send([RELEASE_RQ])
        peer.receive()
        return said


def on_disk(folder: Path) -> set[str]:
    """The UIDs of the files below a folder that changes while we look."""
    names = [name for _, _, found in os.walk(folder) for name in found]
    return {name.removesuffix(".dcm").split("~")[0] for name in names}


def test_every_one_gets_a_status(counted: list[str]) -> None:
    with running("dcmpress") as server:
        assert server.answers()
        before, ended = usage(server.pid, family=True), []
        said: Counter[str] = Counter()
        taken: dict[str, bytes] = {}
        for number, row in enumerate(chosen()):
            given = row["sop_class_uid"], row["sop_instance_uid"]
            syntax = row["transfer_syntax_uid"] or _EXPLICIT
            uids = given[0] or _CT, given[1] or f"{instances.ROOT}.66.{number}"
            data_set = data_set_of(corpus.CORPUS / row["path"])
            code = answer(server, uids, syntax, data_set)
            assert code.startswith("RSP "), (row["path"], code)
            said[code] += 1
            if code == "RSP 0000":
                taken[uids[1]] = data_set
            ended.append(row["path"])
        out = server.folder / "out"
        wait_until(
            lambda: on_disk(out) >= set(taken),
            "all that got Success are on disk",
        )
        assert server.answers()
        assert server.process is not None
        assert server.process.poll() is None
        assert "ended:" not in (server.folder / "log").read_text()  # no child died either
        wait_until(
            lambda: usage(server.pid, family=True).descriptors <= before.descriptors + _SPARE,
            "descriptors are given back",
        )
        grown = usage(server.pid, family=True).memory - before.memory
        assert grown < _SLACK
        shown = ", ".join(f"{code} {count}" for code, count in sorted(said.items()))
        counted.append(f"fuzzed and broken files sent to a node: {len(ended)}: {shown}")
