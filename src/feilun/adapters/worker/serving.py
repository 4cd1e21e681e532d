"""The worker's side: load one model, then score until the gateway closes the pipe."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from feilun.adapters.worker.frames import LENGTH, MAX_HEADER, Header, pack, unpack
from feilun.errors import FeilunError, ModelError
from feilun.ports.scorer import Scorer


def serve(load: Callable[[bytes, int], Scorer]) -> None:
    """Answer on standard output what comes on standard input. Returns when that is closed.

    Parameters
    ----------
    load : callable
        Makes a scorer of a model's bytes and its number of columns. It and the scorer may raise
        what they like: the reason is told, and the worker goes on.
    """
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get between the answers
    model = receive(0)
    if model is None:
        return
    header, data = model
    scorer: Scorer | None = None
    try:
        scorer = load(data, header.columns)
        send(answers, Header(0))
    except Exception as error:  # told to the gateway, which refuses the model
        send(answers, Header(0, error=reason(error)))
        return
    del model, data  # the scorer has what it needs of them, and they may be large
    while (asked := receive(0)) is not None:
        header, data = asked
        matrix = np.frombuffer(data, np.float32).reshape(-1, header.columns)
        try:
            scores = scorer.score(matrix)
            found = np.ascontiguousarray(scores, np.float64).tobytes()
            send(answers, Header(len(found)), found)
        except Exception as error:  # the model's fault: the next matrix may be right
            send(answers, Header(0, error=reason(error)))


def receive(asked: int) -> tuple[Header, bytes] | None:
    """Return what is asked on a descriptor; None where it ends."""
    length = _read(asked, LENGTH.size)
    if length is None:
        return None
    text = _read(asked, min(LENGTH.unpack(length)[0], MAX_HEADER))
    if text is None:
        return None
    header = unpack(text)
    data = _read(asked, header.bytes)
    return None if data is None else (header, data)


def _read(asked: int, count: int) -> bytes | None:
    """Return so many bytes; None where they end before."""
    parts = []
    while count:
        part = os.read(asked, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def send(answers: int, header: Header, data: bytes = b"") -> None:
    """Answer on a descriptor."""
    rest = memoryview(pack(header) + data)
    while rest:
        rest = rest[os.write(answers, rest) :]


def reason(error: Exception) -> str:
    """Return what is told of an error."""
    if isinstance(error, ModelError):
        return error.message[:1000]
    known = isinstance(error, FeilunError)
    return str(error)[:1000] if known else f"{type(error).__name__}: {error}"[:1000]
