"""The supervisor: starts, watches, restarts and stops the processes of a node. It does no work.

It owns the listening socket, the spool's lock, the bell and the status server; receivers and the
deliverer get what they need by inheritance. Signal handlers only leave a note; the loop acts.

    SIGTERM, SIGINT  take no new association, let running ones end, finish deliveries, exit 0
    SIGHUP           read the settings again; bad ones are refused and the old ones stay

Raises `CannotWrite` for a port or a spool that is taken, `BadConfiguration` for an encoder that is
not installed, before anything was started.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from node import __version__
from node.errors import NodeError
from node.events import NodeStarted, NodeStopped, ProcessDied, SettingsRefused, SettingsReloaded
from node.pixels.codecs import in_use
from node.service import children, exposure, memory, systemd
from node.service.actions import Actions
from node.service.audit import open_trail
from node.service.bell import Bell
from node.service.children import DELIVERER, RECEIVER, Child, Throttle
from node.service.destinations import require_writable
from node.service.doors import Doors
from node.service.encoding import options_of
from node.service.node import open_spool
from node.service.observer import Observer
from node.service.process import DRAIN_SECONDS, LEAVE_SECONDS
from node.service.reloading import require_reloadable, what_changed
from node.service.report import Report, ended, total
from node.service.startable import require_startable
from node.service.status import Snapshot
from node.service.status_server import StatusServer
from node.service.web import application
from node.settings import Settings
from node.settings.values import join_host_port

log = logging.getLogger(__name__)

#: The loop looks at its children at least so often, in seconds.
_LOOK_EVERY = 0.5
#: What a child gets after the drain before it is killed.
_GRACE_SECONDS = 5.0
#: How often it is looked whether a child that has closed its reports has ended, in seconds.
_ENDING_SECONDS = 0.02
#: A deliverer waits so long before it looks again whether the one before has ended, in seconds.
_TURN_SECONDS = 0.1


class Supervisor:
    """One running node: call `run`."""

    def __init__(
        self, settings: Settings, reload: Callable[[], Settings], config: Path | None = None
    ) -> None:
        """`reload` reads the settings again, from `config` where there is such a file."""
        require_startable(settings)
        self._settings = settings
        self._reload = reload
        self._config = config
        self._spool = open_spool(settings, create=True)
        self._lock = self._spool.lock()
        require_writable(settings, self._spool.disk)
        self._recovered = self._spool.recover()
        given = systemd.inherited_sockets()
        #: Somebody else has the ports too, and holds new connections while we are away.
        self._doors_stay_open = bool(given)
        self._doors = Doors.open(settings, given)
        self._bell = Bell.make()
        self._trail = open_trail(settings)
        self._throttle = Throttle()
        self._children: list[Child] = []
        #: Children that were told to end, and when each is killed at the latest.
        self._leaving: list[Child] = []
        self._deadlines: dict[int, float] = {}
        self._past = Report()
        self._is_upgraded = False
        self._end = "unexpected failure"
        self._notes, self._note = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._observer = Observer(self._spool)
        self._actions = Actions(self._spool, self._observer, settings, self._trail.record)
        self._status = StatusServer(
            settings.status,
            application(settings.status, self.snapshot, self._observer, self._actions),
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where the node listens."""
        return self._doors.addresses[0][:2]

    def snapshot(self) -> Snapshot:
        """Return what the node is doing, for people and for monitoring."""
        return self._observer.snapshot(
            self._settings, self.address, self._done(), is_ready=self._is_complete()
        )

    def _done(self) -> Report:
        """Return what all processes, those that are gone included, have done."""
        working = [*self._leaving, *self._children]
        reports = [child.report for child in working if child.report is not None]
        return total([self._past, *reports])

    def run(self) -> None:
        """Run the node until a signal ends it."""
        if self._recovered.removed or self._recovered.received:
            log.info(
                "recovered the spool: %d incomplete entries removed, %d go on",
                self._recovered.removed,
                self._recovered.received,
            )
        log.info("pixel data is encoded as %s", in_use(options_of(self._settings.compression)))
        log.info("%s", memory.sentence(self._settings))
        self._say_how_open_it_is()
        self._handle_signals()
        self._trail.record(NodeStarted(version=__version__, address=join_host_port(*self.address)))
        self._status.start()
        self._start_all()
        try:
            self._loop()
        finally:
            systemd.notify("STOPPING=1")
            self._stop()
            log.info("stopped")

    def _say_how_open_it_is(self) -> None:
        expiries = exposure.expiries(self._settings)
        for name, expiry in expiries.items():
            log.info("the certificate of %s is good until %s", name, expiry.date())
        for notice in exposure.notices(self._settings, expiries, exposure.now()):
            log.warning("%s", notice)

    def _start_all(self) -> None:
        for _ in range(self._settings.node.receivers):
            self._start(RECEIVER)
        self._start(DELIVERER)

    def _start(self, role: str) -> None:
        """Start a child, or plan to where that cannot be done now."""
        now = time.monotonic()
        if role == DELIVERER and self._has_deliverer():
            # Two deliverers would send everything twice.
            self._throttle.plan(DELIVERER, now + _TURN_SECONDS)
            return
        try:
            child = children.start(role, self._settings, self._bell, self._doors, self._lock)
        except OSError as failure:
            delay = self._throttle.died(role, 0.0, now)
            log.error("cannot start a %s: %s; trying again in %.1f s", role, failure, delay)
            return
        self._children.append(child)

    def _has_deliverer(self) -> bool:
        """Tell whether a deliverer is alive, one that was told to end included."""
        return any(child.role == DELIVERER for child in [*self._children, *self._leaving])

    def _loop(self) -> None:
        announced = False
        while True:
            for number in self._wait():
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._end = signal.Signals(number).name
                    log.info("stopping: %s", self._end)
                    return
                self._take_new_settings()
            now = time.monotonic()
            self._look_after(now)
            for role in self._throttle.due(now):
                self._start(role)
            if not announced and self._is_complete():
                self._announce()
                announced = True
            self._observer.note(now, self._done)
            if announced:
                self._feed_watchdog(now)

    def _feed_watchdog(self, now: float) -> None:
        # A child that keeps dying is no reason to end the others; one that cannot be ended is.
        if not any(child.hangs(now) for child in self._children):
            systemd.notify("WATCHDOG=1")

    def _is_complete(self) -> bool:
        """Tell whether every process of the node is there and at work."""
        ready = [child.role for child in self._children if child.is_ready]
        wanted = self._settings.node.receivers
        return ready.count(RECEIVER) >= wanted and ready.count(DELIVERER) >= 1

    def _announce(self) -> None:
        for host, port, secured in self._doors.addresses:
            secure = " TLS" if secured else ""
            print(f"listening AE={self._settings.node.ae_title} {host}:{port}{secure}", flush=True)
        host, port = self.address
        systemd.notify(f"READY=1\nSTATUS=listening on {host}:{port}")

    def _wait(self) -> bytes:
        """Wait for a signal, a report, or until something is due; return the signals' numbers."""
        poll = select.poll()
        poll.register(self._notes, select.POLLIN)
        seconds = min(_LOOK_EVERY, self._throttle.seconds_left(time.monotonic()))
        for child in self._children:
            if child.has_hung_up:
                # It would end every wait at once, for as long as the kernel does not let go of it.
                seconds = min(seconds, _ENDING_SECONDS)
            else:
                poll.register(child.reports, select.POLLIN)
        poll.poll(math.ceil(seconds * 1000))
        with contextlib.suppress(BlockingIOError):
            return os.read(self._notes, 64)
        return b""

    def _look_after(self, now: float) -> None:
        for child in [*self._children, *self._leaving]:
            has_ended = child.process.poll() is not None
            child.read_reports(now)
            self._say_what_is_upgraded(child)
            if has_ended:
                self._bury(child, now)
            elif child.is_killed:
                continue
            elif child in self._children and child.hangs(now):
                log.error("%s %d hangs: killing it", child.role, child.process.pid)
                child.kill()
            elif now > self._deadlines.get(child.process.pid, now):
                log.error("%s %d does not end: killing it", child.role, child.process.pid)
                child.kill()

    def _say_what_is_upgraded(self, child: Child) -> None:
        """Say, once, that a new version was installed under this one while it runs."""
        if child.other_version and not self._is_upgraded:
            self._is_upgraded = True
            log.warning(
                "version %s was installed while %s runs: a new %s works, and what it does is not "
                "counted; restart the node to finish the upgrade",
                child.other_version,
                __version__,
                child.role,
            )

    def _bury(self, child: Child, now: float) -> None:
        """Take leave of a child that ended, and plan its successor unless it was told to go."""
        if child.report is not None:
            self._past = total([self._past, ended(child.report)])
        child.close()
        if child in self._leaving:
            self._leaving.remove(child)
            self._deadlines.pop(child.process.pid, None)
            return
        self._children.remove(child)
        delay = self._throttle.died(child.role, now - child.started, now)
        cause = children.describe_end(child.process)
        log.error(
            "%s %d ended: %s; starting again in %.1f s", child.role, child.process.pid, cause, delay
        )
        self._trail.record(ProcessDied(role=child.role, pid=child.process.pid, cause=cause))

    def _take_new_settings(self) -> None:
        """Replace the children by ones with new settings; the old ones finish their work."""
        try:
            settings = self._reload()
            require_startable(settings)
            require_reloadable(self._settings, settings)
        except NodeError as failure:
            log.error("the new settings are not used, the old ones stay:\n%s", failure)
            self._trail.record(SettingsRefused(cause=str(failure)))
            return
        systemd.notify("RELOADING=1")
        log.info("%s", what_changed(self._settings, settings, self._config))
        self._settings = settings
        self._trail.close()
        self._trail = open_trail(settings)
        self._trail.record(SettingsReloaded())
        self._actions.take_settings(settings, self._trail.record)
        self._say_how_open_it_is()
        self._throttle.forget_plans()
        old = list(self._children)
        self._start_all()
        for child in old:
            self._leave(child)
        systemd.notify("READY=1")

    def _leave(self, child: Child) -> None:
        """Tell a child to end; it is killed where it has not done so in time."""
        child.ask_to_leave()
        seconds = DRAIN_SECONDS + (LEAVE_SECONDS if child.role == RECEIVER else 0.0)
        self._deadlines[child.process.pid] = time.monotonic() + seconds + _GRACE_SECONDS
        self._leaving.append(child)
        self._children.remove(child)

    def _stop(self) -> None:
        """End everything: receivers first, so that what they committed can still be handed on."""
        self._status.stop()
        for role in (RECEIVER, DELIVERER):
            if role == DELIVERER:
                # The deliverer sends it on before it ends.
                self._trail.record(NodeStopped(cause=self._end))
            going = [c for c in [*self._children, *self._leaving] if c.role == role]
            for child in going:
                if self._doors_stay_open:
                    child.ask_to_leave()
                else:
                    child.ask_to_stop()
            deadline = time.monotonic() + DRAIN_SECONDS + _GRACE_SECONDS
            for child in going:
                try:
                    child.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.error("%s %d does not end: killing it", role, child.process.pid)
                    child.kill()
                    child.process.wait()
        self._doors.close()

    def _handle_signals(self) -> None:
        def note(number: int, _: FrameType | None) -> None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._note, bytes([number]))

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, note)
