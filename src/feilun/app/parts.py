"""The parts of a running platform, each as a process of its own: ``feilun serve PART``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing

from feilun.app import compose
from feilun.app.config import Config
from feilun.app.locks import ProcessLock
from feilun.app.process import Stop

logger = logging.getLogger("feilun.app")


def gateway(config: Config, lock: ProcessLock) -> None:
    """Answer HTTP until told to stop."""
    from feilun.app.gateway import serve

    serve(config, lock)


def engine(config: Config, lock: ProcessLock) -> None:
    """Fold the log until told to stop."""
    from feilun.app.engine import Folding, run

    stop = Stop()
    with (
        closing(compose.event_log(config)) as log,
        closing(compose.online_store(config)) as store,
        closing(compose.releases(config)) as history,
    ):
        project = compose.definitions(config)
        folding = Folding(compose.engine(config, project, log, store, history))
        folding.once()  # from now on the store answers for every feature of the project
        lock.ready()
        logger.info("the engine is ready")
        run(folding, log, stop)


def flywheel(config: Config, lock: ProcessLock) -> None:
    """Take turns until told to stop."""
    from feilun.app.flywheel import run

    stop = Stop()
    run(config, lock, stop)


def sync(config: Config, lock: ProcessLock) -> None:
    """Synchronise tables when they are due until told to stop."""
    from feilun.app.syncing import run

    stop = Stop()
    run(config, lock, stop)


def archiver(config: Config, lock: ProcessLock) -> None:
    """Write the log into the lake until told to stop."""
    from feilun.app.archiving import run

    stop = Stop()
    run(config, lock, stop)


def encoder(config: Config, lock: ProcessLock) -> None:
    """Encode texts for all others until told to stop."""
    from feilun.app.encoding import run

    stop = Stop()
    run(config, lock, stop)


PARTS: Mapping[str, Callable[[Config, ProcessLock], None]] = {
    "gateway": gateway,
    "engine": engine,
    "flywheel": flywheel,
    "sync": sync,
    "archiver": archiver,
    "encoder": encoder,
}
