"""A running platform, seen from outside: a child process and a few HTTP connections."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import msgspec

from feilun.errors import FeilunError, Unavailable

CONNECTIONS = 8
PATIENCE = 60.0
"""Seconds in which a part of the platform that died must be back."""
PAUSE = 0.05


class Platform:
    """``feilun up`` on one project, on the log's clock, for as long as the ``with`` lasts.

    A request that meets a dead connection or a 503 is sent again, unchanged and with its id, until
    ``PATIENCE`` ends: whatever is killed, each event takes effect once.
    """

    def __init__(self, project: Path, port: int) -> None:
        self._project = project
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._connections = [self._connect() for _ in range(CONNECTIONS)]

    def __enter__(self) -> Platform:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "feilun", "up", "--project", str(self._project)]
        command += ["--port", str(self._port), "--clock", "request", "--quiet", "--supervised"]
        # It ends when we do, because it watches its standard input.
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, start_new_session=True
        )
        self._await_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it and wait until it has stopped."""
        for connection in self._connections:
            connection.close()
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
            self._process.wait(timeout=30)

    def get(self, path: str, **query: object) -> Any:
        """Return the decoded reply to a GET."""
        return self.ask([(path, query, None, None)])[0]

    def post(self, path: str, body: object, **query: object) -> Any:
        """Return the decoded reply to a POST of JSON."""
        return self.ask([(path, query, body, None)])[0]

    def ask(
        self, requests: Sequence[tuple[str, dict[str, object], object | None, str | None]]
    ) -> list[Any]:
        """Send requests side by side and return their decoded replies, in order.

        Parameters
        ----------
        requests : sequence of (path, query, body, request id)
            A request without a body is a GET.
        """
        replies: list[Any] = []
        for start in range(0, len(requests), CONNECTIONS):
            some = requests[start : start + CONNECTIONS]
            replies += self._side_by_side([_prepare(*request) for request in some])
        return replies

    def _side_by_side(self, requests: list[_Prepared]) -> list[Any]:
        # All are written before the first is read, so the gateway works on them together.
        sent = [self._try_send(at, request) for at, request in enumerate(requests)]
        return [
            self._finish(at, request, ok)
            for at, (request, ok) in enumerate(zip(requests, sent, strict=True))
        ]

    def _finish(self, at: int, request: _Prepared, sent: bool) -> Any:
        deadline = time.monotonic() + PATIENCE
        while True:
            status, body = self._receive(at) if sent else (0, b"")
            if status == 200:
                return msgspec.json.decode(body)
            if status not in (0, 503):
                raise FeilunError(f"{request.path} answered {status}: {body.decode()[:500]}")
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{request.path} was not answered for {PATIENCE:.0f} s: {body.decode()[:500]}",
                    f"Look into {self._project / '.feilun' / 'run'}.",
                )
            self._check_alive()
            time.sleep(PAUSE)
            sent = self._try_send(at, request)

    def _try_send(self, at: int, request: _Prepared) -> bool:
        try:
            self._connections[at].request(
                request.method, request.path, body=request.body, headers=request.headers
            )
        except OSError:
            self._connections[at].close()
            return False
        return True

    def _receive(self, at: int) -> tuple[int, bytes]:
        try:
            response = self._connections[at].getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connections[at].close()
            return 0, b""

    def _await_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        ready = _prepare("/ready", {}, None, None)
        while time.monotonic() < deadline:
            self._check_alive()
            if self._try_send(0, ready) and self._receive(0)[0] == 200:
                return
            time.sleep(PAUSE)
        raise Unavailable(
            f"The platform was not ready after {PATIENCE:.0f} s.",
            f"Look into {self._project / '.feilun' / 'run'}.",
        )

    def _check_alive(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            raise Unavailable(
                f"The platform stopped with exit code {self._process.returncode}.",
                f"Look into {self._project / '.feilun' / 'run'}.",
            )

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)


class _Prepared(msgspec.Struct, frozen=True):
    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


def _prepare(
    path: str, query: dict[str, object], body: object | None, request_id: str | None
) -> _Prepared:
    headers = {"X-Request-Id": request_id} if request_id else {}
    pairs: Iterable[tuple[str, object]] = query.items()
    target = f"{path}?{urlencode(list(pairs))}" if query else path
    if body is None:
        return _Prepared("GET", target, None, headers)
    headers["Content-Type"] = "application/json"
    return _Prepared("POST", target, msgspec.json.encode(body), headers)
