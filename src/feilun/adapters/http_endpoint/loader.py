"""Scores by asking an HTTP endpoint: MLflow's, KServe's (version 2), or one that takes a matrix.

Where it is was fixed when the model was adopted: nothing in a request names an address.
"""

from __future__ import annotations

import http.client
import os
import queue
import re
import socket
import threading
import weakref
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.adapters.http_endpoint.connection import connect, over
from feilun.errors import InputError, ModelError
from feilun.i18n import _, marked

DEADLINE_SECONDS = 0.9
"""For one answer, whatever the endpoint does; below what a request waits for a slow scorer."""
MAX_REPLY = 8 << 20
MAX_IDLE = 4
"""Connections that are kept open between calls."""

Protocol = Literal["mlflow", "kserve", "matrix"]
_Connections = queue.LifoQueue[http.client.HTTPConnection]

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_HEADER = re.compile(r"[\x20-\x7e]{1,8192}")


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the model answers and how it is asked.

    ``private`` says whether it may be in a private network; ``secret`` names the variable of the
    environment that holds the value of the Authorization header, if there is one.
    """

    url: str
    protocol: Protocol
    columns: int
    private: bool = False
    secret: str = ""


def describe(url: str, columns: int, *, private: bool, secret: str) -> bytes:
    """Return the bytes of ``http-endpoint/1``. How it is asked follows from the URL's path.

    ``…/invocations`` is MLflow's, ``/v2/models/…/infer`` KServe's; others get rows as a list of
    lists, and answer a list of numbers.

    Raises
    ------
    InputError
        If the URL is none, or ``secret`` is no name of a variable.

    Examples
    --------
    >>> describe("https://models.shop.cn/score", 2, private=False, secret="")[:41]
    b'{"url":"https://models.shop.cn/score","pr'
    """
    path = urlsplit(url).path
    protocol: Protocol = "matrix"
    if path.endswith("/invocations"):
        protocol = "mlflow"
    elif path.endswith("/infer") and "/v2/models/" in path:
        protocol = "kserve"
    endpoint = Endpoint(url, protocol, columns, private, secret)
    problem = _problem(endpoint)
    if problem:
        raise InputError(_("The endpoint cannot be adopted: {problem}.", problem=_(problem)))
    return msgspec.json.encode(endpoint)


def _problem(endpoint: Endpoint) -> str:
    """Return what is wrong with it; nothing if it is right."""
    try:
        parts = urlsplit(endpoint.url)
        known = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        return f"its URL cannot be read ({error})"
    named = parts.username is not None or parts.password is not None
    problems = {
        marked("its URL names no host, or has spaces or other characters that are not allowed"): (
            not known or re.search(r"[^\x21-\x7e]|\\", endpoint.url)
        ),
        marked("its URL begins with neither https:// nor http://"): parts.scheme
        not in ("http", "https"),
        marked(
            "its URL holds a user, a password or a fragment; secrets come from the environment"
        ): (named or parts.fragment),
        marked("http:// is for private networks only (--private); use https://"): (
            parts.scheme == "http" and not endpoint.private
        ),
        marked("its secret is not the name of a variable, such as SCORING_AUTHORIZATION"): (
            endpoint.secret and not _VARIABLE.fullmatch(endpoint.secret)
        ),
    }
    return next((problem for problem, found in problems.items() if found), "")


class EndpointScorer:
    """Asks an endpoint. Thread-safe: each call has a connection to itself."""

    def __init__(self, endpoint: Endpoint) -> None:
        parts = urlsplit(endpoint.url)
        self._endpoint = endpoint
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._netloc = parts.netloc
        self._idle: _Connections = queue.LifoQueue(MAX_IDLE)
        weakref.finalize(self, _close_all, self._idle)

    def score(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return one score a row; what is missing is sent as null.

        Raises
        ------
        ModelError
            If the matrix does not fit, or the endpoint cannot be reached, is too slow, or answers
            with anything but a number a row.
        """
        columns = self._endpoint.columns
        if matrix.dtype != np.float32 or matrix.ndim != 2 or matrix.shape[1] != columns:
            raise ModelError(
                f"The endpoint takes a float32 matrix of {columns} columns, "
                f"not {matrix.dtype} {matrix.shape}.",
                "Build it with feilun.features.vectors.assemble.",
            )
        if not matrix.flags.c_contiguous:
            raise ModelError("The matrix is not C-ordered.")
        rows = len(matrix)
        if rows == 0:
            return np.empty(0, np.float64)
        reply = self._ask(msgspec.json.encode(_question(self._endpoint.protocol, matrix)))
        return _scores(_answer(self._endpoint.protocol, reply), rows)

    def _ask(self, body: bytes) -> bytes:
        headers = self._headers()
        # One that was kept may have been closed meanwhile: asking again asks for the same.
        with suppress(queue.Empty, ConnectionError):
            return self._exchange(self._idle.get_nowait(), body, headers)
        try:
            opened = connect(
                self._host,
                self._port,
                tls=self._tls,
                private=self._endpoint.private,
                timeout=DEADLINE_SECONDS,
            )
        except OSError as error:
            raise ModelError(f"The endpoint {self._netloc} cannot be reached: {error}") from error
        try:
            return self._exchange(over(opened, self._host, self._port), body, headers)
        except ConnectionError as error:
            raise ModelError(f"The endpoint {self._netloc} hung up.") from error

    def _exchange(
        self, connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str]
    ) -> bytes:
        """Ask over a connection, and keep it if all went well; else nobody may use it again."""
        sock = connection.sock
        # A socket's own timeout begins anew with each byte; this does not.
        late = threading.Event()
        watch = threading.Timer(DEADLINE_SECONDS, _shut, [sock, late])
        watch.daemon = True
        watch.start()
        kept = False
        try:
            connection.request("POST", self._target, body, headers)
            response = connection.getresponse()
            reply = response.read(MAX_REPLY + 1)
            if late.is_set() or (response.length and len(reply) <= MAX_REPLY):
                raise http.client.IncompleteRead(reply)
            kept = response.status == http.client.OK and response.isclosed()
            kept = kept and not response.will_close
        except (OSError, http.client.HTTPException) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise ModelError(f"The endpoint {self._netloc} was too slow.") from error
            if isinstance(error, ConnectionError):
                raise
            kind = type(error).__name__
            raise ModelError(f"The endpoint {self._netloc} failed: {kind}.") from error
        finally:
            watch.cancel()
            if kept:
                with suppress(queue.Full):
                    self._idle.put_nowait(connection)
                    sock = None
            if sock is not None:
                connection.close()
        if response.status != http.client.OK:
            raise ModelError(
                f"The endpoint {self._netloc} answered with status {response.status}.",
                "Redirects are not followed: adopt the URL that answers."
                if 300 <= response.status < 400
                else "Look at the endpoint's own log.",
            )
        if len(reply) > MAX_REPLY:
            raise ModelError(f"The endpoint {self._netloc} answered more than {MAX_REPLY} bytes.")
        return reply

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Host": self._netloc,
        }
        if self._endpoint.secret:
            value = os.environ.get(self._endpoint.secret, "")
            if not _HEADER.fullmatch(value):
                raise ModelError(
                    f"The variable {self._endpoint.secret} is not set, or is no header's value.",
                    "Set it where the gateway starts.",
                )
            headers["Authorization"] = value
        return headers


class EndpointLoader:
    """Loads ``http-endpoint/1``: where a model answers, as :func:`describe` writes it."""

    format = "http-endpoint/1"
    waits = True

    def load(self, data: bytes, columns: int) -> EndpointScorer:
        """Return what asks the endpoint; it is not asked yet.

        Raises
        ------
        ModelError
            If the bytes describe none, or it takes another number of columns.
        """
        try:
            endpoint = msgspec.json.decode(data, type=Endpoint)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ModelError(
                f"This describes no endpoint: {error}.", "Adopt its URL: feilun adopt MODEL URL"
            ) from error
        problem = _problem(endpoint)
        if problem:
            raise ModelError(f"The endpoint cannot be asked: {problem}.", "Adopt its URL again.")
        if endpoint.columns != columns:
            raise ModelError(f"The endpoint takes {endpoint.columns} columns, not {columns}.")
        return EndpointScorer(endpoint)

    def column_names(self, data: bytes) -> tuple[str, ...]:  # noqa: ARG002  it takes a matrix
        """Return nothing: rows are sent without names."""
        return ()


def _question(protocol: Protocol, matrix: npt.NDArray[np.float32]) -> Any:
    rows = matrix.astype(object)
    rows[~np.isfinite(matrix)] = None
    if protocol == "mlflow":
        return {"inputs": rows.tolist()}
    if protocol == "kserve":
        data = rows.ravel().tolist()
        tensor = {"name": "input-0", "shape": list(matrix.shape), "datatype": "FP32", "data": data}
        return {"inputs": [tensor]}
    return rows.tolist()


def _answer(protocol: Protocol, reply: bytes) -> Any:
    try:
        found = msgspec.json.decode(reply)
        if protocol == "mlflow":
            return found["predictions"]
        if protocol == "kserve":
            (output,) = found["outputs"]
            return output["data"]
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise ModelError(
            f"The endpoint's answer is not what {protocol} answers: {type(error).__name__}."
        ) from error
    return found


def _scores(found: Any, rows: int) -> npt.NDArray[np.float64]:
    """Return a number a row; each may stand in a list of its own."""
    if isinstance(found, list) and all(isinstance(each, list) for each in found):
        found = [each[0] if len(each) == 1 else None for each in found]
    if (
        not isinstance(found, list)
        or len(found) != rows
        or not all(type(each) in (int, float) for each in found)
    ):
        raise ModelError(f"The endpoint did not answer one number for each of {rows} rows.")
    return np.array(found, np.float64)


def _close_all(idle: _Connections) -> None:
    with suppress(queue.Empty):
        while True:
            idle.get_nowait().close()


def _shut(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
