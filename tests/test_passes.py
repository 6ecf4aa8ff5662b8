"""Every pass of the folder: its text before and after, the same numbers, nothing left to do the second time, and where it must not fire."""

from __future__ import annotations

import importlib
import inspect
import pathlib
from collections.abc import Callable

import numpy as np
import passes_folding
import passes_fusing
import passes_moving
import passes_reshaping
import pytest
from passes_builder import Make

from tilewright import passes as folder
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Graph
from tilewright.engine.rewrite import Report, run_passes
from tilewright.passes.default import default

ON_DISK = {p.stem for p in pathlib.Path(folder.__path__[0]).glob("*.py") if not p.stem.startswith("_") and p.stem != "default"}
ELSEWHERE = {name for name in ON_DISK if pathlib.Path(__file__).with_name(f"test_{name}.py").exists()}
NAMES = sorted(ON_DISK - ELSEWHERE)
FIRES = passes_folding.FIRES | passes_fusing.FIRES | passes_moving.FIRES | passes_reshaping.FIRES
HOLDS = passes_folding.HOLDS | passes_fusing.HOLDS | passes_moving.HOLDS | passes_reshaping.HOLDS
ALL_FIRES = [pytest.param(name, make, id=f"{name}-{label}") for name, cases in FIRES.items() for label, make in cases.items()]
ALL_HOLDS = [
    pytest.param(name, make, reason, id=f"{name}-{label}") for name, cases in HOLDS.items() for label, (make, reason) in cases.items()
]


def function(name: str) -> Callable[..., object]:
    return getattr(importlib.import_module(f"tilewright.passes.{name}"), name)


def apply_pass(name: str, graph: Graph, report: Report | None = None) -> Graph:
    return run_passes(graph, [function(name)], report)  # type: ignore[list-item]


def arrays(graph: Graph, rng: np.random.Generator) -> list[np.ndarray]:
    """Random values for all inputs: around zero, or small integers."""
    return [
        rng.standard_normal(i.type.shape).astype(i.type.dtype) if i.type.dtype.kind == "f" else rng.integers(0, 9, i.type.shape)
        for i in graph.inputs
    ]


def assert_same_numbers(before: Graph, after: Graph, rng: np.random.Generator, tolerance: float) -> None:
    values = arrays(before, rng)
    for name, want, got in zip(before.output_names, evaluate(before, values), evaluate(after, values), strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        largest = np.abs(want[np.isfinite(want)]).max(initial=1)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * largest, err_msg=name)


def test_every_pass_has_cases_and_a_place_in_the_default_order() -> None:
    assert set(NAMES) == set(FIRES) == set(HOLDS)
    assert set(default) == ON_DISK


@pytest.mark.parametrize("name", sorted(ON_DISK))
def test_a_pass_is_named_like_its_file_and_its_first_line_is_an_equation(name: str) -> None:
    module = importlib.import_module(f"tilewright.passes.{name}")
    assert "=>" in (module.__doc__ or "").splitlines()[0]
    assert len(inspect.signature(function(name)).parameters) in (1, 2)


def test_the_order_says_why_at_every_step() -> None:
    lines = pathlib.Path(folder.__path__[0], "default.py").read_text(encoding="utf-8").splitlines()
    steps = [line for line in lines if line.strip().startswith('"') and '"""' not in line]
    assert len(steps) == len(default) and all(len(line.partition("#")[2].split()) > 3 for line in steps)


@pytest.mark.parametrize("name", NAMES)
def test_pass_text(name: str, golden: Callable[[str], None]) -> None:
    texts = []
    for label, make in FIRES[name].items():
        before = make()
        texts.append(f"--- {label}\n{before}\n=>\n{apply_pass(name, before)}\n")
    golden("\n".join(texts))


@pytest.mark.parametrize(("name", "make"), ALL_FIRES)
def test_fires_once_and_keeps_the_numbers(name: str, make: Make, rng: np.random.Generator) -> None:
    before = widen(make())
    after = apply_pass(name, before)
    assert after is not before, "the pass did not fire"
    assert apply_pass(name, after) is after, "a second run changes more"
    assert_same_numbers(before, after, rng, 1e-11)


@pytest.mark.parametrize(("name", "make"), ALL_FIRES)
def test_keeps_the_dtypes_of_the_model(name: str, make: Make, rng: np.random.Generator) -> None:
    before = make()
    assert_same_numbers(before, apply_pass(name, before), rng, 1e-4)


@pytest.mark.parametrize(("name", "make", "reason"), ALL_HOLDS)
def test_must_not_fire(name: str, make: Make, reason: str | None) -> None:
    before, report = make(), Report()
    assert apply_pass(name, before, report) is before
    said = [str(d) for d in report.declined]
    assert not said if reason is None else any(reason in text for text in said), said
