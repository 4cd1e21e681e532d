"""``feilun up``: the processes of one machine, started, watched and stopped together."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feilun.app.compose import check_database, lake_installed
from feilun.app.config import Config
from feilun.app.gateway import check_keys, check_port
from feilun.app.locks import ProcessLock, holder
from feilun.app.process import GRACE, Restarts, Stop
from feilun.app.terminal import complain
from feilun.definitions.specs import Project
from feilun.errors import ConfigError, FeilunError, Unavailable
from feilun.i18n import _

PARTS = ("gateway", "engine", "flywheel")
"""The parts of every platform; ``parts_of`` adds those that a project asks for."""
PATIENCE = 300.0
"""Seconds in which every part must be ready: the engine first builds the tiles of new features."""
PAUSE = 0.02
LOG_CAP = 10 * 2**20
"""Bytes at which a part's log begins anew; the last one is kept as ``.1``."""


@dataclass
class Part:
    """One child process and its luck so far."""

    name: str
    argv: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: Restarts = field(default_factory=Restarts)
    began_at: int = 0

    def start(self) -> None:
        """Start it; it ends when we do, because it watches its standard input.

        Raises
        ------
        Unavailable
            If its log cannot be written: the data folder was taken away.
        """
        try:
            _begin_anew(self.log)
            log = self.log.open("ab")
        except OSError as error:
            raise Unavailable(
                _("{path} cannot be written: {reason}.", path=self.log, reason=error.strerror),
                _("If the data folder was taken away, put it back, and start again: feilun up"),
            ) from error
        with log:
            self.began_at = log.tell()
            self.process = subprocess.Popen(  # noqa: S603
                self.argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours, and we pass it on in good order
            )
        self.restarts.begin()

    def died(self) -> int | None:
        """Return the exit code if it has ended."""
        return None if self.process is None else self.process.poll()

    def plan_restart(self) -> float:
        """Note that it has ended; return the seconds until it may start again."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None
        return self.restarts.plan()

    def said(self) -> str:
        """Return what it has written since it started."""
        with self.log.open("rb") as log:
            log.seek(self.began_at)
            return log.read().decode(errors="replace")


def parts_of(config: Config, project: Project) -> tuple[str, ...]:
    """Return the parts that a project needs: more for tables that are due, a lake, texts."""
    scheduled = any(event.table and event.table.every for event in project.tables.values())
    sync = ("sync",) if scheduled else ()
    archiver = ("archiver",) if config.lake and lake_installed() else ()
    texts = project.encoders or any(model.text for model in project.models.values())
    encoder = ("encoder",) if texts else ()
    return (*PARTS, *sync, *archiver, *encoder)


def up(
    config: Config, names: Sequence[str], options: Sequence[str], announce: Callable[[], None]
) -> None:
    """Run every part until SIGTERM or SIGINT; restart what dies.

    Parameters
    ----------
    config : Config
        The project.
    names : sequence of str
        Its parts.
    options : sequence of str
        What each ``feilun serve`` is told beside its name.
    announce : callable
        Called once, when everything is ready.

    Raises
    ------
    Unavailable
        If another ``feilun up`` has this data folder, a part does not get ready, or the data folder
        is taken away.
    ConfigError
        If the port is taken, ``platform.db`` is lost, or a part finds something wrong that a
        restart would not mend.
    CorruptData
        If ``platform.db`` is damaged.
    """
    stop = Stop()
    parts = [_part(config, name, options) for name in names]
    with ProcessLock(config.run_path, "up") as lock:
        check_database(config)
        check_keys(config)
        check_port(config)
        try:
            for part in parts:
                part.start()
            if _await_ready(config, parts, stop):
                announce()
                lock.ready()
            while not stop:
                lock.check()
                for part in parts:
                    _look_after(part)
                time.sleep(PAUSE)
        finally:
            _end(parts)


def gateway_answers(config: Config, path: str = "/ready") -> bool:
    """Return whether the gateway says yes to a GET of ``path``."""
    connection = http.client.HTTPConnection(config.own_host, config.port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _part(config: Config, name: str, options: Sequence[str]) -> Part:
    argv = [sys.executable, "-m", "feilun", "serve", name, "--project", str(config.root)]
    return Part(name, [*argv, *options, "--supervised"], config.run_path / f"{name}.log")


def _await_ready(config: Config, parts: Sequence[Part], stop: Stop) -> bool:
    """Wait until every part works; False if told to stop before."""
    deadline = time.monotonic() + PATIENCE
    while not stop:
        for part in parts:
            code = part.died()
            if code is not None:
                raise _did_not_start(part, code)
        if all(_is_ready(config, part.name) for part in parts):
            return True
        if time.monotonic() > deadline:
            raise Unavailable(
                _("The platform was not ready after {seconds} s.", seconds=int(PATIENCE)),
                _("Look into {folder}.", folder=config.run_path),
            )
        time.sleep(PAUSE)
    return False


def _is_ready(config: Config, name: str) -> bool:
    held = holder(config.run_path, name)
    if held is None or held[1] != "ready":
        return False
    return name != "gateway" or gateway_answers(config)


def _did_not_start(part: Part, code: int) -> FeilunError:
    kind = ConfigError if code == 2 else Unavailable
    said = [line for line in part.said().splitlines() if not line.startswith("{")][-4:]
    reason = "\n".join(said)
    return kind(
        _("The {part} did not start (exit code {code}).", part=part.name, code=code)
        + (f"\n{reason}" if reason else ""),
        "" if reason else _("Look into {folder}.", folder=part.log),
    )


def _look_after(part: Part) -> None:
    code = part.died()
    if code is not None:
        seconds = part.plan_restart()
        complain(
            _(
                "The {part} ended with code {code}; it starts again in {seconds} s.",
                part=part.name,
                code=code,
                seconds=round(seconds, 1),
            )
        )
    elif part.process is None and time.monotonic() >= part.restarts.due:
        part.start()


def _end(parts: Sequence[Part]) -> None:
    """Tell all to stop, give them ``GRACE`` seconds together, then end what is left."""
    running = [part.process for part in parts if part.process is not None]
    for process in running:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _begin_anew(log: Path) -> None:
    """Keep a part's log within bounds: past ``LOG_CAP`` it becomes ``.1``."""
    if log.exists() and log.stat().st_size > LOG_CAP:
        log.replace(log.with_suffix(".log.1"))
