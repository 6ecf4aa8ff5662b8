"""Which candidate is fastest for each layer, by measuring within a budget of time; what does not clearly beat the rule is not kept."""

from __future__ import annotations

import dataclasses as dc
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine.debug import report
from ...engine.errors import CompilerBug, MachineError, MachineWarning
from ...engine.graph import Node
from .choice_store import ChoiceStore
from .choices import Kept, Question, Schedules

MARGIN = 0.03
"""The share of the rule's time that a candidate must save."""
ROUNDS, FINALISTS, GLANCES = 9, 2, 3
"""The best candidates by a few glances take turns with the rule's choice, so that all meet the same disturbances."""
SCREENING = 0.7
"""The part of a question's time for glances."""

Run = Callable[[], float]
"""Runs a layer and says the seconds that it took."""


@dc.dataclass(frozen=True)
class Layer:
    """Something that can be lowered and run by itself."""

    name: str
    seconds: float
    """About how long a network spends in all layers that are like this one: its share of the budget."""
    build: Callable[[Schedules], Run]
    """Lower it with these schedules, which learn what it has to ask."""


@dc.dataclass(frozen=True)
class _Trial:
    choice: Any
    run: Run
    seconds: float


class Tuner:
    """Answers the open questions of layers, as many as there is time for, and keeps every answer at once."""

    def __init__(self, store: ChoiceStore, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._store, self._clock = store, clock
        self._end = clock() + seconds
        self.answers = store.read()

    def tune(self, layers: Sequence[Layer], progress: Callable[[str], Any] = lambda what: None) -> Kept:
        """The layers in which the most time is spent come first; what one leaves of its share goes to the others."""
        left = sum(layer.seconds for layer in layers)
        for layer in sorted(layers, key=lambda layer: -layer.seconds):
            progress(layer.name)
            now = self._clock()
            if now >= self._end:
                break
            self._tune_layer(layer, now + (self._end - now) * layer.seconds / left)
            left -= layer.seconds
        return Kept(self.answers)

    def _tune_layer(self, layer: Layer, end: float) -> None:
        """Question by question: an answer may close others that were open, or open new ones."""
        while (now := self._clock()) < end:
            known = Kept(self.answers)
            run = layer.build(known)
            if not known.open:
                return
            question = next(iter(known.open.values()))
            winner = self._answer(layer, known, question, run, now + (end - now) / len(known.open))
            if winner is None:
                return
            self.answers = self._store.add({question.key: repr(winner.choice)})

    def _answer(self, layer: Layer, known: Kept, question: Question, run: Run, end: float) -> _Trial | None:
        """The winner; None when the time is too short to tell."""
        now = self._clock()
        rule = self._glance(question.rule, run)
        screened = self._screen(layer, known, question, end - (1 - SCREENING) * (end - now))
        if not screened:
            return None
        rivals = sorted((trial for trial in screened if trial.seconds < rule.seconds), key=lambda trial: trial.seconds)[:FINALISTS]
        return self._final([rule, *rivals]) if rivals else rule

    def _screen(self, layer: Layer, known: Kept, question: Question, end: float) -> list[_Trial]:
        """Candidates at a glance, until there is no time for another one like the last; only the best stay in memory.

        One that the machine refuses is none, with a warning.
        """
        found, cost = list[_Trial](), 0.0
        for candidate in question.candidates:
            start = self._clock()
            if start + cost > end:
                break
            try:
                found.append(self._glance(candidate, layer.build(known.having(question, candidate))))
            except (CompilerBug, MachineError) as error:
                warnings.warn(f"tuning {layer.name} leaves {candidate} out: {error}", MachineWarning, stacklevel=2)
            found = sorted(found, key=lambda trial: trial.seconds)[:FINALISTS]
            cost = self._clock() - start
        return found

    def _glance(self, choice: Any, run: Run) -> _Trial:
        return _Trial(choice, run, min(run() for _ in range(GLANCES)))

    def _final(self, players: Sequence[_Trial]) -> _Trial | None:
        """Rounds in which everybody has a turn, in another order each time; the rule's choice comes first."""
        times = np.empty((ROUNDS, len(players)))
        for index in range(ROUNDS):
            start = self._clock()
            for i in range(len(players)):
                player = (index + i) % len(players)
                times[index, player] = players[player].run()
            now = self._clock()
            if index < ROUNDS - 1 and now + (now - start) > self._end:
                return None
        winner, medians = fastest(times), np.median(times, axis=0)
        said = [f"{player.choice} {seconds * 1e6:.1f} us" for player, seconds in zip(players, medians, strict=True)]
        report(f"the rule's {said[0]}, {', '.join(said[1:])}: {players[winner].choice} is kept")
        return players[winner]


def fastest(times: np.ndarray) -> int:
    """The winner of times (round, player): player 0, the rule's choice, unless another one saves the margin in the median and in the best.

    Other work on the machine can spoil a player's median, but hardly its best round; luck can make the best, but hardly the median.
    """
    medians, best = np.median(times, axis=0), times.min(axis=0)
    winner = int(np.argmin(medians))
    is_clear = medians[winner] < (1 - MARGIN) * medians[0] and best[winner] < (1 - MARGIN) * best[0]
    return winner if is_clear else 0


def likeness(node: Node) -> tuple[Any, ...]:
    """What nodes have in common that take the same time."""
    attributes = tuple(repr(getattr(node, field.name)) for field in node.attributes)
    return type(node), attributes, tuple(o.type for o in node.operands), node.type
