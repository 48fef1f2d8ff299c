"""Lossless encoding of pixel data, for this node and for other programs.

    from node.pixels import compress, compress_file, compress_dataset, compress_array

    compress(file)                      bytes of a DICOM file -> bytes of a smaller one
    compress_file(source, target)       a file of any size, in little memory
    compress_dataset(dataset)           a pydicom Dataset, in place
    compress_array(array, dataset)      an array, with the Dataset that describes it
    decompress_dataset(dataset)
    encapsulate_frames(dataset, frames, transfer_syntax_uid)
    register()                          Dataset.compress(..., encoding_plugin="dcmpress")

`Options` says how, `KeepReason` why not. See `node.pixels.library` and `node.pixels.plugin`; what
is imported is only what is asked for, as pydicom and numpy take their time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from node.pixels.library import (
        compress,
        compress_array,
        compress_dataset,
        compress_file,
        decompress_dataset,
        encapsulate_frames,
    )
    from node.pixels.plugin import register
    from node.pixels.policy import Options
    from node.reasons import KeepReason

__all__ = [
    "KeepReason",
    "Options",
    "compress",
    "compress_array",
    "compress_dataset",
    "compress_file",
    "decompress_dataset",
    "encapsulate_frames",
    "register",
]

_ELSEWHERE = {
    "KeepReason": "node.reasons",
    "Options": "node.pixels.policy",
    "register": "node.pixels.plugin",
}


def __getattr__(name: str) -> Any:
    """Import one of the names above when it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE.get(name, "node.pixels.library")), name)
