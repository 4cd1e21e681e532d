"""Feast's SDK and the same model in plain FastAPI: features looked up, then scored."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import lightgbm
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.feast import ask_of, open_online

app = FastAPI()
MODEL = lightgbm.Booster(model_file=sys.argv[2])
ROWS = json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))
NAMES = [name for name in ROWS[0] if name != "user_id"]
ASK = ask_of(open_online(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")), ROWS))


class One(BaseModel):
    """Whom to score."""

    user_id: int


class Many(BaseModel):
    """Whom to rank."""

    user_id: list[int]
    k: int = 10


def _scores(users: list[int]) -> np.ndarray:
    found = ASK(users)
    x = np.array([found[name] for name in NAMES], np.float32).T
    return MODEL.predict(x, num_threads=1)


@app.post("/lookup")
def lookup(asked: One) -> dict[str, float]:
    """Score one user."""
    return {"score": float(_scores([asked.user_id])[0])}


@app.post("/rank")
def rank(asked: Many) -> dict[str, list[int]]:
    """Find the best users of those named."""
    best = np.argsort(-_scores(asked.user_id), kind="stable")[: asked.k]
    return {"users": [asked.user_id[place] for place in best.tolist()]}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
