"""Fuzz what is read of a message: the command set, and the body of an A-ASSOCIATE-RQ.

Whatever it is, it is understood or refused with the error that its module names; a command that was
understood and is encoded again says the same.
"""

from __future__ import annotations

import harness  # first: it sets the path

with harness.instrumented("node.network"):
    from network.raw_peer import associate_rq, command_set, context, echo_rq, item, store_rq, us
    from network.raw_peer import user_information as user

    from node.network import association_request
    from node.network import command_set as commands
    from node.network.pdu_reader import InvalidPDU


def one(content: bytes) -> None:
    """The first byte chooses what the rest is."""
    if not content:
        return
    if content[0] % 2:
        request(content[1:], secured=bool(content[0] & 2))
    else:
        command(content[1:])


def command(data: bytes) -> None:
    """Decode, and encode what came of it."""
    try:
        found = commands.decode(data)
    except commands.MalformedCommandSet:
        return
    if None not in found.values():  # what is mistyped cannot be encoded
        again = commands.decode(commands.encode(found))
        assert {name: again[name] for name in found} == found


def request(body: bytes, *, secured: bool) -> None:
    """Judge a request; what pynetdicom gets is no longer and still whole."""
    if len(body) < 68:
        return
    try:
        judged = association_request.readable_by_pynetdicom(body, secured)
    except InvalidPDU:
        return
    assert len(judged.body) <= len(body) + 64
    list(association_request.items(judged.body[68:]))


def seeds() -> list[bytes]:
    """Commands and requests as they should be."""
    bodies = [
        associate_rq()[6:],
        associate_rq(context(1), user=user(more=item(0x58, b"\x02\1\0\1u\0\1p")))[6:],
        associate_rq(*[context(n) for n in range(1, 256, 2)])[6:],
        associate_rq(*[item(0x10, b"")] * 5)[6:],
    ]
    found = [store_rq(), echo_rq(), command_set(us(0x0100, 0x8001), us(0x0120, 1), us(0x0900, 0))]
    return [b"\0" + data for data in found] + [b"\1" + body for body in bodies]


if __name__ == "__main__":
    harness.run(one, seeds())
