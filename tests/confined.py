"""Run a command under the restrictions of a systemd unit, as far as that goes without systemd.

    python confined.py UNIT WRITABLE... -- COMMAND...

From the unit's own lines: SystemCallFilter=, RestrictAddressFamilies= and MemoryDenyWriteExecute=
as one seccomp filter, NoNewPrivileges=, an empty CapabilityBoundingSet=, LimitNOFILE=, and for
ProtectSystem=strict everything read-only but WRITABLE, in a mount namespace of its own. The sets of
system calls are those that `systemd-analyze syscall-filter` prints. Linux on x86-64, as root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
_LIBC = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS, _PRIVATE = 0x0002_0000, 1 << 18 | 1 << 14
_BIND, _REMOUNT, _READ_ONLY, _RECURSIVE = 1 << 12, 1 << 5, 1, 1 << 14
_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 24, 38
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
#: Of classic BPF: load a word, jump if equal, and with a constant, return.
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06
_ALLOW, _FAIL, _X86_64 = 0x7FFF_0000, 0x0005_0000, 0xC000_003E
_WRITE_EXEC, _EXEC = 6, 4


def lines_of(unit: str, key: str) -> list[str]:
    """Return what a unit says for a key, line by line."""
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


@cache
def members(group: str) -> frozenset[str]:
    """Return the system calls of a group as @system-service, those of groups in it too."""
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    words = [line.strip() for line in text.splitlines()[1:]]
    words = [word for word in words if word and not word.startswith("#")]
    return frozenset().union(*(members(word) if word.startswith("@") else {word} for word in words))


def allowed(unit: str) -> set[str]:
    """Return the system calls that the unit allows (systemd.exec(5), SystemCallFilter=)."""
    calls: set[str] = set()
    for line in lines_of(unit, "SystemCallFilter"):
        named = [members(w) if w.startswith("@") else {w} for w in line.lstrip("~").split()]
        change = set().union(*named)
        calls = calls - change if line.startswith("~") else calls | change
    return calls


def numbers() -> dict[str, int]:
    """Return the numbers of the system calls."""
    found = re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())
    return {name: int(number) for name, number in found}


def program(unit: str) -> bytes:
    """Return the filter."""
    number = numbers()
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _X86_64), (_RETURN, 0, 0, _FAIL | errno.EPERM),
    ]  # fmt: skip

    def restrict(call: str, argument: int, mask: int, values: list[int], *, deny: bool) -> None:
        """Judge one call by an argument."""
        on_match, otherwise = (_FAIL | errno.EPERM, _ALLOW) if deny else (
            _ALLOW, _FAIL | errno.EAFNOSUPPORT
        )  # fmt: skip
        body = [(_LOAD, 0, 0, 16 + 8 * argument), (_AND, 0, 0, mask)]
        for value in values:
            body += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, on_match)]
        body.append((_RETURN, 0, 0, otherwise))
        code.extend([(_LOAD, 0, 0, 0), (_EQUAL, 0, len(body), number[call]), *body])

    families = [_FAMILIES[word] for word in lines_of(unit, "RestrictAddressFamilies")[0].split()]
    restrict("socket", 0, 0xFFFF_FFFF, families, deny=False)
    if lines_of(unit, "MemoryDenyWriteExecute") == ["yes"]:
        restrict("mmap", 2, _WRITE_EXEC, [_WRITE_EXEC], deny=True)
        restrict("mprotect", 2, _EXEC, [_EXEC], deny=True)
    code.append((_LOAD, 0, 0, 0))
    for name in sorted(allowed(unit) & number.keys()):
        code += [(_EQUAL, 0, 1, number[name]), (_RETURN, 0, 0, _ALLOW)]
    code.append((_RETURN, 0, 0, _FAIL | errno.EPERM))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def protect(writable: list[str]) -> None:
    """Make everything read-only but `writable`."""
    _call("unshare", _NEW_MOUNTS)
    _call("mount", None, b"/", None, _PRIVATE, None)
    for folder in writable:
        _call("mount", folder.encode(), folder.encode(), None, _BIND, None)
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = line.split()[1]
        if place not in writable and not place.startswith(("/proc", "/sys", "/dev")):
            _LIBC.mount(None, place.encode(), None, _BIND | _REMOUNT | _READ_ONLY, None)


def main() -> None:
    """Restrict this process, and become the command."""
    divider = sys.argv.index("--")
    unit_path, *writable = sys.argv[1:divider]
    unit = Path(unit_path).read_text()
    filter_ = program(unit)
    protect(writable)
    most = int(lines_of(unit, "LimitNOFILE")[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for capability in range(64):
        _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    buffer = ctypes.create_string_buffer(filter_, len(filter_))
    loaded = struct.pack("HxxxxxxQ", len(filter_) // 8, ctypes.addressof(buffer))
    _call("prctl", _PR_SET_SECCOMP, 2, ctypes.c_char_p(loaded), 0, 0)
    os.execvp(sys.argv[divider + 1], sys.argv[divider + 1 :])


if __name__ == "__main__":
    main()
