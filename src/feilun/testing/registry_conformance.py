"""The exam of a `ModelRegistry`: subclass `ModelRegistryExam` and say how to make one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from feilun.errors import UnknownName
from feilun.ports.model_registry import ModelRegistry, ModelVersion


class ModelRegistryExam(ABC):
    """What every model registry must do."""

    @abstractmethod
    def make(self, folder: Path) -> ModelRegistry:
        """Return an empty registry that may keep its files in ``folder``."""

    @pytest.fixture
    def registry(self, tmp_path: Path) -> ModelRegistry:
        """Give each test a registry of its own."""
        return self.make(tmp_path)

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Path:
        """Give each test a folder to register."""
        folder = tmp_path / "bundles" / "a1"
        folder.mkdir(parents=True)
        (folder / "bundle.json").write_text("{}")
        return folder

    def test_versions_are_numbered_from_one(self, registry: ModelRegistry, bundle: Path) -> None:
        """Each model has its own numbers, oldest first."""
        first = _register(registry, "ranker", "a1", bundle)
        second = _register(registry, "ranker", "b2", bundle)
        other = _register(registry, "demand", "a1", bundle)
        assert [first.version, second.version, other.version] == [1, 2, 1]
        assert registry.versions("ranker") == [first, second]
        assert (first.model, first.bundle) == ("ranker", "a1")
        assert registry.get("ranker", 2) == second

    def test_a_bundle_is_registered_once(self, registry: ModelRegistry, bundle: Path) -> None:
        """The second try returns the first's version, also after others came."""
        first = _register(registry, "ranker", "a1", bundle)
        _register(registry, "ranker", "b2", bundle)
        assert _register(registry, "ranker", "a1", bundle) == first
        assert len(registry.versions("ranker")) == 2

    def test_an_alias_moves(self, registry: ModelRegistry, bundle: Path) -> None:
        """It names one version of one model at a time."""
        first = _register(registry, "ranker", "a1", bundle)
        second = _register(registry, "ranker", "b2", bundle)
        assert registry.get("ranker", "champion") is None
        registry.set_alias("ranker", "champion", 1)
        registry.set_alias("ranker", "champion", 1)
        registry.set_alias("ranker", "challenger", 2)
        assert registry.get("ranker", "champion") == first
        registry.set_alias("ranker", "champion", 2)
        assert registry.get("ranker", "champion") == second
        assert registry.get("ranker", "challenger") == second

    def test_what_is_not_there(self, registry: ModelRegistry, bundle: Path) -> None:
        """None and empty for questions, an error for orders."""
        assert registry.versions("ranker") == []
        assert registry.get("ranker", 1) is None
        assert registry.get("ranker", "champion") is None
        _register(registry, "ranker", "a1", bundle)
        assert registry.get("ranker", 7) is None
        with pytest.raises(UnknownName):
            registry.set_alias("ranker", "champion", 7)

    def test_any_value_can_be_told(self, registry: ModelRegistry, bundle: Path) -> None:
        """Long, Chinese and not finite ones too, and metrics with an @ in their name."""
        version = registry.register(
            "ranker",
            "a1",
            bundle,
            params={"long": "x" * 10_000, "none": None, "叶": 31},
            metrics={"precision@10": 0.25, "nan": float("nan"), "inf": float("inf")},
            tags={"long": "标" * 10_000, "empty": ""},
        )
        assert registry.get("ranker", 1) == version


def _register(registry: ModelRegistry, model: str, bundle: str, folder: Path) -> ModelVersion:
    return registry.register(
        model, bundle, folder, params={"leaves": 31}, metrics={"auc": 0.5}, tags={"cut": "70"}
    )
