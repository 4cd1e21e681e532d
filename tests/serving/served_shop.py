"""The shop on disk, served in processes of their own: run with a port and how many."""

import os
import sys
from pathlib import Path

ROOT = "FEILUN_TEST_ROOT"
PORT = "FEILUN_TEST_PORT"
TOKEN = "flt_" + "t" * 43


def open_parts(root):
    from conftest import LinearLoader, make_project
    from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
    from feilun.adapters.sqlite import SqliteReleases, SqliteSkew, SqliteTeams, SqliteTurns
    from feilun.clock import SystemClock
    from feilun.serving.access.quota import OwnQuota
    from feilun.serving.worker import GatewayParts

    return GatewayParts(
        project=make_project(),
        log=LmdbEventLog(root / "log"),
        store=LmdbOnlineStore(root / "tiles"),
        releases=SqliteReleases(root / "platform.db"),
        turns=SqliteTurns(root / "platform.db"),
        skew=SqliteSkew(root / "platform.db"),
        teams=SqliteTeams(root / "platform.db"),
        loaders={LinearLoader.format: LinearLoader()},
        bundles=root / "bundles",
        clock=SystemClock(),
        clock_mode="wall",
        worker=f"w{os.getpid()}",
        token=TOKEN,
        keys_required=False,
        quota=OwnQuota(),
    )


def serve():
    from feilun.app.http_server import serve_http
    from feilun.serving.worker import make_app

    application = make_app(open_parts(Path(os.environ[ROOT])))
    serve_http(application, "127.0.0.1", int(os.environ[PORT]))


if __name__ == "__main__":
    from served_shop import serve as target  # by a name that other processes can import

    from feilun.app.workers import keep_running

    os.environ[PORT] = sys.argv[1]
    keep_running(int(sys.argv[2]), target)
