"""One question to a worker and its answer, within a deadline."""

from __future__ import annotations

import os
import select
import time

from feilun.adapters.worker.frames import LENGTH, MAX_HEADER, Header, pack, unpack
from feilun.errors import ModelError


class Gone(Exception):
    """The worker cannot be asked any more: it ``has ended``, ``was too slow``, or talks nonsense.

    Where it was too slow its answer may still come, to nobody: it is ended, or asked anew.
    """


def exchange(
    asked: int, answers: int, header: Header, data: bytes, until: float
) -> tuple[Header, bytes]:
    """Ask a worker.

    Parameters
    ----------
    asked, answers : int
        The descriptors that are written to and read from.
    header, data : Header, bytes
        What is asked.
    until : float
        The deadline, on the monotonic clock.

    Raises
    ------
    Gone
        If there is no answer by then.
    """
    os.set_blocking(asked, False)
    rest = memoryview(pack(header) + data)
    while rest:
        _wait(asked, select.POLLOUT, until)
        try:
            rest = rest[os.write(asked, rest) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise Gone("has ended") from error
    size = LENGTH.unpack(_read(answers, LENGTH.size, until))[0]
    try:
        said = unpack(_read(answers, min(size, MAX_HEADER), until))
    except ModelError as error:
        raise Gone(f"said something else ({error.message})") from error
    return said, _read(answers, said.bytes, until)


def _read(answers: int, count: int, until: float) -> bytes:
    parts = []
    while count:
        _wait(answers, select.POLLIN, until)
        try:
            part = os.read(answers, min(count, 1 << 20))
        except BlockingIOError:
            continue
        except OSError as error:
            raise Gone("has ended") from error
        if not part:
            raise Gone("has ended")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _wait(descriptor: int, event: int, until: float) -> None:
    waiting = select.poll()
    waiting.register(descriptor, event)
    if not waiting.poll(max(0.0, until - time.monotonic()) * 1_000):
        raise Gone("was too slow")
