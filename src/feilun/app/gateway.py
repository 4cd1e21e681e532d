"""The gateway's processes: Granian with one event loop a worker, each spawned, never forked."""

from __future__ import annotations

import functools
import gc
import logging.config
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

from feilun.app import compose
from feilun.app.config import Config
from feilun.app.locks import ProcessLock
from feilun.app.logs import LOGGING
from feilun.app.process import GRACE
from feilun.app.token import ensure_token
from feilun.errors import ConfigError
from feilun.i18n import _
from feilun.serving.quota import make_quota_file


def serve(config: Config, lock: ProcessLock) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight are answered first.

    Raises
    ------
    ConfigError
        If the port is taken, others could reach the gateway and there is no team, or
        ``platform.db`` is lost.
    CorruptData
        If it is damaged.
    """
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces

    # Here alone: a worker that ended for it would take the others with it (Granian's crash loop).
    compose.check_database(config)
    check_keys(config)
    check_port(config)
    ensure_token(config)
    if config.workers > 1:
        make_quota_file(config.quota_path)
    # An LMDB environment and a library's threads do not survive a fork, Granian's default on Linux.
    multiprocessing.set_start_method("spawn")
    server = Granian(
        target="feilun",
        address=config.host,
        port=config.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,  # HTTP/2 without TLS serves no browser, and is more to defend
        workers=config.workers,
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=int(GRACE),
        log_dictconfig=LOGGING,
    )
    lock.ready()
    server.serve(target_loader=functools.partial(load_application, config), wrap_loader=False)


def load_application(config: Config) -> Callable[..., Any]:
    """Build the gateway's ASGI application; called in each worker, after it was spawned."""
    logging.config.dictConfig(LOGGING)
    threading.Thread(target=_end_with_parent, name="lifeline", daemon=True).start()
    application = compose.gateway_application(config)
    # What was loaded stays for good. To look through all of it for garbage, again and again,
    # would stop the worker each time. What is garbage by now stays too, and is little.
    gc.freeze()
    return application


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


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # a worker that outlived it would keep the port
        os._exit(1)
