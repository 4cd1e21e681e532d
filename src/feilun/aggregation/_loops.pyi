from collections.abc import Callable, Sequence
from typing import Any

from feilun.aggregation.frames import Array, Bool, Int64

MOST_OF_SPAN: int

Asked = tuple[int, int, int, Callable[[int], Any] | None]

class Blobs:
    def __init__(self, head: int, widths: Sequence[int]) -> None: ...
    def unpack(self, blobs: list[bytes]) -> tuple[Int64, list[Int64]]: ...

class Reader(Blobs):
    def __init__(
        self,
        head: int,
        widths: Sequence[int],
        spans: list[Asked],
        features: list[tuple[str, int, str, list[tuple[int, str]]]],
    ) -> None: ...
    def one(self, blob: bytes, as_of: int, into: dict[str, Any]) -> bool: ...
    def many(self, blobs: list[bytes], as_of: int) -> list[tuple[Array, Bool]]: ...

def merge(
    a: Int64, a_offsets: Int64, b: Int64, b_offsets: Int64, merges: list[str]
) -> tuple[Int64, Int64]: ...
def pack(
    head: int, parts: list[Int64], offsets: list[Int64], texts: list[bytes]
) -> list[bytes]: ...
