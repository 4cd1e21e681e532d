"""A graph made into a list of steps: functions are put in place, and what is known is computed.

What does not depend on the rows is computed once, while the plan is made: constants, variables, and
all of a model's restoring and initialising. Each operator is looked up in a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from feilun.adapters.tensorflow.graph import Function, Graph, Node, in_order, place, target
from feilun.adapters.tensorflow.messages import Attributes, FunctionRef
from feilun.adapters.tensorflow.plan import Plan, Run, Step, chosen, pick, run_branch, run_loop

MAX_STEPS = 200_000
MAX_DEPTH = 48


class Operators(NamedTuple):
    """What may be called, by name.

    ``plain`` are functions of an operator's inputs; ``shaped`` take its attributes before them.
    """

    plain: Mapping[str, Run]
    shaped: Mapping[str, Run]


class _Draft:
    """A plan in the making: values by their places, known or to be computed."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.known: list[bool] = []
        self.steps: list[Step] = []

    def keep(self, value: Any) -> int:
        self.values.append(value)
        self.known.append(True)
        return len(self.values) - 1

    def open(self) -> int:
        self.values.append(None)
        self.known.append(False)
        return len(self.values) - 1

    def add(self, run: Run, inputs: Sequence[int]) -> int:
        """Return the place of a result: computed now if all is known, else a step's."""
        if all(self.known[at] for at in inputs):
            return self.keep(run(*[self.values[at] for at in inputs]))
        output = self.open()
        self.steps.append(Step(run, tuple(inputs), output))
        return output

    def plan(self, arguments: Sequence[int], returns: Sequence[int]) -> Plan:
        return Plan(tuple(self.values), tuple(arguments), tuple(self.steps), tuple(returns))


class _Many(NamedTuple):
    """The results of one operator that has several: one place for all."""

    at: int


Outputs = list[int] | _Many


class Planner:
    """Makes plans of one graph.

    Parameters
    ----------
    graph : Graph
        The nodes and functions.
    attributes : callable
        Reads a node's attribute.
    operators : Operators
        What may be called.
    resources : callable
        Returns the variable or table that a node stands for; None if it stands for none.
    controls : bool
        Whether what must have run before a node is planned, too.

    Attributes
    ----------
    written, used : set of int
        The ids of variables that would be changed, and of variables and tables that are used.
        What would change one is left out where it is not among the operators.
    """

    def __init__(
        self,
        graph: Graph,
        attributes: Callable[[memoryview], Any],
        operators: Operators,
        resources: Callable[[Node, Attributes], Any],
        *,
        controls: bool = True,
    ) -> None:
        self._graph = graph
        self._read = attributes
        self._operators = operators
        self._resources = resources
        self._controls = controls
        self._count = 0
        self.written: set[int] = set()
        self.used: set[int] = set()

    def plan(
        self, wanted: Sequence[str], given: Mapping[str, Any], arguments: Sequence[str] = ()
    ) -> Plan:
        """Return the plan of some outputs of the graph.

        Parameters
        ----------
        wanted : sequence of str
            References to what is computed; a node without output is run for what it does.
        given : mapping
            What some nodes give, whatever they are.
        arguments : sequence of str
            The names of the nodes that stand for what is known only later.

        Raises
        ------
        ValueError
            If the graph is damaged, or has an operator that is not known.
        """
        draft = _Draft()
        outputs: dict[str, Outputs] = {name: [draft.keep(value)] for name, value in given.items()}
        places = [draft.open() for _ in arguments]
        outputs |= {name: [at] for name, at in zip(arguments, places, strict=True)}
        self._fill(draft, self._graph.nodes, outputs, [target(each) for each in wanted], 0)
        returns = [
            self._at(draft, each, self._graph.nodes, outputs)
            for each in wanted
            if outputs[target(each)]
        ]
        return draft.plan(places, returns)

    def _fill(
        self,
        draft: _Draft,
        nodes: Mapping[str, Node],
        outputs: dict[str, Outputs],
        wanted: Sequence[str],
        depth: int,
    ) -> None:
        if depth > MAX_DEPTH:
            raise ValueError("its functions call each other too deeply")
        for node in in_order(nodes, wanted, outputs, controls=self._controls):
            self._count += 1
            if self._count > MAX_STEPS:
                raise ValueError("it has too many steps")
            inputs = [self._at(draft, each, nodes, outputs) for each in node.inputs]
            try:
                outputs[node.name] = self._node(draft, node, inputs, depth)
            except (TypeError, IndexError, KeyError, AttributeError) as error:
                raise ValueError(f"{node.operator} fails: {error}") from error

    def _at(
        self,
        draft: _Draft,
        reference: str,
        nodes: Mapping[str, Node],
        outputs: Mapping[str, Outputs],
    ) -> int:
        """Return the place of what a reference means."""
        name = target(reference)
        found, which = outputs[name], place(reference, nodes.get(name))
        if isinstance(found, _Many):
            return draft.add(partial(pick, which), [found.at])
        if which >= len(found):
            raise ValueError(f"it refers to {reference[:80]}, which is nothing")
        return found[which]

    def _node(self, draft: _Draft, node: Node, inputs: list[int], depth: int) -> Outputs:  # noqa: PLR0911  one for each kind
        kind = node.operator
        if kind == "NoOp":
            return []
        attributes = LazyAttributes(node.attributes, self._read)
        if kind == "Const":
            return [draft.keep(attributes["value"])]
        if kind in ("PartitionedCall", "StatefulPartitionedCall"):
            return self._call(draft, self._function(attributes["f"]), inputs, depth)
        if kind in ("If", "StatelessIf"):
            names = [attributes["else_branch"], attributes["then_branch"]]
            return self._branch(draft, names, inputs, depth)
        if kind in ("Case", "StatelessCase"):
            return self._branch(draft, attributes["branches"], inputs, depth)
        if kind in ("While", "StatelessWhile"):
            return self._loop(draft, attributes["cond"], attributes["body"], inputs, depth)
        resource = self._resources(node, attributes)
        if resource is not None:
            return [draft.keep(resource)]
        run = self._operators.plain.get(kind)
        if run is None and kind in self._operators.shaped:
            run = partial(self._operators.shaped[kind], attributes)
        handles = {
            id(value) for value in (draft.values[at] for at in inputs if draft.known[at])
            if not isinstance(value, np.ndarray)
        }  # fmt: skip
        if run is None and kind in _WRITES and handles:
            self.written |= handles
            return []
        self.used |= handles
        if run is None:
            raise ValueError(
                f"it calls {kind[:80]}, which is not among the operators that are known"
            )
        at = draft.add(run, inputs)
        if kind in _SEVERAL:
            return _Many(at)
        return [at]

    def _function(self, said: Any) -> Function:
        if not isinstance(said, FunctionRef):
            raise ValueError("it calls what is no function")
        return self._graph.function(said.name)

    def _call(
        self, draft: _Draft, function: Function, inputs: Sequence[int], depth: int
    ) -> list[int]:
        """Put a function in the place of its call."""
        outputs: dict[str, Outputs] = {
            name: [at] for name, at in zip(function.arguments, inputs, strict=True)
        }
        before = function.before if self._controls else ()
        wanted = [target(each) for each in (*function.returns, *before)]
        self._fill(draft, function.nodes, outputs, wanted, depth + 1)
        return [self._at(draft, each, function.nodes, outputs) for each in function.returns]

    def _branch(
        self, draft: _Draft, names: Sequence[Any], inputs: Sequence[int], depth: int
    ) -> Outputs:
        choice, *rest = inputs
        functions = [self._function(each) for each in names]
        if draft.known[choice]:
            return self._call(draft, chosen(functions, draft.values[choice]), rest, depth)
        fixed = [True] * len(rest)
        plans = [self._apart(draft, each, rest, fixed, depth) for each in functions]
        return _Many(draft.add(partial(run_branch, plans), inputs))

    def _loop(
        self, draft: _Draft, test: Any, body: Any, inputs: Sequence[int], depth: int
    ) -> Outputs:
        turned = self._function(body)
        # What every turn hands on as it is, such as a weight, is known inside, too.
        fixed = [n == back for n, back in zip(turned.arguments, turned.returns, strict=True)]
        plans = [
            self._apart(draft, each, inputs, fixed, depth)
            for each in (self._function(test), turned)
        ]
        return _Many(draft.add(partial(run_loop, *plans), inputs))

    def _apart(
        self,
        draft: _Draft,
        function: Function,
        inputs: Sequence[int],
        fixed: Sequence[bool],
        depth: int,
    ) -> Plan:
        """Return the plan of a function with a list of its own; what is ``fixed`` may be known."""
        own = _Draft()
        places = [
            own.keep(draft.values[at]) if stays and draft.known[at] else own.open()
            for at, stays in zip(inputs, fixed, strict=True)
        ]
        returns = self._call(own, function, places, depth)
        return own.plan(places, returns)


class LazyAttributes(Attributes):
    """The attributes of a node, each read when it is asked for."""

    def __init__(self, unread: Mapping[str, memoryview], read: Callable[[memoryview], Any]) -> None:
        self._unread = unread
        self._read = read
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self._read(self._unread[name])
        return self._found[name]

    def __iter__(self) -> Any:
        return iter(self._unread)

    def __len__(self) -> int:
        return len(self._unread)


_WRITES = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")
_SEVERAL = frozenset(
    """
    DynamicPartition FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 IdentityN
    LookupTableExportV2 RestoreV2 ShapeN SparseFillEmptyRows SparseReshape Split SplitV
    TensorListPopBack TopKV2 Unique Unpack
    """.split()  # noqa: SIM905  a word each, not a line
)
"""Operators whose results are a tuple."""
