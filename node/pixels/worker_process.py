"""A worker: calls functions for the process that started it, and lives as long as that.

    python -m node.pixels.worker_process MEMORY_BYTES

Standard input is a socket. A request is a function of a module and its arguments, pickled by our
own side; an answer is plain bytes (`workers`). The worker bounds its memory, writes no file, and
lets the kernel end it when a call takes too long, even where a codec never comes back.
"""

from __future__ import annotations

import pickle
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any

from node.pixels.workers import ANSWER_HEADER, REQUEST_HEADER


def main(arguments: list[str]) -> None:
    """Answer requests until the other side closes."""
    _limit(int(arguments[0]))
    with socket.socket(fileno=0) as requests, requests.makefile("rb") as reading:
        while header := reading.read(REQUEST_HEADER.size):
            length, seconds = REQUEST_HEADER.unpack(header)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            function, given = pickle.loads(reading.read(length))
            is_result, answer = _answer(function, given)
            signal.setitimer(signal.ITIMER_REAL, 0)
            requests.sendall(ANSWER_HEADER.pack(is_result, len(answer)))
            requests.sendall(answer)


def _limit(memory_bytes: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
    # Ctrl-C is for the parent; the alarm ends the process in the kernel, whatever it is at.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    warnings.simplefilter("ignore")  # pydicom's, of what is odd in a file


def _answer(function: Callable[..., bytes], given: tuple[Any, ...]) -> tuple[bool, bytes]:
    try:
        return True, function(*given)
    except MemoryError:
        return False, b"it needs more memory than a codec may have (limits.codec_memory_bytes)"
    except Exception as failure:
        # Codecs raise whatever they like.
        reason = " ".join(str(failure).split()) or type(failure).__name__
        return False, reason.encode("utf-8", "replace")


if __name__ == "__main__":
    main(sys.argv[1:])
