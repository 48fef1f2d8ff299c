"""What is well on this machine and what is not, before or while a node runs on it.

Each check yields `Finding`s: what was looked at, how it is, and what to do next. Nothing is
changed but a file that is made in the state directory and removed. No check raises; one that
cannot be done is a finding too. `doctor_peer` does the same for a destination.
"""

from __future__ import annotations

import fcntl
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from node.errors import BadConfiguration, CannotWrite, NodeError
from node.network.certificate import in_file
from node.network.ports import listening_socket, who_listens
from node.network.tls import TLS, objection_to
from node.service import exposure, syslog
from node.service.doctor_codecs import codecs, encoder
from node.service.doors import require_usable
from node.service.findings import Finding, fail, ok, warn
from node.service.room import reserve_of
from node.settings import DiskDestination, Settings
from node.spool import Disk, Durability

#: An fsync slower than this, in seconds, is felt by every sender.
_SLOW_SYNC = 0.02
_SYNCS = 5
#: No machine's clock is right that shows an earlier year than this program was written in.
_FIRST_YEAR = 2025


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at this machine with the eyes of a node that has these settings."""
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("encoder", encoder),
        ("codecs", codecs),
        ("spool", _spool),
        ("disk space", _space),
        ("folders", _folders),
        ("port", _ports),
        ("TLS", _tls),
        ("audit", _audit),
        ("clock", _clock),
    )
    for subject, check in checks:
        try:
            yield from check(settings)
        except NodeError as failure:
            for line in str(failure).splitlines():
                yield fail(subject, type(failure), line, "see the message")
        except OSError as failure:
            yield fail(subject, CannotWrite, f"cannot be looked at: {failure}", "see the message")


def is_running(settings: Settings) -> bool:
    """Tell whether a node has the spool of these settings."""
    try:
        descriptor = os.open(settings.node.state_directory / "spool" / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _spool(settings: Settings) -> Iterator[Finding]:
    folder = _nearest(settings.node.state_directory)
    disk = Disk(Durability.FSYNC)
    path = folder / f".doctor-{os.getpid()}"
    try:
        seconds = _sync_seconds(disk, path)
    except OSError as failure:
        yield fail(
            "spool",
            CannotWrite,
            f"cannot write to {folder}: {failure.strerror}",
            "let it belong to the user that runs dcmpress, or choose node.state_directory",
        )
        return
    finally:
        disk.remove(path)
    text = f"{settings.node.state_directory} can be written, fsync takes {seconds * 1000:.1f} ms"
    if settings.spool.durability == "none":
        yield warn("spool", f"{text}; it is not used", 'a power cut loses: durability = "fsync"')
    elif seconds > _SLOW_SYNC:
        yield warn("spool", text, "each instance waits so long: put the spool on a faster disk")
    else:
        yield ok("spool", text)


def _sync_seconds(disk: Disk, path: Path) -> float:
    times = []
    descriptor = disk.create(path)
    try:
        for _ in range(_SYNCS):
            os.write(descriptor, bytes(4096))
            began = time.perf_counter()
            disk.sync_file(descriptor)
            times.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
    return statistics.median(times)


def _space(settings: Settings) -> Iterator[Finding]:
    disk = os.statvfs(_nearest(settings.node.state_directory))
    free = disk.f_bavail * disk.f_frsize
    reserve = reserve_of(disk, settings.spool)
    text = f"{free / 1e9:.1f} GB free, {reserve / 1e9:.1f} GB are kept free"
    if free <= reserve:
        yield fail(
            "disk space",
            CannotWrite,
            f"{text}: every instance would be refused",
            "make room, or lower spool.reserve_bytes and spool.reserve_percent",
        )
    elif free < 2 * reserve:
        yield warn("disk space", text, "make room soon")
    else:
        yield ok("disk space", text)


def _folders(settings: Settings) -> Iterator[Finding]:
    for destination in settings.destinations:
        if isinstance(destination, DiskDestination):
            folder = _nearest(destination.directory)
            subject = f"folder {destination.name}"
            if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
                yield ok(subject, f"{destination.directory} can be written")
            else:
                yield fail(
                    subject,
                    CannotWrite,
                    f"cannot write to {folder}",
                    "let it belong to the user that runs dcmpress, or choose another",
                )


def _ports(settings: Settings) -> Iterator[Finding]:
    wanted = {"port": (settings.node.host, settings.node.port)}
    if settings.tls.certificate is not None and settings.tls.port is not None:
        wanted["TLS port"] = (settings.node.host, settings.tls.port)
    if settings.status.port:
        wanted["status port"] = (settings.status.host, settings.status.port)
    ours = is_running(settings)
    for subject, (host, port) in wanted.items():
        try:
            listening_socket(host, port).close()
        except CannotWrite as failure:
            owner = who_listens(port)
            if ours:
                # Whose it is may be hidden from this user, as what a service has is.
                by = f"this node: {owner}" if owner else "the node that runs here, as it seems"
                yield ok(subject, f"{port} is in use by {by}")
            else:
                yield fail(subject, CannotWrite, str(failure), "see the message")
        else:
            text = f"{port} on {host} is free"
            yield (
                ok(subject, text)
                if not ours
                else warn(subject, f"{text}, and the node runs", "is this its settings file?")
            )


def _tls(settings: Settings) -> Iterator[Finding]:
    require_usable(settings)
    expiries = exposure.expiries(settings)
    for name, path, tls in exposure.certificates(settings):
        yield ok("TLS", f"certificate and key of {name} fit")
        yield from _chain(name, path, tls)
    for notice in exposure.notices(settings, expiries, exposure.now()):
        text, _, mend = notice.partition("; ")
        yield warn("TLS", text, mend)


def _chain(name: str, path: Path, tls: TLS) -> Iterator[Finding]:
    """Yield each certificate that we show, and whether they lead to a CA."""
    chain = in_file(path)
    for number, each in enumerate(chain, 1):
        yield ok("TLS", f"certificate {number} of {len(chain)} of {name}: {each}")
    if objection := objection_to(tls, tls.ca):
        yield warn(
            "TLS",
            f"the certificate of {name} does not verify with the CAs known here: {objection}",
            "put the certificates between it and its CA below it in its file; peers must trust "
            "that CA, which need not be known here",
        )
    else:
        yield ok("TLS", f"the chain of {name} verifies")


def _audit(settings: Settings) -> Iterator[Finding]:
    audit = settings.audit
    if audit.syslog is None:
        yield ok("audit", f"a trail of at most {audit.trail_bytes / 1e6:.0f} MB, on this disk only")
        return
    syslog.require_usable(audit)
    try:
        syslog.connect(audit).close()
    except OSError as failure:
        yield warn(
            "audit",
            f"the syslog server {audit.syslog} is not there by {audit.protocol}: "
            f"{failure.strerror or failure}",
            "messages wait in the trail and are sent when it is; look at audit.syslog and at it",
        )
    else:
        yield ok("audit", f"the syslog server {audit.syslog} is there by {audit.protocol}")


def _clock(_: Settings) -> Iterator[Finding]:
    now = time.gmtime()
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", now)
    if now.tm_year < _FIRST_YEAR:
        yield fail("clock", BadConfiguration, f"it shows {text}", "set it: certificates need it")
    else:
        yield ok("clock", text)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the parent in which it would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
