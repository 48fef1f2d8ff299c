"""What an administrator meets: the log, the audit trail, reloads and kills under load, limits."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from audit_server import SyslogServer
from served import Served, encoded, wait_for
from tls.certificates import Authority

from node.dicom.contexts import VERIFICATION, Proposal
from node.dicom.uids import EXPLICIT_VR_LE, IMPLICIT_VR_LE
from node.errors import PeerRefused, PeerUnreachable
from node.network.store_scu import Peer, connect
from node.service import memory
from node.settings import load

CT = pydicom.examples.ct
SENT = re.compile(
    r"INFO \[(?P<code>[0-9a-f]{6})\] TEST@127\.0\.0\.1 sent 3 instances, 0 refused, 3 compressed, "
    r"\d{3} kB -> \d+\.?\d* kB, ratio \d\.\d\d, \d+\.\d s, \d+\.\d MB/s$",
    re.MULTILINE,
)


@contextlib.contextmanager
def serving(root: Path, config: str = "", *arguments: str) -> Iterator[Served]:
    """Serve with a settings file."""
    path = root / "node.toml"
    path.write_text(config)
    served = Served(root, str(path), *arguments)
    try:
        yield served
    finally:
        served.end()


# --- The log and the trail -----------------------------------------------------------------------


def test_one_line_for_an_association_and_its_code_is_in_the_trail(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.send(3)
        wait_for(lambda: SENT.search(served.log.read_text()))
        found = SENT.search(served.log.read_text())
        assert found is not None
        [opened] = served.events("AssociationOpened")
        [received] = served.events("InstancesReceived")
        assert opened["association"] == received["association"] == found["code"]
        assert received["studies"] == {CT.StudyInstanceUID: {CT.SOPClassUID: 3}}
        served.process.terminate()
        assert served.process.wait(60) == 0
        kinds = [event["event"] for event in served.audit()]
        assert kinds[0] == "NodeStarted"
        assert kinds[-1] == "NodeStopped"
        everything = served.log.read_text() + json.dumps(served.audit())
        for secret in (CT.PatientID, str(CT.PatientName)):
            assert secret not in everything


def test_the_syslog_server_hears_of_it_even_when_the_deliverer_is_killed(tmp_path: Path) -> None:
    server = SyslogServer()
    config = f'[audit]\nsyslog = "127.0.0.1:{server.port}"\nprotocol = "tcp"\n'

    def told() -> list[str]:
        """What was told: the code of the event, or of its type where it has one."""
        return [
            [child for child in root[0] if child.tag in ("EventID", "EventTypeCode")][-1].attrib[
                "csd-code"
            ]
            for root in server.roots()
        ]

    try:
        with serving(tmp_path, config) as served:
            served.send(2)
            wait_for(lambda: "110104" in told())
            for child in served.children()["deliverer"]:
                os.kill(child, signal.SIGKILL)
            with pytest.raises(PeerRefused):
                served.connect(called="OTHER")
            wait_for(lambda: "110126" in told())
            served.process.terminate()
            assert served.process.wait(90) == 0
        # Application Start, DICOM Instances Transferred, Node Authentication, Application Stop;
        # what was sent just before the kill may come twice.
        assert list(dict.fromkeys(told())) == ["110120", "110104", "110126", "110121"]
    finally:
        server.stop()


def test_as_json_a_line_has_its_facts(tmp_path: Path) -> None:
    with serving(tmp_path, '[log]\nformat = "json"\n') as served:
        served.send(3)

        def lines() -> list[dict[str, object]]:
            return [json.loads(line) for line in served.log.read_text().splitlines()]

        wait_for(lambda: any("bytes_in" in line for line in lines()))
        [line] = [line for line in lines() if "bytes_in" in line]
        assert (line["instances"], line["refused"], line["compressed"]) == (3, 0, 3)
        assert line["calling_ae_title"] == "TEST"
        assert line["address"] == "127.0.0.1"
        assert line["end"] == "released"
        assert float(str(line["ratio"])) > 1
        assert re.fullmatch("[0-9a-f]{6}", str(line["association"]))


def test_a_rejection_is_told_with_its_mend_and_once_a_minute(tmp_path: Path) -> None:
    peers = '[[peer]]\nae_title = "CT1"\naddress = "10.0.0.0/24"\n'
    peers += '[[peer]]\nae_title = "CT2"\naddress = "127.0.0.1"\n'
    peers += '[[peer]]\nae_title = "CT3"\ncertificate = "ct3.example"\n'
    ca = Authority(tmp_path, "ca")
    own = ca.issue("localhost", common_name="node")
    tls = f'[tls]\ncertificate = "{own.certificate}"\nkey = "{own.key}"\n'
    tls += f'ca = "{ca.file}"\nport = 0\n'
    turned_away = (
        ("CT2", "STORE_SCP"),
        ("CT1", "DCMPRESS"),
        ("CT3", "DCMPRESS"),
        ("CT9", "DCMPRESS"),
    )
    with serving(tmp_path, peers + tls) as served:
        for calling, called in turned_away:
            for _ in range(3):
                with pytest.raises(PeerRefused):
                    served.connect(calling, called)
        served.connect("CT2").close()
        log = served.log.read_text()
        for line in (
            "CT2@127.0.0.1 rejected: called AE title is not ours; it called STORE_SCP, we are "
            "DCMPRESS: change it at the sender, or node.ae_title here\n",
            "CT1@127.0.0.1 rejected: known, but not from there; CT1 is known, but from "
            "10.0.0.0/24, not from 127.0.0.1: change its [[peer]], or find out who calls itself "
            "CT1\n",
            "CT3@127.0.0.1 rejected: known by its certificate, and showed none; let CT3 call the "
            "port for TLS (tls.port, or node.port where there is none), with its certificate; or "
            "give its [[peer]] an address instead of the certificate\n",
            "CT9@127.0.0.1 rejected: not in the list of peers; if it may send, add a [[peer]] "
            'with ae_title = "CT9", address = "127.0.0.1"\n',
        ):
            # Two receivers share the port, and each tells once.
            assert 1 <= log.count(line) <= 2, log
        refused = served.events("AssociationRefused")
        assert {str(event["code"]) for event in refused} == {"[1, 1, 7]", "[1, 1, 3]"}


# --- Limits and memory ---------------------------------------------------------------------------


def test_the_limits_hold_for_all_receivers_and_a_killed_one_gives_back(tmp_path: Path) -> None:
    config = "[limits]\nassociations = 4\nassociations_per_peer = 4\n"
    with serving(tmp_path, config) as served:
        running = [served.connect() for _ in range(4)]
        with pytest.raises(PeerRefused, match=r"\(2,3,2\)"):
            served.connect()
        assert "raise limits.associations or" in served.log.read_text()
        for child in served.children()["receiver"]:
            os.kill(child, signal.SIGKILL)
        again = []

        def four_more() -> bool:
            with contextlib.suppress(PeerRefused, PeerUnreachable):
                again.append(served.connect())
            return len(again) == 4

        wait_for(four_more)
        with pytest.raises(PeerRefused, match=r"\(2,3,2\)"):
            served.connect()
        assert [event["role"] for event in served.events("ProcessDied")] == ["receiver"] * 2
        for scu in [*again, *running]:
            scu.close()


def _most_resident(process: int) -> int:
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


def test_memory_stays_below_what_the_first_lines_say(tmp_path: Path) -> None:
    config = "[limits]\nassociations = 6\nmemory_bytes = 16000000\n"
    ds = pydicom.dcmread(pydicom.examples.get_path("ct"))
    ds.Rows, ds.Columns = 2800, 2800
    ds.PixelData = os.urandom(1 << 16) * (2800 * 2800 * 2 // (1 << 16)) + bytes(
        2800 * 2800 * 2 % (1 << 16)
    )
    data_set = encoded(ds)
    assert 15_000_000 < len(data_set) < 16_000_000
    with serving(tmp_path, config) as served:
        said = re.search(r"memory: at most (\d+\.\d) GB", served.log.read_text())
        settings = load(tmp_path / "node.toml", {"node.receivers": 2}).settings
        assert said is not None
        assert float(said[1]) == round(memory.most_bytes(settings) / 1e9, 1)
        running = [served.connect() for _ in range(6)]

        def send_twice(scu: object) -> None:
            for _ in range(2):
                scu.send(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT_VR_LE, [data_set])  # type: ignore[attr-defined]

        threads = [threading.Thread(target=send_twice, args=(scu,)) for scu in running]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        together = [served.process.pid, *served.processes()]
        assert sum(map(_most_resident, together)) < memory.most_bytes(settings)
        for scu in running:
            scu.close()


# --- Under load ----------------------------------------------------------------------------------


class Load:
    """Sends until told to stop, a new association every few instances; knows what was taken."""

    def __init__(self, served: Served, *, tolerant: bool) -> None:
        self._served = served
        self._tolerant = tolerant
        self._stop = threading.Event()
        self.taken: list[str] = []
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.taken += self._served.send(2)
            except (PeerRefused, PeerUnreachable, OSError) as failure:
                if not self._tolerant:
                    self.failure = failure
                    return
                time.sleep(0.05)

    def end(self) -> list[str]:
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure
        return self.taken


def test_good_and_bad_settings_are_read_again_under_load(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        load = Load(served, tolerant=False)
        wait_for(lambda: load.taken or load.failure)
        (tmp_path / "node.toml").write_text("[limits]\nassociations = 50\n")
        served.process.send_signal(signal.SIGHUP)
        path = tmp_path / "node.toml"
        wait_for(
            lambda: f"settings read again from {path}, changed: limits" in served.log.read_text()
        )
        (tmp_path / "node.toml").write_text("[limits]\nassociationz = 50\n")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "did you mean" in served.log.read_text())
        count = len(load.taken)
        wait_for(lambda: len(load.taken) > count + 4 or load.failure)
        taken = load.end()
        wait_for(lambda: {path.stem for path in served.stored()} >= set(taken))
        assert [
            event["event"] for event in served.audit() if "Settings" in str(event["event"])
        ] == [
            "SettingsReloaded",
            "SettingsRefused",
        ]


def test_a_reload_without_a_file_says_so(tmp_path: Path) -> None:
    served = Served(tmp_path)
    try:
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "there is no settings file to read again" in served.log.read_text())
    finally:
        served.end()


def test_kills_under_load_lose_nothing_that_was_taken(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        load = Load(served, tolerant=True)
        for role in ("receiver", "deliverer", "receiver"):
            count = len(load.taken)
            wait_for(lambda: len(load.taken) > count + 2)  # noqa: B023 - waited for at once
            for child in served.children()[role][:1]:
                os.kill(child, signal.SIGKILL)
        count = len(load.taken)
        wait_for(lambda: len(load.taken) > count + 2)
        taken = load.end()
        wait_for(lambda: {path.stem for path in served.stored()} >= set(taken))


def test_it_drains_under_load(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        load = Load(served, tolerant=True)
        wait_for(lambda: len(load.taken) > 4)
        served.process.terminate()
        assert served.process.wait(90) == 0
        taken = load.end()
    with serving(tmp_path) as again:
        wait_for(lambda: {path.stem for path in again.stored()} >= set(taken))


def test_a_back_up_that_is_restored_goes_on_where_it_was(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        for child in served.children()["deliverer"]:
            os.kill(child, signal.SIGSTOP)
        sent = served.send(3)
        children = served.processes()
        served.end()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
        assert not served.stored()
    tar = tmp_path / "dcmpress.tar"
    subprocess.run(["tar", "-C", tmp_path, "-cf", tar, "state"], check=True)
    shutil.rmtree(tmp_path / "state")
    subprocess.run(["tar", "-C", tmp_path, "-xpf", tar], check=True)
    with serving(tmp_path) as again:
        wait_for(lambda: {path.stem for path in again.stored()} == set(sent))


#: What systemd does with the socket of a socket unit: sd_listen_fds(3).
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_no_connection_is_lost_in_a_restart_with_a_socket_unit(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as port:
        within = [sys.executable, "-c", ACTIVATE, str(port.fileno())]
        first = Served(tmp_path, within=within, pass_fds=[port.fileno()])
        assert first.port == port.getsockname()[1]
        load = Load(first, tolerant=False)
        wait_for(lambda: len(load.taken) > 4 or load.failure)
        first.process.terminate()
        assert first.process.wait(90) == 0
        second = Served(tmp_path, within=within, pass_fds=[port.fileno()])
        try:
            count = len(load.taken)
            wait_for(lambda: len(load.taken) > count + 4 or load.failure)
            taken = load.end()
            wait_for(lambda: {path.stem for path in second.stored()} >= set(taken))
        finally:
            second.end()


def own_address() -> str | None:
    """An address of this machine that others could have, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return None
        return str(probe.getsockname()[0])


def test_a_socket_unit_that_listens_everywhere_opens_the_node_to_nobody(tmp_path: Path) -> None:
    try:
        port = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as failure:
        pytest.skip(f"no IPv6 here: {failure}")
    with port:
        within = [sys.executable, "-c", ACTIVATE, str(port.fileno())]
        served = Served(tmp_path, within=within, pass_fds=[port.fileno()])
        try:
            assert served.send()
            wait_for(lambda: "TEST@127.0.0.1 sent 1 instance" in served.log.read_text())
            if (address := own_address()) is not None:
                peer = Peer(
                    ae_title="DCMPRESS",
                    host=address,
                    port=served.port,
                    calling_ae_title="ELSEWHERE",
                )
                with pytest.raises(PeerRefused):
                    connect(peer, [Proposal(VERIFICATION, IMPLICIT_VR_LE)])
                said = f'ae_title = "ELSEWHERE", address = "{address}"'
                wait_for(lambda: said in served.log.read_text())
        finally:
            served.end()


def test_one_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        [hung, *_] = served.children()["receiver"]
        os.kill(hung, signal.SIGSTOP)
        wait_for(lambda: f"receiver {hung} hangs: killing it" in served.log.read_text(), 90)
        wait_for(lambda: len(served.children()["receiver"]) == 2)
        assert served.send(2)
