"""A worker whose model is a list of weights, and which does what odd matrices ask of it."""

import os
import sys
import time

from feilun.adapters.worker import serve
from feilun.testing.platform_fakes import LinearLoader


class Scorer:
    def __init__(self, inner):
        self.inner = inner

    def score(self, matrix):
        match float(matrix[0, 0]):
            case 1001.0:
                os._exit(3)
            case 1002.0:
                time.sleep(60)
            case 1003.0:
                raise RuntimeError("no")
            case 1004.0:
                print("a library that talks")
            case 1005.0:
                return self.inner.score(matrix)[1:]
        return self.inner.score(matrix)


def load(data, columns):
    if data == b"slow":
        time.sleep(60)
    return Scorer(LinearLoader().load(data, columns))


if __name__ == "__main__":
    serve(load)
    sys.exit()
