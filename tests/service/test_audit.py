"""The audit trail: what is written survives, keeps to its limit, and reaches a syslog server."""

import errno
import json
import os
import re
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import trustme
from audit_server import SyslogServer, assert_valid

from node import events
from node.events import (
    AssociationOpened,
    AssociationRefused,
    AuthenticationFailed,
    Event,
    InstancesReceived,
    InstancesSent,
    NodeStarted,
    NodeStopped,
    ProcessDied,
    QueueAction,
    SettingsRefused,
    SettingsReloaded,
)
from node.service import audit
from node.service.audit import Position, Trail
from node.service.audit_message import message, syslog_line
from node.service.syslog import Sender
from node.settings import AuditSettings
from node.spool import Disk, Durability

STUDIES = {"1.2.3": {"1.2.840.10008.5.1.4.1.1.2": 105}, "1.2.4": {"1.2.840.10008.5.1.4.1.1.4": 3}}
REFUSED = AssociationRefused(
    association="a1b2c3",
    ae_title='CT<1>&"',
    address="10.0.0.5",
    code=(1, 1, 7),
    cause="called AE title is not ours\n\x00",
)
EVENTS: list[Event] = [
    NodeStarted(version="1", address="127.0.0.1:104"),
    NodeStopped(cause="SIGTERM"),
    ProcessDied(role="receiver", pid=7, cause="SIGKILL"),
    SettingsReloaded(),
    SettingsRefused(cause="node.toml:1:1: error"),
    AssociationOpened(association="a1b2c3", ae_title="CT1", address="10.0.0.5"),
    REFUSED,
    AuthenticationFailed(user="anna", ae_title="CT1", address="fd00::5", cause="wrong passcode"),
    InstancesReceived(
        association="a1b2c3", ae_title="CT1", address="10.0.0.5", studies=STUDIES, refused=0
    ),
    InstancesSent(destination="pacs", ae_title="PACS", address="pacs.example", studies=STUDIES),
    QueueAction(action="drop", destination="pacs", instances=3, by="root"),
]
#: The Standard has no message for these.
SILENT = (AssociationOpened, ProcessDied)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


# --- The trail -----------------------------------------------------------------------------------


def test_what_is_recorded_can_be_read_again_and_is_for_its_owner(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "audit", 1 << 20)
    for event in EVENTS:
        trail.record(event)
    lines = list(Trail(tmp_path / "audit", 1 << 20).read(Position(1, 0)))
    assert [events.encode(line.event) for line in lines] == [
        json.loads(json.dumps(events.encode(event))) for event in EVENTS
    ]
    assert [line.process for line in lines] == [os.getpid()] * len(EVENTS)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0].time)
    assert [line.event for line in trail.read(lines[4].end)] == [line.event for line in lines[5:]]
    [file] = (tmp_path / "audit").glob("*.jsonl")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_records_can_be_gone_on_with_by_the_node(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    Trail(folder, 1 << 20).record(SettingsReloaded())
    assert {path.stat().st_uid for path in folder.iterdir()} == {65534}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_folder_that_root_makes_is_the_nodes(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    Trail(state / "audit", 1 << 20).record(SettingsReloaded())
    assert (state / "audit").stat().st_uid == 65534
    assert {path.stat().st_uid for path in (state / "audit").iterdir()} == {65534}


def test_a_trail_that_cannot_be_written_keeps_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> os.stat_result:
        raise OSError(errno.EIO, "the disk is gone")

    trail = Trail(tmp_path, 1 << 20)
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(audit.os, "fstat", fails)
        for _ in range(5):
            trail.record(EVENTS[0])
    assert len(os.listdir("/proc/self/fd")) == before
    trail.record(EVENTS[0])
    assert len(list(trail.read(Position(1, 0)))) == 1
    trail.close()


def test_the_trail_stays_within_its_limit_and_the_oldest_goes(tmp_path: Path) -> None:
    trail = Trail(tmp_path, 10_000)
    for number in range(500):
        trail.record(QueueAction(action="retry", destination="d", instances=number, by="x"))
        assert sum(file.stat().st_size for file in tmp_path.glob("*.jsonl")) < 12_000
    kept = [line.event.instances for line in trail.read(Position(1, 0))]  # type: ignore[union-attr]
    assert kept == list(range(kept[0], 500))
    assert kept[0] > 0


RECORD_FOREVER = """
import itertools, pathlib, sys
from node.events import QueueAction
from node.service.audit import Trail
trail = Trail(pathlib.Path(sys.argv[1]), 1 << 26)
for n in itertools.count():
    trail.record(QueueAction(action="retry", destination=sys.argv[2], instances=n, by=""))
"""


def test_processes_write_side_by_side_and_a_kill_costs_no_line(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", RECORD_FOREVER, str(tmp_path), str(number)])
        for number in range(3)
    ]
    trail = Trail(tmp_path, 1 << 26)
    wait_for(lambda: len({line.process for line in trail.read(Position(1, 0))}) == 3)
    for writer in writers:
        writer.kill()
        writer.wait()
    trail.record(NodeStopped(cause="end"))  # nobody holds the lock
    seen: dict[str, list[int]] = {}
    for file in sorted(tmp_path.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            fields = json.loads(line)  # every line is whole
            if fields["event"] == "QueueAction":
                seen.setdefault(fields["destination"], []).append(fields["instances"])
    assert len(seen) == 3
    for counts in seen.values():
        assert counts == list(range(len(counts)))


def test_a_pipe_in_the_trail_is_neither_read_nor_written(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "audit", 10_000)
    trail.record(EVENTS[0])
    os.mkfifo(trail.folder / "00000007.jsonl")
    (trail.folder / "00000008.jsonl").symlink_to("/dev/zero")
    trail.record(EVENTS[0])
    assert [line.event for line in trail.read(Position(1, 0))] == [EVENTS[0]] * 2
    assert trail.end().file == 1


def test_a_trail_whose_files_are_taken_away_is_begun_anew(tmp_path: Path) -> None:
    """By an administrator, while processes have them open."""
    folder = tmp_path / "audit"
    trail, other = Trail(folder, 1 << 20), Trail(folder, 1 << 20)
    for taken in (folder / "00000001.jsonl", folder / "lock", folder):
        for each in (trail, other):
            each.record(EVENTS[0])
        if taken == folder:
            folder.rename(tmp_path / "old")
        else:
            taken.unlink()
        for each in (trail, other):
            each.record(EVENTS[1])
        assert [line.event for line in trail.read(Position(1, 0))][-2:] == [EVENTS[1]] * 2
    assert [line.event for line in trail.read(Position(1, 0))] == [EVENTS[1]] * 2


def test_a_trail_that_is_closed_keeps_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    trail = Trail(tmp_path, 1 << 20)
    for _ in range(2):
        trail.record(EVENTS[0])
        trail.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(list(trail.read(Position(1, 0)))) == 2


def test_a_file_that_another_process_has_begun_is_gone_on_with(tmp_path: Path) -> None:
    trail, other = Trail(tmp_path, 10_000), Trail(tmp_path, 10_000)
    for number in range(40):
        for each in (trail, other):
            each.record(QueueAction(action="retry", destination="d", instances=number, by="x"))
    for file in tmp_path.glob("*.jsonl"):
        assert file.stat().st_size < 1_200
    events_of_all = [line.event for line in trail.read(Position(1, 0))]
    kept = [event.instances for event in events_of_all]  # type: ignore[union-attr]
    assert kept == sorted(kept)


def test_a_file_that_was_begun_early_is_gone_on_with(tmp_path: Path) -> None:
    """By a process that keeps to a smaller limit, since the settings were reloaded."""
    large, small = Trail(tmp_path, 1 << 20), Trail(tmp_path, 2_000)
    for number in range(10):
        for each in (large, small):
            each.record(QueueAction(action="retry", destination="d", instances=number, by="x"))
    kept = [line.event.instances for line in large.read(Position(1, 0))]  # type: ignore[union-attr]
    assert kept == sorted(kept)
    assert kept[-2:] == [9, 9]


def test_a_trail_that_cannot_be_written_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    Trail(tmp_path / "audit", 1 << 20).record(REFUSED)
    assert "the audit trail cannot be written" in caplog.text


# --- The message ---------------------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_message_is_valid_by_the_standards_schema(event: Event) -> None:
    xml = message(event, "2026-01-31T12:00:00.123Z", "DCMPRESS")
    if isinstance(event, SILENT):
        assert xml is None
        return
    assert xml is not None
    root = ElementTree.fromstring(xml)
    assert_valid(root)
    requestors = root.findall("ActiveParticipant[@UserIsRequestor='true']")
    assert len(requestors) <= 1
    if isinstance(event, InstancesReceived | InstancesSent):
        objects = root.findall("ParticipantObjectIdentification")
        assert [found.attrib["ParticipantObjectID"] for found in objects] == list(STUDIES)
        roles = {
            participant.find("RoleIDCode").attrib["csd-code"]: participant.attrib["UserID"]  # type: ignore[union-attr]
            for participant in root.findall("ActiveParticipant")
        }
        ours = "110152" if isinstance(event, InstancesReceived) else "110153"
        assert roles[ours] == "DCMPRESS"


def test_a_message_has_no_patient() -> None:
    for event in EVENTS:
        xml = message(event, "2026-01-31T12:00:00.123Z", "DCMPRESS")
        if xml is not None:
            for found in ElementTree.fromstring(xml).iter("ParticipantObjectIdentification"):
                assert found.attrib["ParticipantObjectTypeCode"] != "1"


def test_the_header_is_that_of_rfc_5424() -> None:
    line = syslog_line(b"<x/>", "2026-01-31T12:00:00.123Z", "höst", 42)
    expected = b"<85>1 2026-01-31T12:00:00.123Z hst dcmpress 42 DICOM+RFC3881 - \xef\xbb\xbf<x/>"
    assert line == expected


# --- The server ----------------------------------------------------------------------------------


class Sending:
    """A trail, and what sends it."""

    def __init__(self, folder: Path) -> None:
        self.trail = Trail(folder, 1 << 20)
        self.sender: Sender | None = None
        self.count = 0

    def start(self, port: int, protocol: str = "tcp", ca: Path | None = None) -> None:
        settings = AuditSettings(
            syslog=f"127.0.0.1:{port}",
            protocol=protocol,  # type: ignore[arg-type]
            ca=ca,
        )
        self.sender = Sender(self.trail, settings, "DCMPRESS", Disk(Durability.NONE))
        self.sender.start()

    def record(self, times: int) -> None:
        for _ in range(times):
            self.trail.record(
                QueueAction(action="retry", destination="d", instances=self.count, by="x")
            )
            self.count += 1

    def stop(self) -> None:
        if self.sender is not None:
            self.sender.stop()
            self.sender = None


@pytest.fixture
def sending(tmp_path: Path) -> Iterator[Sending]:
    sending = Sending(tmp_path / "audit")
    yield sending
    sending.stop()


def test_messages_arrive_in_order_and_once_while_all_is_well(sending: Sending) -> None:
    server = SyslogServer()
    sending.start(server.port)
    sending.record(50)
    wait_for(lambda: len(server.messages) == 50)
    sending.stop()
    sending.start(server.port)  # another run goes on where this one ended
    sending.record(1)
    wait_for(lambda: len(server.messages) == 51)
    assert server.actions() == list(range(51))
    server.stop()


def test_what_was_recorded_while_the_server_was_down_is_sent_when_it_is_back(
    sending: Sending, caplog: pytest.LogCaptureFixture
) -> None:
    first = SyslogServer()
    sending.start(first.port)
    sending.record(20)
    wait_for(lambda: len(first.messages) == 20)
    first.stop()
    sending.record(20)
    wait_for(lambda: "is not there" in caplog.text)
    sending.record(20)
    second = SyslogServer(first.port)
    wait_for(lambda: second.messages and second.actions()[-1] == 59)
    # None is lost; what was sent just before the break may come twice, in order.
    actions = second.actions()
    assert actions == list(range(actions[0], 60))
    assert actions[0] <= 20
    second.stop()


def test_tls_wants_a_certificate_it_can_trust(
    sending: Sending, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.issue_cert("127.0.0.1").configure_cert(context)
    server = SyslogServer(context=context)
    sending.record(3)
    sending.start(server.port, "tls", ca)
    wait_for(lambda: "is not there" in caplog.text)
    assert server.messages == []
    authority.issue_cert("127.0.0.1").configure_cert(context)
    wait_for(lambda: server.actions() == [0, 1, 2])
    server.stop()


def test_datagrams(sending: Sending) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        sending.start(server.getsockname()[1], "udp")
        sending.trail.record(REFUSED)
        received = server.recv(65536)
    root = ElementTree.fromstring(received.split(b"\xef\xbb\xbf", 1)[1])
    assert_valid(root)
    assert root.findall("ActiveParticipant")[1].attrib["UserID"] == 'CT<1>&"'
