"""A process of its own for models whose library the gateway must not import."""

from feilun.adapters.worker.scorer import WorkerScorer
from feilun.adapters.worker.serving import serve

__all__ = ["WorkerScorer", "serve"]
