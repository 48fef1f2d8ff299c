"""`dcmpress doctor` and `dcmpress status`: every line true, every failure with its exit code."""

import json
import socket
from pathlib import Path

import pytest
from served import Served, free_port, run, wait_for

from node.service.doctor import examine, is_running
from node.service.findings import Finding, Verdict, exit_code
from node.settings import (
    AuditSettings,
    DiskDestination,
    NodeSettings,
    Settings,
    SpoolSettings,
    StatusSettings,
)
from node.settings.load import load


def settings_of(root: Path, **node: object) -> Settings:
    return Settings(
        node=NodeSettings(port=0, state_directory=root / "state", **node),  # type: ignore[arg-type]
        spool=SpoolSettings(reserve_bytes=0, reserve_percent=0),
        status=StatusSettings(port=0),
        destinations=(DiskDestination(name="disk", directory=root / "out"),),
    )


def by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_a_machine_that_is_well(tmp_path: Path) -> None:
    findings = list(examine(settings_of(tmp_path)))
    assert {finding.verdict for finding in findings} == {Verdict.OK}, findings
    found = by_subject(findings)
    assert "MB/s on one core" in found["encoder"].text
    assert "round trip exact" in found["encoder"].text
    assert "fsync takes" in found["spool"].text
    assert "RLELossless" in found["codecs"].text
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind
    assert exit_code(findings) == 0


def test_each_fault_is_found_and_has_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = settings_of(tmp_path)
        settings = settings.model_copy(
            update={
                "node": settings.node.model_copy(update={"port": taken.getsockname()[1]}),
                "spool": SpoolSettings(reserve_bytes=1 << 50, reserve_percent=0),
            }
        )
        findings = list(examine(settings))
    found = by_subject(findings)
    for subject in ("disk space", "folder disk", "port"):
        assert found[subject].verdict is Verdict.FAIL, subject
        assert found[subject].mend
    assert exit_code(findings) == 73


def test_the_gravest_failure_decides() -> None:
    def failure(code: int) -> Finding:
        return Finding(Verdict.FAIL, "x", "x", "x", code)

    assert exit_code([failure(69), failure(78), failure(73)]) == 78
    assert exit_code([failure(69), failure(77)]) == 77
    assert exit_code([Finding(Verdict.WARN, "x", "x")]) == 0


def test_a_destination_is_looked_at_step_by_step(tmp_path: Path) -> None:
    served = Served(tmp_path)
    try:
        good = run("doctor", f"DCMPRESS@127.0.0.1:{served.port}", cwd=tmp_path)
        assert good.returncode == 0, good.stdout + good.stderr
        for line in (
            "127.0.0.1 is 127.0.0.1",
            f"TCP to port {served.port} in ",
            f"association with DCMPRESS@127.0.0.1:{served.port} as DCMPRESS in ",
            "C-ECHO in ",
            "CT Image Storage: accepted in RLE Lossless, Explicit VR Little Endian, Implicit VR",
        ):
            assert line in good.stdout, good.stdout
        wrong = run("doctor", f"OTHER@127.0.0.1:{served.port}", "--json", cwd=tmp_path)
        assert wrong.returncode == 77
        last = json.loads(wrong.stdout)[-1]
        assert last["verdict"] == "FAIL"
        assert "that is not its AE title" in last["text"]
    finally:
        served.end()
    gone = run("doctor", f"DCMPRESS@127.0.0.1:{served.port}", cwd=tmp_path)
    assert gone.returncode == 69
    assert "no TCP connection" in gone.stdout


def test_a_syslog_server_that_is_away_is_a_warning(tmp_path: Path) -> None:
    settings = settings_of(tmp_path).model_copy(
        update={"audit": AuditSettings(syslog=f"127.0.0.1:{free_port()}", protocol="tcp")}
    )
    findings = list(examine(settings))
    assert by_subject(findings)["audit"].verdict is Verdict.WARN
    assert exit_code(findings) == 0


def test_a_bad_settings_file_is_78(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text("[node]\nprot = 1\n")
    assert run("doctor", "node.toml", cwd=tmp_path).returncode == 78


def test_what_is_no_destination_is_wrong_usage(tmp_path: Path) -> None:
    ended = run("doctor", "pacs", cwd=tmp_path)
    assert ended.returncode == 2
    assert "there is no network destination pacs" in ended.stderr


def test_status_tells_what_the_page_tells_and_what_the_spool_holds(tmp_path: Path) -> None:
    served = Served(tmp_path)
    options = ("--state", "state", "--status-port", str(served.status_port))
    try:
        served.send(2)
        wait_for(lambda: served.status()["instances_total"] == 2)
        told = run("status", *options, cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        assert "all good" in told.stdout
        assert "2 instances since the start" in told.stdout
        as_json = json.loads(run("status", *options, "--json", cwd=tmp_path).stdout)
        assert as_json["instances_total"] == 2
        without = run("status", "--state", "state", "--status-port", "0", cwd=tmp_path)
        assert without.returncode == 0
        assert "the node runs; its status page cannot be asked" in without.stdout
        assert "0 queued, 0 failed" in without.stdout
    finally:
        served.process.terminate()
        served.process.wait(60)
    gone = run("status", *options, cwd=tmp_path)
    assert gone.returncode == 69
    assert "no node runs" in gone.stdout


def test_whether_a_node_runs(tmp_path: Path) -> None:
    settings = load(None, {"node.state_directory": tmp_path / "state"}).settings
    assert not is_running(settings)
    assert free_port()
    served = Served(tmp_path)
    assert is_running(settings)
    served.process.terminate()
    served.process.wait(60)
    assert not is_running(settings)


@pytest.mark.parametrize("command", ["doctor", "status"])
def test_it_is_listed(command: str, tmp_path: Path) -> None:
    assert command in run("--help", cwd=tmp_path).stdout
