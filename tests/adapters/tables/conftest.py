"""A real PostgreSQL server for as long as the tests run, where one is installed."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

PLACES = (Path("/usr/lib/postgresql"), Path("/opt/homebrew/opt"), Path("/usr/local/opt"))
PASSWORD = "p@ss/飞轮 word"


def programs():
    """Return the folder of PostgreSQL's programs, or None."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = [path.parent for place in PLACES for path in place.glob("*/bin/initdb")]
    return max(folders, default=None)


@pytest.fixture(scope="session")
def postgres():
    """The URL of an empty database on 127.0.0.1."""
    psycopg = pytest.importorskip("psycopg")
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed on this machine")
    # The server refuses to run as root.
    account = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    root = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True,
                               **account).stdout.strip())  # fmt: skip
    secret = root / "secret"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    secret.chmod(0o644)
    port = free_port()
    subprocess.run(
        [binaries / "initdb", "-D", root / "data", "-U", "shop", "--pwfile", secret, "-A",
         "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync"],
        check=True, capture_output=True, cwd=root, **account,
    )  # fmt: skip
    server = subprocess.Popen(
        [binaries / "postgres", "-D", root / "data", "-p", str(port), "-h", "127.0.0.1", "-F",
         "-k", root],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=root, **account,
    )  # fmt: skip
    try:
        wait(psycopg, server, port)
        from urllib.parse import quote

        yield f"postgresql+psycopg://shop:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(timeout=30)
        shutil.rmtree(root, ignore_errors=True)


def wait(psycopg, server, port):
    deadline = time.monotonic() + 30
    while True:
        assert server.poll() is None, "PostgreSQL ended"
        try:
            psycopg.connect(
                host="127.0.0.1", port=port, user="shop", password=PASSWORD, dbname="postgres"
            ).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "PostgreSQL did not start"
            time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
