"""The table of bad input, one case a row: what is sent, and what the node answers.

Connection level, A-ASSOCIATE-RQ, P-DATA and DIMSE. `tests/network/test_guard.py` holds the node to
it; `python -m tests.hostile.table` plays it against other receivers too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from network.raw_peer import (
    ABORT,
    CT_IMAGE_STORAGE,
    RELEASE_RP,
    RELEASE_RQ,
    abort,
    associate_rq,
    command_set,
    context,
    echo_rq,
    element,
    item,
    message,
    p_data,
    pdu,
    pdv,
    reject,
    status,
    store_rq,
    ui,
    us,
    user_information,
)

from node.network.limits import Limits

#: Short, so that what takes ten seconds outside takes half a second.
LIMITS = Limits(
    artim_seconds=0.5,
    idle_seconds=0.6,
    pdu_seconds=0.4,
    pdu_bytes_per_second=1_000_000,
    send_seconds=0.6,
    close_seconds=0.2,
    refuse_seconds=0.2,
    max_pdu=16384,
    instance_bytes=100_000,
    discard_bytes=200_000,
    memory_bytes=50_000,
    message_bytes=50_000,
)
ACCEPTED = "A-ASSOCIATE-AC"
RELEASED = "A-RELEASE-RP"
SUCCESS = status(0x0000)


@dataclass
class Row:
    """`send` goes out at once; then everything that is answered is read until the close."""

    name: str
    send: list[bytes]
    answers: list[str]
    within: float = 1.0
    context_results: dict[int, int] = field(default_factory=dict)


def in_association(name: str, *send: bytes, answers: list[str], within: float = 1.0) -> Row:
    return Row(name, [associate_rq(), *send], [ACCEPTED, *answers], within)


FIRST_BYTES = [
    Row("nothing is sent: ARTIM", [], [], 1.0),
    Row("HTTP", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], [abort(0, 0)]),
    Row("TLS hello on the plain port", [bytes.fromhex("1603010200010001fc0303")], [abort(0, 0)]),
    Row("SSH", [b"SSH-2.0-OpenSSH_9.2\r\n"], [abort(0, 0)]),
    *[
        Row(f"first PDU is {kind:02X}", [pdu(kind, bytes(4))], [abort(0, 0)])
        for kind in (0x02, 0x03, 0x04, 0x05, 0x06, 0x00, 0x08, 0xFF)
    ],
    Row("first PDU is A-ABORT: just close", [ABORT], []),
    Row("one byte", [b"\x01"], [], 1.0),
    Row("half a header", [b"\x01\0\0\0"], [], 1.0),
    Row("half an A-ASSOCIATE-RQ", [associate_rq()[:60]], [], 1.0),
    Row("longer than 1 MiB, unread", [pdu(1, b"", 1024 * 1024 + 1)], [abort(2, 6)]),
    Row("length FFFFFFFF", [pdu(1, bytes(100), 0xFFFFFFFF)], [abort(2, 6)]),
    Row("shorter than 68 bytes", [pdu(1, bytes(67))], [abort(2, 6)]),
]

REQUESTS = [
    Row("protocol version bit 0 not set", [associate_rq(version=2)], [reject(1, 2, 2)]),
    Row(
        "protocol version with other bits: only bit 0 is tested",
        [associate_rq(version=3), RELEASE_RQ],
        [ACCEPTED, RELEASED],
    ),
    Row(
        "application context is another one",
        [associate_rq(application_context=b"1.2.840.10008.3.1.1.2")],
        [reject(1, 1, 2)],
    ),
    Row("called AE title is not ours", [associate_rq(called=b"OTHER")], [reject(1, 1, 7)]),
    Row("called AE title is empty", [associate_rq(called=b" ")], [reject(1, 1, 7)]),
    Row("called AE title with backslash", [associate_rq(called=b"A\\B")], [reject(1, 1, 7)]),
    Row("calling AE title is empty", [associate_rq(calling=b" ")], [reject(1, 1, 3)]),
    Row("calling AE title with a newline", [associate_rq(calling=b"A\nB")], [reject(1, 1, 3)]),
    Row("AE title is not ASCII", [associate_rq(calling=b"\xff\xfe")], [abort(2, 6)]),
    Row(
        "user name and passcode in the clear",
        [associate_rq(user=user_information(more=item(0x58, b"\x02\0\0\1u\0\1p")))],
        [reject(1, 1, 1)],
    ),
    Row(
        "user name offered, not required: no response",
        [associate_rq(user=user_information(more=item(0x58, b"\x01\1\0\1u\0\0"))), RELEASE_RQ],
        [ACCEPTED, RELEASED],
    ),
    Row(
        "item longer than the PDU",
        [associate_rq(struct.pack(">BxH", 0x20, 500) + bytes(20), user=b"")],
        [abort(2, 6)],
    ),
    Row(
        "sub-item longer than its item",
        [associate_rq(item(0x20, b"\1\0\0\0" + struct.pack(">BxH", 0x30, 99) + b"1.2"))],
        [abort(2, 6)],
    ),
    Row(
        "unknown items are skipped",
        [
            associate_rq(
                item(0x7F, b"unknown"),
                context(1),
                user=user_information(more=item(0x7E, b"unknown")),
            ),
            RELEASE_RQ,
        ],
        [ACCEPTED, RELEASED],
    ),
    Row("context ID is even", [associate_rq(context(2))], [abort(2, 6)]),
    Row("context ID is 0", [associate_rq(context(0))], [abort(2, 6)]),
    Row(
        "application context is there twice",
        [associate_rq(item(0x10, b""), context(1))],
        [abort(2, 6)],
    ),
    Row(
        "user information is there twice",
        [associate_rq(context(1), user_information())],
        [abort(2, 6)],
    ),
    Row("context ID is there twice", [associate_rq(context(1), context(1))], [abort(2, 6)]),
    Row(
        "no context: accept, then idle",
        [associate_rq(user_information(), user=b"")],
        [ACCEPTED, abort(0, 0)],
        1.5,
    ),
    Row(
        "more than 128 contexts",
        [associate_rq(*[context(1 + 2 * n & 0xFF) for n in range(129)])],
        [abort(2, 6)],
    ),
    Row("context without transfer syntax", [associate_rq(context(1, transfer=()))], [abort(2, 6)]),
    Row(
        "context with two abstract syntaxes",
        [associate_rq(context(1, [CT_IMAGE_STORAGE, CT_IMAGE_STORAGE]))],
        [abort(2, 6)],
    ),
    Row(
        "unknown abstract syntax, no common transfer syntax, names that are no UIDs",
        [
            associate_rq(
                context(1, [b"1.2.3.4.5"]),
                context(3, transfer=[b"1.2.840.10008.1.2.4.50"]),
                context(5, [b"1." + b"2" * 70]),
                context(7, [b"../../etc"]),
                context(9, transfer=[b"x"]),
                context(11),
            ),
            RELEASE_RQ,
        ],
        [ACCEPTED, RELEASED],
        context_results={1: 3, 3: 4, 5: 3, 7: 3, 9: 4, 11: 0},
    ),
    Row(
        "all contexts refused: accept, then idle",
        [associate_rq(context(1, [b"1.2.3"]))],
        [ACCEPTED, abort(0, 0)],
        1.5,
    ),
    Row(
        "implementation class UID that cannot be decoded",
        [associate_rq(user=user_information(more=item(0x52, b"1.\xe1")))],
        [abort(2, 6)],
    ),
    Row("tiny maximum length", [associate_rq(user=user_information(15))], [abort(2, 6)]),
    Row(
        "maximum length 0 is no limit",
        [associate_rq(user=user_information(0)), message(3, echo_rq()), RELEASE_RQ],
        [ACCEPTED, SUCCESS, RELEASED],
    ),
    Row(
        "smallest maximum length there can be",
        [associate_rq(user=user_information(16)), RELEASE_RQ],
        [ACCEPTED, RELEASED],
    ),
]

IN_ASSOCIATION = [
    in_association("PDU type unknown", pdu(0x09, bytes(4)), answers=[abort(2, 1)]),
    in_association("second A-ASSOCIATE-RQ", associate_rq(), answers=[abort(2, 2)]),
    in_association("A-RELEASE-RP without a request", RELEASE_RP, answers=[abort(2, 2)]),
    in_association("A-ASSOCIATE-RJ", pdu(0x03, b"\0\1\1\1"), answers=[abort(2, 2)]),
    in_association("P-DATA of length 0", pdu(0x04, b""), answers=[abort(2, 6)]),
    in_association("A-RELEASE-RQ of length 5", pdu(0x05, bytes(5)), answers=[abort(2, 6)]),
    in_association("A-ABORT of length 0", pdu(0x07, b""), answers=[abort(2, 6)]),
    in_association(
        "P-DATA over the negotiated maximum",
        p_data(pdv(1, 1, bytes(16384 + 1))),
        answers=[abort(2, 6)],
    ),
    in_association("P-DATA of 64 MiB announced", pdu(4, b"", 1 << 26), answers=[abort(2, 6)]),
    in_association(
        "six bytes over the maximum: sloppy, accepted",
        message(1, store_rq(), bytes(16384)),
        RELEASE_RQ,
        answers=[SUCCESS, RELEASED],
    ),
    in_association(
        "P-DATA that never gets whole", pdu(4, bytes(50), 100), answers=[abort(2, 0)], within=1.4
    ),
    in_association("idle", answers=[abort(0, 0)], within=1.6),
    in_association(
        "silent inside an instance",
        p_data(pdv(1, 3, store_rq())),
        p_data(pdv(1, 0, bytes(100))),
        answers=[abort(0, 0)],
        within=1.6,
    ),
    in_association("PDV of length 1", pdu(4, pdv(1, 3, b"", 1)), answers=[abort(2, 6)]),
    in_association("PDV beyond its PDU", pdu(4, pdv(1, 3, b"abcd", 99)), answers=[abort(2, 6)]),
    in_association(
        "PDV header beyond its PDU",
        pdu(4, pdv(1, 1, b"ab") + b"\0\0\0"),
        answers=[abort(2, 6)],
    ),
    in_association("context not accepted", message(5, echo_rq()), answers=[abort(2, 5)]),
    in_association(
        "data fragment before a command", p_data(pdv(1, 2, bytes(10))), answers=[abort(2, 5)]
    ),
    in_association(
        "command inside data",
        message(1, store_rq()) + message(1, store_rq()),
        answers=[abort(2, 5)],
    ),
    in_association(
        "data of another context inside a message",
        message(1, store_rq()) + p_data(pdv(3, 2, bytes(10))),
        answers=[abort(2, 5)],
    ),
    in_association(
        "command set over 64 KiB", *[p_data(pdv(1, 1, bytes(16000)))] * 5, answers=[abort(2, 6)]
    ),
    in_association("command set is noise", message(1, b"\xde\xad" * 40), answers=[abort(2, 6)]),
    in_association("command set is empty", message(1, b""), answers=[abort(2, 6)]),
    in_association(
        "group length wrong",
        message(3, command_set(us(0x0100, 0x30), us(0x0110, 1), group_length=99)),
        answers=[abort(2, 6)],
    ),
    in_association(
        "element longer than the command set",
        message(3, command_set(us(0x0100, 0x30), struct.pack("<HHI", 0, 0x0110, 500))),
        answers=[abort(2, 6)],
    ),
    in_association(
        "no Command Field",
        message(3, command_set(us(0x0110, 1), us(0x0800, 0x0101))),
        answers=[abort(2, 6)],
    ),
    in_association(
        "no Message ID",
        message(3, command_set(us(0x0100, 0x30), us(0x0800, 0x0101))),
        answers=[abort(2, 6)],
    ),
    in_association(
        "no Command Data Set Type",
        message(3, command_set(us(0x0100, 0x30), us(0x0110, 1))),
        answers=[abort(2, 6)],
    ),
    in_association(
        "Command Field unknown",
        message(1, command_set(us(0x0100, 0x0BAD), us(0x0110, 1), us(0x0800, 0x0101))),
        RELEASE_RQ,
        answers=[status(0x0211), RELEASED],
    ),
    in_association(
        "unknown response",
        message(1, command_set(us(0x0100, 0x8BAD), us(0x0120, 1), us(0x0800, 0x0101))),
        answers=[abort(2, 6)],
    ),
    *[
        in_association(
            f"{name} on a storage context",
            message(
                1,
                command_set(
                    ui(0x0002, CT_IMAGE_STORAGE),
                    us(0x0100, command_field),
                    us(0x0110, 1),
                    us(0x0800, 1),
                ),
                bytes(8),
            ),
            RELEASE_RQ,
            answers=[status(0x0211), RELEASED],
        )
        for name, command_field in (("C-FIND", 0x20), ("C-MOVE", 0x21), ("N-ACTION", 0x130))
    ],
    in_association(
        "the same Message ID again, after its answer",
        message(3, echo_rq(5)) + message(3, echo_rq(5)),
        RELEASE_RQ,
        answers=[SUCCESS, SUCCESS, RELEASED],
    ),
    in_association(
        "C-STORE without SOP Class UID",
        message(1, store_rq(sop_class=None), bytes(8)),
        RELEASE_RQ,
        answers=[status(0x0212), RELEASED],
    ),
    in_association(
        "C-STORE without SOP Instance UID",
        message(1, store_rq(sop_instance=None), bytes(8)),
        RELEASE_RQ,
        answers=[status(0x0212), RELEASED],
    ),
    in_association(
        "C-STORE with two SOP Instance UIDs",
        message(1, store_rq(sop_instance=b"1.2\\1.3"), bytes(8)),
        RELEASE_RQ,
        answers=[status(0x0212), RELEASED],
    ),
    *[
        in_association(
            f"SOP Instance UID {uid!r}",
            message(1, store_rq(sop_instance=uid), bytes(8)),
            RELEASE_RQ,
            answers=[status(0x0117), RELEASED],
        )
        for uid in (b"../../../../etc/cron.d/x", b"1.2\n3", b"1." + b"9" * 63, b"1..2")
    ],
    in_association(
        "SOP class is not the context's",
        message(1, store_rq(sop_class=b"1.2.840.10008.5.1.4.1.1.4"), bytes(8)),
        RELEASE_RQ,
        answers=[status(0xA900), RELEASED],
    ),
    in_association(
        "C-STORE without a data set",
        message(1, store_rq(data_set=False)),
        RELEASE_RQ,
        answers=[status(0x0212), RELEASED],
    ),
    in_association(
        "instance over the limit: discarded and answered",
        p_data(pdv(1, 3, store_rq())),
        *[p_data(pdv(1, 0, bytes(10_000)))] * 15,
        p_data(pdv(1, 2, bytes(10))),
        message(3, echo_rq()),
        RELEASE_RQ,
        answers=[status(0xA700), SUCCESS, RELEASED],
    ),
    in_association(
        "instance that does not end",
        p_data(pdv(1, 3, store_rq())),
        *[p_data(pdv(1, 0, bytes(10_000)))] * 40,
        answers=[abort(2, 6)],
    ),
    in_association(
        "data set of a C-ECHO that does not end",
        p_data(pdv(3, 3, command_set(us(0x0100, 0x30), us(0x0110, 1), us(0x0800, 1)))),
        *[p_data(pdv(3, 0, bytes(10_000)))] * 40,
        answers=[abort(2, 6)],
    ),
    in_association("A-ABORT in mid-object", p_data(pdv(1, 3, store_rq())), ABORT, answers=[]),
    in_association(
        "A-RELEASE-RQ in mid-object",
        p_data(pdv(1, 3, store_rq())),
        RELEASE_RQ,
        answers=[abort(2, 2)],
    ),
    in_association(
        "A-RELEASE-RQ inside a command set",
        p_data(pdv(1, 1, store_rq()[:20])),
        RELEASE_RQ,
        answers=[abort(2, 2)],
    ),
    in_association(
        "command and data in one PDU",
        p_data(pdv(1, 1, store_rq()[:20]), pdv(1, 3, store_rq()[20:]), pdv(1, 2, bytes(30))),
        RELEASE_RQ,
        answers=[SUCCESS, RELEASED],
    ),
    in_association(
        "unknown elements of group 0000 are skipped",
        message(3, command_set(echo_rq()[12:], element(0x5110, b"LENGTH"))),
        RELEASE_RQ,
        answers=[SUCCESS, RELEASED],
    ),
]

ROWS = FIRST_BYTES + REQUESTS + IN_ASSOCIATION
