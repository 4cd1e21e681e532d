"""Definitions change under live versions: each reads what it was trained on, at any moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feilun.clock import DAY, HOUR
from feilun.definitions.specs import (
    ConditionSpec,
    EntitySpec,
    EventSpec,
    FeatureSpec,
    FieldSpec,
    FoldSpec,
    ModelSpec,
    OutcomeSpec,
    Project,
    ViewSpec,
)
from feilun.errors import Unavailable
from feilun.features import engine as engine_module
from feilun.features.built import KEY, decode_built
from feilun.features.engine import Engine
from feilun.features.frames import event_frames
from feilun.features.online import OnlineReader
from feilun.features.point_in_time import Spine, point_in_time
from feilun.models import pinned
from feilun.models.bundle import (
    Bundle,
    columns_of,
    folds_of,
    read_description,
    resolve_columns,
    scorer_file,
    write_bundle,
)
from feilun.models.pinned import PinnedFolds
from feilun.ports.releases import step_back
from feilun.testing.fakes import MemoryLog, MemoryStore
from feilun.testing.platform_fakes import InMemoryReleases, InMemoryTurns
from feilun.testing.records import START, make_record

USER = EntitySpec("user_id", "int")
CLICK = EventSpec(
    "click", 1, (FieldSpec("user_id", "int"), FieldSpec("place", "int")), "user_id"
)  # fmt: skip
DEAR, CHEAP = ConditionSpec(">=", "place", 3), ConditionSpec("in", "place", (0, 1))


def feature(name, kind="count", of=None, window=None, n=0, hop=HOUR, **fold):
    spec = FoldSpec(
        kind, "click", of, "int", (USER,), hop if window else 0, "UTC", n=n or 1,
        retention=window, required=True, **fold,
    )  # fmt: skip
    dtype = "float" if kind == "mean" else "int"
    return FeatureSpec("view", name, spec, window, 0, dtype, bool(n), n or 1, None, None)


MEANINGS = {
    "recent": [
        feature("recent", window=DAY),
        feature("recent", window=2 * DAY),
        feature("recent", window=DAY, hop=2 * HOUR),
    ],
    "some": [
        feature("some", where=DEAR),
        feature("some", where=CHEAP),
        feature("some", where=ConditionSpec("not", parts=(DEAR,))),
        feature("some"),
    ],
    "place": [
        feature("place", "last", "place"),
        feature("place", "last", "place", n=3),
        feature("place", "mean", "place"),
        replace(feature("place", "last", "place"), default=-1),
    ],
}


def project_of(*features):
    columns = tuple(each for each in features if not each.is_list)
    model = ModelSpec("ranker", columns, OutcomeSpec("click", HOUR, "happened"), "auc", print, "")
    view = ViewSpec("view", (USER,), features)
    entities, events = {"user_id": USER}, {"click": CLICK}
    return Project("shop", "UTC", entities, events, {"view": view}, {"ranker": model}, {}, {})


class World:
    """A platform in memory whose engine and gateway are restarted by themselves."""

    def __init__(self, folder, project):
        self.folder, self.project = folder, project
        self.log, self.store = MemoryLog(), MemoryStore()
        self.releases = InMemoryReleases(InMemoryTurns())
        self.bundles = {}
        self.built = set()
        self.clicks = 0
        self.restart_engine()
        self.restart_gateway()

    def restart_engine(self):
        pins = PinnedFolds(self.project, self.releases, self.folder)
        self.engine = Engine(self.project, self.log, self.store, pinned=pins)

    def restart_gateway(self):
        self.reader = OnlineReader(self.project, self.store)

    def click(self, places, back=0):
        for place in places:
            self.clicks += 1
            time = START + self.clicks * HOUR - back
            received = START + self.clicks * HOUR
            self.log.append([make_record(
                f"c{self.clicks}", 1, place, time=time, received=received,
                schema=CLICK.schema_id,
            )])  # fmt: skip

    def train(self):
        model = self.project.models["ranker"]
        bundle = Bundle(
            "ranker", columns_of(model, {}), "user_id", scorer_file(b"any"), "auc", {},
            model.definition_digest, folds_of(model),
        )  # fmt: skip
        digest = write_bundle(self.folder, bundle, b"any")
        self.bundles[digest] = model
        return digest

    def promote(self, digest):
        version = 1 + list(self.bundles).index(digest)
        self.releases.append(
            "ranker", version, digest, action="promote", offset=0, at=START, turn=None, by="test"
        )

    def try_out(self, digest, stage="canary"):
        current, known = self.releases.current("ranker"), self.releases.rollout("ranker")
        self.releases.append_rollout(
            "ranker", stage, 99, digest, percent=5.0, salt="s",
            release=current.sequence if current else 0, after=known.sequence if known else 0,
            offset=0, at=START, by="test",
        )  # fmt: skip

    def live(self):
        entries = self.releases.entries("ranker")
        current, before = (entries[-1] if entries else None), step_back(entries)
        rollout = self.releases.rollout("ranker")
        beside = current.sequence if current else 0
        found = [each.bundle for each in (current, before) if each]
        if rollout and rollout.stage != "off" and rollout.release == beside:
            found.append(rollout.bundle)
        return set(found)

    def check(self):
        """Every live version reads its own meanings, and goes on to once they are built."""
        live = self.live()
        self.built &= live
        for digest in live:
            if self.reads(digest):
                self.built.add(digest)
            else:
                assert digest not in self.built

    def check_view(self):
        """Every feature is there, whole, by some definition; return those that are read."""
        features = self.reader.project.views["view"].features
        with self.reader.snapshot() as snapshot:
            current = snapshot.current(features)
        assert [each.address for each in current] == [each.address for each in features]
        assert self.agrees(current, current)
        return current

    def reads(self, digest):
        """Compare what a version reads with the oracle; return whether all of it is there."""
        trained = self.bundles[digest]
        bundle = read_description(self.folder, digest)
        columns = resolve_columns(bundle.columns, self.reader.project, bundle.folds)
        then = replace(trained, columns=columns)
        assert then.columns_digest == trained.columns_digest
        return self.agrees(columns, trained.columns)

    def agrees(self, columns, meant):
        """Compare what is read with the oracle of what is meant; return whether all is there."""
        with self.reader.snapshot() as snapshot:
            as_of, known = snapshot.mark.time + 1, snapshot.mark.offset
            found = snapshot.read(columns, {"user_id": 1}, None, (), as_of)
            row = snapshot.read_row(columns, {"user_id": 1}, as_of)
            unbuilt = set(snapshot.unbuilt(columns))
        spine = Spine({"user_id": [1]}, np.array([as_of]), np.array([known]))
        frames = event_frames(self.project, self.log.read(0, max(known, 1)))
        truth = point_in_time(self.project, meant, spine, frames)
        for column in meant:
            address = column.address
            if address in unbuilt:
                assert not found[address].present[0]
                continue
            assert found[address].present[0] == truth[address].present[0], column
            if truth[address].present[0]:
                value = truth[address].values[0]
                assert found[address].values[0] == value == row.values[address], column
        return not unbuilt

    def run_to_end(self):
        while self.engine.run_once(5):
            self.check()
        self.check()


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(engine_module, "BUILD_BATCH", 4)
    monkeypatch.setattr(engine_module, "_DISCARD", 2)


def some_project(draw):
    chosen = [draw(st.sampled_from([*meanings, None])) for meanings in MEANINGS.values()]
    found = [each for each in chosen if each is not None]
    if not any(not each.is_list for each in found):
        found.append(feature("always"))
    return project_of(*found)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_live_version_reads_what_it_was_trained_on(tmp_path, data):
    world = World(tmp_path, some_project(data.draw))
    world.click(data.draw(st.lists(st.integers(0, 5), max_size=8)))
    acts = ["click", "fold", "fold", "define", "engine", "gateway", "promote", "back", "try", "end"]
    for _ in range(data.draw(st.integers(1, 14))):
        match data.draw(st.sampled_from(acts)):
            case "click":
                back = data.draw(st.sampled_from([0, 20 * HOUR]))
                world.click(data.draw(st.lists(st.integers(0, 5), max_size=4)), back)
            case "fold":
                world.engine.run_once(data.draw(st.integers(1, 6)))
            case "define":
                world.project = some_project(data.draw)
            case "engine":
                world.restart_engine()
            case "gateway":
                world.restart_gateway()
            case "promote":
                world.promote(world.train())
            case "back":
                before = step_back(world.releases.entries("ranker"))
                if before is not None:
                    world.promote(before.bundle)
            case "try":
                world.try_out(world.train())
            case "end":
                if world.releases.rollout("ranker"):
                    world.try_out(world.releases.rollout("ranker").bundle, "off")
        world.check()
    world.restart_engine()
    world.restart_gateway()
    world.run_to_end()
    assert world.live() == world.built
    with world.store.snapshot() as snapshot:
        built = decode_built(snapshot.get(KEY), world.project)
    live = [fold for digest in world.live() for fold in folds_of(world.bundles[digest])]
    wanted = {fold.fingerprint for fold in (*world.project.folds, *live)}
    assert built.dropped == ()
    for holding in built.holdings:
        assert wanted & {fold.fingerprint for fold in holding.family.folds}
    families = {holding.family.id for holding in built.holdings}
    assert {key[:8] for key in world.store._values if key != KEY} <= families


ALIKE = [
    [*MEANINGS["recent"], feature("recent")],
    MEANINGS["some"],
    [MEANINGS["place"][0], MEANINGS["place"][3], feature("place", "max", "place")],
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_people_see_the_old_meaning_until_the_new_one_is_whole(tmp_path, data):
    def defined():
        return project_of(*(data.draw(st.sampled_from(meanings)) for meanings in ALIKE))

    world = World(tmp_path, defined())
    world.click(data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=8)))
    world.run_to_end()
    world.check_view()
    for _ in range(data.draw(st.integers(1, 12))):
        match data.draw(st.sampled_from(["click", "fold", "fold", "define", "engine", "gateway"])):
            case "click":
                world.click(data.draw(st.lists(st.integers(0, 5), max_size=4)))
            case "fold":
                world.engine.run_once(data.draw(st.integers(1, 6)))
            case "define":
                world.project = defined()
            case "engine":
                world.restart_engine()
            case "gateway":
                world.restart_gateway()
        world.check_view()
    world.restart_engine()
    world.restart_gateway()
    while world.engine.run_once(3):
        world.check_view()
    features = world.project.views["view"].features
    assert all(a is b for a, b in zip(world.check_view(), features, strict=True))


OLD = [feature("some", where=DEAR), feature("recent", window=2 * DAY)]
NEW = [feature("some", where=CHEAP), feature("recent", window=DAY, hop=2 * HOUR)]


def changed(tmp_path):
    """A version in production whose definitions have changed, and everything is built."""
    world = World(tmp_path, project_of(*OLD))
    world.click([3, 0, 4, 1])
    world.promote(world.train())
    world.run_to_end()
    world.check()
    assert world.built == world.live()
    world.project = project_of(*NEW)
    world.restart_engine()
    world.restart_gateway()
    world.run_to_end()
    return world


def held(world):
    with world.store.snapshot() as snapshot:
        built = decode_built(snapshot.get(KEY), world.project)
    return {fold for holding in built.holdings for fold in holding.family.folds}


def test_what_no_live_version_reads_is_given_up(tmp_path):
    world = changed(tmp_path)
    assert OLD[0].fold in held(world)
    world.promote(world.train())
    world.run_to_end()
    assert OLD[0].fold in held(world)  # a rollback would return to it
    for only in (feature("some"), feature("place", "last", "place")):
        world.project = project_of(only)
        world.restart_engine()
        world.promote(world.train())
        world.run_to_end()
    assert OLD[0].fold not in held(world)


def test_a_rebuild_builds_what_is_pinned_too(tmp_path):
    world = changed(tmp_path)
    world.engine.rebuild()
    world.check()
    assert world.built == world.live()


def test_a_bundle_that_was_lost_pins_again_when_it_is_back(tmp_path, monkeypatch, caplog):
    world = changed(tmp_path)
    (digest,) = world.bundles
    (tmp_path / digest).rename(tmp_path / "away")
    world.restart_engine()
    while world.engine.run_once():
        pass
    assert OLD[0].fold not in held(world)
    assert caplog.text.count("pins no features") == 1
    (tmp_path / "away").rename(tmp_path / digest)
    monkeypatch.setattr(pinned, "RETRY_SECONDS", -1.0)
    world.built.clear()
    world.run_to_end()
    world.check()
    assert world.built == {digest}


def test_a_history_that_cannot_be_read_for_now_unpins_nothing(tmp_path, monkeypatch):
    world = changed(tmp_path)

    def fail(_):
        raise Unavailable("The database is locked.", "Wait.")

    monkeypatch.setattr(world.releases, "current", fail)
    world.click([5, 5])
    world.run_to_end()
    world.check()
    assert OLD[0].fold in held(world)
    world.restart_engine()
    with pytest.raises(Unavailable):
        world.engine.run_once()


def test_the_description_of_an_entity_is_no_part_of_what_is_folded(tmp_path):
    world = World(tmp_path, project_of(*OLD))
    world.click([3, 0, 4, 1])
    world.run_to_end()
    user = replace(USER, description="who buys")
    features = [replace(f, fold=replace(f.fold, keys=(user,))) for f in OLD]
    view = ViewSpec("view", (user,), tuple(features))
    world.project = replace(
        project_of(*features), entities={"user_id": user}, views={"view": view}
    )  # fmt: skip
    world.restart_engine()
    assert world.engine.run_once() == 0
    with OnlineReader(world.project, world.store).snapshot() as snapshot:
        assert snapshot.unbuilt(features) == []


def test_what_has_another_type_now_does_not_stand_in(tmp_path):
    world = World(tmp_path, project_of(feature("some"), feature("place", "last", "place")))
    world.click([3, 0, 4, 1, 2, 5, 0])
    world.run_to_end()
    listed = feature("place", "last", "place", n=3)
    world.project = project_of(feature("some"), listed)
    world.restart_engine()
    world.restart_gateway()
    world.engine.run_once(1)
    with world.reader.snapshot() as snapshot:
        assert snapshot.current([listed]) == (listed,)
        assert snapshot.unbuilt([listed]) == ["view:place"]
    world.run_to_end()
    with world.reader.snapshot() as snapshot:
        assert snapshot.unbuilt([listed]) == []
