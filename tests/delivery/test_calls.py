"""The associations with a destination are counted: those that stand, and how the others ended."""

from __future__ import annotations

import conftest
import instances
import peers
import pytest
from conftest import StartNode
from delivery.scripted_scp import Part, ScriptedSCP
from peers import wait_until
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.delivery.calls import Calls
from node.dicom.contexts import Proposal
from node.errors import PeerUnreachable
from node.network.store_scu import NothingAccepted, Peer

CT = Proposal(CTImageStorage, ExplicitVRLittleEndian)


def peer_at(port: int) -> Peer:
    return Peer(ae_title=peers.DOWNSTREAM, host="127.0.0.1", port=port, calling_ae_title="DCMPRESS")


def test_each_end_has_its_name() -> None:
    calls = Calls()
    parts = [Part(), Part(), Part(takes=lambda *_: False)]
    with ScriptedSCP(parts).listening() as scp:
        released, aborted = (calls.connect(peer_at(scp.port), [CT]) for _ in range(2))
        assert (calls.open, calls.ended) == (2, {})
        aborted.abort()
        calls.close(aborted)
        calls.close(released)
        with pytest.raises(NothingAccepted):
            calls.connect(peer_at(scp.port), [CT])
    with pytest.raises(PeerUnreachable):
        calls.connect(peer_at(peers.free_port()), [CT])
    assert (calls.open, calls.ended) == (0, {"released": 2, "aborted": 1, "unreachable": 1})


def test_a_destination_tells_of_its_associations_and_attempts(start_node: StartNode) -> None:
    with ScriptedSCP([Part()]).listening() as scp:
        node = start_node(conftest.pacs(scp.port))
        assert peers.send(node.address[1], instances.image()) == 0
        wait_until(lambda: node.progress["pacs"].associations_ended, "an association is over")
        told = node.progress["pacs"]
    assert (told.attempts, told.associations) == ({"success": 1}, 0)
    assert told.associations_ended == {"released": 1}


def test_a_relay_too(start_node: StartNode) -> None:
    with ScriptedSCP([Part()]).listening() as scp:
        node = start_node(conftest.pacs(scp.port, mode="relay"))
        assert peers.send(node.address[1], instances.image()) == 0
        told = node.progress["pacs"]
        assert (told.attempts, told.associations) == ({"success": 1}, 1)
        node.stop()
    assert node.progress["pacs"].associations_ended == {"released": 1}
