"""Ray Serve: one replica, one HTTP proxy."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading

import lightgbm
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Scorer:
    """Scores one row."""

    def __init__(self, path: str) -> None:
        self.model = lightgbm.Booster(model_file=path)

    async def __call__(self, request: Request) -> dict[str, float]:
        """Score it."""
        x = np.array([(await request.json())["x"]], np.float32)
        return {"score": float(self.model.predict(x, num_threads=1)[0])}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    folder = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp")  # its sockets need short paths
    ray.init(include_dashboard=False, _temp_dir=folder.name)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Scorer.bind(sys.argv[2]), route_prefix="/score")
    try:
        threading.Event().wait()
    finally:
        ray.shutdown()
        folder.cleanup()
