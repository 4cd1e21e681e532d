"""Ray Serve: one replica, one HTTP proxy."""

from __future__ import annotations

import sys
import threading

import lightgbm
import numpy as np
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
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Scorer.bind(sys.argv[2]), route_prefix="/score")
    threading.Event().wait()
