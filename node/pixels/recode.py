"""An instance in another lossless transfer syntax than the one it is kept in.

For a destination that wants its own codec: the data set is given back as it was received and
encoded anew, by the same code and with the same proof of every frame as on receipt. All of it is
in memory, which is why there is a limit.

Raises `NotEncoded` where the instance has to go another way, `DecodingFailed` where what is stored
does not come back.
"""

from __future__ import annotations

import io

from node.dicom import uids
from node.dicom.scan import scan
from node.pixels.files import defects_not_encoded
from node.pixels.instance import Instance
from node.pixels.planning import NotEncoded, plan
from node.pixels.policy import Options
from node.pixels.transcoder import write_data_set
from node.reasons import KeepReason

#: A larger instance is not recoded: it would be in memory twice, for each association.
LARGEST_RECODED = 256 << 20


def recoded(instance: Instance, options: Options) -> memoryview:
    """Return the data set of `instance`, encoded as `options` say; frames are always proven."""
    received = instance.received_syntax
    if received not in uids.NATIVE:
        raise NotEncoded(KeepReason.ALREADY_COMPRESSED)
    if instance.received_bytes > LARGEST_RECODED:
        raise NotEncoded(KeepReason.SWITCHED_OFF, f"more than {LARGEST_RECODED} bytes")
    native = b"".join(instance.as_received(options.run))
    proven = options._replace(verify=options.verify or True)
    sink = io.BytesIO()
    with defects_not_encoded(instance.sop_instance_uid):
        write_data_set(plan(scan(native, received), proven), sink, proven)
    return sink.getbuffer()
