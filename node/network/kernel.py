"""The C extension of this room, where there is one.

It takes data sets off a socket, decodes command sets, sends small PDUs and makes memory, all of
which is done in Python too: over TLS, and where there was no compiler. Both pass the same tests.
What it knows of waiting has no equal there: without it nobody waits awake (`Alertness`), and who
waits in reserve is called at once (`Relief`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final


def _kernel() -> Any:
    try:
        return importlib.import_module("node.network._kernel")
    except ImportError:
        return None


#: None where it could not be built.
KERNEL: Any = _kernel()

#: Makes memory of so many bytes with anything in it: to clear a megabyte costs as much as receiving
#: an instance, and takes pages for what is never used.
memory: Final[Callable[[int], bytearray]] = bytearray if KERNEL is None else KERNEL.memory
