"""A small shop whose log is the same every time, and stand-ins to take its turns with.

Column 0 of the vectors tells what customers will click; column 1 is noise.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from feilun.clock import DAY, HOUR, MINUTE, ManualClock
from feilun.definitions.specs import (
    CapabilitySpec,
    EntitySpec,
    EventSpec,
    FeatureSpec,
    FieldSpec,
    FlywheelSpec,
    FoldSpec,
    GateSpec,
    ModelSpec,
    OutcomeSpec,
    Project,
    TriggerSpec,
    ViewSpec,
)
from feilun.errors import ModelError
from feilun.flywheel.workshop import Workshop
from feilun.ports.model_registry import ModelVersion
from feilun.ports.skew_store import ModelSkew
from feilun.records.codec import encode_prediction
from feilun.records.record import PREDICTION_SCHEMA, Prediction
from feilun.testing.fakes import MemoryLog
from feilun.testing.platform_fakes import (
    InMemoryRegistry,
    InMemoryReleases,
    InMemoryTurns,
    LinearLoader,
)
from feilun.testing.records import START, make_record

USER, ITEM = EntitySpec("user_id", "int"), EntitySpec("item_id", "int")
CLICK = EventSpec(
    "click", 1, (FieldSpec("user_id", "int"), FieldSpec("item_id", "int")), subject="user_id"
)
USERS, ITEMS, REQUESTS, EVERY = 200, 5, 500, 240
TRIGGERS = (TriggerSpec(EVERY, None),)
WITHIN = 10 * MINUTE
COUNT = FoldSpec("count", "click", None, "int", (USER, ITEM), HOUR, "UTC")


def feature(name, window):
    return FeatureSpec("user_item", name, COUNT, window, 0, "int", False, 1, None, None)


FEATURES = (feature("clicks_1d", DAY), feature("clicks_2d", 2 * DAY))


class Linear:
    """What the stand-in for training gives: a weight for each column."""

    def __init__(self, weights):
        self.weights = [float(weight) for weight in weights]

    def get_params(self):
        return {"columns": len(self.weights)}


def least_squares(data):
    weights, *_ = np.linalg.lstsq(data.x.astype(float), data.y, rcond=None)
    return Linear(np.round(weights, 9))


def to_bytes(estimator):
    if not isinstance(estimator, Linear):
        raise ModelError(f"{type(estimator).__name__} is not a Linear.")
    return json.dumps(estimator.weights).encode()


def model(train=least_squares, **changes):
    spec = ModelSpec(
        "ranker", FEATURES, OutcomeSpec("click", WITHIN, "happened"), "auc", train, "c0de"
    )
    return replace(spec, **changes)


def project(spec=None, triggers=TRIGGERS, margin=0.0):
    spec = spec or model()
    capability = CapabilitySpec(
        "recommend", "/api/recommend", "ranker", "item_id", (), None, (), (), None, print
    )
    return Project(
        name="shop",
        timezone="UTC",
        entities={"user_id": USER, "item_id": ITEM},
        events={"click": CLICK},
        views={"user_item": ViewSpec("user_item", (USER, ITEM), FEATURES)},
        models={"ranker": spec},
        capabilities={"recommend": capability},
        flywheels={"ranker": FlywheelSpec("ranker", triggers, GateSpec(0.95, margin))},
    )


def prediction(number, as_of, user, vectors, *, items=ITEMS, version=0, columns=None, **changes):
    body = Prediction(
        capability="recommend",
        model="ranker",
        version=version,
        as_of=as_of,
        folded_offset=0,
        keys={"user_id": user},
        item="item_id",
        items=list(range(items)),
        columns=columns or model().columns_digest,
        vectors=np.asarray(vectors, np.float32).tobytes(),
        scores=b"",
        answer=list(range(items)),
        degraded=[],
        request_id=f"r{number}",
    )
    record = make_record(f"r{number}", time=as_of, source="gateway", schema=PREDICTION_SCHEMA)
    return msgspec.structs.replace(
        record, body=encode_prediction(msgspec.structs.replace(body, **changes))
    )


def click(name, time, user, item, **options):
    return make_record(name, user, item, time=time, schema=CLICK.schema_id, **options)


def shop_log(requests=REQUESTS, seed=0):
    """Return a log of requests, one a minute, each followed by the clicks it led to."""
    rng = np.random.default_rng(seed)
    log = MemoryLog()
    for number in range(requests):
        as_of = START + number * MINUTE
        user = int(rng.integers(USERS))
        vectors = rng.normal(size=(ITEMS, 2))
        records = [prediction(number, as_of, user, vectors)]
        clicked = np.flatnonzero(vectors[:, 0] + rng.normal(0, 0.5, ITEMS) > 0.8)
        records += [
            click(f"c{number}-{item}", as_of + 1_000 + item, user, int(item)) for item in clicked
        ]
        log.append(records)
    return log


def workshop(folder, log, **parts):
    turns = InMemoryTurns()
    tools = {
        "project": project(),
        "log": log,
        "turns": turns,
        "releases": InMemoryReleases(turns),
        "registry": InMemoryRegistry(),
        "bundles": folder / "bundles",
        "convert": to_bytes,
        "loaders": {LinearLoader.format: LinearLoader()},
        "clock": ManualClock(START),
        "pause": lambda seconds: None,
        "name_snapshot": lambda name: None,
        "audit": lambda model, start, stop: ModelSkew(),  # its vectors are drawn, not computed
        "owner": "flywheel",
        "by": "flywheel",
    }
    return Workshop(**(tools | parts))


class FileRegistry(InMemoryRegistry):
    """The registry in memory, kept in a file: a stand-in that survives its process."""

    def __init__(self, path: Path):
        super().__init__()
        self._path = path
        if path.exists():
            kept = json.loads(path.read_text())
            self._versions = {m: [ModelVersion(*v) for v in vs] for m, vs in kept["versions"]}
            self._aliases = {(m, alias): version for m, alias, version in kept["aliases"]}

    def register(self, *args, **options):
        version = super().register(*args, **options)
        self._keep()
        return version

    def set_alias(self, *args):
        super().set_alias(*args)
        self._keep()

    def _keep(self):
        text = json.dumps(
            {
                "versions": list(self._versions.items()),
                "aliases": [[*key, version] for key, version in self._aliases.items()],
            }
        )
        new = self._path.with_suffix(".new")
        new.write_text(text)
        new.replace(self._path)


def never_the_same(data):
    """Return a model that no other run of this returns."""
    return Linear([1.0, int.from_bytes(os.urandom(4), "big") / 1e12])
