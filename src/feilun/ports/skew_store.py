"""What the audit of served vectors has found until now."""

from __future__ import annotations

from typing import Protocol

import msgspec


class FeatureSkew(msgspec.Struct, frozen=True):
    """Rows in which a feature was computed again, and in how many of them it came out otherwise."""

    audited: int = 0
    mismatched: int = 0

    @property
    def rate(self) -> float:
        """The part that came out otherwise."""
        return self.mismatched / self.audited if self.audited else 0.0


class ModelSkew(msgspec.Struct, frozen=True):
    """What is known of the vectors of one model.

    Attributes
    ----------
    requests : int
        Whose vectors were computed again.
    left_out : dict
        How many were chosen and could not be, by the reason why.
    features : dict
        What came out, by the address of the feature or of the expression.
    """

    requests: int = 0
    left_out: dict[str, int] = {}
    features: dict[str, FeatureSkew] = {}

    def plus(self, other: ModelSkew) -> ModelSkew:
        """Return both together.

        Examples
        --------
        >>> a = ModelSkew(1, {"unbuilt": 1}, {"user:orders": FeatureSkew(5, 0)})
        >>> b = ModelSkew(2, {}, {"user:orders": FeatureSkew(7, 1)})
        >>> a.plus(b).features["user:orders"]
        FeatureSkew(audited=12, mismatched=1)
        """
        left_out = dict(self.left_out)
        for reason, count in other.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
        features = dict(self.features)
        for address, found in other.features.items():
            known = features.get(address, FeatureSkew())
            features[address] = FeatureSkew(
                known.audited + found.audited, known.mismatched + found.mismatched
            )
        return ModelSkew(self.requests + other.requests, left_out, features)


class SkewState(msgspec.Struct, frozen=True):
    """Everything below ``offset`` was looked at; ``models`` says what came of it, by name."""

    offset: int = 0
    models: dict[str, ModelSkew] = {}


class SkewStore(Protocol):
    """Keeps one state, durably."""

    def load(self) -> SkewState:
        """Return the state; an empty one at first. Called by gateways at every scrape."""
        ...

    def save(self, state: SkewState, expected: int) -> None:
        """Put ``state`` in the place of the one at offset ``expected``, in one transaction.

        Called by the flywheel's process after each audit, so that every prediction counts once.

        Raises
        ------
        Fenced
            If the stored state is at another offset: somebody else audits.
        """
        ...

    def close(self) -> None:
        """Give back what it holds; further calls are errors."""
        ...
