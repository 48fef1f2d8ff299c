"""The node as README.md installs it: a service of a real systemd, in a machine of its own.

Every line of README.md that installs, upgrades, backs up or restores is run word for word. Skips
where there can be no such machine: see machine.py.
"""

from __future__ import annotations

import contextlib
import pwd
import shlex
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import machine
import pydicom
import pytest
import readme
from machine import Machine
from tls.certificates import Authority

#: A busy machine installs slowly; waits have limits of their own.
pytestmark = pytest.mark.timeout(1200)

SETTINGS = "/etc/dcmpress/node.toml"
RECEIVED = "/var/lib/dcmpress/received"
#: As the machine has it: machine_boot.sh says where.
CT = f"/opt/site/{pydicom.examples.get_path('ct').relative_to(sysconfig.get_path('purelib'))}"
AS_NODE = "sudo -u dcmpress dcmpress"
HERE = "DCMPRESS@127.0.0.1:11112"
#: An address that is not loopback, for a network of one.
ELSEWHERE = "10.0.0.5"
ADDRESS = f"""
import fcntl, socket, struct
name, address = b"lo:1", socket.inet_aton("{ELSEWHERE}")
request = struct.pack("16sH2s4s8s", name, socket.AF_INET, bytes(2), address, bytes(8))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8916, request)
"""
#: What a modality does that goes on while the node is restarted.
MODALITY = """
import pathlib, sys
from node.dicom.contexts import VERIFICATION, Proposal
from node.dicom.uids import IMPLICIT_VR_LE
from node.network.store_scu import Peer, connect
peer = Peer(ae_title="DCMPRESS", host="127.0.0.1", port=11112, calling_ae_title="CT1",
            connect_seconds=120, response_seconds=120)
def echo(association):
    assert association.echo() == 0
    association.close()
"""
ECHOES = (
    MODALITY
    + """
answered = 0
while not pathlib.Path("/run/restarted").exists() or answered < 10:
    echo(connect(peer, [Proposal(VERIFICATION, IMPLICIT_VR_LE)]))
    answered += 1
    print(answered, flush=True)
"""
)
PATIENT = (
    MODALITY
    + """
association = connect(peer, [Proposal(VERIFICATION, IMPLICIT_VR_LE)])
print("associated", flush=True)
sys.stdin.readline()
echo(association)
"""
)
SECURED = """
import socket, ssl
context = ssl.create_default_context(cafile="/etc/dcmpress/ca.crt")
with socket.create_connection(("127.0.0.1", 2762), 60) as plain:
    with context.wrap_socket(plain, server_hostname="node.example") as secured:
        print(secured.version())
"""
TLS = """
certificate = "/etc/dcmpress/node.crt"
key = "$CREDENTIALS_DIRECTORY/node.key"
port = 2762
"""

CHECK, PROXY, INSTALL, UPKEEP = readme.blocks(__file__)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which README.md's node is installed."""
    with machine.booted(tmp_path_factory.mktemp("machine")) as booted:
        booted.run(INSTALL)
        yield booted
    users = {user.pw_dir for user in pwd.getpwall() if user.pw_name == "dcmpress"}
    assert "/var/lib/dcmpress" not in users or Path("/opt/dcmpress").exists()


@contextlib.contextmanager
def beside(service: Machine, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command in the machine while others run."""
    process = subprocess.Popen(
        service.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()  # and what it runs gets SIGTERM
        process.communicate(timeout=machine.PATIENCE)


def modality(service: Machine, script: str) -> contextlib.AbstractContextManager:
    return beside(service, "/opt/dcmpress/bin/python", "-c", script)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def files_in(service: Machine, folder: str) -> list[str]:
    return service.run(f"find {folder} -name '*.dcm'").split()


def test_it_runs_and_receives(service: Machine) -> None:
    service.run("systemctl is-active dcmpress.service dcmpress.socket")
    assert service.property("StatusText").startswith("listening on ")
    service.run(f"dcmpress echo {HERE}; dcmpress send {CT} --to {HERE}")
    service.wait_for(f"find {RECEIVED} -name '*.dcm' | grep -q .", "it is delivered")
    [file] = files_in(service, RECEIVED)
    assert service.run(f"stat -c '%U %a' {file}") == "dcmpress 600\n"
    service.wait_for("journalctl -u dcmpress | grep -q 'sent 1 instance, 0 refused'", "a log line")


def test_commands_need_only_the_services_settings_file(service: Machine) -> None:
    found = service.run(f"{AS_NODE} doctor {SETTINGS}")
    assert "FAIL" not in found
    assert "/var/lib/dcmpress can be written" in found
    assert f"{RECEIVED} can be written" in found
    assert "received: 0 queued" in service.run(f"{AS_NODE} queue list --config {SETTINGS}")
    assert "all good" in service.run(f"dcmpress status {SETTINGS}")


def test_a_modality_is_let_in_and_a_destination_added_without_a_restart(service: Machine) -> None:
    service.run(f"python3 -c {shlex.quote(ADDRESS)}")
    echo = f"dcmpress echo --calling CT1 DCMPRESS@{ELSEWHERE}:11112"
    service.run(f"set +e; {echo}; [ $? = 77 ]")
    advice = f'add a [[peer]] with ae_title = "CT1", address = "{ELSEWHERE}"'
    service.wait_for(f"journalctl -u dcmpress | grep -qF {shlex.quote(advice)}", "the advice")
    before = service.property("MainPID")
    service.run(f"""
        for peer in CT1:{ELSEWHERE} CT1:127.0.0.1 DCMPRESS:127.0.0.1; do
            printf '[[peer]]\\nae_title = "%s"\\naddress = "%s"\\n' \
                ${{peer%:*}} ${{peer#*:}} >>{SETTINGS}
        done
        for name in received second; do
            printf '[[destination]]\\nname = "%s"\\ndirectory = "%s"\\n' \
                $name /var/lib/dcmpress/$name >>{SETTINGS}
        done
        {AS_NODE} check {SETTINGS}
        systemctl reload dcmpress
    """)
    service.wait_for(echo, "it is let in")
    service.run(f"dcmpress send {CT} --to {HERE}")
    service.wait_for("find /var/lib/dcmpress/second -name '*.dcm' | grep -q .", "it is there too")
    assert service.property("MainPID") == before


def test_no_connection_is_lost_in_a_restart(service: Machine) -> None:
    service.run("rm -f /run/restarted")
    with modality(service, ECHOES) as echoes:
        assert line_of(echoes) == "1\n"
        upgrade, *_ = UPKEEP.splitlines()
        service.run(f"{upgrade}\ntouch /run/restarted")
        assert echoes.wait(machine.PATIENCE) == 0


def test_an_association_ends_in_its_own_time_when_the_service_stops(service: Machine) -> None:
    with modality(service, PATIENT) as patient:
        assert line_of(patient) == "associated\n"
        service.run("systemctl stop --no-block dcmpress.socket dcmpress.service")
        service.wait_for("systemctl is-active dcmpress | grep -q deactivating", "it is stopping")
        assert patient.stdin is not None
        patient.stdin.write("now\n")
        patient.stdin.flush()
        assert patient.wait(machine.PATIENCE) == 0
    service.wait_for("systemctl is-active dcmpress | grep -qx inactive", "it has stopped")
    assert service.property("Result") == "success"
    service.run("systemctl start dcmpress.socket dcmpress.service")


def test_what_was_backed_up_is_restored(service: Machine) -> None:
    _, back_up, restore = UPKEEP.split("\n\n")
    service.run(f"""
        rm -rf {RECEIVED}/* && {AS_NODE} queue pause received --config {SETTINGS}
        dcmpress send {CT} --to {HERE}
    """)
    queued = f"{AS_NODE} queue list received --config {SETTINGS} | grep -q '1 queued'"
    service.wait_for(queued, "it waits")
    service.run("cd /run\n" + back_up)
    service.run("systemctl stop dcmpress.socket dcmpress; rm -rf /var/lib/dcmpress/*")
    service.run("cd /run\n" + restore)
    service.run("systemctl is-active dcmpress.service dcmpress.socket")
    service.run(queued)
    service.run(f"{AS_NODE} queue resume received --config {SETTINGS}")
    service.wait_for(f"find {RECEIVED} -name '*.dcm' | grep -q .", "it is delivered")


def test_a_port_below_1024_and_a_key_that_only_root_can_read(
    service: Machine, tmp_path: Path
) -> None:
    ca = Authority(tmp_path, "ca")
    pair = ca.issue("node.example", common_name="node.example")
    for source, target in (
        (ca.file, "/etc/dcmpress/ca.crt"),
        (pair.certificate, "/etc/dcmpress/node.crt"),
        (pair.key, "/etc/credstore/dcmpress.node.key"),
    ):
        service.run(f"install -D -m 644 /dev/stdin {target}", stdin=source.read_text())
    service.run(
        f"""
        chmod 600 /etc/credstore/dcmpress.node.key
        cp {SETTINGS} /run/kept.toml
        mkdir -p /etc/systemd/system/dcmpress.socket.d
        printf '[Socket]\\nListenStream=\\nListenStream=104\\n' \
            >/etc/systemd/system/dcmpress.socket.d/port.conf
        sed -i 's/^verify_peer = .*/verify_peer = "off"/' {SETTINGS}
        sed -i '/^\\[tls\\]/r /dev/stdin' {SETTINGS}
        systemctl daemon-reload
        systemctl stop dcmpress.socket dcmpress.service
        systemctl start dcmpress.socket dcmpress-tls.socket dcmpress.service
        dcmpress echo DCMPRESS@127.0.0.1:104
    """,
        stdin=TLS,
    )
    with modality(service, SECURED) as secured:
        assert line_of(secured) == "TLSv1.3\n"
    service.run(f"""
        cp /run/kept.toml {SETTINGS}
        rm -r /etc/systemd/system/dcmpress.socket.d
        systemctl daemon-reload
        systemctl stop dcmpress.socket dcmpress-tls.socket dcmpress.service
        systemctl start dcmpress.socket dcmpress.service
    """)


def test_an_archive_elsewhere_is_written_to_once_the_unit_names_it(service: Machine) -> None:
    """The drop-in is what `systemctl edit`, which wants a terminal, makes of the two lines."""
    drop_in = "/etc/systemd/system/dcmpress.service.d"
    service.run(f"""
        cp {SETTINGS} /run/kept.toml
        install -d -o dcmpress -g dcmpress -m 700 /srv/elsewhere
        printf '[[destination]]\\nname = "elsewhere"\\ndirectory = "/srv/elsewhere"\\n' >>{SETTINGS}
        ! systemctl restart dcmpress
    """)
    assert "/srv/elsewhere" in service.journal()
    service.run(f"""
        mkdir -p {drop_in}
        printf '[Service]\\nReadWritePaths=/srv/elsewhere\\n' >{drop_in}/override.conf
        systemctl daemon-reload && systemctl reset-failed dcmpress.service dcmpress.socket
        systemctl start dcmpress.socket dcmpress.service
        dcmpress send {CT} --to {HERE}
    """)
    service.wait_for("find /srv/elsewhere -name '*.dcm' | grep -q .", "it is delivered")
    service.run(f"""
        cp /run/kept.toml {SETTINGS} && rm -r {drop_in}
        systemctl daemon-reload && systemctl restart dcmpress
    """)


def test_one_that_hangs_is_killed_by_the_watchdog_and_started_again(service: Machine) -> None:
    drop_in = "/run/systemd/system/dcmpress.service.d"
    service.run(f"""
        mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=10\\n' >{drop_in}/soon.conf
        systemctl daemon-reload && systemctl restart dcmpress
    """)
    before = service.property("MainPID")
    service.run(f"kill -STOP {before}")
    service.wait_for("journalctl -u dcmpress | grep -q 'Watchdog timeout'", "the watchdog acts")
    service.wait_for(f"dcmpress echo {HERE}", "it is there again")
    assert service.property("MainPID") != before
    service.run(f"rm -r {drop_in} && systemctl daemon-reload && systemctl restart dcmpress")


def test_bad_settings_do_not_start_again_and_again(service: Machine) -> None:
    service.run(f"cp {SETTINGS} /run/good.toml && echo 'no settings' >>{SETTINGS}")
    service.run("systemctl reload dcmpress")
    service.wait_for("journalctl -u dcmpress | grep -q 'the old ones stay'", "they are refused")
    service.run(f"dcmpress echo {HERE}; ! systemctl restart dcmpress")
    assert service.property("ActiveState") == "failed"
    assert service.property("ExecMainStatus") == "78"
    assert "this is not TOML" in service.journal()
    service.run(f"""
        cp /run/good.toml {SETTINGS}
        systemctl reset-failed dcmpress.service dcmpress.socket
        systemctl start dcmpress.socket dcmpress.service
    """)


# -- not as a service --------------------------------------------------------------------------


@pytest.fixture
def ports_are_free(service: Machine) -> None:
    """The service is stopped, and `.venv` is what is installed."""
    service.run("""
        systemctl stop dcmpress.socket dcmpress.service
        rm -rf .venv && ln -s /opt/dcmpress .venv
    """)


@pytest.mark.usefixtures("ports_are_free")
def test_the_settings_that_readme_shows_serve_a_modality(service: Machine) -> None:
    check, serve = CHECK.splitlines()
    shown = next(text for text in readme.settings() if text.startswith("[node]\nhost"))
    service.run("cat >node.toml", stdin=shown)
    service.run(check)
    with beside(service, "bash", "-c", f"exec {serve}") as node:
        assert line_of(node) == "listening AE=DCMPRESS 0.0.0.0:11112\n"
        service.run(f"python3 -c {shlex.quote(ADDRESS)}")
        address = f"DCMPRESS@{ELSEWHERE}:11112"
        service.run(f"dcmpress send {CT} --to {address} --calling CT1")
        service.wait_for("find /srv/dicom -name '*.dcm' | grep -q .", "it is in the archive")
        service.run(f"set +e; dcmpress echo --calling CT2 {address}; [ $? = 77 ]")


@pytest.mark.usefixtures("ports_are_free")
def test_it_is_a_proxy_in_front_of_an_archive(service: Machine) -> None:
    archive = f"dcmpress serve --ae-title PACS --host {ELSEWHERE} --port 104 --any-peer"
    archive += " --status-port 0 --state /srv/pacs-state --store /srv/pacs"
    service.run(f"python3 -c {shlex.quote(ADDRESS)}")
    with (
        beside(service, "bash", "-c", f"exec {archive}") as pacs,
        beside(service, "bash", "-c", f"exec {PROXY.strip()}") as proxy,
    ):
        assert line_of(pacs) == f"listening AE=PACS {ELSEWHERE}:104\n"
        assert line_of(proxy) == "listening AE=DCMPRESS 127.0.0.1:11112\n"
        service.run(f"dcmpress send {CT} --to {HERE}")
        service.wait_for("find /srv/pacs -name '*.dcm' | grep -q .", "the archive has it")
