"""`dcmpress send PATH... --to AET@HOST:PORT`: send files, and folders with all below them.

Each instance goes in the transfer syntax it is stored in where the peer takes it, else native. One
association serves as many as its 128 contexts can speak for (PS3.8 7.1.1), so instances of one SOP
class are sent together. A warning status counts as delivered (PS3.4 B.2.3).

What cannot be sent is named, the rest goes on, and the command ends with 1. Raises
`PeerUnreachable` where the peer does not answer from the start, or stops answering for good, and
`PeerRefused` where it rejects the association.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from node.cli.echo import Calling, peer_of
from node.cli.terminal import Bar, progress
from node.delivery.forward import Forward, NotAccepted
from node.delivery.judging import judge
from node.dicom.contexts import MOST_CONTEXTS, Proposal, Wanted
from node.dicom.part10 import FileMeta
from node.dicom.uids import is_uid
from node.errors import CannotUnderstand, DecodingFailed, PeerUnreachable
from node.model import Delivered
from node.pixels.instance import native_syntaxes
from node.pixels.stored import opened
from node.service.tree import find
from node.spool import Entry, State
from node.words import many, size

#: Media Storage Directory: a DICOMDIR lists the files beside it and is no instance to send.
_MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, slots=True)
class Instance:
    """A file to be sent, and what it can be sent as."""

    path: Path
    wanted: Wanted
    byte_count: int


@dataclass(slots=True)
class Sent:
    """What became of the files, counted. `lost` is True while the peer's last answer is missing."""

    by_status: Counter[str] = field(default_factory=Counter)
    delivered: int = 0
    failed: int = 0
    byte_count: int = 0
    lost: bool = True


def send(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders.")],
    to: Annotated[str, typer.Option(metavar="AET@HOST:PORT", help="Whom to send to.")],
    calling: Calling = "DCMPRESS",
) -> None:
    """Send files and folders to a peer (C-STORE)."""
    peer = peer_of(to, calling)
    found = find(paths)
    sent = Sent()
    began = time.perf_counter()
    with progress("sending", len(found.sources)) as bar:
        for failure in found.unreadable:
            _failed(sent, bar, Path(failure.filename), failure.strerror or str(failure))
        instances = list(_read(map(Path, found.paths), sent, bar))
        forward = Forward(str(peer), peer)
        try:
            for batch in batches(instances):
                _send_batch(forward, batch, sent, bar)
        except PeerUnreachable as failure:
            raise PeerUnreachable(f"{failure}; {_so_far(sent, instances)}") from failure
        finally:
            forward.close()
    _summary(sent, str(peer), time.perf_counter() - began)
    if sent.failed:
        raise typer.Exit(1)


def _read(paths: Iterable[Path], sent: Sent, bar: Bar) -> Iterator[Instance]:
    """Yield what can be sent; name the rest."""
    for path in paths:
        try:
            with opened(path) as file:
                meta, syntaxes = file.meta, native_syntaxes(file)
                _require_uids(meta)
                byte_count = len(file.buffer)
        except CannotUnderstand as failure:
            _failed(sent, bar, path, str(failure))
            continue
        except OSError as failure:
            _failed(sent, bar, path, failure.strerror or str(failure))
            continue
        if meta.sop_class_uid == _MEDIA_STORAGE_DIRECTORY:
            bar.note(f"{path}: not sent, a DICOMDIR is no instance")
            bar.advance()
            continue
        proposed = dict.fromkeys([meta.transfer_syntax_uid, *syntaxes])
        yield Instance(path, Wanted(meta.sop_class_uid, tuple(proposed)), byte_count)


def _require_uids(meta: FileMeta) -> None:
    """Refuse a file whose File Meta does not say what an association must be told of it."""
    uids = {
        "Media Storage SOP Class UID (0002,0002)": meta.sop_class_uid,
        "Media Storage SOP Instance UID (0002,0003)": meta.sop_instance_uid,
        "Transfer Syntax UID (0002,0010)": meta.transfer_syntax_uid,
    }
    for name, uid in uids.items():
        if not is_uid(uid):
            raise CannotUnderstand(f"its File Meta Information has no usable {name}")


def batches(instances: Iterable[Instance]) -> Iterator[list[Instance]]:
    """Divide instances so that one association can be negotiated for each batch."""
    batch: list[Instance] = []
    proposals: set[Proposal] = set()
    for instance in sorted(instances, key=lambda instance: instance.wanted):
        sop_class_uid, syntaxes = instance.wanted
        needed = {Proposal(sop_class_uid, syntax) for syntax in syntaxes}
        if batch and len(proposals | needed) > MOST_CONTEXTS:
            yield batch
            batch, proposals = [], set()
        batch.append(instance)
        proposals |= needed
    if batch:
        yield batch


def _send_batch(forward: Forward, batch: list[Instance], sent: Sent, bar: Bar) -> None:
    """Send a batch; one lost association costs one instance, a second in a row ends the command."""
    one_of_each = {instance.wanted: instance.path for instance in batch}
    forward.begin(Entry(path.name, State.RECEIVED, path) for path in one_of_each.values())
    for instance in batch:
        try:
            outcome = judge(forward.name, forward.send_file(instance.path))
        except (NotAccepted, CannotUnderstand, DecodingFailed) as failure:
            _failed(sent, bar, instance.path, str(failure))
        except OSError as failure:
            _failed(sent, bar, instance.path, failure.strerror or str(failure))
        except PeerUnreachable as failure:
            if sent.lost:
                raise
            sent.lost = True
            _failed(sent, bar, instance.path, str(failure))
        else:
            sent.lost = False
            if isinstance(outcome, Delivered):
                sent.delivered += 1
                sent.byte_count += instance.byte_count
                sent.by_status[outcome.detail or "success"] += 1
                bar.advance()
            else:
                _failed(sent, bar, instance.path, outcome.cause)


def _failed(sent: Sent, bar: Bar, path: Path, cause: str) -> None:
    sent.failed += 1
    sent.by_status["failed"] += 1
    bar.note(f"{path}: {cause}")
    bar.advance()


def _so_far(sent: Sent, instances: list[Instance]) -> str:
    return f"{sent.delivered:,} of {many(len(instances), 'instance')} were delivered"


def _summary(sent: Sent, peer: str, seconds: float) -> None:
    print(
        f"delivered {many(sent.delivered, 'instance')} ({size(sent.byte_count)}) to {peer} "
        f"in {seconds:.2f} s"
    )
    if set(sent.by_status) - {"success"}:
        for status, count in sent.by_status.most_common():
            print(f"  {count:>7,}  {status}")
