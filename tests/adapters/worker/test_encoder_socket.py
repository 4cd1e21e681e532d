"""The encoders' process and the way to it: one copy of each, batches, and every fault in time."""

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from feilun.adapters.worker import EncoderSocket, LoadedEncoders, SocketEncoders, encoding
from feilun.adapters.worker.frames import LENGTH, Header, pack
from feilun.errors import ConfigError, FeilunError, ModelError, Unavailable
from feilun.models.encoder import write_encoder
from feilun.models.encoder_folder import read_folder
from feilun.testing.encoder_conformance import EncodersExam, Reached
from feilun.testing.encoder_fakes import HIDDEN, HashEncoders, write_encoder_folder

PROCESS = str(Path(__file__).parent / "encoder_process.py")


class Running:
    """The process, and the way to it."""

    def __init__(self, root):
        self.path = root / "e.sock"
        parts = read_folder(write_encoder_folder(root / "folder", graph=True))
        self.digest = write_encoder(root / "encoders", parts)
        self.command = [sys.executable, PROCESS, self.path, root / "encoders", self.digest]
        self.encoders = SocketEncoders(self.path, 5.0)
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command)
        self.until_it_answers()

    def until_it_answers(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.encoders.encode(self.digest, ["a"])
            except Unavailable:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.encoders.close()


@pytest.fixture
def running(tmp_path):
    found = Running(tmp_path)
    yield found
    found.end()


class TestSocket(EncodersExam):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.root = tmp_path

    def reach(self):
        running = Running(self.root)
        yield Reached(running.encoders, running.digest, HIDDEN)
        running.end()


class TestFake(EncodersExam):
    def reach(self):
        class Known(HashEncoders):
            def encode(self, digest, texts):
                if digest != "d":
                    raise ModelError("Not added.")
                return super().encode(digest, texts)

        yield Reached(Known(4), "d", 4)


def test_a_killed_process_is_unavailable_at_once_and_found_again(running):
    running.end()
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"has ended|is not there"):
            running.encoders.encode(running.digest, ["a"])
        assert time.monotonic() - began < 1
    running.start()
    assert running.encoders.encode(running.digest, ["a"]).shape == (1, HIDDEN)


def test_a_stopped_process_is_unavailable_within_the_deadline(running):
    whole = running.encoders.encode(running.digest, ["b"])
    quick = SocketEncoders(running.path, 0.2)
    quick.encode(running.digest, ["a"])
    os.kill(running.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, running.process.pid, os.WSTOPPED)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="too slow"):
        quick.encode(running.digest, ["a"])
    assert time.monotonic() - began < 2
    os.kill(running.process.pid, signal.SIGCONT)
    # The answer that came too late is for nobody: the next one is to the next question.
    running.until_it_answers()
    np.testing.assert_allclose(quick.encode(running.digest, ["b"]), whole, atol=1e-5)
    quick.close()
    np.testing.assert_allclose(running.encoders.encode(running.digest, ["b"]), whole, atol=1e-5)


def test_only_this_user_can_connect(running):
    assert stat.S_IMODE(running.path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        LENGTH.pack(3) + b"abc",
        pack(Header(3, encoder="..")) + b"abc",
        pack(Header(1, encoder="0" * 64)) + b"\x90",
        pack(Header(-1)),
    ],
)
def test_nonsense_ends_a_conversation_and_nothing_else(running, sent):
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(running.path))
        stranger.sendall(sent)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(10)
        while stranger.recv(1 << 16):
            pass
    assert running.encoders.encode(running.digest, ["a"]).shape == (1, HIDDEN)


def test_nobody_there_says_how_to_start_it(tmp_path):
    with pytest.raises(Unavailable) as refused:
        SocketEncoders(tmp_path / "none.sock", 1.0).encode("0" * 64, ["a"])
    assert "feilun up" in refused.value.hint


def test_a_path_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="too long"):
        EncoderSocket(tmp_path / ("x" * 100), LoadedEncoders(lambda digest: None))


class Counting:
    """An encoder that says how it is called, and waits until it may answer."""

    def __init__(self):
        self.batches = []
        self.may = threading.Event()

    def encode(self, texts):
        self.batches.append(list(texts))
        assert self.may.wait(30)
        if "poison" in texts:
            raise ModelError("A text cannot be read.")
        return np.array([[len(text), len(self.batches)] for text in texts], np.float32)


def in_thread(encoders, texts, found):
    def ask():
        try:
            found.append(encoders.encode("d", texts))
        except FeilunError as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def loaded(encoder):
    encoders = LoadedEncoders(lambda digest: encoder)
    encoders.load("d")
    return encoders


def test_what_comes_while_the_network_runs_is_the_next_batch():
    encoder = Counting()
    encoders, found = loaded(encoder), []
    threads = [in_thread(encoders, ["first"], found)]
    until(lambda: encoder.batches)
    waiting = encoders._queues["d"]._calls
    threads += [in_thread(encoders, [f"{n}", "same"], found) for n in range(5)]
    until(lambda: len(waiting) == 5)
    encoder.may.set()
    for thread in threads:
        thread.join(30)
    assert len(encoder.batches) == 2
    assert sorted(encoder.batches[1]) == ["0", "1", "2", "3", "4", "same"]
    assert sorted(rows.shape for rows in found) == [(1, 2), *[(2, 2)] * 5]


def test_a_batch_is_bounded(monkeypatch):
    monkeypatch.setattr(encoding, "BATCH_TEXTS", 4)
    encoder = Counting()
    encoders, found = loaded(encoder), []
    threads = [in_thread(encoders, ["first"], found)]
    until(lambda: encoder.batches)
    threads += [in_thread(encoders, [f"{n}a", f"{n}b"], found) for n in range(6)]
    until(lambda: len(encoders._queues["d"]._calls) == 6)
    encoder.may.set()
    for thread in threads:
        thread.join(30)
    assert [len(batch) for batch in encoder.batches] == [1, 4, 4, 4]


def test_one_text_that_cannot_be_encoded_spares_the_others():
    encoder = Counting()
    encoders, found, bad = loaded(encoder), [], []
    threads = [in_thread(encoders, ["first"], found)]
    until(lambda: encoder.batches)
    threads += [in_thread(encoders, ["good"], found), in_thread(encoders, ["poison"], bad)]
    until(lambda: len(encoders._queues["d"]._calls) == 2)
    encoder.may.set()
    for thread in threads:
        thread.join(30)
    assert [rows.shape for rows in found] == [(1, 2), (1, 2)]
    assert isinstance(bad[0], ModelError)


def test_an_encoder_is_loaded_once_whoever_asks():
    began, may, calls = threading.Event(), threading.Event(), []

    def load(digest):
        calls.append(digest)
        began.set()
        assert may.wait(30)
        encoder = Counting()
        encoder.may.set()
        return encoder

    encoders = LoadedEncoders(load)
    for _ in range(5):
        with pytest.raises(Unavailable, match="being loaded"):
            encoders.encode("d", ["a"])
    assert began.wait(30)
    may.set()
    until(lambda: "d" in encoders._queues)
    assert encoders.encode("d", ["a"]).shape == (1, 2)
    assert calls == ["d"]


def test_one_that_cannot_be_loaded_is_tried_again_after_a_while(monkeypatch):
    calls = []

    def load(digest):
        calls.append(digest)
        if len(calls) == 1:
            raise RuntimeError("secret")
        encoder = Counting()
        encoder.may.set()
        return encoder

    encoders = LoadedEncoders(load)
    with pytest.raises(Unavailable):
        encoders.encode("d", ["a"])
    until(lambda: encoders._failed)
    with pytest.raises(ModelError, match="RuntimeError"):
        encoders.encode("d", ["a"])
    monkeypatch.setattr(encoding, "RETRY_SECONDS", 0.0)
    with pytest.raises(Unavailable):
        encoders.encode("d", ["a"])
    until(lambda: "d" in encoders._queues)


def test_texts_and_vectors_survive_the_socket_to_the_bit(running):
    texts = ["飞轮", "\x00", "a" * 20_000]
    again = SocketEncoders(running.path, 5.0)
    first, second = (each.encode(running.digest, texts) for each in (running.encoders, again))
    again.close()
    np.testing.assert_array_equal(first, second)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(texts)) == texts


def test_an_encoder_that_is_stuck_ends_its_process(monkeypatch, tmp_path):
    encoder = Counting()
    encoders, found = loaded(encoder), []
    served = EncoderSocket(tmp_path / "e.sock", encoders)
    threads = [in_thread(encoders, ["first"], found)]
    until(lambda: encoder.batches)
    assert not encoders.stuck()
    monkeypatch.setattr(encoding, "STUCK_SECONDS", 0.0)
    with pytest.raises(Unavailable, match="has not answered"):
        served.serve(lambda: False)
    encoder.may.set()
    for thread in threads:
        thread.join(30)
    until(lambda: not encoders.stuck())
    served._socket.close()
