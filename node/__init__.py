"""dcmpress: a DICOM node that compresses on receipt.

An instance goes one way through these rooms, and imports go down only:

    cli         one file a command
    service     supervisor and processes, logs, status
    delivery    one destination, one loop: archive to disk, forward, retry schedule
    network     the only importer of pynetdicom: upper layer, store SCP, store SCU
    spool       states, entries, recovery; the only caller of fsync, rename and link
    pixels      native frames <-> encoded frames, the policy, the transcoder
    dicom       what the Standard says, as pure functions and tables
    model, events, settings, errors

`tests/test_rooms.py` reads the imports and holds this order.
"""

__version__ = "0.1.0"
