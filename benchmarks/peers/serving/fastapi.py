"""Plain FastAPI on uvicorn: what most teams write by hand."""

from __future__ import annotations

import sys

import lightgbm
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

MODEL = lightgbm.Booster(model_file=sys.argv[2])
app = FastAPI()


class Row(BaseModel):
    """One row."""

    x: list[float]


@app.post("/score")
def score(row: Row) -> dict[str, float]:
    """Score it."""
    return {"score": float(MODEL.predict(np.array([row.x], np.float32), num_threads=1)[0])}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
