"""The encoders' process: each encoder in memory once, for all who ask over a socket.

What several ask for at once is encoded together: while the network runs, what comes in waits, and
all of it is the next batch.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.adapters.worker.frames import Header
from feilun.adapters.worker.serving import reason, receive, send
from feilun.errors import ConfigError, FeilunError, ModelError, Unavailable
from feilun.ports.encoder import Encoder, EncoderLoading

BATCH_TEXTS = 64
"""The most texts of one batch."""
RETRY_SECONDS = 5.0
"""How often an encoder that could not be loaded is tried again."""
STUCK_SECONDS = 60.0
"""A batch that takes longer will never end."""
MAX_PATH = 100
"""The most bytes that a socket's path may have, on every system."""
MAX_CALLERS = 256
"""How many may be connected: the gateway's workers and those who train."""

_log = logging.getLogger(__name__)
_texts = msgspec.msgpack.Decoder(list[str])

Float32 = npt.NDArray[np.float32]


class _Call:
    """What one caller waits for."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.answer: Future[Float32] = Future()


class LoadedEncoders:
    """The encoders of this process; see `feilun.ports.encoder.Encoders`.

    Parameters
    ----------
    load : callable
        Loads the encoder of a digest; called once for each, in a thread.
    """

    def __init__(self, load: Callable[[str], Encoder]) -> None:
        self._load = load
        self._queues: dict[str, _Queue] = {}
        self._loading: set[str] = set()
        self._failed: dict[str, tuple[FeilunError, float]] = {}
        self._lock = threading.Lock()

    def load(self, digest: str) -> None:
        """Load an encoder now.

        Raises
        ------
        ModelError, CorruptData, MissingExtra
            If it cannot be loaded.
        """
        try:
            queue = _Queue(self._load(digest))
        except FeilunError:
            raise
        except Exception as error:  # a loader is an adapter: it may raise what it likes
            raise ModelError(f"The encoder's loader raised {type(error).__name__}.") from error
        with self._lock:
            self._queues[digest] = queue

    def encode(self, digest: str, texts: Sequence[str]) -> Float32:
        """Return a row for each text, encoded together with what others ask for meanwhile.

        An encoder that is not loaded yet is loaded in a thread; until then it is unavailable.
        """
        queue = self._queues.get(digest)
        if queue is None:
            self._begin(digest)
            raise EncoderLoading(f"The encoder {digest[:12]} is being loaded.", "Try again soon.")
        if not texts:
            return np.empty((0, 0), np.float32)
        return queue.encode(texts)

    def close(self) -> None:
        """Do nothing: they end with their process."""

    def stuck(self) -> bool:
        """Return whether an encoder has been at one batch for longer than ``STUCK_SECONDS``."""
        now = time.monotonic()
        return any(now - queue.began > STUCK_SECONDS for queue in list(self._queues.values()))

    def _begin(self, digest: str) -> None:
        """Load an encoder in a thread, unless one does, or it failed a moment ago."""
        with self._lock:
            failed = self._failed.get(digest)
            if failed is not None and time.monotonic() - failed[1] < RETRY_SECONDS:
                raise failed[0]
            if digest in self._loading:
                return
            self._loading.add(digest)

        def run() -> None:
            try:
                self.load(digest)
            except FeilunError as error:
                _log.error("The encoder %.12s cannot be loaded: %s", digest, error)
                with self._lock:
                    self._failed[digest] = (error, time.monotonic())
            finally:
                with self._lock:
                    self._loading.discard(digest)

        threading.Thread(target=run, name="encoder-load", daemon=True).start()


class _Queue:
    """Calls of one encoder, and the thread that answers them."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._calls: deque[_Call] = deque()
        self._news = threading.Condition()
        self.began = math.inf
        """When the batch began that is being encoded; never, while none is."""
        threading.Thread(target=self._run, name="encoder", daemon=True).start()

    def encode(self, texts: Sequence[str]) -> Float32:
        call = _Call(texts)
        with self._news:
            self._calls.append(call)
            self._news.notify()
        return call.answer.result()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._calls)
                calls = [self._calls.popleft()]
                count = len(calls[0].texts)
                while self._calls and count + len(self._calls[0].texts) <= BATCH_TEXTS:
                    calls.append(self._calls.popleft())
                    count += len(calls[-1].texts)
            try:
                self._answer(calls)
            except Exception:
                for call in calls:  # one of them may be what it cannot do
                    try:
                        self._answer([call])
                    except Exception as error:
                        call.answer.set_exception(error)
            self.began = math.inf

    def _answer(self, calls: Sequence[_Call]) -> None:
        places = {text: 0 for call in calls for text in call.texts}
        places = {text: place for place, text in enumerate(places)}
        self.began = time.monotonic()
        rows = self._encoder.encode(list(places))
        for call in calls:
            call.answer.set_result(rows[[places[text] for text in call.texts]])


class EncoderSocket:
    """Answers whoever connects to a socket of this machine's file system.

    Parameters
    ----------
    path : Path
        The socket: only this user can connect.
    encoders : LoadedEncoders
        Who is asked.

    Raises
    ------
    ConfigError
        If the path is too long for a socket.
    """

    def __init__(self, path: Path, encoders: LoadedEncoders) -> None:
        if len(os.fsencode(path)) > MAX_PATH:
            raise ConfigError(
                f"{path} is too long a path for a socket: at most {MAX_PATH} bytes.",
                "Move the project, or set [platform] data in feilun.toml to a shorter path.",
            )
        self._encoders = encoders
        self._callers = threading.Semaphore(MAX_CALLERS)
        with suppress(FileNotFoundError):
            path.unlink()  # of one that was killed
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(64)

    def serve(self, stop: Callable[[], bool]) -> None:
        """Answer until ``stop`` says so; it is asked ten times a second.

        Raises
        ------
        Unavailable
            If an encoder is stuck: only another process can help.
        """
        self._socket.settimeout(0.1)
        while not stop():
            if self._encoders.stuck():
                raise Unavailable(f"An encoder has not answered for {STUCK_SECONDS:.0f} s.")
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            if not self._callers.acquire(blocking=False):
                connection.close()
                continue
            connection.settimeout(None)
            threading.Thread(
                target=self._converse, args=(connection,), name="caller", daemon=True
            ).start()
        self._socket.close()

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                while (asked := receive(connection.fileno())) is not None:
                    send(connection.fileno(), *self._answer(*asked))
        except ModelError as error:  # what was said is no frame
            _log.warning("A caller of the encoders is let go: %s", error)
        finally:
            self._callers.release()

    def _answer(self, header: Header, data: bytes) -> tuple[Header, bytes]:
        try:
            rows = self._encoders.encode(header.encoder, _texts.decode(data))
        except Exception as error:  # told to the caller: the next texts may be right
            return Header(0, error=reason(error), later=isinstance(error, Unavailable)), b""
        found = np.ascontiguousarray(rows, np.float32)
        return Header(found.nbytes, columns=found.shape[1]), found.tobytes()
