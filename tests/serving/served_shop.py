"""The shop on disk, served by Granian in processes of their own: run with a port and how many."""

import multiprocessing
import os
import sys
from pathlib import Path

ROOT = "FEILUN_TEST_ROOT"
TOKEN = "flt_" + "t" * 43


def open_parts(root):
    from conftest import LinearLoader, make_project
    from feilun.adapters.lmdb import LmdbEventLog, LmdbOnlineStore
    from feilun.adapters.sqlite import SqliteReleases, SqliteSkew, SqliteTeams, SqliteTurns
    from feilun.clock import SystemClock
    from feilun.serving.quota import OwnQuota
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


def build():
    from feilun.serving.worker import make_app

    return make_app(open_parts(Path(os.environ[ROOT])))


if __name__ == "__main__":
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces

    multiprocessing.set_start_method("spawn")
    Granian(
        "served_shop:build",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        factory=True,
        workers=int(sys.argv[2]),
        respawn_failed_workers=True,
        websockets=False,
    ).serve()
