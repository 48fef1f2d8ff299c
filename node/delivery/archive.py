"""A disk destination: {StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm below a folder.

The file is moved from the spool where that is on the same file system and no other destination has
it too: whoever edits it here must not edit what waits there. Else it is copied to a temporary name,
synced and linked. Nothing that is there is ever replaced: the same content again is
delivered already, other content under the same UID is kept beside it with a part of its digest in
the name. UIDs were checked when the instance was received and are checked again before they
become names.

`deliver` gives a file its name, `settle` makes the names of many files durable with one sync of
each folder. Names that are not known to be durable are taken back: syncing the folder again could
report a success that is none.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from node.dicom import status
from node.dicom.identity import identity_of, scan_any
from node.dicom.part10 import Record
from node.dicom.uids import is_uid
from node.errors import CannotUnderstand, DecodingFailed
from node.model import Blame, Deferred, Delivered, Failed, Outcome
from node.pixels.instance import received_digest
from node.pixels.policy import Run, here
from node.pixels.stored import StoredInstance, opened
from node.spool import NO_LINKS, Disk, Entry

log = logging.getLogger(__name__)

#: Files that are settled together; so many go again where a folder cannot be synced.
AT_ONCE = 64
#: Folder of an instance that has no Study or Series Instance UID.
UNKNOWN = "unknown"


def nobody_else(_: Entry) -> bool:
    """Tell that no other destination has an entry."""
    return False


class Archive:
    """One disk destination. `is_shared` tells whether another one has an entry too."""

    at_once = AT_ONCE

    def __init__(
        self,
        name: str,
        directory: Path,
        disk: Disk,
        run: Run = here,
        is_shared: Callable[[Entry], bool] = nobody_else,
    ) -> None:
        self.name = name
        self._is_shared = is_shared
        self._directory = directory
        self._disk = disk
        self._run = run
        self._drafts = itertools.count()
        #: What was given a name since the last `settle`, by folder.
        self._new: dict[Path, list[Path]] = {}

    def begin(self, entries: Iterable[Entry]) -> None:
        """Nothing has to be known before."""

    def deliver(self, entry: Entry, instance: StoredInstance) -> Outcome:
        """Put the entry's file at its place."""
        try:
            record = instance.meta.record
            if record is None:
                raise CannotUnderstand("the entry does not say what was written")
            return self._put(entry, self._place(instance), record)
        except CannotUnderstand as failure:
            return Failed(destination=self.name, cause=str(failure))
        except OSError as failure:
            return self._deferred(failure)

    def settle(self) -> Deferred | None:
        """Make the names durable that were given since the last time."""
        new, self._new = self._new, {}
        try:
            for folder in list(new):
                self._disk.sync_folder(folder)
                del new[folder]
        except OSError as failure:
            for place in itertools.chain.from_iterable(new.values()):
                with contextlib.suppress(OSError):
                    self._disk.remove(place)
            return self._deferred(failure)
        return None

    def _deferred(self, failure: OSError) -> Deferred:
        # Its path is left out: the page shows this to whoever may look.
        cause = f"its folder cannot be written: {failure.strerror or failure}"
        return Deferred(destination=self.name, cause=cause, blame=Blame.DESTINATION)

    def close(self) -> None:
        """Nothing is held between deliveries."""

    def _place(self, instance: StoredInstance) -> Path:
        identity = identity_of(
            scan_any(instance.data_set, instance.meta.transfer_syntax_uid, instance.release)
        )
        study = identity.study_instance_uid or UNKNOWN
        series = identity.series_instance_uid or UNKNOWN
        uid = instance.meta.sop_instance_uid
        if not is_uid(uid) or not all(is_uid(name) or name == UNKNOWN for name in (study, series)):
            raise CannotUnderstand("a UID of the instance is no UID")
        return self._directory.joinpath(study, series, f"{uid}.dcm")

    def _put(self, entry: Entry, place: Path, record: Record) -> Outcome:
        if place.parent not in self._new:
            self._disk.make_folder(place.parent)
        if self._take(entry, place):
            return Delivered(destination=self.name, status=status.SUCCESS)
        if self._holds(place, entry, record):
            return Delivered(destination=self.name, status=status.SUCCESS, detail="there already")
        beside = place.with_name(f"{place.stem}~{record.sha256[:16]}.dcm")
        if self._take(entry, beside):
            log.warning(
                "%s: %s is there with other content; kept both, the new one as %s",
                self.name,
                place.stem,
                beside.name,
            )
        elif not self._holds(beside, entry, record):
            return Failed(destination=self.name, cause=f"{beside.name} is there with other content")
        return Delivered(destination=self.name, status=status.SUCCESS, detail="kept both")

    def _secure(self, place: Path) -> None:
        """Make durable what is there: whoever put it there may not have got to that.

        If it failed before, this may succeed though nothing is on the disk. So what is cached is
        forgotten: what is read from now on comes from the disk.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(place, flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return
            self._disk.sync_file(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        self._disk.sync_folder(place.parent)

    def _take(self, entry: Entry, place: Path) -> bool:
        """Give the file its name in the archive; False where the name is taken."""
        try:
            self._link_or_copy(entry, place)
        except FileExistsError:
            return False
        self._new.setdefault(place.parent, []).append(place)
        return True

    def _link_or_copy(self, entry: Entry, place: Path) -> None:
        if not self._is_shared(entry):
            try:
                return self._disk.link(entry.path, place)
            except OSError as failure:
                # Another file system, or one without hard links.
                if failure.errno not in NO_LINKS:
                    raise
        self._copy(entry.path, place)

    def _copy(self, source: Path, place: Path) -> None:
        # What a version that gave its drafts this name left of this entry; none is written now.
        self._disk.remove(place.with_name(f".{source.name}.part"))
        draft, descriptor = self._create_draft(source, place)
        try:
            with open(descriptor, "wb") as new, open(source, "rb") as old:
                shutil.copyfileobj(old, new, 1 << 20)
                new.flush()
                self._disk.sync_file(new.fileno())
            self._disk.publish(draft, place)
        finally:
            self._disk.remove(draft)

    def _create_draft(self, source: Path, place: Path) -> tuple[Path, int]:
        """Make a new file beside `place` that no other process, destination or try writes to.

        What an earlier run left under such a name stays as it is.
        """
        for number in self._drafts:
            name = f".{source.name}.{os.getpid()}-{self.name}-{number}.part"
            with contextlib.suppress(FileExistsError):
                draft = place.with_name(name)
                return draft, self._disk.create(draft)
        raise AssertionError("a counter does not end")

    def _holds(self, place: Path, entry: Entry, record: Record) -> bool:
        """Tell whether the file at `place` is durable, whole, and has the content of the entry: as
        it is stored, or as it was received.
        """
        try:
            self._secure(place)
            with opened(place) as there:
                if there.meta.record is None or not there.is_whole():
                    return False
                if there.meta.record.sha256 == record.sha256:
                    return True
                with opened(entry.path) as instance:
                    ours = received_digest(instance, self._run)
                return received_digest(there, self._run) == ours
        except (CannotUnderstand, DecodingFailed):
            return False
        except OSError as failure:
            # A symbolic link is not followed, and not replaced.
            if failure.errno == errno.ELOOP:
                return False
            raise
