"""The C extension of this room, where there is one.

It takes data sets off a socket, decodes command sets and sends small PDUs, all of which is done in
Python too: over TLS, and where there was no compiler. Both pass the same tests.
"""

from __future__ import annotations

import importlib
from typing import Any


def _kernel() -> Any:
    try:
        return importlib.import_module("node.network._kernel")
    except ImportError:
        return None


#: None where it could not be built.
KERNEL: Any = _kernel()
