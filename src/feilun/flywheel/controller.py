"""The controller: follows the log and takes the turns that fall due."""

from __future__ import annotations

import logging

from feilun.errors import Fenced, InputError
from feilun.flywheel.triggers import BY_HAND, Watch
from feilun.flywheel.turn import TurnRun
from feilun.flywheel.workshop import Workshop
from feilun.i18n import _
from feilun.models.example_log import ExampleLog
from feilun.ports.turn_store import Turn

_log = logging.getLogger(__name__)


class Controller:
    """Takes turns, one after the other, as the log makes them due.

    Several may run on the same stores: a turn is held by one of them at a time, and the others
    leave it alone.

    Parameters
    ----------
    workshop : Workshop
        What to work with.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._watches: dict[str, Watch] = {}
        self._readers: dict[str, ExampleLog] = {}

    def run_once(self) -> list[Turn]:
        """Take every turn that is due by now; return those that ended.

        Called over and over by the flywheel's process. A turn that another controller holds is
        left to it, and its model is looked at again the next time.

        Raises
        ------
        Unavailable, StoreFull
            If the turn store or the log cannot be used now. Nothing is lost: call again later.
        """
        ended: list[Turn] = []
        for model in self._workshop.project.models:
            try:
                ended += self._run_model(model)
            except Fenced as error:
                _log.info("A turn of %s is left to another controller: %s", model, error)
        return ended

    def turn_by_hand(self, model: str) -> Turn:
        """Open a turn that looks at everything logged by now; `run_once` then takes it.

        The model needs no loop. Its first turn trains on imported history where that is all there
        is: this is what ``feilun train`` does.

        If there was a turn at this very offset already, it is returned.

        Raises
        ------
        InputError
            If nothing here trains the model.
        """
        shop = self._workshop
        if shop.project.models[model].train is None:
            raise InputError(
                _("{model} is adopted: nothing here trains it.", model=model),
                _("Adopt its next version: feilun adopt … --replace"),
            )
        return shop.turns.open(model, BY_HAND, shop.log.end(), shop.clock.now())

    def _run_model(self, model: str) -> list[Turn]:
        turns, log = self._workshop.turns, self._workshop.log
        ended: list[Turn] = []
        while True:
            ended += [self._take(turn) for turn in turns.turns(model) if turn.state == "running"]
            if model not in self._workshop.project.flywheels:
                return ended
            watch = self._watch(model)
            due = watch.next_due(log)
            if due is None:
                if turns.examined(model) < watch.position:
                    turns.note_examined(model, watch.position)
                return ended
            # Should this process die here, the same log makes the same turn due again.
            turns.open(model, due.trigger, due.cut, self._workshop.clock.now())

    def _take(self, turn: Turn) -> Turn:
        reader = self._readers.get(turn.model)
        if reader is None:
            spec = self._workshop.project.models[turn.model]
            reader = self._readers[turn.model] = ExampleLog(
                self._workshop.project, spec, self._workshop.encoders
            )
        state = TurnRun(self._workshop, turn, reader).run()
        _log.info("Turn %d of %s at offset %d: %s", turn.id, turn.model, turn.cut, state)
        return self._workshop.turns.get(turn.id) or turn

    def _watch(self, model: str) -> Watch:
        """Return the model's watch, told of turns that others have opened."""
        turns = self._workshop.turns
        cuts = {turn.cut for turn in turns.turns(model)}
        watch = self._watches.get(model)
        news = cuts - watch.cuts if watch is not None else cuts
        if watch is None or any(cut < watch.position for cut in news):
            project = self._workshop.project
            watch = self._watches[model] = Watch(
                project.flywheels[model], project.models[model], turns.examined(model), cuts
            )
        else:
            for cut in news:
                watch.add_cut(cut)
        return watch
