"""The graph of a SavedModel and its functions: nodes by name, and what each needs before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from feilun.adapters.tensorflow.protobuf import Message, Reader

_OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "FusedBatchNorm": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV2": ("y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2"),
    "FusedBatchNormV3": (
        "y", "batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2",
        "reserve_space_3",
    ),
    "LookupTableExportV2": ("keys", "values"),
    "SparseFillEmptyRows": (
        "output_indices", "output_values", "empty_row_indicator", "reverse_index_map",
    ),
    "SparseReshape": ("output_indices", "output_shape"),
    "TensorListPopBack": ("output_handle", "tensor"),
    "TopKV2": ("values", "indices"),
    "Unique": ("y", "idx"),
}  # fmt: skip
"""The outputs of operators that have several of different names; functions name them so."""


class Node(NamedTuple):
    """One operator: what goes in, which nodes come before it, and its attributes, unread."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    before: tuple[str, ...]
    attributes: Mapping[str, memoryview]


class Function(NamedTuple):
    """A function: its arguments, its nodes, what it returns, and what must have run besides."""

    arguments: tuple[str, ...]
    nodes: Mapping[str, Node]
    returns: tuple[str, ...]
    before: tuple[str, ...]


class Graph:
    """The nodes of a graph, and its functions, each read when it is asked for.

    Raises
    ------
    ValueError
        If it is damaged.
    """

    def __init__(self, reader: Reader, message: Message) -> None:
        self._reader = reader
        self._unread: dict[str, memoryview] = {}
        self._functions: dict[str, Function] = {}
        self.nodes = _nodes(message["nodes"])
        for function in (message["library"] or {"functions": ()})["functions"]:
            self._unread[reader.read("FunctionName", function)["signature"]["name"]] = function

    def function(self, name: str) -> Function:
        """Return a function.

        Raises
        ------
        ValueError
            If there is none of that name, or it is damaged.
        """
        if name not in self._functions:
            if name not in self._unread:
                raise ValueError(f"it calls a function that it has not, {name[:80]}")
            self._functions[name] = self._read(self._unread[name])
        return self._functions[name]

    def _read(self, data: memoryview) -> Function:
        message = self._reader.read("Function", data)
        signature = message["signature"]
        returns = {each["key"]: each["value"] for each in message["returns"]}
        return Function(
            arguments=tuple(each["name"] for each in signature["inputs"]),
            nodes=_nodes(message["nodes"]),
            returns=tuple(returns[each["name"]] for each in signature["outputs"]),
            before=tuple(each["value"] for each in message["controls"]),
        )


def _nodes(messages: Sequence[Message]) -> dict[str, Node]:
    found = {}
    for message in messages:
        inputs = message["inputs"]
        found[message["name"]] = Node(
            name=message["name"],
            operator=message["operator"],
            inputs=tuple(name for name in inputs if not name.startswith("^")),
            before=tuple(name[1:] for name in inputs if name.startswith("^")),
            attributes={each["key"]: each["value"] for each in message["attributes"]},
        )
    if len(found) != len(messages):
        raise ValueError("two nodes of it have one name")
    return found


def target(reference: str) -> str:
    """Return the name of the node that a reference means.

    Examples
    --------
    >>> target("split:output:1"), target("x:0"), target("^check")
    ('split', 'x', 'check')
    """
    return reference.lstrip("^").partition(":")[0]


def place(reference: str, node: Node | None) -> int:
    """Return which output of a node a reference means; the first where it does not say.

    Raises
    ------
    ValueError
        If it means none.
    """
    _, *rest = reference.split(":")
    if not rest:
        return 0
    first = 0
    if len(rest) == 2:
        names = _OUTPUTS.get(node.operator, ()) if node else ()
        if names:
            first = names.index(rest[0])
    if not rest[-1].isdecimal() or len(rest[-1]) > 6:
        raise ValueError(f"it refers to {reference[:80]}, which is nothing")
    return first + int(rest[-1])


def in_order(
    nodes: Mapping[str, Node],
    wanted: Collection[str],
    known: Collection[str],
    *,
    controls: bool = True,
) -> list[Node]:
    """Return the nodes that are needed for some, each after what it needs.

    Parameters
    ----------
    nodes : mapping
        All there are.
    wanted : collection of str
        The names of those to be computed.
    known : collection of str
        The names of what is there already.
    controls : bool
        Whether what must have run before a node is needed, too.

    Raises
    ------
    ValueError
        If one is absent, or needs itself.
    """
    found: list[Node] = []
    state: dict[str, bool] = dict.fromkeys(known, True)  # False while it is being looked at
    waiting = [(name, False) for name in reversed(list(wanted))]
    while waiting:
        name, left = waiting.pop()
        if left:
            state[name] = True
            found.append(nodes[name])
            continue
        if name in state:
            if not state[name]:
                raise ValueError(f"it goes around in a circle at {name[:80]}")
            continue
        if name not in nodes:
            raise ValueError(f"it has no node {name[:80]}")
        state[name] = False
        waiting.append((name, True))
        node = nodes[name]
        before = node.before if controls else ()
        needed = [target(each) for each in (*node.inputs, *before)]
        waiting.extend((each, False) for each in reversed(needed))
    return found
