"""MLflow: ``mlflow models serve`` with its FastAPI server, one worker."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import lightgbm
import mlflow

if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp()) / "model"
    mlflow.lightgbm.save_model(lightgbm.Booster(model_file=sys.argv[2]), folder)
    command = ["mlflow", "models", "serve", "--model-uri", str(folder), "--port", sys.argv[1]]
    options = ["--host", "127.0.0.1", "--workers", "1", "--env-manager", "local"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.execvp(command[0], [*command, *options])  # noqa: S606
