"""The ASGI application: a table of routes, and nothing that is not in it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from feilun.clock import Clock
from feilun.errors import FeilunError, TooLate, UnknownName
from feilun.events.ids import uuid7
from feilun.serving.access.guard import OPEN, Access, Guard, is_login, refuse_keys_in_urls
from feilun.serving.access.usage import Meter
from feilun.serving.http.admission import Admission, Overloaded, Priority
from feilun.serving.http.bodies import read_body
from feilun.serving.http.exchange import (
    InternalError,
    MethodError,
    Receive,
    Request,
    RequestHead,
    Response,
    Scope,
    Send,
    check_json,
    check_origin,
    error_response,
    read_head,
    send_response,
    timeout_of,
)
from feilun.serving.http.pages import for_page, page_of, preflight
from feilun.serving.metrics import Metrics

Handler = Callable[[Request], Awaitable[Response]]
Hook = Callable[[], Awaitable[None]]

BODY_BYTES = 1 << 20
"""The most bytes of a body, where a route does not say otherwise."""

SLOW_BODY_SECONDS = 0.2
"""How long a body may take before it is asked once more whether its sender may come in."""

_UNMATCHED = "unmatched"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """One path: what answers each method, who may call it, and how large a body may be.

    ``pages``: welcome web pages of other origins may call it, without a key. ``priority``: who
    comes first while there are more requests than can be answered soon.
    """

    methods: Mapping[str, Handler]
    access: Access
    body_bytes: int = BODY_BYTES
    pages: bool = False
    priority: Priority = "always"


class Gateway:
    """Answers what is in its table and refuses the rest: 404 for a path, 405 for a method.

    Who calls is settled before anything else is: whoever has no key learns of no path.

    Parameters
    ----------
    routes : mapping
        Exact path to route. Paths are compared as the server decoded them, once.
    hosts : frozenset of str
        The host names under which it answers.
    origins : frozenset of str
        The origins of the web pages that are welcome.
    guard : Guard
        Lets callers in.
    admission : Admission
        Lets as many requests in at a time as are answered soon.
    meter : Meter
        Counts what teams used.
    metrics : Metrics
        Counts every answer.
    clock : Clock
        Stamps the ids of requests that came without one.
    start, stop : callables
        Awaited before the first request and after the last.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        hosts: frozenset[str],
        origins: frozenset[str] = frozenset(),
        guard: Guard,
        admission: Admission,
        meter: Meter,
        metrics: Metrics,
        clock: Clock,
        start: Hook,
        stop: Hook,
    ) -> None:
        self.routes = routes
        self._hosts = hosts
        self._origins = origins
        self._guard = guard
        self._admission = admission
        self._meter = meter
        self._metrics = metrics
        self._clock = clock
        self.start = start
        self.stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, as ASGI hands it over."""
        started = time.perf_counter()
        head = read_head(scope["headers"])
        head.id = head.id or uuid7(self._clock.now())
        path = scope["path"]
        route = self.routes.get(path)
        page = page_of(head, self._origins) if route is not None and route.pages else ""
        try:
            response = await self._answer_in_time(head, page, scope, receive)
        except FeilunError as error:
            if isinstance(error, Overloaded):
                await self._admission.refused()
            elif error.status >= 500:
                _log.warning("%s %s %s: %s", head.id, scope["method"], path[:200], error)
            response = error_response(error, head.id)
            if isinstance(error, MethodError):
                response = self._with_allow(response, path)
        except Exception:  # a defect: it costs one reply, never the process
            _log.exception("%s %s %r failed", head.id, scope["method"], path[:200])
            response = error_response(InternalError(), head.id)
        if route is not None and route.pages:
            response = for_page(response, page)
        await send_response(send, response, head.id)
        name = path if path in self.routes else _UNMATCHED
        self._metrics.add("feilun_requests_total", route=name, status=str(response.status))
        self._metrics.observe("feilun_request_seconds", time.perf_counter() - started, route=name)

    async def _answer_in_time(
        self, head: RequestHead, page: str, scope: Scope, receive: Receive
    ) -> Response:
        """Answer for as long as the caller says that it waits."""
        seconds = timeout_of(head)
        if seconds is None:
            return await self._answer(head, page, scope, receive)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await self._answer(head, page, scope, receive)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TooLate(
                f"The request was not answered within {seconds:g} s, as it asked.",
                "Send it again under the same id, with more time.",
            ) from error

    async def _answer(
        self, head: RequestHead, page: str, scope: Scope, receive: Receive
    ) -> Response:
        check_origin(head, self._hosts, page)
        path, method, query = scope["path"], scope["method"], scope["query_string"]
        if method == "GET" and is_login(path, query):
            return self._guard.login(head, query)
        refuse_keys_in_urls(path, query)
        route = self.routes.get(path)
        if route is None:
            self._guard.admit(None, head, path, _UNMATCHED)
            raise UnknownName(f"Nothing answers at {path[:200]!r}.", "See /docs for what does.")
        if method == "OPTIONS" and page:
            return preflight(", ".join(route.methods))
        # A page has no key to show: that its origin is welcome on this route stands for one.
        access = OPEN if page and not head.authorization else route.access
        caller = self._guard.admit(access, head, path, path)
        handler = route.methods.get(method)
        if handler is None:
            raise MethodError(
                f"{path} does not take {method[:20]!r}.", f"It takes {', '.join(route.methods)}."
            )
        body = b""
        if method == "POST":
            check_json(head, page)
            self._admission.check(route.priority)  # at once, not after the body
            waited = time.perf_counter()
            body = await read_body(head, receive, route.body_bytes)
            if time.perf_counter() - waited > SLOW_BODY_SECONDS:
                self._guard.admit_again(access, head, path)  # its key may have been revoked
        request = Request(
            method,
            path,
            query,
            body,
            head.id,
            head.hosts[0],
            page,
            caller,
            head.named,
            head.languages,
        )
        with self._admission.place(route.priority):
            await self._admission.turn(route.priority)
            response = await handler(request)
        self._meter.answered(caller, route.access.scope, response)
        return response

    def _with_allow(self, response: Response, path: str) -> Response:
        allow = ", ".join(self.routes[path].methods).encode()
        return Response(response.body, response.status, headers=((b"allow", allow),))
