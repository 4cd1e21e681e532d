"""LitServe: one worker, no batching (one row is asked for at a time)."""

import sys
from typing import Any

import lightgbm
import litserve
import numpy as np


class Api(litserve.LitAPI):
    """Scores one row."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the model."""
        self.model = lightgbm.Booster(model_file=sys.argv[2])

    def decode_request(self, request: dict) -> Any:
        """Return the row."""
        return np.array([request["x"]], np.float32)

    def predict(self, x: Any) -> Any:
        """Score it."""
        return self.model.predict(x, num_threads=1)[0]

    def encode_response(self, output: Any) -> dict[str, float]:
        """Return the reply."""
        return {"score": float(output)}


if __name__ == "__main__":
    server = litserve.LitServer(Api(api_path="/score"), accelerator="cpu", workers_per_device=1)
    server.run(
        port=int(sys.argv[1]), host="127.0.0.1", log_level="warning", generate_client_file=False
    )
