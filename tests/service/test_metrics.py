"""The metrics, and what is built on them: alert rules and a dashboard name only what there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import conftest
import pydicom
import pytest
from conftest import StartNode
from peers import send, wait_until
from prometheus_client.parser import text_string_to_metric_families

from node.network.tally import Tally
from node.service.metrics import exposition
from node.service.node import open_spool
from node.service.observer import Observer
from node.service.report import Report
from node.service.status import Snapshot
from node.settings import Peer

CONFIG = Path(__file__).parents[2] / "config"
#: What a histogram or a counter is called in an expression.
NAMED = re.compile(r"\bdcmpress_[a-z_]+\b")


def snapshot_of(root: Path, tally: Tally) -> Snapshot:
    settings = conftest.settings_of(root / "state", conftest.disk(root / "out"))
    spool = open_spool(settings, create=True)
    observer = Observer(spool)
    report = Report.decode(Report(tally=tally, turned_away={"said nothing": 2}).encode())
    return observer.snapshot(settings, ("127.0.0.1", 1), report, is_ready=True)


def samples(snapshot: Snapshot) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = exposition(snapshot)[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def busy(start_node: StartNode, tmp_path: Path) -> Snapshot:
    node = start_node(
        conftest.disk(tmp_path / "out"), peers=(Peer(ae_title="MODALITY", address="127.0.0.1"),)
    )
    for name in ("ct", "mr", "rt_plan"):
        ds = pydicom.dcmread(pydicom.examples.get_path(name))
        assert send(node.address[1], ds) == 0
    # An association is counted a moment after its end was answered.
    wait_until(lambda: sum(node.tally.results.values()) == 3, "all associations are over")
    return snapshot_of(tmp_path / "other", node.tally)


def test_they_tell_what_was_received(busy: Snapshot) -> None:
    found = samples(busy)
    explicit = ("transfer_syntax", "1.2.840.10008.1.2.1")
    for modality in ("CT", "MR", "RTPLAN"):
        labels = (("modality", modality), ("peer", "MODALITY"), explicit)
        assert found["dcmpress_instances_received_total", labels] == 1
    codec = ("codec", "1.2.840.10008.1.2.5")
    before, after = (
        found["dcmpress_pixel_bytes_total", (codec, ("modality", "CT"), ("stage", stage))]
        for stage in ("in", "out")
    )
    assert 1.2 < before / after < 2
    assert found["dcmpress_passthrough_total", (("reason", "no pixel data"),)] == 1
    count = "dcmpress_encode_duration_seconds_count", (("codec", "RLE Lossless"),)
    assert found[count] == 3
    assert found["dcmpress_store_duration_seconds_bucket", (("le", "+Inf"),)] == 3
    ended = (("peer", "MODALITY"), ("result", "released"), ("role", "acceptor"))
    assert found["dcmpress_associations_total", ended] == 3


def test_a_peer_that_is_not_in_the_list_is_other(start_node: StartNode, tmp_path: Path) -> None:
    node = start_node(conftest.disk(tmp_path / "out"))
    assert send(node.address[1], pydicom.dcmread(pydicom.examples.get_path("ct"))) == 0
    assert {source.split("|")[0] for source in node.tally.sources} == {"other"}


def known_names(snapshot: Snapshot) -> set[str]:
    text = exposition(snapshot)[0].decode()
    families = [*text_string_to_metric_families(text)]
    assert families
    named = {sample.name for family in families for sample in family.samples}
    # One without labels yet has no sample: its name stands in its own line.
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            named |= {name, f"{name}_bucket"} if kind == "histogram" else {name}
    return named


@pytest.mark.parametrize("name", ["alerts.yml", "grafana-dashboard.json"])
def test_what_is_built_on_them_names_only_what_there_is(busy: Snapshot, name: str) -> None:
    found = set(NAMED.findall((CONFIG / name).read_text("utf-8")))
    assert len(found) > 5
    assert found <= known_names(busy), found - known_names(busy)


def test_the_alert_rules_are_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian package prometheus) is not installed")
    subprocess.run([promtool, "check", "rules", str(CONFIG / "alerts.yml")], check=True)


def test_every_alert_says_what_it_is_about() -> None:
    text = (CONFIG / "alerts.yml").read_text("utf-8")
    rules = re.split(r"^      - alert: ", text, flags=re.MULTILINE)[1:]
    assert len(rules) > 8
    for rule in rules:
        for key in ("expr: ", "severity: ", "summary: "):
            assert key in rule, rule
        assert rule.count("(") == rule.count(")")
        assert rule.count("{") == rule.count("}")


def test_the_dashboard_is_one() -> None:
    board = json.loads((CONFIG / "grafana-dashboard.json").read_text("utf-8"))
    assert [each["name"] for each in board["templating"]["list"]] == ["source", "instance"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["title"]
        assert all(target["expr"] for target in panel["targets"])


def test_the_json_is_what_the_readme_says(busy: Snapshot) -> None:
    """Every field of the top level and of a destination is in the README."""
    readme = (CONFIG.parent / "README.md").read_text("utf-8")
    fields = busy.as_fields()
    assert json.loads(json.dumps(fields)) == json.loads(json.dumps(asdict(busy) | fields))
    missing = [name for name in fields if f"`{name}`" not in readme]
    missing += [name for name in fields["destinations"][0] if f"`{name}`" not in readme]
    assert missing == []
