"""What receivers answer to bad input, side by side: `python -m tests.hostile.table`.

Plays every row of `rows` and `data_sets` against our node, DCMTK's storescp, Orthanc and plain
pynetdicom, as far as they are installed, and prints a table in Markdown. After each row an honest
peer asks whether the receiver still answers. It takes some minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import instances  # noqa: E402
from hostile.data_sets import DEFLATED, REFUSED, TAKEN, UID, bad_one  # noqa: E402
from hostile.rows import ROWS, Row  # noqa: E402
from hostile.servers import AE_TITLE, Server, available, running  # noqa: E402
from network.raw_peer import (  # noqa: E402
    CT_IMAGE_STORAGE,
    RELEASE_RQ,
    RawPeer,
    associate_rq,
    context,
    message,
    p_data,
    pdv,
    status,
    store_rq,
)
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian  # noqa: E402

#: Whoever has said nothing for so long is taken to say nothing more.
_PATIENCE = 3.0
_FRAGMENT = 16000

#: These need limits that are short only in tests of our network room.
_LEFT_OUT = frozenset(
    {
        "instance over the limit: discarded and answered",
        "instance that does not end",
        "data set of a C-ECHO that does not end",
    }
)
#: These send zeros as a data set, which a whole node looks at.
_NO_DATA_SET = frozenset(
    {"six bytes over the maximum: sloppy, accepted", "command and data in one PDU"}
)

Play = Callable[[RawPeer], None]


def rows() -> dict[str, tuple[str, Play]]:
    """Return by name what is expected of a node, and how to play the row."""
    found: dict[str, tuple[str, Play]] = {}
    for row in ROWS:
        if row.name not in _LEFT_OUT:
            expected = "RSP C000" if row.name in _NO_DATA_SET else _in_short(row.answers)
            found[row.name] = (expected, _sends(row))
    for name in REFUSED:
        uid, data_set, code = bad_one(name)
        found[f"data set: {name}"] = (status(code), _stores(uid, data_set))
    for name, (spoil, code) in DEFLATED.items():
        data_set = spoil(instances.encoded(instances.image(SOPInstanceUID=UID)))
        play = _stores(UID, data_set, DeflatedExplicitVRLittleEndian)
        found[f"deflated data set: {name}"] = (status(code), play)
    for name, make in TAKEN.items():
        ds, data_set = make()
        found[f"data set: {name}"] = (status(0), _stores(str(ds.SOPInstanceUID), data_set))
    return found


def _sends(row: Row) -> Play:
    return lambda peer: peer.send(row.send)


def _stores(uid: str, data_set: bytes, syntax: str = ExplicitVRLittleEndian) -> Play:
    """Send one instance and release; fragments as large as every receiver takes them."""
    pieces = [data_set[i : i + _FRAGMENT] for i in range(0, len(data_set), _FRAGMENT)] or [b""]
    command = store_rq(sop_class=CT_IMAGE_STORAGE, sop_instance=uid.encode())
    messages = [message(1, command)]
    messages += [p_data(pdv(1, 0, piece)) for piece in pieces[:-1]]
    messages += [p_data(pdv(1, 2, pieces[-1]))]
    request = associate_rq(context(1, transfer=[syntax.encode()]), called=AE_TITLE.encode())

    def play(peer: RawPeer) -> None:
        peer.send([request])
        if peer.receive() == "A-ASSOCIATE-AC":
            peer.said.clear()
            peer.send([*messages])
            peer.receive()
            peer.send([RELEASE_RQ])

    return play


def _in_short(answers: list[str]) -> str:
    """Return what was said after the association was accepted; "closed" for nothing."""
    said = [answer for answer in answers if answer not in ("A-ASSOCIATE-AC", "A-RELEASE-RP")]
    shortened = [answer.replace("A-ASSOCIATE-", "").replace("A-ABORT", "ABORT") for answer in said]
    if not shortened:
        return "accepted" if "A-RELEASE-RP" in answers else "closed"
    return ", ".join(shortened[:4]) + (", ..." if len(shortened) > 4 else "")


def play(server: Server, name: str, how: Play) -> str:
    """Play one row and return what came of it."""
    begun = time.monotonic()
    try:
        with RawPeer(server.address) as peer:
            peer.sock.settimeout(_PATIENCE)
            ending = "closed"
            try:
                how(peer)
                # After a release it is for us to close.
                while peer.said[-1:] != ["A-RELEASE-RP"] and peer.receive() != "closed":
                    pass
            except TimeoutError:
                ending = "left open"
            except (KeyError, ValueError):
                ending = "an unknown answer"
            said = _in_short(peer.said)
    except OSError as failure:
        said, ending = f"no connection ({failure.strerror})", "closed"
    seconds = time.monotonic() - begun
    after = server.revive()
    parts = [said if ending == "closed" else f"{'' if said == 'closed' else said + ', '}{ending}"]
    if ending == "closed" and said == "closed" and seconds > 2:
        parts.append(f"after {seconds:.0f} s")
    return " ".join(parts) + (f" **{after}**" if after else "")


def play_all(name: str) -> dict[str, str]:
    """Play every row against one receiver."""
    warnings.simplefilter("ignore")
    with running(name) as server:
        return {row: play(server, row, how) for row, (_, how) in rows().items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Print what receivers answer to bad input.")
    parser.add_argument("--only", action="append", choices=available(), help="just this receiver")
    names = parser.parse_args().only or available()
    warnings.simplefilter("ignore")
    with ThreadPoolExecutor(len(names)) as pool:
        columns = dict(zip(names, pool.map(play_all, names), strict=True))
    print(f"| Input | Expected | {' | '.join(names)} |")
    print("|---" * (2 + len(names)) + "|")
    expected = {name: what for name, (what, _) in rows().items()}
    for name, what in expected.items():
        cells = [columns[server][name].replace("|", "&#124;") for server in names]
        print(f"| {name} | {what} | {' | '.join(cells)} |")
    print()
    for server in names:
        same = sum(columns[server][name] == what for name, what in expected.items())
        ill = sum("**" in cell for cell in columns[server].values())
        print(f"{server}: as expected {same} of {len(expected)}, dead or deaf after {ill}")


if __name__ == "__main__":
    main()
