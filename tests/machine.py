"""A machine with systemd as its process 1, for the tests of an installed node.

It runs on this one in namespaces of its own: it sees this machine's files, and whatever it changes
(users, units, packages, networks) is in memory and gone with it. Where that cannot be had, without
root or systemd or namespaces, tests skip and say so.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_BOOT = Path(__file__).with_name("machine_boot.sh")
_SYSTEMD = Path("/lib/systemd/systemd")
_TOOLS = ("unshare", "nsenter", "setpriv", "pivot_root", "mount", "systemctl", "journalctl")
_NAMESPACES = ("--cgroup", "--mount", "--pid", "--net", "--uts", "--ipc")
#: A machine that is busy takes its time; this only ends what hangs.
PATIENCE = 240.0


@dataclass(frozen=True)
class Machine:
    """A booted machine; `init` is the process that is its first."""

    init: int

    def run(self, script: str, *, check: bool = True, stdin: str = "") -> str:
        """Run a script as root of the machine in the clone; return what it printed."""
        done = subprocess.run(
            self.command("bash", "-ec", script),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{script}\nended with {done.returncode}:\n{said}"
        return said

    def command(self, *words: str) -> list[str]:
        """Return the command that runs `words` in the machine."""
        environment = {
            "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/run",
            "LANG": "C.UTF-8",
            # What is to be installed comes from the clone and from /opt/site, see machine_boot.sh.
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which says that there is to be none
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            "TCP_NODELAY": "1",
        }
        given = [f"{name}={value}" for name, value in environment.items()]
        enter = ["nsenter", f"--target={self.init}", *_NAMESPACES, f"--wdns={ROOT}"]
        return [*enter, "setpriv", "--pdeathsig", "TERM", "env", "-i", *given, *words]

    def wait_for(self, script: str, what: str) -> None:
        """Wait until a script ends with 0."""
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(self.command("bash", "-ec", script), capture_output=True).returncode:
            assert time.monotonic() < deadline, f"in vain: {what}\n{self.journal()}"
            time.sleep(0.1)

    def journal(self) -> str:
        """What the node wrote into the journal, and systemd of it."""
        return self.run("journalctl --no-pager --output=cat --unit=dcmpress.service", check=False)

    def property(self, name: str) -> str:
        """A property of the service, as systemd has it."""
        return self.run(f"systemctl show --value --property={name} dcmpress.service").strip()


@contextlib.contextmanager
def booted(scratch: Path) -> Iterator[Machine]:
    """Boot a machine; `scratch` is an empty folder. Skips where there can be none."""
    _require_means()
    group = _cgroup()
    try:
        with _process(scratch, group) as process:
            booted = Machine(_first_process(process))
            _require_services(booted)
            yield booted
    finally:
        _remove(group)


def _require_means() -> None:
    if os.geteuid() != 0:
        pytest.skip("a machine of its own takes root")
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    if missing or not _SYSTEMD.exists():
        pytest.skip(f"no machine without {', '.join(missing) or 'systemd'}")
    tried = ["unshare", *_NAMESPACES, "--fork", "mount", "--make-rprivate", "/"]
    said = subprocess.run(tried, capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip(f"no namespaces here: {said.stderr.strip()}")


def _require_services(machine: Machine) -> None:
    """Skip where Python does not run in the machine, or not under what the unit asks of a kernel.

    In a container that may do some things and not others, that is nothing to hold against the node.
    """
    unit = (ROOT / "systemd" / "dcmpress.service").read_text("utf-8")
    _, hardening = unit.split("CapabilityBoundingSet=", 1)
    hardening, _ = hardening.split("[Install]", 1)
    probe = "[Service]\nType=oneshot\nExecStart=/run/probe/bin/python -c 'import numpy, ssl'\n"
    script = """
        python3 -m venv /run/probe && /run/probe/bin/python -c 'import setuptools, wheel'
        cat >/run/systemd/system/probe.service
        systemctl daemon-reload && systemctl start probe.service
        rm -r /run/probe /run/systemd/system/probe.service
    """
    tried = subprocess.run(
        machine.command("bash", "-ec", script),
        input=f"{probe}CapabilityBoundingSet={hardening}",
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        why = machine.run("journalctl --no-pager --output=cat --unit=probe.service", check=False)
        pytest.skip(f"services do not run in a machine here: {tried.stderr}{why}"[-800:])


def _cgroup() -> Path:
    """Make a control group for the machine: systemd takes those below it for its units."""
    for line in Path("/proc/self/mounts").read_text("utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            group = Path(place) / f"dcmpress-test-{os.getpid()}"
            for left in Path(place).glob("dcmpress-test-*"):
                _sweep(left)
            with contextlib.suppress(OSError):
                group.mkdir()
                return group
    pytest.skip("no control group can be made here")


def _remove(group: Path) -> None:
    """Remove a control group and those below it; processes in it have ended, or are about to."""
    deadline = time.monotonic() + PATIENCE
    while group.exists():
        _sweep(group)
        assert time.monotonic() < deadline, f"{group} is still in use"
        time.sleep(0.01)


def _sweep(group: Path) -> None:
    """Remove a control group and those below it where no process is left in them."""
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


@contextlib.contextmanager
def _process(scratch: Path, group: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the machine: it ends with this block, and with this process."""
    device = os.stat("/").st_dev
    folders = {ROOT, Path(sys.prefix).resolve()}
    elsewhere = sorted(str(path) for path in folders if path.stat().st_dev != device)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    given = [sysconfig.get_path("purelib"), sys.base_prefix, version]
    boot = ["sh", str(_BOOT), str(scratch), *given, *elsewhere]
    join = f'echo $$ >{shlex.quote(str(group / "cgroup.procs"))}; exec "$@"'
    command = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", join, "sh", "unshare", *_NAMESPACES]
    process = subprocess.Popen(
        [*command, "--fork", "--kill-child=KILL", *boot],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _first_process(process: subprocess.Popen[str]) -> int:
    """Return the machine's process 1 as it is known here, when systemd is at work."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + PATIENCE
    said = "it took too long"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stdout is not None
            said = process.stdout.read()
            break
        with contextlib.suppress(OSError, ValueError):
            [init] = map(int, children.read_text().split())
            machine = Machine(init)
            asked = machine.command("systemctl", "is-active", "--quiet", "machine.target")
            if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
                return init
        time.sleep(0.05)
    pytest.skip(f"no systemd boots here: {said.strip()[-500:]}")
