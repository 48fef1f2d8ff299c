"""`dcmpress queue`, as a person types it, beside a node that runs and one that does not."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import instances
import peers
import pytest
import readme
from peers import wait_until
from pydicom.uid import ExplicitVRLittleEndian

from node.cli import main
from node.service.audit import Position, open_trail
from node.service.node import Node
from node.settings import NetworkDestination, NodeSettings, Settings, SpoolSettings, StatusSettings
from node.spool import Indexer, State, Tried
from node.spool.index import read


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    return tmp_path / "state"


@pytest.fixture
def settings(state: Path) -> Settings:
    pacs = NetworkDestination(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=peers.free_port(),
        retry_seconds=0.1,
        retry_max_seconds=0.2,
    )
    return Settings(
        node=NodeSettings(port=0, state_directory=state),
        spool=SpoolSettings(durability="none", reserve_bytes=0, reserve_percent=0),
        status=StatusSettings(port=0),
        destinations=(pacs,),
    )


def queue(state: Path, *words: str) -> int:
    return main(["queue", *words, "--state", str(state)])


def listed(state: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert queue(state, "list", "--json") == 0
    pacs: dict[str, object] = json.loads(capsys.readouterr().out)["pacs"]
    return pacs


def test_without_a_spool_it_says_where_it_looked(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert queue(state, "list") == 66
    said = capsys.readouterr().err
    assert str(state) in said
    assert "--config" in said
    assert not state.exists()


WRONG = {
    "no such destination": ["retry", "nobody", "--all"],
    "neither names nor all": ["retry", "pacs"],
    "names and all": ["retry", "pacs", "x.dcm", "--all"],
    "nobody to ask": ["drop", "pacs", "--all"],
    "a state that is none of a queue": ["list", "--only", "incoming"],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(case: str, state: Path, settings: Settings) -> None:
    with Node(settings):
        pass
    assert queue(state, *WRONG[case]) == 2


def test_a_queue_is_seen_paused_dropped_and_retried(
    state: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with Node(settings) as node:
        assert queue(state, "pause", "pacs") == 0
        for seed in range(2):
            assert peers.send(node.address[1], instances.image(seed=seed)) == 0
        wait_until(lambda: len(list(node.spool.queued("pacs"))) == 2, "both are queued")
        fields = listed(state, capsys)
        assert (fields["queued"], fields["paused"]) == (2, True)
        first, second = fields["entries"]  # type: ignore[misc]
        assert queue(state, "drop", "pacs", first["name"], "--yes") == 1
        assert queue(state, "drop", "pacs", first["name"], "--queued", "--yes") == 0
        assert [one.name for one in node.spool.queued("pacs")] == [second["name"]]
        assert node.progress["pacs"].failures_in_a_row == 0
        [entry] = node.spool.queued("pacs")
        node.spool.refused(entry, "it said 0122")
        assert queue(state, "list", "pacs", "--only", "failed") == 0
        shown = capsys.readouterr().out
        assert "pacs: 0 queued, 1 failed, 0 corrupt, paused" in shown
        assert second["sop_instance_uid"] in shown
        assert "it said 0122" in shown
        assert queue(state, "retry", "pacs", "--all") == 0
        assert queue(state, "resume", "pacs") == 0
        wait_until(lambda: node.progress["pacs"].failures_in_a_row, "it is tried")
    assert listed(state, capsys)["queued"] == 1
    trail = open_trail(settings)
    actions = [line.event for line in trail.read(Position(1, 0)) if hasattr(line.event, "by")]
    assert {event.action for event in actions} >= {"pause", "resume", "drop", "retry"}
    assert all(event.by.endswith(" (command line)") for event in actions)


def test_list_is_cut_at_its_limit(
    state: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with Node(settings) as node:
        node.spool.pause("pacs")
        for seed in range(3):
            assert peers.send(node.address[1], instances.image(seed=seed)) == 0
        wait_until(lambda: len(list(node.spool.queued("pacs"))) == 3, "all are queued")
    assert queue(state, "list", "--limit", "2") == 0
    assert "and 1 more" in capsys.readouterr().out


def test_a_user_without_a_name_is_known_by_the_number(
    settings: Settings, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Node(settings):
        pass

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", nameless)
    assert queue(state, "pause", "pacs") == 0
    *_, last = open_trail(settings).read(Position(1, 0))
    assert getattr(last.event, "by") == f"user {os.getuid()} (command line)"  # noqa: B009


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is down"])
def test_what_was_tried_before_says_how_often_why_and_when_again(
    running: bool, state: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def look() -> None:
        capsys.readouterr()
        assert queue(state, "list") == 0
        shown = capsys.readouterr().out
        assert re.search(r"queued, .* old, tried 3 times, again in (10|9|8) min\n", shown)
        assert "    C000 said the archive\n" in shown
        [fields] = listed(state, capsys)["entries"]  # type: ignore[misc]
        assert (fields["tries"], fields["cause"]) == (3, "C000 said the archive")
        assert 400 < fields["retry_in_seconds"] <= 600

    with Node(settings) as node:
        node.spool.pause("pacs")
        assert peers.send(node.address[1], instances.image()) == 0
        wait_until(lambda: len(list(node.spool.queued("pacs"))) == 1, "it is queued")
        [entry] = node.spool.queued("pacs")
        writing = Indexer(node.spool)
        writing.note(
            Tried(
                destination="pacs",
                name=entry.name,
                state=State.QUEUED,
                tries=3,
                due=time.time() + 600,
                cause="C000 said the archive",
            )
        )
        if running:
            wait_until(lambda: read(node.spool.root, "pacs"), "it is written")
            look()
        writing.close()
    if not running:
        look()
    main(["status", "--state", str(state), "--status-port", "0"])
    assert "1 of the queued tried before: C000 said the archive" in capsys.readouterr().out


def test_retry_wakes_a_destination_that_is_left_alone(settings: Settings, state: Path) -> None:
    image = instances.image()
    [pacs] = settings.destinations
    assert isinstance(pacs, NetworkDestination)
    patient = pacs.model_copy(update={"retry_seconds": 80000.0, "retry_max_seconds": 80000.0})
    with Node(settings.model_copy(update={"destinations": (patient,)})) as node:
        assert peers.send(node.address[1], image) == 0
        wait_until(lambda: node.progress["pacs"].waiting_for_seconds > 3600, "it is left alone")
        with peers.downstream(
            sop_classes=[image.SOPClassUID],
            transfer_syntaxes=[ExplicitVRLittleEndian],
            port=pacs.port,
        ) as archive:
            assert queue(state, "retry", "pacs", "--all") == 0
            wait_until(lambda: archive.received, "it is tried now")


def typed(command: str, environment: dict[str, str], answer: str) -> str:
    """Run a line as a person does: at a terminal, with an answer to the question it may ask."""
    terminal, end = pty.openpty()
    try:
        os.write(terminal, answer.encode())
        done = subprocess.run(
            ["bash", "-c", command],
            stdin=end,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            timeout=120,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(end)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def test_the_commands_of_readme(state: Path, settings: Settings, tmp_path: Path) -> None:
    [block] = readme.blocks(__file__)
    list_, retry, drop, pause, resume = block.splitlines()
    program = tmp_path / "bin" / "dcmpress"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m node "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "DCMPRESS__NODE__STATE_DIRECTORY": str(state),
    }
    with Node(settings) as node:
        spool = node.spool
        spool.pause("pacs")
        for seed in range(2):
            assert peers.send(node.address[1], instances.image(seed=seed)) == 0
        wait_until(lambda: len(list(spool.queued("pacs"))) == 2, "both are queued")
    dropped, _ = spool.queued("pacs")
    for entry in list(spool.queued("pacs")):
        spool.refused(entry, "it said 0122")
    assert "2 failed" in typed(list_, environment, "")
    assert "Remove 1 entry" in typed(drop.replace("ENTRY", dropped.name), environment, "y\n")
    typed(retry, environment, "")
    assert [each.name != dropped.name for each in spool.queued("pacs")] == [True]
    typed(resume, environment, "")
    assert not spool.paused("pacs")
    typed(pause, environment, "")
    assert spool.paused("pacs")
