"""What a comparison of engines found: times, ratios, rates, memory, agreement."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compare import Difference


@dc.dataclass(frozen=True)
class Turnout:
    """What was measured of one engine."""

    engine: str
    seconds: tuple[float, ...] = ()
    """Of every timed run."""
    first_answer: float | None = None
    """Seconds from the start of its process to its first answer."""
    memory: int | None = None
    """The most bytes that its process held, where the system tells."""
    difference: Difference | None = None
    """Our output that is furthest from this engine's, relative to its largest value; None for ourselves."""
    failure: str = ""
    """Why there are no figures."""

    @property
    def median(self) -> float | None:
        """Of the timed runs."""
        return float(np.median(self.seconds)) if self.seconds else None

    @property
    def agrees(self) -> bool:
        """Whether it ran, and our outputs are its outputs."""
        return not self.failure and (self.difference is None or self.difference.within)


@dc.dataclass(frozen=True)
class Result:
    """What was measured on one model; ourselves first."""

    model: str
    threads: int
    flops: int
    """Operations that one run asks for."""
    peak: float | None
    """Operations a second that this machine can do at most, where the backend knows: the median over the rounds."""
    turnouts: tuple[Turnout, ...]
    busy: float | None = None
    """Processors that other processes kept busy meanwhile, where the system tells."""

    def ratio(self, turnout: Turnout) -> float | None:
        """Its median over ours: above 1 we are faster."""
        return _quotient(turnout.median, self.turnouts[0].median)

    def rate(self, turnout: Turnout) -> float | None:
        """Operations a second, by what the model asks for: an algorithm that needs fewer may pass the peak."""
        return _quotient(self.flops, turnout.median)

    def share(self, turnout: Turnout) -> float | None:
        """The rate over the peak."""
        return _quotient(self.rate(turnout), self.peak)

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain types, for JSON."""
        engines = [self._figures(turnout) for turnout in self.turnouts]
        return {
            "model": self.model,
            "threads": self.threads,
            "flops": self.flops,
            "peak": self.peak,
            "processors_kept_busy_by_others": self.busy,
            "engines": engines,
        }

    def _figures(self, turnout: Turnout) -> dict[str, Any]:
        found = turnout.difference
        return {
            "engine": turnout.engine,
            "median": turnout.median,
            "seconds": list(turnout.seconds),
            "ratio": self.ratio(turnout),
            "rate": self.rate(turnout),
            "share_of_peak": self.share(turnout),
            "first_answer": turnout.first_answer,
            "memory": turnout.memory,
            "max_relative_error": found.largest if found and np.isfinite(found.largest) else None,
            "agrees": turnout.agrees,
            "failure": turnout.failure,
        }


def geometric_mean(results: Sequence[Result], engines: Sequence[str]) -> float | None:
    """The mean over the models of the ratio to the fastest of these engines; None unless each model ran on one of them."""
    ratios = []
    for result in results:
        found = [ratio for t in result.turnouts if t.engine in engines and (ratio := result.ratio(t)) is not None]
        if not found:
            return None
        ratios.append(min(found))
    return float(np.exp(np.mean(np.log(ratios))))


def _quotient(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b
