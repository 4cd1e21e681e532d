"""What the commands ask of a running gateway, over HTTP."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode

from feilun.app.config import Config
from feilun.app.token import read_token
from feilun.errors import FeilunError, InputError, Unavailable
from feilun.i18n import _

SECONDS = 30.0


def call(config: Config, path: str, body: Any = None, **query: object) -> Any:
    """Return the decoded JSON reply: of a POST if there is a body, else of a GET.

    Raises
    ------
    Unavailable
        If nobody answers, or the answer is 503.
    InputError
        If the gateway refuses what was sent.
    FeilunError
        If the gateway failed.
    """
    target = f"{path}?{urlencode(query)}" if query else path
    connection = http.client.HTTPConnection(config.own_host, config.port, timeout=SECONDS)
    token = read_token(config)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        if body is None:
            connection.request("GET", target, headers=headers)
        else:
            headers["Content-Type"] = "application/json"
            # A lone surrogate goes as it is: the gateway refuses it and says why.
            raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
            connection.request("POST", target, raw, headers)
        response = connection.getresponse()
        status, raw = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            _("The gateway at {url} does not answer: {reason}.", url=config.url, reason=error),
            _("Start it: feilun up"),
        ) from error
    finally:
        connection.close()
    return _decoded(config, status, raw)


def _decoded(config: Config, status: int, raw: bytes) -> Any:
    try:
        reply = json.loads(raw)
        problem = reply["error"] if status >= 400 else None
    except (ValueError, KeyError, TypeError) as error:
        raise FeilunError(
            _("What answers at {url} is not Feilun's gateway.", url=config.url),
            _("Look at the port in feilun.toml."),
        ) from error
    if problem is None:
        return reply
    kind = Unavailable if status == 503 else InputError if status < 500 else FeilunError
    raise kind(str(problem.get("message", "")), str(problem.get("hint", "")))
