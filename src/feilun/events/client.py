"""The tracking client: sends events from a Python program without making it wait.

::

    with Client("http://127.0.0.1:8600", source="shop") as client:
        client.track("order_line", user_id=7, item_id=42)
"""

from __future__ import annotations

import http.client
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from feilun.clock import Clock, SystemClock
from feilun.errors import ConfigError, InputError, Unavailable
from feilun.events.collector import BODY_LIMIT, ITEM_LIMIT, ItemAnswer
from feilun.events.ids import uuid7
from feilun.events.local_token import local_token

PATH = "/api/events"
BUFFER = 10_000
"""Events that may wait to be sent; beyond it ``track`` raises."""
KEY_VARIABLE = "FEILUN_KEY"
"""The environment variable that holds the key, where the program does not give it."""
LINGER = 0.2
"""How long (s) an event waits for others to share its request."""
TIMEOUT = 10.0
"""How long (s) a request may take."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""How long (s) to wait before trying again: doubled each time, less a random half."""

_log = logging.getLogger(__name__)
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Reply(msgspec.Struct):
    events: list[ItemAnswer]


class Client:
    """Sends events to a collector, in batches, from a thread of its own.

    Each event gets its id and time once, when it is tracked, so that sending it again after a
    lost answer is a duplicate and counts once.

    Parameters
    ----------
    url : str
        Where the gateway listens, such as ``http://127.0.0.1:8600``.
    source : str
        What sends; ids are unique within it.
    clock : Clock
        The time of events that are tracked without one.
    buffer : int
        How many events may wait.
    key : str or None
        A team's key that may send events. By default what the environment has as ``FEILUN_KEY``,
        else, within a project, the token of its own gateway on this machine.

    Raises
    ------
    ConfigError
        If the URL is not http or https with a host, or has a password or a query in it; or
        if the key has characters that no key has.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str,
        clock: Clock | None = None,
        buffer: int = BUFFER,
        key: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is not an address.", "Write http://host:port.")
        if parts.username or parts.password or parts.query:
            raise ConfigError("A key does not go into the address.", "Give it as key=.")
        self._parts = parts
        self._headers = {"Content-Type": "application/json"}
        found = _key(parts, key)
        if found:
            self._headers["Authorization"] = f"Bearer {found}"
        self._source = source
        self._clock = clock or SystemClock()
        self._buffer = buffer
        self._waiting: deque[dict[str, Any]] = deque()
        self._in_flight = 0
        self._refused: list[ItemAnswer] = []
        self._changed = threading.Condition()
        self._hurry = False
        self._closing = False
        self._abandoned = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._sending = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="feilun-client", daemon=True)
        self._thread.start()

    def track(
        self, event: str, *, id: str | None = None, time: int | None = None, **fields: Any
    ) -> str:
        """Take an event to be sent soon; return its id. Raises as ``put`` does."""
        return self.put(event, fields, id=id, time=time)

    def put(
        self,
        event: str,
        fields: Mapping[str, Any],
        *,
        id: str | None = None,
        time: int | None = None,
    ) -> str:
        """Take an event whose fields may have any names, such as ``time``; return its id.

        Raises
        ------
        Unavailable
            If too many wait, or the client is closed: the event was not taken.
        """
        item = self._item(event, id, time, fields)
        with self._changed:
            if self._closing:
                raise Unavailable("The client is closed.", "Track events before closing it.")
            if len(self._waiting) + self._in_flight >= self._buffer:
                raise Unavailable(
                    f"{self._buffer} events wait to be sent; this one was not taken.",
                    "Is the gateway reachable? Try again, or keep the event yourself.",
                )
            self._waiting.append(item)
            self._changed.notify_all()
        return str(item["id"])

    def send(self, events: Sequence[Mapping[str, Any]]) -> list[ItemAnswer]:
        """Send events now, once, and return an answer for each.

        Each is ``{"event": …, "fields": {…}}`` with ``id`` and ``time`` if it has them.

        Raises
        ------
        InputError
            If the collector cannot use the request as a whole.
        Unavailable
            If it cannot be reached or has no space; sending the same again is safe if the events
            have ids.
        """
        named = [{**event, "id": event.get("id") or uuid7(self._clock.now())} for event in events]
        answers: list[ItemAnswer] = []
        for at in range(0, len(named), ITEM_LIMIT):
            answers += self._post(named[at : at + ITEM_LIMIT])
        return answers

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until everything tracked is stored.

        Raises
        ------
        Unavailable
            If something still waits after ``timeout`` seconds; it goes on waiting to be sent.
        InputError
            If the collector refused events since the last flush; the message has the first reasons.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(
                lambda: not self._waiting and not self._in_flight, timeout
            )
            left = len(self._waiting) + self._in_flight
            refused, self._refused = self._refused, []
        if not done:
            raise Unavailable(f"{left} events are not sent yet.", "Is the gateway reachable?")
        if refused:
            reasons = "; ".join(f"{one.id}: {one.reason}" for one in refused[:3])
            raise InputError(f"{len(refused)} events were refused: {reasons}")

    def close(self, timeout: float = 30.0) -> None:
        """Send what waits, then end the thread. Raises as ``flush`` does."""
        try:
            self.flush(timeout)
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._abandoned.set()
            self._thread.join(TIMEOUT + 1)
            with self._sending:
                self._disconnect()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    def _item(
        self, event: str, id: str | None, time: int | None, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        now = self._clock.now()
        moment = now if time is None else time
        return {"event": event, "id": id or uuid7(now), "time": moment, "fields": dict(fields)}

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing:
                    return
                if not self._hurry:
                    self._changed.wait_for(
                        lambda: self._hurry or self._closing or len(self._waiting) >= ITEM_LIMIT,
                        LINGER,
                    )
                batch = [self._waiting.popleft() for _ in range(self._batch_size())]
                self._in_flight = len(batch)
            refused = self._deliver(batch)
            with self._changed:
                self._in_flight = 0
                self._hurry = self._hurry and bool(self._waiting)
                self._refused += refused
                self._changed.notify_all()

    def _batch_size(self) -> int:
        return min(len(self._waiting), ITEM_LIMIT)

    def _deliver(self, batch: list[dict[str, Any]]) -> list[ItemAnswer]:
        """Send a batch until it is answered; return what was refused."""
        pause = FIRST_PAUSE
        while True:
            try:
                answers = self._post(batch)
            except Unavailable as error:
                _log.warning("%d events wait: %s", len(batch), error)
                if self._abandoned.wait(pause * random.uniform(0.5, 1)):  # noqa: S311
                    return []
                pause = min(pause * 2, LONGEST_PAUSE)
            except InputError as error:
                _log.error("%d events were refused: %s", len(batch), error)
                return [ItemAnswer("bad", event["id"], reason=str(error)) for event in batch]
            else:
                refused = [a for a in answers if a.status in ("bad", "conflict")]
                for answer in refused:
                    _log.error("Event %s was refused: %s", answer.id, answer.reason)
                return refused

    def _post(self, events: Sequence[Mapping[str, Any]]) -> list[ItemAnswer]:
        body = msgspec.json.encode(
            {"source": self._source, "sent_at": self._clock.now(), "events": events}
        )
        if len(body) > BODY_LIMIT and len(events) > 1:
            half = len(events) // 2
            return self._post(events[:half]) + self._post(events[half:])
        with self._sending:
            status, reply = self._exchange(body)
        if status == 200:
            return msgspec.json.decode(reply, type=_Reply).events
        text = reply[:500].decode("utf-8", "replace")
        if status in _RETRIED:
            raise Unavailable(f"The collector answered {status}: {text}")
        raise InputError(f"The collector answered {status}: {text}")

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        """Do one request; one of a kept connection that the other side closed is done again."""
        kept = self._connection is not None
        try:
            return self._request(body)
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            if not kept:
                raise Unavailable(f"{self._parts.netloc} cannot be reached: {error}.") from error
        try:
            return self._request(body)
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            raise Unavailable(f"{self._parts.netloc} cannot be reached: {error}.") from error

    def _request(self, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            kind = (
                http.client.HTTPSConnection
                if self._parts.scheme == "https"
                else http.client.HTTPConnection
            )
            self._connection = kind(str(self._parts.hostname), self._parts.port, timeout=TIMEOUT)
        path = self._parts.path.rstrip("/") + PATH
        self._connection.request("POST", path, body, self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _key(parts: SplitResult, given: str | None) -> str:
    """Return the key to send; empty for none. Raises ConfigError if it cannot be one."""
    found = (os.environ.get(KEY_VARIABLE, "") if given is None else given).strip()
    if not (found.isascii() and found.isprintable()):
        raise ConfigError("The key holds what no key has.", "Is it the whole key, and only it?")
    if found or given is not None:
        return found
    return local_token(str(parts.hostname), parts.port or 80, Path.cwd())
