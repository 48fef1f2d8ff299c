"""The real command: its one line, its signals, its exit codes, its processes killed."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from served import ENVIRONMENT, Served, encoded, free_port, run, wait_for

from node.dicom.contexts import Proposal
from node.dicom.uids import EXPLICIT_VR_LE
from node.errors import PeerRefused
from node.network.store_scu import Peer, connect
from node.service.node import Node
from node.settings import DiskDestination, NodeSettings, Settings, SpoolSettings


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.process.kill()
    served.process.wait()


def test_it_says_where_it_listens(served: Served) -> None:
    assert served.line == f"listening AE=DCMPRESS 127.0.0.1:{served.port}\n"


def test_what_it_acknowledges_is_compressed_and_on_disk(served: Served) -> None:
    sent = served.send(3)
    wait_for(lambda: len(served.stored()) == 3)
    assert {path.stem for path in served.stored()} == set(sent)
    for path in served.stored():
        ds = pydicom.dcmread(path)
        assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.5"
        assert (ds.pixel_array == pydicom.examples.ct.pixel_array).all()


def test_the_status_page_and_its_numbers(served: Served) -> None:
    served.send(2)
    wait_for(lambda: served.status()["instances_total"] == 2)
    wait_for(lambda: served.status()["destinations"][0]["delivered"] == 2)  # type: ignore[index]
    assert served.status()["verdict"] == "all good"
    for path, wanted in (
        ("/", "all good"),
        ("/healthz", "ok"),
        ("/readyz", "all good"),
        ("/metrics", "dcmpress_instances_compressed_total 2.0"),
    ):
        url = f"http://127.0.0.1:{served.status_port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert wanted in answer.read().decode(), path


def test_a_codec_that_crashes_costs_compression_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = tmp_path / "codec"
    codec.mkdir()
    (codec / "jpeg_ls.py").write_text(
        "import os\n__version__ = '1.5.1'\ndef encode_pixel_data(*_, **__): os.abort()\n"
    )
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(codec))
    monkeypatch.setitem(ENVIRONMENT, "DCMPRESS__COMPRESSION__TRANSFER_SYNTAX", "JPEGLSLossless")
    served = Served(tmp_path)
    try:
        before = served.processes()
        served.send(3)
        wait_for(lambda: len(served.stored()) == 3)
        assert served.processes() == before
        for path in served.stored():
            ds = pydicom.dcmread(path)
            assert ds.file_meta.TransferSyntaxUID == EXPLICIT_VR_LE
            assert (ds.pixel_array == pydicom.examples.ct.pixel_array).all()
        assert served.log.read_text().count("a codec worker ended with SIGABRT") == 3
    finally:
        served.process.kill()
        served.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_leaves_no_process(
    served: Served, number: signal.Signals
) -> None:
    served.send(5)
    children = served.processes()
    assert len(children) == 3
    served.process.send_signal(number)
    assert served.process.wait(30) == 0
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    log = served.log.read_text()
    assert log.index(f"stopping: {number.name}") < log.index("stopped")


def test_running_associations_may_end_while_it_stops(served: Served) -> None:
    ds = pydicom.examples.ct
    peer = Peer(ae_title="DCMPRESS", host="127.0.0.1", port=served.port, calling_ae_title="T")
    scu = connect(peer, [Proposal(ds.SOPClassUID, EXPLICIT_VR_LE)])
    served.process.send_signal(signal.SIGTERM)
    wait_for(lambda: _is_busy(peer))
    response = scu.send(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT_VR_LE, [encoded(ds)])
    assert response.status == 0
    scu.close()
    assert served.process.wait(30) == 0
    state = served.root / "state" / "spool"
    assert len(served.stored()) + len(list(state.rglob("*.dcm"))) >= 1


def _is_busy(peer: Peer) -> bool:
    """Tell whether a new association is rejected with (2,3,1), temporary congestion."""
    try:
        connect(peer, []).close()
    except PeerRefused as refused:
        return "(2,3,1)" in str(refused)
    return False


@pytest.mark.parametrize("role", ["receiver", "deliverer"])
def test_a_process_that_is_killed_is_started_again(served: Served, role: str) -> None:
    before = served.children()[role]
    for child in before:
        os.kill(child, signal.SIGKILL)
    wait_for(
        lambda: (
            len(served.children()[role]) == len(before)
            and not set(before) & set(served.children()[role])
        )
    )
    served.send(2)
    wait_for(lambda: len(served.stored()) == 2)


def test_what_was_acknowledged_before_the_supervisor_was_killed_is_delivered_by_the_next(
    tmp_path: Path,
) -> None:
    first = Served(tmp_path)
    for child in first.children()["deliverer"]:
        os.kill(child, signal.SIGSTOP)
    sent = first.send(5)
    children = first.processes()
    first.process.kill()
    first.process.wait()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    second = Served(tmp_path)
    try:
        wait_for(lambda: {path.stem for path in second.stored()} == set(sent))
    finally:
        second.process.kill()
        second.process.wait()


def test_orphans_end_by_themselves(served: Served) -> None:
    children = served.processes()
    served.process.kill()
    served.process.wait()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def test_new_settings_are_taken_and_bad_ones_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("[compression]\ntransfer_syntax = 'RLELossless'\n")
    served = Served(tmp_path, str(config))
    try:
        served.send()
        wait_for(lambda: len(served.stored()) == 1)
        before = served.children()
        config.write_text("[compression]\ntransfer_syntax = 'none'\n")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: not set(before["receiver"]) & set(served.children()["receiver"]))
        wait_for(lambda: served.status()["is_ready"])
        [uid] = served.send()
        wait_for(lambda: len(served.stored()) == 2)
        [path] = [path for path in served.stored() if path.stem == uid]
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == EXPLICIT_VR_LE
        config.write_text("[compression]\ntransfer_syntaxx = 'none'\n")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "transfer_syntaxx" in served.log.read_text())
        served.send()
        wait_for(lambda: len(served.stored()) == 3)
    finally:
        served.process.kill()
        served.process.wait()


def test_a_reload_rejects_nobody_and_lets_running_associations_end(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("")
    served = Served(tmp_path, str(config))
    ds = pydicom.examples.ct
    peer = Peer(ae_title="DCMPRESS", host="127.0.0.1", port=served.port, calling_ae_title="T")
    try:
        scu = connect(peer, [Proposal(ds.SOPClassUID, EXPLICIT_VR_LE)])
        before = set(served.children()["receiver"])
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "settings read again" in served.log.read_text())

        def none_but_the_busy_one_is_left() -> bool:
            connect(peer, []).close()  # raises where it is rejected
            return len(before & set(served.children()["receiver"])) == 1

        wait_for(none_but_the_busy_one_is_left)
        response = scu.send(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT_VR_LE, [encoded(ds)])
        assert response.status == 0
        scu.close()
        wait_for(lambda: not before & set(served.children()["receiver"]))
        wait_for(lambda: served.status()["instances_total"] == 1)
    finally:
        served.process.kill()
        served.process.wait()


def test_a_port_in_use_is_73_and_says_who_has_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("serve", "--port", str(port), "--state", "state", cwd=tmp_path)
    assert ended.returncode == 73
    assert f"port {port} is in use by " in ended.stderr
    assert f"(process {os.getpid()})" in ended.stderr


def test_a_second_node_on_one_state_directory_is_73(served: Served) -> None:
    ended = run("serve", "--port", "0", "--state", "state", cwd=served.root)
    assert ended.returncode == 73
    assert "another node is running" in ended.stderr


def test_a_bad_configuration_is_78_with_every_error_and_its_line(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[node]\nprot = 11112\nae_title = ''\n")
    ended = run("serve", "node.toml", cwd=tmp_path)
    assert ended.returncode == 78
    assert "node.toml:2:1" in ended.stderr
    assert "node.toml:3:" in ended.stderr


def test_a_state_directory_that_cannot_be_made_is_73(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("serve", "--port", "0", "--state", "file/state", cwd=tmp_path)
    assert ended.returncode == 73
    assert "cannot be used" in ended.stderr


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd is not installed")
def test_a_socket_that_systemd_opened_is_used(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [
            "systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--", sys.executable, "-m",
            "node", "serve", "--port", "1", "--state", "state", "--store", "out",
            "--status-port", "0", "--receivers", "1",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
        env=ENVIRONMENT,
    )  # fmt: skip
    try:
        peer = Peer(
            ae_title="DCMPRESS", host="127.0.0.1", port=port, calling_ae_title="T",
            connect_seconds=60,
        )  # fmt: skip
        wait_for(lambda: _answers(port))
        scu = connect(peer, [])
        assert scu.echo() == 0
        scu.close()
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening AE=DCMPRESS 127.0.0.1:{port}\n"
    finally:
        process.terminate()
        assert process.wait(60) == 0


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_tells_systemd_when_it_listens_and_when_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        ENVIRONMENT["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            served = Served(tmp_path)
        finally:
            del ENVIRONMENT["NOTIFY_SOCKET"]
        said = manager.recv(4096)
        assert said.startswith(b"READY=1\n")
        assert manager.recv(4096) == b"WATCHDOG=1"
        served.process.terminate()
        served.process.wait(60)
        manager.settimeout(0)
        heard = [said]
        with contextlib.suppress(BlockingIOError):
            while True:
                heard.append(manager.recv(4096))
        assert heard[-1] == b"STOPPING=1"


def test_a_destination_that_is_no_folder_is_73(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("serve", "--port", "0", "--state", "state", "--store", "file", cwd=tmp_path)
    assert ended.returncode == 73
    assert "destination store: cannot write to" in ended.stderr


def test_a_package_in_the_working_directory_is_not_taken_for_ours(tmp_path: Path) -> None:
    foreign = tmp_path / "node"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('the wrong package')")
    served = Served(tmp_path, safe_path=True)
    try:
        assert served.send()
    finally:
        served.process.kill()
        served.process.wait()


def test_a_node_inside_a_program(tmp_path: Path) -> None:
    settings = Settings(
        node=NodeSettings(port=0, state_directory=tmp_path / "state"),
        spool=SpoolSettings(reserve_bytes=0, reserve_percent=0),
        destinations=(DiskDestination(name="disk", directory=tmp_path / "out"),),
    )
    with Node(settings) as node:
        ds = pydicom.examples.mr
        host, port = node.address
        peer = Peer(ae_title="DCMPRESS", host=host, port=port, calling_ae_title="TEST")
        scu = connect(peer, [Proposal(ds.SOPClassUID, EXPLICIT_VR_LE)])
        scu.send(ds.SOPClassUID, ds.SOPInstanceUID, EXPLICIT_VR_LE, [encoded(ds)])
        scu.close()
        wait_for(lambda: node.progress["disk"].delivered == 1)
        assert node.tally.instances == 1
    [path] = (tmp_path / "out").rglob("*.dcm")
    assert (pydicom.dcmread(path).pixel_array == ds.pixel_array).all()
