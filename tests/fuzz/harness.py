"""What all fuzz targets share: their limits, their seeds, and how they are run.

    python tests/fuzz/fuzz_X.py [libFuzzer options] [FOLDER of inputs]

Every execution has to be done in a second of CPU time for each MiB that it is given, and every
`_MEASURED` th may not allocate more than ten times its input, plus a constant. Without a folder or
a file the
seeds are those that the target names, among them files of the corpus where it is present.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

Target = Callable[[bytes], Any]

_MIB = 1 << 20
_SECONDS_PER_MIB = 1.0
_TIMES_INPUT = 10
#: What an execution may allocate whatever its input: imports, caches, tables.
_ALLOWANCE = 4 * _MIB
_MEASURED = 64
_LARGEST_SEED = 64 * 1024
_MOST_SEEDS = 200


class OverLimit(AssertionError):
    """An execution took too long or too much memory."""


def within_limits(target: Target) -> Target:
    """Return `target`, which then raises `OverLimit` where it takes too much."""
    count = 0

    def limited(data: bytes) -> None:
        nonlocal count
        count += 1
        measured = count % _MEASURED == 0 and not tracemalloc.is_tracing()
        if measured:
            tracemalloc.start()
        begun = time.thread_time()
        try:
            target(data)
            seconds = time.thread_time() - begun
            peak = tracemalloc.get_traced_memory()[1] if measured else 0
        finally:
            if measured:
                tracemalloc.stop()
        # Tracing and instrumentation slow it down.
        if not measured and seconds > _SECONDS_PER_MIB * max(1, len(data) / _MIB):
            raise OverLimit(f"{seconds:.1f} s for {len(data)} bytes")
        if peak > _TIMES_INPUT * len(data) + _ALLOWANCE:
            raise OverLimit(f"{peak} bytes for {len(data)} bytes")

    return limited


def corpus_files() -> Iterator[tuple[bytes, str]]:
    """Yield small files of the corpus with their transfer syntax, the fuzzed ones first."""
    import corpus  # brings modules that are to be instrumented first

    rows = sorted(corpus.rows(), key=lambda row: ("fuzz" not in row["category"], row["path"]))
    small = [row for row in rows if int(row["size"]) <= _LARGEST_SEED]
    for row in small[:_MOST_SEEDS]:
        yield (corpus.CORPUS / row["path"]).read_bytes(), row["transfer_syntax_uid"]


def instrumented(*packages: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which what is imported is followed, where this is a run of a target."""
    if not Path(sys.argv[0]).name.startswith("fuzz_") or "--count" in sys.argv:
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=list(packages))


def run(target: Target, seeds: Iterable[bytes]) -> None:
    """Fuzz; the command line is libFuzzer's."""
    import atheris

    with tempfile.TemporaryDirectory(prefix="seeds-") as folder:
        arguments = list(sys.argv)
        if not any(Path(argument).exists() for argument in arguments[1:]):
            for number, seed in enumerate(seeds):
                Path(folder, f"{number:04d}").write_bytes(seed)
            arguments.append(folder)
        atheris.Setup(arguments, within_limits(target))
        atheris.Fuzz()
