"""What is well on this machine and what is not, before or while a node runs on it.

Each check yields `Finding`s: what was looked at, how it is, and what to do next. Nothing is
changed but a file that is made in the state directory and removed. No check raises; one that
cannot be done is a finding too. `doctor_peer` does the same for a destination.
"""

from __future__ import annotations

import enum
import fcntl
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from node.dicom.uids import ENCODED_IN
from node.errors import BadConfiguration, CannotWrite, NodeError, PeerRefused, PeerUnreachable
from node.network.certificate import in_file
from node.network.ports import listening_socket, who_listens
from node.network.tls import TLS, objection_to
from node.pixels.codecs import check_installed, codec_for, in_use
from node.pixels.policy import PixelLayout
from node.service import exposure, syslog
from node.service.doors import require_usable
from node.service.encoding import check_codecs, options_of
from node.service.room import reserve_of
from node.settings import DiskDestination, Settings
from node.spool import Disk, Durability

#: An fsync slower than this, in seconds, is felt by every sender.
_SLOW_SYNC = 0.02
_SYNCS = 5
#: The encoder is measured for so long, in seconds.
_MEASURE_SECONDS = 0.3
_SIDE = 512
#: No machine's clock is right that shows an earlier year than this program was written in.
_FIRST_YEAR = 2025
_EXTRAS = {
    "JPEGLSLossless": "jpegls",
    "JPEG2000Lossless": "jpeg2000",
    "HTJ2KLossless": "htj2k",
}


class Verdict(enum.StrEnum):
    """How a thing is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `mend` is what to do next, `exit_code` that of a failure."""

    verdict: Verdict
    subject: str
    text: str
    mend: str = ""
    exit_code: int = 0


def ok(subject: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(Verdict.OK, subject, text)


def warn(subject: str, text: str, mend: str) -> Finding:
    """Return that it works, and that it could be better."""
    return Finding(Verdict.WARN, subject, text, mend)


def fail(subject: str, failure: type[NodeError], text: str, mend: str) -> Finding:
    """Return that it does not work."""
    return Finding(Verdict.FAIL, subject, text, mend, failure.exit_code)


#: The code of the gravest failure is the exit code, in this order.
_GRAVEST = (BadConfiguration, CannotWrite, PeerRefused, PeerUnreachable)


def exit_code(findings: list[Finding]) -> int:
    """Return 0, or the exit code of the gravest failure."""
    found = {finding.exit_code for finding in findings}
    return next((kind.exit_code for kind in _GRAVEST if kind.exit_code in found), 0)


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at this machine with the eyes of a node that has these settings."""
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("encoder", _encoder),
        ("codecs", _codecs),
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
            yield fail(subject, type(failure), str(failure), "see the message")
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


def _encoder(settings: Settings) -> Iterator[Finding]:
    options = options_of(settings.compression)
    check_codecs(settings)
    if not options.transfer_syntax_uid:
        yield warn(
            "encoder",
            "compression is off, everything is kept as it comes",
            'set compression.transfer_syntax = "RLELossless" to save about half the space',
        )
        return
    layout = _layout()
    native = _image()
    codec = codec_for(layout, options)
    encoded, count, began = b"", 0, time.perf_counter()
    while (took := time.perf_counter() - began) < _MEASURE_SECONDS or not count:
        encoded, count = codec.encode(native), count + 1
    speed, ratio = count * len(native) / took / 1e6, len(native) / len(encoded)
    if not codec.is_same(encoded, native) or codec.decode(encoded) != native:
        yield fail(
            "encoder",
            BadConfiguration,
            f"{in_use(options)}: what it encodes is not what it was given",
            "do not use it: choose another compression.encoder, and report this",
        )
        return
    text = f"{in_use(options)}: {speed:.0f} MB/s on one core, ratio {ratio:.2f}, round trip exact"
    slow = "ten times slower" in text
    yield warn("encoder", text, "install gcc and this again") if slow else ok("encoder", text)


def _layout() -> PixelLayout:
    return PixelLayout(
        rows=_SIDE,
        columns=_SIDE,
        samples_per_pixel=1,
        bits_allocated=16,
        bits_stored=12,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        planar_configuration=0,
        number_of_frames=1,
    )


def _image() -> bytes:
    """Return a picture of 12 bits with as much noise as a scanner's."""
    noise = random.Random(1)
    return b"".join(
        (
            ((x + y) * 2 if (x - 256) ** 2 + (y - 256) ** 2 < 40000 else 0) + noise.getrandbits(3)
        ).to_bytes(2, "little")
        for y in range(_SIDE)
        for x in range(_SIDE)
    )


def _codecs(settings: Settings) -> Iterator[Finding]:
    options = options_of(settings.compression)
    there, missing = [], []
    for keyword, uid in ENCODED_IN.items():
        try:
            check_installed(options._replace(transfer_syntax_uid=uid))
            there.append(keyword)
        except BadConfiguration:
            missing.append(f"{keyword} (pip install 'dcmpress[{_EXTRAS.get(keyword, keyword)}]')")
    more = f"; not installed, and not needed: {', '.join(missing)}" if missing else ""
    yield ok("codecs", f"installed: {', '.join(there)}{more}")


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
