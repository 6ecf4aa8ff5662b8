"""Choices as data: a lowering asks which candidate a problem gets, and the rule answers, or what was found by measuring."""

from __future__ import annotations

import dataclasses as dc
import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

Choice = TypeVar("Choice")


class Schedules:
    """Every problem gets what the rule says."""

    def choose(self, problem: Hashable, rule: Callable[[], Choice], candidates: Callable[[], Sequence[Choice]]) -> Choice:
        """One of the candidates.

        The problem is all that the choice may depend on: it holds neither the batch nor the number of threads. Problems and
        candidates are compared by their texts, so their `repr` says everything.
        """
        return rule()


RULE = Schedules()


@dc.dataclass(frozen=True)
class Question:
    """A problem and its possible answers."""

    problem: Hashable
    rule: Any
    candidates: tuple[Any, ...]
    """Besides the rule's, the most promising first."""

    @property
    def key(self) -> str:
        """The same in every process; it changes with what there is to choose from, and so with the accuracy that is asked for."""
        return f"{self.problem!r} among {hashlib.sha256(repr(self._texts()).encode()).hexdigest()[:16]}"

    def answer(self, text: str | None) -> Any:
        """The possible answer whose text this is. Raises KeyError when there is none."""
        return self._texts()[text]

    def _texts(self) -> dict[str | None, Any]:
        return {repr(choice): choice for choice in (self.rule, *self.candidates)}


class Kept(Schedules):
    """Problems get what was kept for them, where something was."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.open: dict[str, Question] = {}
        """Questions that nobody has answered yet."""
        self.used = set[str]()
        """Those that were answered by what was kept."""

    def choose(self, problem: Hashable, rule: Callable[[], Choice], candidates: Callable[[], Sequence[Choice]]) -> Choice:
        """See Schedules."""
        by_rule = rule()
        question = Question(problem, by_rule, tuple(c for c in candidates() if c != by_rule))
        if not question.candidates:
            return by_rule
        try:
            kept = question.answer(self.answers.get(question.key))
        except KeyError:
            self.open.setdefault(question.key, question)
            return by_rule
        self.used.add(question.key)
        return kept

    def having(self, question: Question, choice: Any) -> Kept:
        """The same with one more answer."""
        return Kept({**self.answers, question.key: repr(choice)})
