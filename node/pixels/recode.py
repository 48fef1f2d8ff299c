"""A stored instance in another lossless transfer syntax than the one it is kept in.

For a destination that wants its own codec: the data set is given back as it was received and
encoded anew, by the same code and with the same proof of every frame as on receipt. All of it is
in memory, which is why there is a limit.

Raises `NotEncoded` where the instance has to go another way, `DecodingFailed` where what is stored
does not come back.
"""

from __future__ import annotations

import io
import logging

from node.dicom import uids
from node.dicom.scan import scan
from node.pixels.planning import NotEncoded, plan
from node.pixels.policy import Options
from node.pixels.stored import StoredInstance, as_received
from node.pixels.transcoder import write_data_set
from node.reasons import KeepReason

log = logging.getLogger(__name__)

#: A larger instance is not recoded: it would be in memory twice, for each association.
LARGEST_RECODED = 256 << 20


def recoded(instance: StoredInstance, options: Options) -> memoryview:
    """Return the data set of `instance`, encoded as `options` say; frames are always proven."""
    received = instance.received_syntax
    if received not in uids.NATIVE:
        raise NotEncoded(KeepReason.ALREADY_COMPRESSED)
    if instance.received_bytes > LARGEST_RECODED:
        raise NotEncoded(KeepReason.SWITCHED_OFF, f"more than {LARGEST_RECODED} bytes")
    native = b"".join(as_received(instance, options.run))
    proven = options._replace(verify=options.verify or True)
    sink = io.BytesIO()
    try:
        write_data_set(plan(scan(native, received), proven), sink, proven)
    except NotEncoded:
        raise
    except Exception as failure:
        # A defect costs compression, never the delivery.
        log.exception("%s: encoding failed", instance.meta.sop_instance_uid)
        raise NotEncoded(KeepReason.ENCODER_FAILED, str(failure)) from failure
    return sink.getbuffer()
