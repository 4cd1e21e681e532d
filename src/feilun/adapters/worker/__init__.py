"""Processes of their own for models and encoders whose library the gateway must not import."""

from feilun.adapters.worker.encoders import SocketEncoders
from feilun.adapters.worker.encoding import EncoderSocket, LoadedEncoders
from feilun.adapters.worker.scorer import WorkerScorer
from feilun.adapters.worker.serving import serve

__all__ = ["EncoderSocket", "LoadedEncoders", "SocketEncoders", "WorkerScorer", "serve"]
