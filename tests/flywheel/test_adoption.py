"""Adopting: every check before anything is changed, and what the history says of it."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from feilun.definitions.specs import ClassSpec, EncodingSpec, EntitySpec, RequestSpec
from feilun.errors import ConfigError, Conflict, InputError, ModelError, WrongColumns
from feilun.flywheel.adoption import ModelFile, adopt
from feilun.flywheel.controller import Controller
from feilun.flywheel.record import turn_record
from feilun.flywheel.rollout import promote
from feilun.models.bundle import read_bundle
from feilun.testing.fakes import MemoryLog
from feilun.testing.platform_fakes import LinearLoader, LinearScorer

sys.path.insert(0, str(Path(__file__).parent))
import flywheel_world as world

DEVICE = RequestSpec("device", "str")


class TextLoader(LinearLoader):
    """Weights behind LightGBM's first line, so that they are recognised; and odd ones."""

    names = ()

    def load(self, data, columns):
        weights, odd = json.loads(data.removeprefix(b"tree\n"))
        super().load(json.dumps(weights).encode(), columns)
        return Odd(np.array(weights, float), odd)

    def column_names(self, data):
        return self.names


class Odd(LinearScorer):
    def __init__(self, weights, odd):
        super().__init__(weights)
        self.odd = odd

    def score(self, matrix):
        scores = super().score(matrix)
        match self.odd:
            case "nan":
                scores[1:] = np.nan
            case "neighbours":
                scores += matrix.mean()
            case "shape":
                scores = scores[:, None]
            case "raises":
                raise RuntimeError("no")
            case "fills":
                scores = np.nan_to_num(scores)
        return scores


def file(weights=(1, 0), odd=""):
    return ModelFile(b"tree\n" + json.dumps([list(weights), odd]).encode(), "theirs.txt")


def shop_of(folder, log=None, **parts):
    loader = TextLoader()
    parts = {"loaders": {loader.format: loader}} | parts
    return world.workshop(folder, log or MemoryLog(), **parts)


def take(shop, model_file, **options):
    return adopt(shop, "ranker", model_file, by="ann", **({"categories": {}} | options))


def assert_unchanged(shop):
    assert shop.releases.entries() == []
    assert shop.registry.versions("ranker") == []
    assert not shop.bundles.exists()


def test_it_becomes_the_first_version(tmp_path):
    shop = shop_of(tmp_path)
    adopted = take(shop, file())
    release = shop.releases.current("ranker")
    assert adopted.release == release
    assert (release.version, release.action, release.turn, release.by) == (1, "adopt", None, "ann")
    assert adopted.columns == (("user_item:clicks_1d", ""), ("user_item:clicks_2d", ""))
    bundle, data = read_bundle(shop.bundles, release.bundle)
    assert data == file().data
    assert bundle.scorer.sha256 == adopted.sha256
    assert bundle.trained["adopted"]["source"] == "theirs.txt"
    assert bundle.trained["until"] == shop.clock.now()
    assert shop.registry.get("ranker", "champion").version == 1


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("nan", "not finite"),
        ("neighbours", "among others"),
        ("shape", "one score for each"),
        ("raises", "RuntimeError: no"),
    ],
)
def test_what_scores_oddly_is_refused_and_nothing_changes(tmp_path, odd, reason):
    shop = shop_of(tmp_path)
    with pytest.raises(ModelError, match=reason):
        take(shop, file(odd=odd))
    assert_unchanged(shop)


def test_missing_features_are_tried_too(tmp_path):
    assert not take(shop_of(tmp_path / "a"), file()).scores_missing
    assert take(shop_of(tmp_path / "b"), file(odd="fills")).scores_missing


def test_another_number_of_columns_is_refused(tmp_path):
    shop = shop_of(tmp_path)
    with pytest.raises(ModelError, match=r"3.* weights for 2 columns"):
        take(shop, file((1, 2, 3)))
    assert_unchanged(shop)


def test_other_columns_are_told_beside_those_of_the_model(tmp_path):
    shop = shop_of(tmp_path, loaders={"lightgbm-text/1": Wrong()})
    with pytest.raises(ModelError, match="takes 3 columns, ranker has 2") as refused:
        take(shop, file())
    assert "The file's: a, b, c." in refused.value.message
    assert "user_item:clicks_1d, user_item:clicks_2d" in refused.value.message
    assert "features=" in refused.value.hint
    assert_unchanged(shop)


class Wrong(TextLoader):
    def load(self, data, columns):
        raise WrongColumns(3, columns, ("a", "b", "c"))


def test_each_step_is_told_before_it_begins(tmp_path):
    told = []
    take(shop_of(tmp_path), file(), tell=told.append)
    assert [step.split()[0] for step in told] == ["Checking", "Registering", "Waiting"]
    told.clear()
    with pytest.raises(ModelError):
        take(shop_of(tmp_path / "b"), file(odd="nan"), tell=told.append)
    assert [step.split()[0] for step in told] == ["Checking"]


@pytest.mark.parametrize("replace", [False, True])
def test_of_two_at_once_the_second_overrules_nobody(tmp_path, replace):
    shop = shop_of(tmp_path)
    if replace:
        take(shop, file((3, 0)))

    def overtake(step):
        if step.startswith("Registering"):
            take(shop, file((0, 1)), replace=replace)

    with pytest.raises(Conflict, match="Somebody else"):
        take(shop, file(), replace=replace, tell=overtake)
    data = read_bundle(shop.bundles, shop.releases.current("ranker").bundle)[1]
    assert data == file((0, 1)).data
    with pytest.raises(InputError, match=f"Version {1 + replace} of ranker|version {1 + replace}"):
        take(shop, file((0, 1)))


def test_the_same_names_in_another_order_are_refused(tmp_path):
    shop = shop_of(tmp_path)
    for names in (
        ("clicks_2d", "clicks_1d"),
        ("user_item:clicks_2d", "user_item:clicks_1d"),
    ):
        shop.loaders["lightgbm-text/1"].names = names
        with pytest.raises(ModelError, match="another order"):
            take(shop, file())
    assert_unchanged(shop)
    shop.loaders["lightgbm-text/1"].names = ("their_a", "their_b")
    adopted = take(shop, file())
    assert dict(adopted.columns)["user_item:clicks_2d"] == "their_b"


def test_a_version_in_production_is_replaced_only_if_that_is_said(tmp_path):
    shop = shop_of(tmp_path)
    take(shop, file())
    with pytest.raises(InputError, match="version 1 of ranker, in production"):
        take(shop, file(), replace=True)
    with pytest.raises(InputError, match="is in production") as refused:
        take(shop, file((0, 1)))
    assert "--replace" in refused.value.hint
    assert take(shop, file((0, 1)), replace=True).release.version == 2


def test_texts_need_a_dictionary(tmp_path):
    spec = world.model(columns=(*world.FEATURES, DEVICE))
    shop = shop_of(tmp_path, project=world.project(spec))
    with pytest.raises(InputError, match="nothing says their codes: request:device"):
        take(shop, file((1, 0, 0)))
    with pytest.raises(InputError, match="value twice"):
        take(shop, file((1, 0, 0)), categories={"request:device": ["web", "web"]})
    with pytest.raises(InputError, match="no text column"):
        take(shop, file((1, 0, 0)), categories={"request:device": ["web"], "a:b": []})
    assert_unchanged(shop)
    adopted = take(shop, file((1, 0, 0)), categories={"request:device": ["web", "app"]})
    bundle, _ = read_bundle(shop.bundles, adopted.release.bundle)
    assert bundle.categories == {"request:device": ("web", "app")}
    # Its codes are its own: its vectors are not mixed with others'.
    assert bundle.logged_columns(spec.columns_digest) != spec.columns_digest


def test_a_model_that_nothing_uses_is_refused(tmp_path):
    project = dataclasses.replace(world.project(), capabilities={})
    shop = shop_of(tmp_path, project=project)
    with pytest.raises(ConfigError, match="No capability uses"):
        take(shop, file())
    assert_unchanged(shop)


def test_a_shadow_changes_nothing_in_production(tmp_path):
    shop = shop_of(tmp_path)
    take(shop, file())
    second = take(shop, file((0, 1)), shadow=True)
    assert shop.releases.current("ranker").version == 1
    entry = shop.releases.rollout("ranker")
    assert second.release == entry
    assert (entry.stage, entry.version, entry.percent, entry.by) == ("shadow", 2, 0.0, "ann")
    assert shop.registry.get("ranker", "champion").version == 1
    bundle, data = read_bundle(shop.bundles, entry.bundle)
    assert (data, bundle.trained["adopted"]["by"]) == (file((0, 1)).data, "ann")
    assert promote(shop, "ranker", "bob").version == 2


def test_one_shadow_at_a_time_and_not_of_itself(tmp_path):
    shop = shop_of(tmp_path)
    take(shop, file())
    with pytest.raises(InputError, match="in production"):
        take(shop, file(), shadow=True)
    take(shop, file((0, 1)), shadow=True)
    with pytest.raises(InputError, match="being rolled out"):
        take(shop, file((1, 1)), shadow=True)
    assert [each.version for each in shop.registry.versions("ranker")] == [1, 2]


def test_a_shadow_may_come_before_any_version(tmp_path):
    shop = shop_of(tmp_path)
    take(shop, file(), shadow=True)
    assert shop.releases.current("ranker") is None
    assert promote(shop, "ranker", "bob").version == 1


def classifier(keep=lambda: None, item="intent"):
    text = EncodingSpec("ranker", "a" * 64, 2, DEVICE)
    column = ClassSpec(text, ("x", "y"), item)
    data = b"tree\n" + json.dumps([[1], "fills"]).encode()
    return ModelFile(data, "theirs", "lightgbm-text/1", column, keep)


def test_a_classifier_brings_its_column_and_is_kept_last(tmp_path):
    kept = []
    shop = shop_of(tmp_path)
    adopted = take(shop, classifier(lambda: kept.append(shop.bundles.exists())))
    assert kept == [False], "before its bundle, so that a bundle never lacks it"
    assert adopted.columns == (("ranker(request:device)[intent]", ""),)
    bundle, _ = read_bundle(shop.bundles, adopted.release.bundle)
    assert bundle.columns[0].classes == ("x", "y")
    assert bundle.definition_digest == shop.project.models["ranker"].definition_digest
    with pytest.raises(InputError, match="--replace"):
        take(
            shop, classifier(lambda: kept.append("again"), item="other")._replace(data=file().data)
        )
    assert kept == [False], "what is refused keeps nothing"


def test_what_tells_no_classes_is_no_classifier(tmp_path):
    project = world.workshop(tmp_path, MemoryLog()).project
    model = dataclasses.replace(project.models["ranker"], classes=EntitySpec("intent", "str"))
    project = dataclasses.replace(project, models={"ranker": model})
    shop = shop_of(tmp_path)
    shop = dataclasses.replace(shop, project=project)
    with pytest.raises(ModelError, match="no text classifier"):
        take(shop, file())
    assert_unchanged(shop)


def test_a_turn_judges_its_challenger_by_the_adopted_champion(tmp_path):
    log = world.shop_log(300)
    shop = shop_of(tmp_path, log, loaders={"lightgbm-text/1": Either()})
    take(shop, file((-1, 0)), trained_until=0)  # it has everything upside down
    (turn,) = Controller(shop).run_once()
    record = turn_record(shop.turns, turn)
    assert record["state"] == "promoted", record
    assert "version 1" in json.dumps(record)
    actions = [entry.action for entry in shop.releases.entries()]
    assert actions == ["adopt", "promote"]


class Either(TextLoader):
    """Loads what was adopted, and what the stand-in for training makes."""

    def load(self, data, columns):
        adopted = data.startswith(b"tree\n")
        return (super() if adopted else LinearLoader()).load(data, columns)


def test_nobody_trains_what_is_adopted_for_good(tmp_path):
    shop = shop_of(tmp_path, project=world.project(world.model(train=None)))
    with pytest.raises(InputError, match="nothing here trains it"):
        Controller(shop).turn_by_hand("ranker")
