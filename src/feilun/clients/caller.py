"""What every generated Python client is made of: a call, its answer, its error.

The generator copies this file from ``# begin`` on into the client, so it needs nothing but the
standard library, and mypy and the linter see it here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from feilun.events.client import Client as _Tracker


# begin
class ApiError(Exception):
    """The API did not answer 200.

    Attributes
    ----------
    status : int
        The HTTP status; 0 if nobody answered.
    code, hint, request_id : str
        What kind of error it is, what to do next, and where it stands in the gateway's log.
    retry_after : float or None
        In how many seconds to try again, if the gateway said so.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str = "",
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{message} {hint}".strip())
        self.status = status
        self.code = code
        self.hint = hint
        self.request_id = request_id
        self.retry_after = retry_after


class Caller:
    """Calls an API over HTTP. Threads may share it; each has a connection of its own.

    Parameters
    ----------
    url : str
        Where the gateway answers, such as ``https://feilun.example``.
    key : str or None
        The team's key; by default what the environment has as ``FEILUN_KEY``.
    source : str
        Who sends the events that are tracked; their ids are unique within it.
    timeout : float
        Seconds that a call may take.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        source: str = "python-client",
        timeout: float = 10.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an address: write https://host.")
        if parts.username or parts.password or parts.query:
            raise ValueError("A key does not go into the address: give it as key=.")
        self._url = url
        self._parts = parts
        self._key = (os.environ.get("FEILUN_KEY", "") if key is None else key).strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise ValueError("The key holds what no key has.")
        self._source = source
        self._timeout = timeout
        self._local = threading.local()
        self._lock = threading.Lock()
        self._tracker: _Tracker | None = None

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until every tracked event is stored; raise if some are not, or were refused."""
        if self._tracker is not None:
            self._tracker.flush(timeout)

    def close(self) -> None:
        """Send what was tracked, and close this thread's connection."""
        self._disconnect()
        with self._lock:
            tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close()

    def _track(
        self,
        event: str,
        fields: Any,
        id: str | None,
        time: int | None,
        *,
        required: tuple[str, ...],
        optional: tuple[str, ...],
    ) -> str:
        lacking = [name for name in required if name not in fields]
        unknown = [str(name) for name in fields if name not in (*required, *optional)]
        if lacking or unknown:
            said = f"lacks {', '.join(lacking)}" if lacking else f"has no {', '.join(unknown)}"
            raise ValueError(f"The event {event} {said}. Its fields: "
                             f"{', '.join((*required, *optional)) or 'none'}.")  # fmt: skip
        with self._lock:
            if self._tracker is None:
                from feilun.events.client import Client as Tracker

                self._tracker = Tracker(self._url, source=self._source, key=self._key)
            tracker = self._tracker
        return tracker.put(event, fields, id=id, time=time)

    def _get(
        self,
        path: str,
        query: dict[str, Any],
        options: dict[str, Any],
        id: str | None,
        timeout: float | None,
    ) -> Any:
        return self._call("GET", path, {**query, **options}, None, id=id, timeout=timeout)

    def _post(
        self,
        path: str,
        parameters: dict[str, Any],
        options: dict[str, Any],
        id: str | None,
        timeout: float | None,
    ) -> Any:
        given = {name: value for name, value in parameters.items() if value is not None}
        return self._call("POST", path, options, json.dumps(given).encode(), id=id, timeout=timeout)

    def _post_many(
        self,
        path: str,
        requests: list[Any],
        options: dict[str, Any],
        id: str | None,
        timeout: float | None,
    ) -> Any:
        body = json.dumps(requests).encode()
        return self._call("POST", path, options, body, id=id, timeout=timeout)["replies"]

    def _call(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        body: bytes | None,
        *,
        id: str | None,
        timeout: float | None,
    ) -> Any:
        if id is not None and not (id and id.isascii() and id.isprintable()):
            raise ValueError(f"A request cannot be named {id!r}: write ASCII characters.")
        pairs = {
            name: json.dumps(value) if isinstance(value, bool) else value
            for name, value in query.items()
            if value is not None
        }
        target = self._parts.path.rstrip("/") + path
        target = f"{target}?{urlencode(pairs)}" if pairs else target
        # What is sent again under its id is logged once.
        named = {"X-Request-Id": str(uuid.uuid4())} if id is None else {"Idempotency-Key": id}
        headers = {**named, "Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if timeout is not None:
            headers["Request-Timeout"] = str(timeout)
        # A second more than the gateway has, to hear that it was too late.
        wait = self._timeout if timeout is None else timeout + 1.0
        kept = getattr(self._local, "connection", None) is not None
        try:
            response, raw = self._exchange(method, target, body, headers, wait)
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            if not kept or isinstance(error, TimeoutError):
                raise self._unreachable(error) from error
            try:  # the gateway had closed a connection that was kept
                response, raw = self._exchange(method, target, body, headers, wait)
            except (OSError, http.client.HTTPException) as again:
                self._disconnect()
                raise self._unreachable(again) from again
        if response.status != 200:
            raise _error(response, raw)
        return json.loads(raw)

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], wait: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            secure = self._parts.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            host = str(self._parts.hostname)
            connection = kind(host, self._parts.port, timeout=wait)
            self._local.connection = connection
        connection.timeout = wait
        if connection.sock is not None:
            connection.sock.settimeout(wait)
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response, response.read()

    def _unreachable(self, error: Exception) -> ApiError:
        return ApiError(0, "unreachable", f"{self._parts.netloc} does not answer: {error}.")

    def _disconnect(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None


def _error(response: http.client.HTTPResponse, raw: bytes) -> ApiError:
    """Return the error that a reply is; also of something that is no gateway."""
    said: dict[str, str] = {}
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = {str(name): str(value) for name, value in json.loads(raw)["error"].items()}
    retry_after = response.headers.get("Retry-After", "")
    return ApiError(
        response.status,
        said.get("code", "error"),
        said.get("message", f"The answer was {response.status}."),
        hint=said.get("hint", ""),
        request_id=said.get("request_id", ""),
        retry_after=float(retry_after) if retry_after.isdigit() else None,
    )
