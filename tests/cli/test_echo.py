"""`dcmpress` itself and `dcmpress echo`: exit codes and words, with real peers."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial

import peers
import pytest

from node import __version__
from node.cli import main
from node.cli.commands import SUMMARIES, load


def test_echo_tells_the_time(capsys, tmp_path):
    with peers.storescp(tmp_path) as port:
        assert main(["echo", f"DOWNSTREAM@127.0.0.1:{port}"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"DOWNSTREAM@127.0.0.1:{port} answered in ")
    assert " ms (association " in shown


def test_echo_of_nobody(capsys):
    port = peers.free_port()
    assert main(["echo", f"PACS@127.0.0.1:{port}"]) == 69
    assert capsys.readouterr().err == f"dcmpress: 127.0.0.1:{port}: Connection refused\n"


def test_echo_that_is_rejected(capsys, start_node):
    host, port = start_node().address
    assert main(["echo", f"SOMEONE@{host}:{port}"]) == 77
    assert "that is not its AE title" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["echo", "PACS"],
        ["echo", "PACS@127.0.0.1:99999"],
        ["echo", "PACS@127.0.0.1:104", "--calling", "seventeen letters"],
        ["echo"],
        ["no-such-command"],
        [],
    ],
)
def test_a_command_line_that_cannot_be_used(capsys, words):
    assert main(words) == 2


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dcmpress {__version__}\n"


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_that_is_listed_is_there(capsys, name):
    assert load(name).name == name
    assert main([name, "--help"]) == 0
    assert name in capsys.readouterr().out


def test_the_list_of_commands_imports_none_of_them():
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from node.cli import main; main(['--help']); "
            "print([name for name in sys.modules if name in ('numpy', 'pydicom', 'pynetdicom')])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.endswith("[]\n")
    assert "compress" in shown.stdout


def test_a_report_of_many_lines_begins_with_its_file(capsys, tmp_path):
    config = tmp_path / "node.toml"
    config.write_text("[node]\nport = 'a'\n")
    assert main(["check", str(config)]) == 78
    assert capsys.readouterr().err.startswith(f"{config}:2:")


def test_an_interruption_ends_with_130(tmp_path):
    """The peer accepts the connection and never says a word."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        command = [sys.executable, "-m", "node", "echo", f"PACS@127.0.0.1:{port}"]
        # Whoever runs the tests in the background ignores SIGINT, and so would the command.
        obey = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=obey) as process:
            accepted, _ = silent.accept()
            with accepted:
                process.send_signal(signal.SIGINT)
                assert process.wait(peers.PATIENCE) == 130
