"""The machine's own key: a random token a data folder, in ``run/token``, its owner's alone."""

from __future__ import annotations

import os

from feilun.app.config import Config
from feilun.errors import ConfigError
from feilun.events.local_token import is_shared
from feilun.i18n import _
from feilun.serving.access.keys import is_token, make_token


def ensure_token(config: Config) -> None:
    """Make the token where there is none. Called by the gateway, which alone runs on its folder.

    Raises
    ------
    ConfigError
        If it cannot be written, or one that is there cannot be used.
    """
    if read_token(config):
        return
    fresh = config.token_path.with_suffix(".new")
    try:
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{make_token()}\n".encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        fresh.replace(config.token_path)
    except OSError as error:
        raise ConfigError(
            _("{path} cannot be written: {reason}.", path=fresh, reason=error.strerror),
            _("Give yourself the right to write there, or set [platform] data in feilun.toml."),
        ) from error


def read_token(config: Config) -> str:
    """Return the token; empty where the gateway has never run.

    Raises
    ------
    ConfigError
        If others may read the file, it is damaged, or it cannot be read.
    """
    path = config.token_path
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            shared = is_shared(file.fileno())
            found = file.read(100).strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(
            _("{path} cannot be read: {reason}.", path=path, reason=error.strerror),
            _("It is the key of whoever runs the gateway; ask for one: feilun team add"),
        ) from error
    if shared:
        raise ConfigError(
            _("Others may read {path}, and with it do everything here.", path=path),
            _("Delete it and start the gateway again: it makes another."),
        )
    if not is_token(found):
        raise ConfigError(
            _("{path} does not hold a token.", path=path),
            _("Delete it and start the gateway again: it makes another."),
        )
    return found
