"""BentoML: one worker, no batching (one row is asked for at a time)."""

from __future__ import annotations

import os
import sys

import bentoml
import lightgbm
import numpy as np

MODEL = "BENCH_MODEL"


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Scorer:
    """Scores one row."""

    def __init__(self) -> None:
        self.model = lightgbm.Booster(model_file=os.environ[MODEL])

    @bentoml.api(route="/score")
    def score(self, x: list[float]) -> dict[str, float]:
        """Score it."""
        return {"score": float(self.model.predict(np.array([x], np.float32), num_threads=1)[0])}


if __name__ == "__main__":
    os.environ[MODEL] = sys.argv[2]
    os.environ["BENTOML_DO_NOT_TRACK"] = "1"
    name = f"{__spec__.name}:Scorer" if __spec__ else "Scorer"
    bentoml.serve(name, host="127.0.0.1", port=int(sys.argv[1]), blocking=True)
