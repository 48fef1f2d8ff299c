"""What `dcmpress compress` tells at the end: files by what became of them, bytes, ratio, speed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from node.cli.terminal import Bar
from node.reasons import KeepReason
from node.service.rewriting import Broken, NotDicom, Result, Same, Smaller
from node.words import size

#: These are worth a line for each file: something on this machine is not as it should be.
_WORTH_A_NOTE = frozenset(
    {
        KeepReason.ENCODER_FAILED,
        KeepReason.VERIFY_FAILED,
        KeepReason.DECODER_FAILED,
        KeepReason.DECODER_MISSING,
    }
)


class Summary:
    """The results of one run, counted."""

    def __init__(self, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.compressed = self.not_dicom = self.broken = 0
        self.before = self.after = 0
        self.kept = Counter[KeepReason]()
        self.began = self.end = time.perf_counter()
        self._noted = set[str]()

    def add(self, path: str, result: Result, bar: Bar) -> None:
        """Count one result, and name the file where a person should look at it."""
        match result:
            case Smaller(before, after):
                self.compressed += 1
                self.before += before
                self.after += after
            case Same(reason, byte_count, detail):
                self.kept[reason] += 1
                self.before += byte_count
                self.after += byte_count
                self._note_kept(path, reason, detail, bar)
            case NotDicom(cause):
                self.not_dicom += 1
                bar.note(f"{path}: {cause}")
            case Broken(cause):
                self.broken += 1
                bar.note(f"{path}: {cause}")
        bar.advance()

    def unreadable(self, failure: OSError, bar: Bar) -> None:
        """Count a folder that could not be read."""
        self.broken += 1
        bar.note(f"{failure.filename}: {failure.strerror}")

    @property
    def failed(self) -> bool:
        """Tell whether there is a file that this command could do nothing with."""
        return bool(self.not_dicom or self.broken)

    def lines(self) -> Iterator[str]:
        """Return the summary."""
        files = self.compressed + self.kept.total() + self.not_dicom + self.broken
        yield _line("files", files)
        yield _line("compressed", self.compressed)
        for reason, count in self.kept.most_common():
            yield _line("kept", count, reason.value)
        if self.not_dicom:
            yield _line("no DICOM", self.not_dicom, "left alone")
        if self.broken:
            yield _line("failed", self.broken)
        yield f"{'before':<12}{size(self.before):>12}"
        yield f"{'after':<12}{size(self.after):>12}   {self._ratio()}"
        seconds = self.end - self.began
        speed = f"{size(self.before / seconds)}/s" if seconds > 0 else ""
        yield f"{'time':<12}{f'{seconds:.2f} s':>12}   {speed}"
        if self.dry_run:
            yield "nothing was written: this was a dry run"

    def _note_kept(self, path: str, reason: KeepReason, detail: str, bar: Bar) -> None:
        if reason is KeepReason.DECODER_MISSING:
            # The same for all files in that transfer syntax, so it is said once.
            if detail not in self._noted:
                self._noted.add(detail)
                bar.note(f"{detail} (first seen in {path})")
        elif reason in _WORTH_A_NOTE:
            bar.note(f"{path}: kept, {reason.value}: {detail}")

    def _ratio(self) -> str:
        if not self.after:
            return ""
        saved = 100 * (1 - self.after / self.before)
        return f"ratio {self.before / self.after:.2f}, {saved:.0f} % saved"


def _line(name: str, count: int, remark: str = "") -> str:
    return f"{name:<12}{count:>12,}   {remark}".rstrip()
