"""Bundles: whole or not there, and no byte of them is trusted before its digest."""

import hashlib
import os
import shutil
from dataclasses import dataclass, replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feilun.clock import DAY
from feilun.definitions.specs import (
    ConditionSpec,
    EntitySpec,
    EventSpec,
    ExpressionSpec,
    FeatureSpec,
    FieldSpec,
    FoldSpec,
    ModelSpec,
    OutcomeSpec,
    Project,
    RequestSpec,
    ViewSpec,
)
from feilun.errors import ConfigError, CorruptData, FeilunError, ModelError, StoreFull
from feilun.models import bundle as bundles
from feilun.models.bundle import (
    Bundle,
    FeatureColumn,
    columns_of,
    folds_of,
    read_bundle,
    resolve_columns,
    scorer_file,
    write_bundle,
)

DATA = b"tree\nversion=v4\n"


def make(data=DATA, **changes):
    fields = {
        "model": "ranker",
        "columns": (
            FeatureColumn("user:orders", "00ff00ff00ff00ff", DAY, 0, "int", 0, None),
            FeatureColumn("user:city", "00ff00ff00ff0000", None, 0, "str", None, DAY, ("北京",)),
        ),
        "item": "item_id",
        "scorer": scorer_file(data),
        "metric": "auc",
        "trained": {"cut": 100, "run_id": "r1"},
        "definition_digest": "abc",
    }
    return Bundle(**{**fields, **changes})


def names(root):
    return [path.name for path in root.iterdir()] if root.is_dir() else []


def test_a_bundle_comes_back_as_it_was(tmp_path):
    digest = write_bundle(tmp_path, make(), DATA)
    assert read_bundle(tmp_path, digest) == (make(), DATA)
    assert names(tmp_path) == [digest]


def test_the_same_bundle_is_stored_once(tmp_path):
    assert write_bundle(tmp_path, make(), DATA) == write_bundle(tmp_path, make(), DATA)
    other = write_bundle(tmp_path, make(metric="rmse"), DATA)
    assert len(names(tmp_path)) == 2
    assert read_bundle(tmp_path, other)[0].metric == "rmse"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    return root, write_bundle(root, make(), DATA)


@settings(max_examples=60, deadline=None)
@given(file=st.sampled_from(["bundle.json", "model.txt"]), data=st.data())
def test_every_flipped_cut_or_added_byte_is_told(stored, file, data):
    root, digest = stored
    path = root / digest / file
    good = path.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(
        st.sampled_from(
            [
                good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :],
                good[:at],
                good + b" ",
                good[:at] + b"\0" * (len(good) - at),
            ]
        ).filter(lambda changed: changed != good)
    )
    try:
        path.write_bytes(bad)
        with pytest.raises(CorruptData, match="digest differs"):
            read_bundle(root, digest)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize(
    "digest",
    ["", "..", "../" * 8 + "etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n",
     "/" + "a" * 63, "%2e%2e", "a" * 32 + "\0" + "a" * 31],
)  # fmt: skip
def test_only_a_digest_is_looked_for(tmp_path, digest):
    with pytest.raises(ModelError, match="not a bundle's digest"):
        read_bundle(tmp_path, digest)


def test_a_bundle_that_is_not_there_is_said_to_be(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_bundle(tmp_path, "0" * 64)


def test_a_scorer_that_does_not_describe_the_bytes_is_refused(tmp_path):
    with pytest.raises(ModelError, match="does not describe"):
        write_bundle(tmp_path, make(), DATA + b"x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("format", ["pickle/1", "onnx", "../../x", "", "lightgbm-text/2"])
def test_formats_off_the_list_are_refused_both_ways(tmp_path, format):
    with pytest.raises(ModelError, match="not loaded"):
        scorer_file(DATA, format)
    digest = plant(
        tmp_path, scorer={"format": format, "file": "model.txt", "sha256": "", "bytes": 1}
    )
    with pytest.raises(ModelError, match="not loaded"):
        read_bundle(tmp_path, digest)


@pytest.mark.parametrize("file", ["bundle.json", "model.txt"])
def test_what_a_link_leads_to_is_held_to_the_same_digest(tmp_path, file):
    digest = write_bundle(tmp_path / "bundles", make(), DATA)
    other = write_bundle(tmp_path / "bundles", make(metric="rmse"), DATA)
    path = tmp_path / "bundles" / digest / file
    elsewhere = path.rename(tmp_path / file)
    path.symlink_to(elsewhere)
    assert read_bundle(tmp_path / "bundles", digest) == (make(), DATA)
    elsewhere.write_bytes(elsewhere.read_bytes().replace(b"e", b"E"))
    with pytest.raises(CorruptData, match="digest differs"):
        read_bundle(tmp_path / "bundles", digest)
    assert read_bundle(tmp_path / "bundles", other)[1] == DATA


def test_a_bundle_under_anothers_name_is_not_that_one(tmp_path):
    digest = write_bundle(tmp_path, make(), DATA)
    (tmp_path / digest).rename(tmp_path / ("0" * 64))
    with pytest.raises(CorruptData, match="digest differs"):
        read_bundle(tmp_path, "0" * 64)


@pytest.mark.parametrize("file", ["bundle.json", "model.txt"])
def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path, file):
    digest = write_bundle(tmp_path, make(), DATA)
    path = tmp_path / digest / file
    path.unlink()
    os.mkfifo(path)  # whoever opens it waits for a writer
    with pytest.raises(ModelError, match="no file"):
        read_bundle(tmp_path, digest)


@pytest.mark.parametrize("file", ["../model.txt", "/etc/passwd", "bundle.json", ""])
def test_no_path_comes_out_of_a_bundle(tmp_path, file):
    scorer = {**msgspec.to_builtins(scorer_file(DATA)), "file": file}
    with pytest.raises(ModelError, match="another file"):
        read_bundle(tmp_path, plant(tmp_path, scorer=scorer))


def test_descriptions_of_other_versions_are_refused_with_the_way_out(tmp_path):
    with pytest.raises(ModelError, match="Upgrade"):
        read_bundle(tmp_path, plant(tmp_path, format_version=99))
    with pytest.raises(ModelError, match="cannot be used"):
        read_bundle(tmp_path, plant(tmp_path, surprise=1))


def test_what_is_larger_than_its_cap_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "MAX_MODEL", 4)
    with pytest.raises(ModelError, match="at most 4"):
        write_bundle(tmp_path, make(), DATA)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFull):
        write_bundle(tmp_path, make(), DATA)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Cannot write"):
        write_bundle(tmp_path / "file", make(), DATA)


@dataclass
class Kill(BaseException):
    at: int


def test_a_kill_at_any_step_leaves_a_whole_bundle_or_none(tmp_path, monkeypatch):
    """Each system call that changes the disk is a place to die."""
    done = False
    for at in range(20):
        root = tmp_path / str(at)
        count = 0

        def step(real, at=at):
            def call(*arguments, **options):
                nonlocal count
                count += 1
                if count == at:
                    raise Kill(at)
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "rename", "mkdir"):
                patch.setattr(os, name, step(getattr(os, name)))
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # the dead clean nothing
            try:
                write_bundle(root, make(), DATA)
                done = True
            except Kill:
                pass
        for name in names(root):
            if not name.startswith(".writing-"):
                assert read_bundle(root, name) == (make(), DATA)
        assert read_bundle(root, write_bundle(root, make(), DATA)) == (make(), DATA)
    assert done


USER = EntitySpec("user_id", "int")
HOP = 3_600_000_000


def feature(name, **changes):
    fold = FoldSpec(
        "count", "order", None, "int", (USER,), HOP, "UTC", retention=DAY, required=True
    )
    fields = {"window": DAY, "calendar": 0, "dtype": "int", "is_list": False, "n": 1}
    return FeatureSpec("user", name, fold, **{**fields, "default": None, "ttl": None, **changes})


def project_of(*features):
    view = ViewSpec("user", (USER,), features)
    return Project("p", "UTC", {"user_id": USER}, {}, {"user": view}, {}, {}, {})


def model_of(*columns):
    return ModelSpec("m", columns, OutcomeSpec("order", DAY, "count"), "auc", print, "")


ORDERS, CITY = feature("orders"), feature("city", dtype="str")
GAP = ExpressionSpec("/", ExpressionSpec("-", ORDERS, 2.0), feature("age", default=1))


def test_columns_are_found_again_in_the_project_with_their_meaning(tmp_path):
    model = model_of(ORDERS, CITY, GAP)
    columns = columns_of(model, {"user:city": ("北京", "上海")})
    bundle, _ = read_bundle(tmp_path, write_bundle(tmp_path, make(columns=columns), DATA))
    assert bundle.columns == columns
    assert bundle.columns[1].categories == ("北京", "上海")
    assert resolve_columns(columns, project_of(ORDERS, CITY, *GAP.inputs)) == model.columns


ID = FieldSpec("user_id", "int")
ORDER = EventSpec("order", 1, (ID, FieldSpec("price", "float")), "user_id")
OTHER_MEANINGS = [
    feature("orders", window=2 * DAY),
    feature("orders", calendar=1),
    feature("orders", dtype="float"),
    feature("orders", default=0),
    feature("orders", ttl=DAY),
    replace(ORDERS, fold=replace(ORDERS.fold, hop=60_000_000)),
    replace(ORDERS, fold=replace(ORDERS.fold, where=ConditionSpec(">", "price", 1.0))),
    replace(ORDERS, is_list=True, n=5),
]


@pytest.mark.parametrize("now", OTHER_MEANINGS)
def test_a_feature_that_means_something_else_now_is_read_as_it_was(now, tmp_path):
    model = model_of(ORDERS, ExpressionSpec("+", 1.0, ORDERS))
    described = make(columns=columns_of(model, {}), folds=folds_of(model))
    bundle, _ = read_bundle(tmp_path, write_bundle(tmp_path, described, DATA))
    for view in (now, CITY):
        project = replace(project_of(view), events={"order": ORDER})
        columns = resolve_columns(bundle.columns, project, bundle.folds)
        then = replace(model, columns=columns)
        assert then.columns_digest == model.columns_digest
        assert [f.fold.fingerprint for f in then.features] == [ORDERS.fold.fingerprint]
        assert then.features[0].fold.retention == ORDERS.window


@pytest.mark.parametrize("now", OTHER_MEANINGS[:-1])
def test_a_bundle_that_does_not_say_what_it_is_made_of_is_refused(now):
    for column in (ORDERS, ExpressionSpec("+", 1.0, ORDERS)):
        with pytest.raises(ModelError, match="another meaning of user:orders"):
            resolve_columns(columns_of(model_of(column), {}), project_of(now))


def test_a_feature_that_is_gone_is_named():
    with pytest.raises(ModelError, match="reads user:orders, which the project does not"):
        resolve_columns(columns_of(model_of(ORDERS), {}), project_of(CITY))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"events": {}}, "the event order is gone"),
        ({"entities": {}}, "the entity user_id is gone"),
        ({"events": {"order": replace(ORDER, fields=(ID,))}}, "order.price is gone"),
        (
            {"events": {"order": replace(ORDER, fields=(ID, FieldSpec("price", "int")))}},
            "order.price is of another type",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_as_it_was_is_refused_with_the_reason(changes, says):
    expensive = replace(ORDERS, fold=replace(ORDERS.fold, where=ConditionSpec(">", "price", 1.0)))
    total = FoldSpec(
        "sum", "order", "price", "float", (USER,), HOP, "UTC", retention=DAY, required=True
    )
    for was in (expensive, replace(ORDERS, fold=total)):
        model = model_of(was)
        project = replace(project_of(ORDERS), events={"order": ORDER})
        assert resolve_columns(columns_of(model, {}), project, folds_of(model)) == (was,)
        with pytest.raises(ModelError, match=says):
            resolve_columns(columns_of(model, {}), replace(project, **changes), folds_of(model))


def vector(dim=2):
    fold = FoldSpec("last", "order", "look", "vector", (USER,), 0, "UTC", dim=dim)
    return replace(feature("look", window=None, dtype="vector"), fold=fold)


RATIO = ExpressionSpec("/", ORDERS, 2.0, "user", "ratio")
HOUR, DEVICE = RequestSpec("hour", "int", "Asia/Shanghai"), RequestSpec("device", "str")


def test_vectors_named_expressions_and_the_request_are_found_again(tmp_path):
    twice = ExpressionSpec("*", RATIO, HOUR)
    equal = ExpressionSpec("same", CITY, DEVICE)
    model = model_of(vector(), RATIO, twice, HOUR, DEVICE, equal)
    columns = columns_of(model, {"request:device": ("web", "app"), "user:city": ("x",)})
    bundle, _ = read_bundle(tmp_path, write_bundle(tmp_path, make(columns=columns), DATA))
    assert bundle.columns == columns
    assert [column.width for column in columns] == [2, 1, 1, 1, 1, 1]
    assert columns[4].categories == ("web", "app")
    project = project_of(ORDERS, CITY, vector())
    view = replace(project.views["user"], expressions=(RATIO,))
    project = replace(project, views={"user": view})
    assert resolve_columns(columns, project) == model.columns


@pytest.mark.parametrize(
    ("column", "now"),
    [(vector(), vector(3)), (feature("q", quantile=0.5), feature("q", quantile=0.9))],
)
def test_new_kinds_of_columns_keep_their_meaning(column, now):
    with pytest.raises(ModelError, match="another meaning of user:"):
        resolve_columns(columns_of(model_of(column), {}), project_of(now))


@pytest.mark.parametrize(
    ("column", "now"),
    [
        (RATIO, replace(RATIO, op="*")),
        (RATIO, replace(RATIO, right=3.0)),
        (ExpressionSpec("+", RATIO, 1.0), replace(RATIO, left=feature("age"))),
        (RATIO, None),
    ],
)
def test_an_expression_that_means_something_else_now_is_computed_as_it_was(column, now):
    project = project_of(ORDERS, feature("age"))
    view = replace(project.views["user"], expressions=() if now is None else (now,))
    project = replace(project, views={"user": view})
    assert resolve_columns(columns_of(model_of(column), {}), project) == (column,)


def test_a_description_of_format_1_is_still_read(tmp_path):
    old = b"""{"model": "ranker", "columns": [
        {"kind": "feature", "address": "user:orders", "fingerprint": "00ff00ff00ff00ff",
         "window": 86400000000, "calendar": 0, "dtype": "int", "default": null, "ttl": null,
         "categories": null},
        {"kind": "expression", "op": "/", "left": 1.0, "right":
            {"kind": "feature", "address": "user:age", "fingerprint": "00ff00ff00ff00ff",
             "window": null, "calendar": 0, "dtype": "int", "default": 1, "ttl": null,
             "categories": null}}],
        "item": "item_id", "scorer": %s, "metric": "auc", "trained": {},
        "definition_digest": "abc", "format_version": 1}""" % msgspec.json.encode(scorer_file(DATA))
    digest = hashlib.sha256(old).hexdigest()
    (tmp_path / digest).mkdir()
    (tmp_path / digest / "bundle.json").write_bytes(old)
    (tmp_path / digest / "model.txt").write_bytes(DATA)
    orders, ratio = read_bundle(tmp_path, digest)[0].columns
    assert (orders.quantile, orders.width) == (0.5, 1)
    assert (ratio.name, ratio.right.address) == ("", "user:age")


def plant(root, **changes):
    """Store a description with its right digest, whatever it says."""
    text = msgspec.json.encode({**msgspec.to_builtins(make()), **changes})
    digest = hashlib.sha256(text).hexdigest()
    (root / digest).mkdir(parents=True)
    (root / digest / "bundle.json").write_bytes(text)
    (root / digest / "model.txt").write_bytes(DATA)
    return digest


def test_any_bytes_as_a_description_give_an_error_of_ours(tmp_path):
    for text in (b"", b"null", b"[" * 100_000, b'{"model": "\xff"}', b"\0"):
        digest = hashlib.sha256(text).hexdigest()
        (tmp_path / digest).mkdir()
        (tmp_path / digest / "bundle.json").write_bytes(text)
        with pytest.raises(FeilunError):
            read_bundle(tmp_path, digest)
