"""The encoders' process: loads the project's encoders once, and encodes for all who ask."""

from __future__ import annotations

import logging
import os
from functools import partial

from feilun.app import compose
from feilun.app.config import Config
from feilun.app.locks import ProcessLock
from feilun.app.process import Stop
from feilun.definitions.specs import Project
from feilun.errors import ConfigError, FeilunError, Unavailable
from feilun.i18n import _

logger = logging.getLogger("feilun.encoder")


def run(config: Config, lock: ProcessLock, stop: Stop) -> None:
    """Encode until told to stop.

    Raises
    ------
    ModelError, CorruptData, MissingExtra
        If an encoder of the project cannot be loaded.
    ConfigError
        If the definitions say another size, or the data folder's path is too long for a socket.
    """
    # NumPy reads it as it is imported; the gateway needs the other processors.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))
    from feilun.adapters.worker import EncoderSocket, LoadedEncoders

    encoders = LoadedEncoders(partial(compose.load_encoder, config))
    socket = EncoderSocket(config.encoder_socket, encoders)
    project = compose.definitions(config)
    for digest, used in project.encoders.items():
        dim = compose.encoder_dim(config, digest)
        if dim != used.dim:
            raise ConfigError(
                _("The vectors of {encoder} have {dim} numbers.", encoder=used.encoder, dim=dim),
                _("Write dim={dim} in the definitions.", dim=dim),
            )
        encoders.load(digest)
        logger.info("the encoder %s (%.12s) is loaded", used.encoder, digest)
    for digest, name in _live(config, project).items():
        try:
            encoders.load(digest)
        except FeilunError as error:  # of one version of one model: the others are needed too
            logger.error("the encoder %s (%.12s) cannot be loaded: %s", name, digest, error)
        else:
            logger.info("the encoder %s (%.12s) is loaded", name, digest)
    lock.ready()
    logger.info("the encoders are ready")
    try:
        socket.serve(lambda: bool(stop))
    except Unavailable as error:
        logger.error("%s The process ends, to be started again.", error)
        os._exit(1)  # a thread that is stuck in a library would keep it


def _live(config: Config, project: Project) -> dict[str, str]:
    """Return what versions in production read texts by though the definitions do not name it."""
    try:
        found = compose.live_encoders(config, project)
    except FeilunError as error:  # what is asked for is loaded then
        logger.warning("what is in production cannot be read: %s", error)
        return {}
    return {digest: name for digest, name in found.items() if digest not in project.encoders}
