"""pynetdicom's services run over our transport as over its own, in both roles, with real peers."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest
from network.peers import free_port, need, run, storescp, wait_until
from network.raw_peer import (
    CT_IMAGE_STORAGE,
    RELEASE_RQ,
    RawPeer,
    associate_rq,
    command_set,
    context,
    echo_rq,
    item,
    message,
    status,
    store_rq,
    ui,
    us,
    user_information,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.examples import get_path
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.presentation import AllStoragePresentationContexts
from pynetdicom.sop_class import (
    CTImageStorage,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from node.errors import CannotWrite, PeerUnreachable
from node.network.dimse import received_data
from node.network.limits import Limits
from node.network.requestor import associate
from node.network.sending import send_store
from node.network.server import Server, listen

CT = get_path("ct")
FIND = PatientRootQueryRetrieveInformationModelFind
GET = PatientRootQueryRetrieveInformationModelGet
LIMITS = Limits(artim_seconds=2, idle_seconds=5, close_seconds=0.5, refuse_seconds=0.2)


def ours(server: Server, *contexts, handlers=(), **options):
    """Associate over our transport."""
    return associate(
        address=server.address,
        calling_ae_title="REQUESTOR",
        called_ae_title="ACCEPTOR",
        contexts=list(contexts),
        handlers=handlers,
        limits=LIMITS,
        **options,
    )


def theirs(server: Server, *contexts, handlers=(), ext_neg=()):
    """Associate over pynetdicom's own transport."""
    ae = AE("REQUESTOR")
    return ae.associate(
        *server.address, contexts=list(contexts), evt_handlers=list(handlers), ext_neg=list(ext_neg)
    )


BOTH_REQUESTORS = pytest.mark.parametrize("requestor", [ours, theirs])


@pytest.fixture
def serve():
    """Return a function that listens with handlers; everything is shut down after the test."""
    servers = []

    def start(handlers, contexts, **options) -> Server:
        options.setdefault("limits", LIMITS)
        server = listen(
            address=("127.0.0.1", 0),
            ae_title="ACCEPTOR",
            handlers=handlers,
            contexts=contexts,
            **options,
        )
        servers.append(server)
        return server

    threads = threading.active_count()
    yield start
    for server in servers:
        server.shutdown()
        assert server.active == 0
    wait_until(lambda: threading.active_count() <= threads, "threads are gone")


@BOTH_REQUESTORS
def test_echo_and_release(serve, requestor) -> None:
    server = serve([(evt.EVT_C_ECHO, lambda event: 0x0000)], [build_context(Verification)])
    assoc = requestor(server, build_context(Verification))
    assert assoc.is_established
    for number in (1, 2, 3):
        assert assoc.send_c_echo(number).Status == 0x0000
    assoc.release()
    assert assoc.is_released
    wait_until(lambda: server.active == 0, "association ended")


@BOTH_REQUESTORS
def test_store_gets_the_bytes_that_were_sent(serve, requestor) -> None:
    received = []

    def store(event: evt.Event) -> int:
        data = received_data(event)
        assert data.nbytes == len(data.buffer)
        assert event.encoded_dataset(include_meta=False) == bytes(data.buffer)
        received.append((event.dataset, event.request.AffectedSOPInstanceUID))
        return 0xB000

    server = serve(
        [(evt.EVT_C_STORE, store)], [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    )
    assoc = requestor(server, build_context(CTImageStorage, ExplicitVRLittleEndian))
    instance = dcmread(CT)
    assert assoc.send_c_store(instance).Status == 0xB000
    assoc.release()
    dataset, uid = received[0]
    assert uid == instance.SOPInstanceUID
    assert list(dataset) == list(instance)


@BOTH_REQUESTORS
def test_exception_in_a_store_handler_is_answered(serve, requestor) -> None:
    def store(event: evt.Event) -> int:
        raise RuntimeError("as it happens")

    server = serve([(evt.EVT_C_STORE, store)], [build_context(CTImageStorage)])
    assoc = requestor(server, build_context(CTImageStorage))
    assert assoc.send_c_store(dcmread(CT)).Status == 0x0110
    assert assoc.send_c_store(dcmread(CT)).Status == 0x0110
    assoc.release()


def _identifier() -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "PATIENT"
    identifier.PatientName = "*"
    return identifier


@BOTH_REQUESTORS
def test_find_answers_one_by_one(serve, requestor) -> None:
    def find(event: evt.Event):
        for number in range(5):
            match = Dataset()
            match.PatientName = f"{event.identifier.PatientName}{number}"
            yield 0xFF00, match

    server = serve([(evt.EVT_C_FIND, find)], [build_context(FIND)])
    assoc = requestor(server, build_context(FIND))
    answers = list(assoc.send_c_find(_identifier(), FIND))
    assert [status.Status for status, _ in answers] == [0xFF00] * 5 + [0x0000]
    assert [str(found.PatientName) for _, found in answers[:5]] == [f"*{n}" for n in range(5)]
    assoc.release()
    assert assoc.is_released


@BOTH_REQUESTORS
def test_find_is_cancelled_while_its_handler_runs(serve, requestor) -> None:
    """The handler looks at the connection through `is_cancelled`; there is no other thread."""

    def find(event: evt.Event):
        for _ in range(100_000):
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, _identifier()

    server = serve([(evt.EVT_C_FIND, find)], [build_context(FIND)])
    assoc = requestor(server, build_context(FIND))
    statuses = []
    for answer, _ in assoc.send_c_find(_identifier(), FIND, msg_id=9):
        statuses.append(answer.Status)
        if len(statuses) == 3:
            assoc.send_c_cancel(9, query_model=FIND)
    assert statuses[-1] == 0xFE00
    assert len(statuses) < 50_000
    assoc.release()


@BOTH_REQUESTORS
def test_storage_commitment_reports_on_the_same_association(serve, requestor) -> None:
    """N-ACTION to us; our N-EVENT-REPORT goes back to the requestor, who serves it."""
    reports = []

    def action(event: evt.Event):
        asked.append(event.assoc)
        return 0x0000, None

    def report(event: evt.Event):
        reports.append(event.event_information.TransactionUID)
        return 0x0000, None

    asked: list = []
    answered: list = []

    def echo(event: evt.Event) -> int:
        information = Dataset()
        information.TransactionUID = "1.2.3.4"
        status, _ = event.assoc.send_n_event_report(
            information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        answered.append(status.Status)
        return 0x0000

    server = serve(
        [
            (evt.EVT_N_ACTION, action),
            (evt.EVT_C_ECHO, echo),
        ],
        [build_context(StorageCommitmentPushModel), build_context(Verification)],
    )
    assoc = requestor(
        server,
        build_context(StorageCommitmentPushModel),
        build_context(Verification),
        handlers=[(evt.EVT_N_EVENT_REPORT, report)],
    )
    information = Dataset()
    information.TransactionUID = "1.2.3.4"
    status, _ = assoc.send_n_action(
        information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    assert status.Status == 0x0000
    # The report reaches the requestor while it waits for its C-ECHO response.
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()
    assert (len(asked), answered, reports) == (1, [0x0000], ["1.2.3.4"])


def test_requestor_waits_for_a_report_with_serve() -> None:
    """Without a thread, `serve` lets a requestor wait for what the peer asks later."""
    reports = []
    information = Dataset()
    information.TransactionUID = "1.2.3.4"
    arguments = (StorageCommitmentPushModel, StorageCommitmentPushModelInstance)

    def action(event: evt.Event):
        later = threading.Thread(
            target=event.assoc.send_n_event_report, args=(information, 1, *arguments)
        )
        event.assoc.bind(evt.EVT_DIMSE_SENT, lambda event: later.ident or later.start())
        return 0x0000, None

    def report(event: evt.Event):
        reports.append(event.event_information.TransactionUID)
        return 0x0000, None

    archive = AE("ACCEPTOR")
    archive.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_N_ACTION, action)]
    server = archive.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assoc = associate(
        address=server.server_address,
        calling_ae_title="REQUESTOR",
        called_ae_title="ACCEPTOR",
        contexts=[build_context(StorageCommitmentPushModel)],
        handlers=[(evt.EVT_N_EVENT_REPORT, report)],
    )
    assert assoc.send_n_action(information, 1, *arguments)[0].Status == 0x0000
    # It may have come even before the response, and was served then.
    assert reports or assoc.serve(10)
    assert reports == ["1.2.3.4"]
    assert not assoc.serve(0.05)
    assoc.release()
    server.shutdown()


@BOTH_REQUESTORS
def test_get_sends_instances_back(serve, requestor) -> None:
    def get(event: evt.Event):
        yield 2
        yield 0xFF00, dcmread(CT)
        yield 0xFF00, dcmread(CT)

    stored, brought = [], []

    def store(event: evt.Event) -> int:
        stored.append(len(event.request.DataSet.getvalue()))
        if requestor is ours:
            brought.append(received_data(event))
        return 0x0000

    context = build_context(CTImageStorage, ExplicitVRLittleEndian)
    supported = build_context(CTImageStorage, ExplicitVRLittleEndian)
    supported.scu_role, supported.scp_role = False, True
    server = serve([(evt.EVT_C_GET, get)], [build_context(GET), supported])
    role = build_role(CTImageStorage, scp_role=True)
    named = {"extended_negotiation": [role]} if requestor is ours else {"ext_neg": [role]}
    assoc = requestor(
        server, build_context(GET), context, handlers=[(evt.EVT_C_STORE, store)], **named
    )
    statuses = [status.Status for status, _ in assoc.send_c_get(_identifier(), GET)]
    assert statuses[-1] == 0x0000
    assert len(stored) == 2
    assert stored[0] > 30_000
    for data in brought:  # its memory was given back
        with pytest.raises(AssertionError, match="closed"):
            assert data.buffer
    assoc.release()


def test_a_store_in_the_middle_of_a_get_leaves_nothing_behind(serve, tmp_path: Path) -> None:
    """A peer that sends a large instance where it is to answer one."""

    def get(event):
        yield 1
        yield 0xFF00, dcmread(CT)

    supported = build_context(CTImageStorage, ImplicitVRLittleEndian)
    supported.scu_role, supported.scp_role = True, True
    server = serve(
        [(evt.EVT_C_GET, get), (evt.EVT_C_STORE, lambda event: 0x0000)],
        [build_context(GET, ImplicitVRLittleEndian), supported],
        limits=Limits(memory_bytes=20_000, close_seconds=0.2, refuse_seconds=0.2),
        spill=tmp_path,
    )
    role = item(0x54, struct.pack(">H", len(CT_IMAGE_STORAGE)) + CT_IMAGE_STORAGE + b"\1\1")
    asked = command_set(
        ui(2, GET.encode()), us(0x100, 0x10), us(0x110, 1), us(0x700, 0), us(0x800, 1)
    )
    with RawPeer(server.address) as peer:
        contexts = context(1), context(3, [GET.encode()])
        peer.send([associate_rq(*contexts, user=user_information(0, role))])
        assert peer.receive() == "A-ASSOCIATE-AC"
        peer.send([message(3, asked, struct.pack("<HHI", 8, 0x52, 6) + b"STUDY ")])
        peer.send([message(1, store_rq(), bytes(30_000))])
        while peer.sock.recv(1 << 16):
            pass
    wait_until(lambda: server.active == 0, "association ended")
    assert not list(tmp_path.iterdir())


def test_an_event_of_a_store_has_all_that_pynetdicoms_has(serve) -> None:
    seen = []

    def store(event: evt.Event) -> int:
        attributes = {"request": event.request, "context": event.context}
        seen.append((vars(event), vars(evt.Event(event.assoc, evt.EVT_C_STORE, attributes))))
        return 0x0000

    server = serve(
        [(evt.EVT_C_STORE, store)], [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    )
    assoc = ours(server, build_context(CTImageStorage, ExplicitVRLittleEndian))
    assert assoc.send_c_store(CT).Status == 0x0000
    assoc.release()
    [(mine, parents)] = seen
    assert mine.pop("timestamp") <= parents.pop("timestamp")
    assert mine == parents


def test_the_longest_pdu_is_what_was_negotiated_whoever_asked_before(serve) -> None:
    limits = Limits(max_pdu=4096, close_seconds=0.2)
    early = []
    storage = build_context(CTImageStorage, ExplicitVRLittleEndian)
    server = serve(
        [(evt.EVT_CONN_OPEN, lambda event: early.append(event.assoc.dimse.maximum_pdu_size))],
        [storage, build_context(Verification)],
        limits=limits,
    )
    asks = (evt.EVT_ACSE_SENT, lambda event: early.append(event.assoc.dimse.maximum_pdu_size))
    assoc = ours(server, storage, handlers=[asks])
    assert assoc.dimse.maximum_pdu_size == 4096
    assoc.release()
    for maximum in (5000, 6000, 6000):
        with RawPeer(server.address) as peer:
            peer.send([associate_rq(user=user_information(maximum))])
            assert peer.receive() == "A-ASSOCIATE-AC"
            [running] = server.active_associations
            assert running.dimse.maximum_pdu_size == maximum
            peer.send([RELEASE_RQ])
            assert peer.receive() == "A-RELEASE-RP"
        wait_until(lambda: server.active == 0, "association ended")
    assert len(early) > 4


@BOTH_REQUESTORS
def test_abort_by_the_requestor(serve, requestor) -> None:
    aborted = threading.Event()
    server = serve([(evt.EVT_ABORTED, lambda event: aborted.set())], [build_context(Verification)])
    assoc = requestor(server, build_context(Verification))
    assoc.abort()
    assert assoc.is_aborted
    assert aborted.wait(5)
    wait_until(lambda: server.active == 0, "association ended")


@BOTH_REQUESTORS
def test_abort_by_the_acceptor(serve, requestor) -> None:
    def echo(event: evt.Event) -> int:
        event.assoc.abort()
        return 0x0000

    server = serve([(evt.EVT_C_ECHO, echo)], [build_context(Verification)])
    assoc = requestor(server, build_context(Verification))
    assert "Status" not in assoc.send_c_echo()
    wait_until(lambda: assoc.is_aborted, "requestor noticed")
    assert not assoc.is_established


def test_abort_by_another_thread_wakes_the_reader(serve) -> None:
    aborted = threading.Event()
    server = serve([(evt.EVT_ABORTED, lambda event: aborted.set())], [build_context(Verification)])
    with RawPeer(server.address) as peer:
        peer.send([associate_rq()])
        assert peer.receive() == "A-ASSOCIATE-AC"
        server.active_associations[0].abort()
        assert aborted.wait(5)
        peer.until_closed()
        assert peer.said[-1] == "A-ABORT(0,0)"


def test_rejection_is_told_with_its_reason(serve) -> None:
    sent = []

    def requested(event: evt.Event) -> None:
        event.assoc.acse.send_reject(0x02, 0x03, 0x01)

    def acse_sent(event: evt.Event) -> None:
        primitive = event.primitive
        sent.append((primitive.result, primitive.result_source, primitive.diagnostic))

    server = serve(
        [(evt.EVT_REQUESTED, requested), (evt.EVT_ACSE_SENT, acse_sent)],
        [build_context(Verification)],
    )
    assoc = ours(server, build_context(Verification))
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 1)
    assert sent == [(2, 3, 1)]


def test_called_and_calling_titles_are_checked_by_the_settings_of_the_ae(serve) -> None:
    server = serve([], [build_context(Verification)], require_called_aet=True)
    server.ae.require_calling_aet = ["SOMEONE"]
    assoc = ours(server, build_context(Verification))
    assert assoc.is_rejected
    assert assoc.acceptor.primitive.diagnostic == 3


def test_contexts_are_chosen_per_association_without_a_copy(serve) -> None:
    """An EVT_REQUESTED handler sets its own; what was listened with is shared and unchanged."""

    def requested(event: evt.Event) -> None:
        assert event.assoc.acceptor.supported_contexts is supported
        proposed = event.assoc.requestor.primitive.presentation_context_definition_list
        event.assoc.acceptor.supported_contexts = [
            build_context(context.abstract_syntax, ExplicitVRLittleEndian) for context in proposed
        ]

    supported = list(AllStoragePresentationContexts)
    server = serve([(evt.EVT_REQUESTED, requested)], supported)
    private = build_context("1.2.3.4.5.6", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    assoc = ours(server, private)
    assert [c.transfer_syntax for c in assoc.accepted_contexts] == [[ExplicitVRLittleEndian]]
    assoc.release()
    assert len(supported) == len(AllStoragePresentationContexts)


def test_an_acceptor_that_is_changed_gives_an_answer_of_its_own(serve) -> None:
    """Also to a request that was answered before, when it was another."""
    syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    answered = []

    def requested(event: evt.Event) -> None:
        event.assoc.acceptor.supported_contexts = [build_context(CTImageStorage, syntaxes[0])]

    def established(event: evt.Event) -> None:
        answered.append(event.assoc.acceptor.primitive.result)

    handlers = [(evt.EVT_REQUESTED, requested), (evt.EVT_ESTABLISHED, established)]
    server = serve(handlers, [build_context(CTImageStorage)])
    proposed = build_context(CTImageStorage, [*syntaxes])
    for _ in range(4):
        assoc = ours(server, proposed)
        assert [c.transfer_syntax for c in assoc.accepted_contexts] == [[syntaxes[0]]]
        assoc.release()
        syntaxes.reverse()
    assert answered == [0, 0, 0, 0]


def test_private_storage_class_is_stored(serve) -> None:
    stored = []

    def store(event: evt.Event) -> int:
        stored.append(received_data(event).nbytes)
        return 0x0000

    server = serve([(evt.EVT_C_STORE, store)], [build_context("1.2.3.4.5.6")])
    assoc = ours(server, build_context("1.2.3.4.5.6"))
    answer = send_store(assoc, assoc.accepted_contexts[0], "1.2.3.4.5.6", "1.2.3", [b"x" * 20])
    assert (answer.status, stored) == (0x0000, [20])
    assoc.release()


def test_peer_that_is_not_there_raises() -> None:
    with pytest.raises(PeerUnreachable, match="refused"):
        associate(
            address=("127.0.0.1", free_port()),
            calling_ae_title="A",
            called_ae_title="B",
            contexts=[build_context(Verification)],
        )


def test_address_that_is_taken_raises(serve) -> None:
    server = serve([], [build_context(Verification)])
    with pytest.raises(CannotWrite, match="in use"):
        listen(
            address=server.address,
            ae_title="OTHER",
            handlers=[],
            contexts=[build_context(Verification)],
        )


def test_peer_events_carry_what_pynetdicom_promises(serve) -> None:
    """PDU, data and DIMSE events fire where they are bound, and only then cost anything."""
    seen = []
    names = ("CONN_OPEN", "CONN_CLOSE", "PDU_RECV", "PDU_SENT", "DIMSE_RECV", "DIMSE_SENT")
    names += ("DATA_RECV", "DATA_SENT", "ACCEPTED", "ESTABLISHED", "FSM_TRANSITION")
    handlers = [
        (getattr(evt, f"EVT_{name}"), lambda event: seen.append(event.event.name)) for name in names
    ]
    server = serve(handlers, [build_context(Verification)])
    with RawPeer(server.address) as peer:
        unknown = command_set(us(0x0100, 0x0BAD), us(0x0110, 1), us(0x0800, 0x0101))
        peer.send([associate_rq(), message(3, echo_rq()), message(3, unknown), RELEASE_RQ])
        peer.until_closed()
    wait_until(lambda: server.active == 0, "association ended")
    assert peer.said[2] == status(0x0211)
    assert {f"EVT_{name}" for name in names} == set(seen)
    assert seen.count("EVT_DIMSE_RECV") == seen.count("EVT_DIMSE_SENT") == 1


@pytest.mark.parametrize(
    ("name", "times"),
    [
        *[(name, 1) for name in ("CONN_OPEN", "REQUESTED", "ACCEPTED", "ESTABLISHED", "RELEASED")],
        *[("C_ECHO", 1), ("CONN_CLOSE", 1), ("DIMSE_RECV", 1), ("DIMSE_SENT", 1)],
        *[("ACSE_RECV", 2), ("ACSE_SENT", 2)],  # A-ASSOCIATE and A-RELEASE
        *[("PDU_RECV", 3), ("PDU_SENT", 3)],
    ],
)
def test_whoever_watches_one_thing_sees_it_as_often_as_it_happens(serve, name, times) -> None:
    """What nobody watches is done without the table's objects, and must not be missed for that."""
    seen = []

    def see(event: evt.Event) -> int:
        seen.append(event.event.name)
        return 0x0000

    server = serve([(getattr(evt, f"EVT_{name}"), see)], [build_context(Verification)])
    for number in (1, 2):  # the second one is answered as the first one was
        with RawPeer(server.address) as peer:
            peer.send([associate_rq(), message(3, echo_rq()), RELEASE_RQ])
            assert [peer.receive() for _ in range(3)] == [
                *("A-ASSOCIATE-AC", status(0x0000), "A-RELEASE-RP")
            ]
        wait_until(lambda: server.active == 0, "association ended")
        assert seen == [f"EVT_{name}"] * times * number


def test_whoever_watches_the_table_sees_every_step_of_it(serve) -> None:
    steps = []

    def see(event: evt.Event) -> None:
        steps.append((event.current_state, event.fsm_event, event.action, event.next_state))

    server = serve([(evt.EVT_FSM_TRANSITION, see)], [build_context(Verification)])
    for _ in range(2):
        steps.clear()
        with RawPeer(server.address) as peer:
            peer.send([associate_rq(), RELEASE_RQ])
            assert [peer.receive(), peer.receive()] == ["A-ASSOCIATE-AC", "A-RELEASE-RP"]
        wait_until(lambda: server.active == 0, "association ended")
        assert steps == [
            ("Sta1", "Evt5", "AE-5", "Sta2"),
            ("Sta2", "Evt6", "AE-6", "Sta3"),
            ("Sta3", "Evt7", "AE-7", "Sta6"),
            ("Sta6", "Evt12", "AR-2", "Sta8"),
            ("Sta8", "Evt14", "AR-4", "Sta13"),
            ("Sta13", "Evt17", "AR-5", "Sta1"),
        ]


@pytest.mark.peer
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("echoscu", []),
        ("storescu", [CT]),
        ("storescu", ["-xi", "--max-send-pdu", "4096", CT]),
        ("dcmsend", [CT]),
        ("dcmsend", ["--max-send-pdu", "131072", CT]),
    ],
)
def test_dcmtk_sends_to_us(serve, program, arguments) -> None:
    stored = []

    def store(event: evt.Event) -> int:
        stored.append(event.dataset.SOPInstanceUID)
        return 0x0000

    contexts = [build_context(Verification), *AllStoragePresentationContexts]
    server = serve([(evt.EVT_C_STORE, store)], contexts)
    options = [argument for argument in arguments if argument != CT]
    files = [argument for argument in arguments if argument == CT]
    result = run(program, *options, *server.address, *files)
    assert result.returncode == 0, result.stderr
    assert len(stored) == len(files)


@pytest.mark.peer
def test_gdcmscu_sends_to_us(serve) -> None:
    stored = []

    def store(event: evt.Event) -> int:
        stored.append(event.dataset.SOPInstanceUID)
        return 0x0000

    contexts = [build_context(Verification), *AllStoragePresentationContexts]
    server = serve([(evt.EVT_C_STORE, store)], contexts)
    # Version 3.0 crashes while it releases, whoever the acceptor is: its exit code says nothing.
    run("gdcmscu", "--store", *server.address, CT)
    assert stored == [dcmread(CT).SOPInstanceUID]


@pytest.mark.peer
def test_findscu_asks_us(serve) -> None:
    def find(event: evt.Event):
        match = Dataset()
        match.PatientName = "FOUND^ONE"
        yield 0xFF00, match

    server = serve([(evt.EVT_C_FIND, find)], [build_context(FIND)])
    keys = ["-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientName"]
    result = run("findscu", "-P", *keys, *server.address)
    assert result.returncode == 0
    assert "FOUND^ONE" in result.stderr + result.stdout


@pytest.mark.peer
def test_we_send_to_storescp(tmp_path: Path) -> None:
    need("storescp")
    with storescp(tmp_path, "-uf") as address:
        assoc = associate(
            address=address,
            calling_ae_title="US",
            called_ae_title="ANY",
            contexts=[build_context(Verification), build_context(CTImageStorage)],
        )
        assert assoc.send_c_echo().Status == 0x0000
        assert assoc.send_c_store(dcmread(CT)).Status == 0x0000
        assoc.release()
    assert len(os.listdir(tmp_path)) == 1
