"""The encoders' process without a project: run with a socket and the folder of encoders."""

import sys
from pathlib import Path

from feilun.adapters.encoder import load_encoder
from feilun.adapters.worker import EncoderSocket, LoadedEncoders
from feilun.models.encoder import read_encoder

if __name__ == "__main__":
    path, root, digest = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    encoders = LoadedEncoders(lambda digest: load_encoder(read_encoder(root, digest)))
    encoders.load(digest)
    EncoderSocket(path, encoders).serve(lambda: False)
