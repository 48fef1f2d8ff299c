"""`dcmpress check` and `dcmpress config`: what is printed, and what is raised for `main`."""

from __future__ import annotations

import json
import tomllib

import pytest
import typer
from typer.testing import CliRunner

from node.cli import config
from node.cli.check import check
from node.errors import BadConfiguration, InputMissing

GOOD = (
    '[node]\nstate_directory = "/var/lib/dcmpress"\n[[destination]]\nname = "d"\ndirectory = "/d"\n'
)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "node.toml"
    path.write_text(GOOD)
    return path.relative_to(tmp_path)


@pytest.fixture
def run(file):
    """Run a command line as the program would; what it raises comes through."""
    app = typer.Typer()
    app.command()(check)
    app.add_typer(config.app, name="config")

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, words)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_check_tells_what_the_node_would_do(run):
    assert (
        run("check", "node.toml")
        == """\
node.toml is fine
  listens   as DCMPRESS on 127.0.0.1:11112
  from      anyone on this machine
  encodes   native pixel data in RLELossless, checked
  sends to  d: folder /d
  spool     /var/lib/dcmpress
  status    http://127.0.0.1:8112/
"""
    )


def test_check_finds_what_is_wrong(run, file):
    file.write_text("[node]\nprot = 104\n")
    with pytest.raises(BadConfiguration, match=r"^node\.toml:2:1: error: unknown setting"):
        run("check", "node.toml")


def test_check_reads_the_environment_as_serve_does(run, monkeypatch):
    monkeypatch.setenv("DCMPRESS__NODE__PORT", "dicom")
    with pytest.raises(BadConfiguration, match=r"^DCMPRESS__NODE__PORT: error: port must be"):
        run("check", "node.toml")


def test_check_without_the_file(run):
    with pytest.raises(InputMissing):
        run("check", "nowhere.toml")


def test_show_is_a_settings_file_again(run, file):
    shown = run("config", "show", "node.toml")
    file.write_text(shown)
    assert run("config", "show", "node.toml") == shown


def test_show_origin(run, monkeypatch):
    monkeypatch.setenv("DCMPRESS__NODE__PORT", "104")
    shown = [line.split() for line in run("config", "show", "node.toml", "--origin").splitlines()]
    assert ["port", "=", "104", "#", "DCMPRESS__NODE__PORT"] in shown
    assert ["directory", "=", '"/d"', "#", "node.toml:5:1"] in shown
    assert ["any_peer", "=", "false", "#", "default"] in shown


def test_show_without_a_file_shows_the_defaults(run):
    assert tomllib.loads(run("config", "show"))["node"]["ae_title"] == "DCMPRESS"


def test_init_is_a_settings_file(run, file):
    file.write_text(run("config", "init"))
    assert run("check", "node.toml").startswith("node.toml is fine\n")


def test_schema_is_json(run):
    assert json.loads(run("config", "schema"))["title"] == "Settings"


def test_reference_is_the_table_of_settings(run):
    assert "| `node.port` | `11112` | 0 to 65535 |" in run("config", "reference")


def test_check_finds_files_that_cannot_be_used_all_at_once(run, file):
    file.write_text(
        GOOD + '[tls]\ncertificate = "nowhere.crt"\nverify_peer = "off"\n'
        '[audit]\nsyslog = "10.0.0.9:6514"\nca = "nowhere.pem"\n'
    )
    with pytest.raises(BadConfiguration) as caught:
        run("check", "node.toml")
    assert "nowhere.crt" in str(caught.value)
    assert "audit.ca: " in str(caught.value)
    assert "nowhere.pem: No such file or directory" in str(caught.value)


def test_check_tells_every_file_that_cannot_be_used(run, file, tmp_path):
    (tmp_path / "node.key").write_text("no key")
    (tmp_path / "node.key").chmod(0o644)
    (tmp_path / "ca.crt").write_text("no certificate")
    file.write_text(
        GOOD + f'[tls]\ncertificate = "nowhere.crt"\nkey = "{tmp_path}/node.key"\n'
        f'ca = "{tmp_path}/ca.crt"\ncrl = "nowhere.crl"\n[identity]\nusers = "no-users"\n'
        '[[destination]]\nname = "p"\nae_title = "P"\nhost = "p"\nport = 104\ntls = true\n'
        'tls_certificate = "theirs.crt"\n'
    )
    with pytest.raises(BadConfiguration) as caught:
        run("check", "node.toml")
    lines = str(caught.value).splitlines()
    told = ("no-users", "node.key", "nowhere.crt", "ca.crt", "nowhere.crl", "theirs.crt")
    for name, line in zip(told, lines, strict=True):
        assert name in line
    assert "chmod 600" in lines[1]


def test_check_tells_where_audit_messages_go(run, file):
    file.write_text(GOOD + '[audit]\nsyslog = "[fd00::9]:6514"\nprotocol = "tcp"\n')
    assert "  audit     messages to [fd00::9]:6514 by tcp\n" in run("check", "node.toml")


@pytest.mark.parametrize("server", ["10.0.0.9", ":6514", "10.0.0.9:0", "10.0.0.256:6514", "a b:1"])
def test_check_knows_what_is_no_syslog_server(run, file, server):
    file.write_text(f'{GOOD}[audit]\nsyslog = "{server}"\n')
    with pytest.raises(BadConfiguration, match=r"node\.toml:7:10: error: syslog is"):
        run("check", "node.toml")
