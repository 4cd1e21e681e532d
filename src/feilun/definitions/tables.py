"""Tables: batch sources whose rows are events with a time column of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from feilun.definitions.events import Event
from feilun.definitions.views import Entity


@dataclass(frozen=True, slots=True)
class TableDeclaration:
    """What the class statement of a table says of its source, unread: the compiler judges it."""

    key: tuple[Entity, ...]
    source: str
    time: str
    every: str | None
    columns: Mapping[str, str]
    available_at: str | None
    delay: str | None
    lookback: str


class Table(Event):
    """The base of every table. A subclass declares fields; ``feilun sync`` brings the rows.

    A row is an event that happened at its time column: features over it are those over events,
    ``last`` with a ``ttl`` first of all. Fields are as of `Event`; a null is an absent field.

    Class keywords beside those of `Event`:

    ``key``
        The entity that names a row, or several together; each is a required field.
    ``source``
        ``"warehouse.stock"``: a source of ``feilun.toml``, then the table as the source calls it.
    ``time``
        The column that says when a row became what it is; it moves with every change.
    ``every``
        How often to synchronise while the platform runs, such as ``"15m"``.
    ``columns``
        Field to column, for fields whose columns are named otherwise.
    ``available_at``, ``delay``
        For history: the column of when a row became known, or how long after its time. By
        default a row is known from when it was synchronised.
    ``lookback``
        How far behind the newest row each sync looks again, for rows that are committed late.

    Examples
    --------
    >>> from feilun.definitions.events import Field
    >>> item = Entity("item_id", int)
    >>> class Stock(Table, key=item, source="warehouse.stock", time="updated_at", every="15m"):
    ...     item_id: Field[int]
    ...     quantity: Field[int]
    >>> Stock.quantity
    Stock.quantity
    """

    __feilun_table__: ClassVar[TableDeclaration]

    def __init_subclass__(
        cls,
        *,
        key: Entity | tuple[Entity, ...],
        source: str,
        time: str,
        every: str | None = None,
        columns: Mapping[str, str] | None = None,
        available_at: str | None = None,
        delay: str | None = None,
        lookback: str = "1h",
        version: int = 1,
        owner: str = "",
        description: str = "",
    ) -> None:
        super().__init_subclass__(version=version, owner=owner, description=description)
        cls.__feilun_table__ = TableDeclaration(
            key=key if isinstance(key, tuple) else (key,),
            source=source,
            time=time,
            every=every,
            columns=columns or {},
            available_at=available_at,
            delay=delay,
            lookback=lookback,
        )
