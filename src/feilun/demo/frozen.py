"""What the first model would have listed, had it never been replaced.

It scores the rows that were logged with each prediction: same candidates, same features, same
moment. What was out of stock then stays out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from feilun.demo.orders import Id
from feilun.demo.replay import K, Listed
from feilun.ports.event_log import EventLog
from feilun.ports.scorer import Scorer
from feilun.records.codec import decode_prediction
from feilun.records.record import PREDICTION_SCHEMA, Prediction

READ = 2_000


def frozen_lists(
    log: EventLog, capability: str, scorer: Scorer, made: Iterable[Listed], since: int
) -> dict[str, Sequence[Id]]:
    """Return the frozen model's list for each order that was predicted from ``since`` on.

    Parameters
    ----------
    log : EventLog
        The log of the replay.
    capability : str
        Whose predictions to score again.
    scorer : Scorer
        The first model.
    made : iterable of Listed
        What was served; says what was out of stock.
    since : int
        The log offset from which on the model was in production.
    """
    out = {listed.order.id: listed.out for listed in made}
    lists: dict[str, Sequence[Id]] = {}
    for prediction in _predictions(log, capability, since):
        unavailable = out.get(prediction.request_id)
        if unavailable is None or not prediction.items:
            continue
        rows = len(prediction.items)
        matrix = np.frombuffer(prediction.vectors, np.float32).reshape(rows, -1)
        order = np.argsort(-scorer.score(matrix), kind="stable")
        ranked = (prediction.items[place] for place in order)
        lists[prediction.request_id] = [item for item in ranked if item not in unavailable][:K]
    return lists


def _predictions(log: EventLog, capability: str, since: int) -> Iterator[Prediction]:
    while records := log.read(since, READ):
        for _, record in records:
            if record.schema == PREDICTION_SCHEMA:
                prediction = decode_prediction(record.body)
                if prediction.capability == capability:
                    yield prediction
        since = records[-1][0] + 1
