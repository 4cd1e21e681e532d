"""The gateway: one worker in this process, or several in processes of their own."""

from __future__ import annotations

import gc
import logging.config
import socket
from contextlib import closing

from feilun.app import compose
from feilun.app.config import Config
from feilun.app.http_server import serve_http
from feilun.app.locks import ProcessLock
from feilun.app.logs import LOGGING
from feilun.app.token import ensure_token
from feilun.app.workers import keep_running
from feilun.errors import ConfigError
from feilun.i18n import _
from feilun.serving.access.quota import make_quota_file

GARBAGE_OBJECTS = 20_000
"""So many new objects make the collector of garbage look at them. Those of the requests under way
are none, and Python's own 700 would have them looked at every few requests."""


def serve(config: Config, lock: ProcessLock) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    A single worker is this process itself; several are processes of their own.

    Raises
    ------
    ConfigError
        If the port is taken, others could reach the gateway and there is no team, or
        ``platform.db`` is lost.
    CorruptData
        If it is damaged.
    """
    compose.check_database(config)
    check_keys(config)
    check_port(config)
    ensure_token(config)
    if config.workers == 1:
        lock.ready()
        work(config)
    else:
        make_quota_file(config.quota_path)
        lock.ready()
        keep_running(config.workers, work, config)


def work(config: Config) -> None:
    """Serve in this process, as one worker of the gateway."""
    logging.config.dictConfig(LOGGING)
    application = compose.gateway_application(config)
    # What was loaded stays for good. To look through all of it for garbage, again and again,
    # would stop the worker each time. What is garbage by now stays too, and is little.
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)
    serve_http(application, config.host, config.port)


def check_keys(config: Config) -> None:
    """Refuse to be reached by others while nobody has a key.

    Raises
    ------
    ConfigError
        If there is no team.
    """
    if config.is_loopback and not config.hosts:
        return
    with closing(compose.teams(config)) as teams:
        if all(team.revoked is not None for team in teams.load().teams):
            raise ConfigError(
                _("Others could reach the gateway, and there is no team yet."),
                _("Add one first: feilun team add NAME --can events --quota 100/s"),
            )


def check_port(config: Config) -> None:
    """Raise ConfigError if something listens where the gateway should."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise ConfigError(
                _(
                    "The gateway cannot listen on {host}, port {port}: {reason}.",
                    host=config.host,
                    port=config.port,
                    reason=error.strerror,
                ),
                _("Stop what listens there, or choose another port (--port or feilun.toml)."),
            ) from error
