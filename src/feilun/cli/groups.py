"""How groups of commands look."""

from __future__ import annotations

import click


class InOrder(click.Group):
    """A group whose help lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands, unsorted."""
        return list(self.commands)
