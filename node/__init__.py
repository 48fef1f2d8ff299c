"""dcmpress: a DICOM node that compresses on receipt.

An instance goes one way through these rooms, and imports go down only:

    cli         one file a command
    service     supervisor and processes, logs, status
    delivery    one destination, one loop: archive to disk, forward, retry schedule
    network     the only importer of pynetdicom: upper layer, store SCP, store SCU
    spool       states, entries, recovery; the only caller of fsync, rename and link
    pixels      native frames <-> encoded frames, the policy, the transcoder
    dicom       what the Standard says, as pure functions and tables
    model, events, settings, errors, reasons, words

`tests/test_rooms.py` reads the imports and holds this order.

For programs: `Node` is a whole node inside yours (`node.service.node`), `load` reads its settings,
and `node.pixels` encodes and decodes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from node.service.node import Node
    from node.settings import Settings, load

__all__ = ["Node", "Settings", "load"]

_ELSEWHERE = {"Node": "node.service.node"}

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import one of the names above when it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE.get(name, "node.settings")), name)
