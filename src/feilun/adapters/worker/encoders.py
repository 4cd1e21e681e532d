"""The way to the encoders' process: asks it over its socket, within a deadline."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from feilun.adapters.worker.exchange import Gone, exchange
from feilun.adapters.worker.frames import Header
from feilun.errors import ModelError, Unavailable
from feilun.ports.encoder import EncoderLoading


class SocketEncoders:
    """The encoders of this machine; see `feilun.ports.encoder.Encoders`. Calls take turns.

    Parameters
    ----------
    path : Path
        The socket of their process.
    seconds : float
        How long a call may take.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._seconds = seconds
        self._turn = threading.Lock()
        self._connection: socket.socket | None = None

    def encode(self, digest: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return a row for each text.

        Raises
        ------
        EncoderLoading
            If the process is loading the encoder.
        Unavailable
            If the process is not there, or does not answer in time.
        ModelError
            If the encoder was not added, or fails.
        """
        until = time.monotonic() + self._seconds
        if not self._turn.acquire(timeout=self._seconds):
            raise Unavailable("The encoders are busy.", "Try again soon.")
        try:
            said, data = self._ask(digest, texts, until)
        except (Gone, OSError) as error:
            self._let_go()
            what = str(error) if isinstance(error, Gone) else "is not there"
            raise Unavailable(
                f"The encoders' process {what}.", "Start it: feilun up, or feilun serve encoder"
            ) from error
        finally:
            self._turn.release()
        if said.error:
            raise EncoderLoading(said.error) if said.later else ModelError(said.error)
        found = np.frombuffer(data, np.float32)
        if said.columns < 0 or len(found) != said.columns * len(texts):
            raise ModelError(f"The encoder {digest[:12]} gave {len(found)} numbers.")
        return found.reshape(len(texts), said.columns)

    def close(self) -> None:
        """End the connection; a later call makes another."""
        with self._turn:
            self._let_go()

    def _ask(self, digest: str, texts: Sequence[str], until: float) -> tuple[Header, bytes]:
        data = msgspec.msgpack.encode(list(texts))
        if self._connection is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(max(0.0, until - time.monotonic()))
                connection.connect(str(self._path))
            except OSError:
                connection.close()
                raise
            self._connection = connection
        handle = self._connection.fileno()
        return exchange(handle, handle, Header(len(data), encoder=digest), data, until)

    def _let_go(self) -> None:
        """End the connection: an answer that comes too late must not be taken for the next one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
