"""What compiling has come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from feilun.definitions.events import Event
from feilun.definitions.features import Feature
from feilun.definitions.models import Model
from feilun.definitions.problems import Problems
from feilun.definitions.specs import (
    EntitySpec,
    EventSpec,
    ExpressionSpec,
    FeatureSpec,
    ModelSpec,
    ViewSpec,
)
from feilun.definitions.views import FeatureView


@dataclass
class Scope:
    """The project's settings, what was right so far, and what was wrong.

    Each part of the compiler looks up what came before it and adds its own. What is absent though
    it was defined is wrong, and noted: whoever needs it stays silent.
    """

    timezone: str = "UTC"
    owner: str = ""
    problems: Problems = field(default_factory=Problems)
    entities: dict[str, EntitySpec] = field(default_factory=dict)
    events: dict[type[Event], EventSpec] = field(default_factory=dict)
    views: dict[type[FeatureView], ViewSpec] = field(default_factory=dict)
    features: dict[Feature[Any], FeatureSpec | ExpressionSpec] = field(default_factory=dict)
    encoders: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By name of each encoder, its version and the size of its vectors."""
    models: dict[Model, ModelSpec] = field(default_factory=dict)
