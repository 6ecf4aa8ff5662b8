"""Comparing backends: errors are measured rightly, and the pass or layer at fault is named."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from cuda_harness import needs_compiler

from tilewright.backends.cuda import ERRORS, PRECISIONS
from tilewright.engine.backend import Approximate, Executable
from tilewright.engine.compare import Tolerance, Verdict, compare, difference, layer_differences, load_backend, with_inner_values
from tilewright.engine.errors import ModelError
from tilewright.engine.graph import Constant, Graph, Input, Node, Result
from tilewright.engine.ops import Conv, TopK, pointwise
from tilewright.engine.tensor import TensorType

F32 = TensorType(np.dtype(np.float32), (3,))


@pytest.fixture
def graph(rng: np.random.Generator) -> Graph:
    x = Input(name="x", shape=(2, 3, 7, 5))
    weight, projection = (Constant(rng.standard_normal(shape).astype("f4")) for shape in ((4, 3, 3, 3), (5, 4, 1, 1)))
    first = Conv(x, weight, pads=((1, 1), (1, 1)), origin=("conv_a",))
    second = Conv(pointwise("tanh", first, origin=("squash",)), projection, origin=("conv_b",))
    return Graph((x,), (second, pointwise("max", second, 0, origin=("rectify",))), ("scores", "rectified"))


@pytest.fixture
def inputs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": rng.standard_normal((2, 3, 7, 5)).astype("f4")}


class Perturbed:
    """The reference backend with a fault: `change` gets the graph and its outputs."""

    name = "perturbed"

    def __init__(self, change: Callable[[Graph, list[np.ndarray]], list[np.ndarray]]) -> None:
        self.change = change

    def compile(self, graph: Graph) -> Executable:
        executable, change = load_backend("reference").compile(graph), self.change

        class Changed:
            def __init__(self) -> None:
                self.graph = graph

            def run(self, inputs: Sequence[np.ndarray], out: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
                return change(graph, executable.run(inputs, out))

            describe, profile = executable.describe, executable.profile

        return Changed()


def only(verdicts: list[Verdict]) -> Verdict:
    judge, verdict = verdicts
    assert judge.agrees and not judge.differences
    return verdict


def test_equal_backends_agree(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    verdict = only(compare(graph, inputs, ["reference:float64", "reference"], passes=[]))
    assert verdict.agrees and verdict.culprit == "" and verdict.seconds > 0
    assert [d.name for d in verdict.differences] == ["scores", "rectified"]
    assert all(0 < d.rms < 1e-6 for d in verdict.differences)


def test_the_first_wrong_layer_is_named(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    def from_tanh_on(graph: Graph, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [o * 1.01 if "conv_a" not in n.origin else o for n, o in zip(graph.outputs, outputs, strict=True)]

    verdict = only(compare(graph, inputs, ["reference", Perturbed(from_tanh_on)], passes=[]))
    assert not verdict.agrees
    assert "first layer that differs" in verdict.culprit and "tanh(%0)" in verdict.culprit and "squash" in verdict.culprit


def test_a_wrong_pass_is_named(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    def harmless(graph: Graph) -> Graph:
        return graph.with_outputs([pointwise("add", graph.outputs[0], 0), graph.outputs[1]])

    def harmful(graph: Graph) -> Graph:
        return graph.with_outputs([pointwise("add", graph.outputs[0], 1), graph.outputs[1]])

    verdict = only(compare(graph, inputs, ["reference", "reference"], passes=[harmless, harmful]))
    assert verdict.culprit.startswith("pass harmful changes the answer: scores")
    assert [d.within for d in verdict.differences] == [False, True]


def test_a_fault_between_layers_is_told_apart(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    def only_the_whole(graph: Graph, outputs: list[np.ndarray]) -> list[np.ndarray]:
        return [o + 1 for o in outputs] if len(outputs) == 2 else outputs

    verdict = only(compare(graph, inputs, ["reference", Perturbed(only_the_whole)], passes=[]))
    assert verdict.culprit.startswith("no layer differs")


def test_inner_values_come_in_execution_order(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    exposed, inner = with_inner_values(graph)
    assert [n.origin for n in inner] == [("conv_a",), ("squash",), ("conv_b",), ("rectify",)]
    assert exposed.inputs == graph.inputs and len(set(exposed.output_names)) == 4
    reference = load_backend("reference")
    names = [d.name for d in layer_differences(graph, reference, reference, list(inputs.values()))]
    assert [name.partition(" =")[0] for name in names] == ["%0", "%1", "%2", "%3"]


@pytest.mark.parametrize(
    ("actual", "expected", "largest", "rms"),
    [
        ([1, 2, 4], [1, 2, 4], 0, 0),
        ([1, 2, 5], [1, 2, 4], 0.25, np.sqrt(1 / 21)),
        ([np.nan, 2, 4], [np.nan, 2, 4], 0, 0),
        ([np.inf, 2, 4], [np.inf, 2, 4], 0, 0),
        ([-np.inf, 2, 4], [np.inf, 2, 4], np.inf, np.inf),
        ([np.nan, 2, 4], [1, 2, 4], np.inf, np.inf),
        ([1, 2, 4], [np.nan, 2, 4], np.inf, np.inf),
        ([0, 0, 1], [0, 0, 0], np.inf, np.inf),
        ([1e30, 2, 4], [2e30, 2, 4], 0.5, 0.5),
    ],
)
def test_difference(actual: list[float], expected: list[float], largest: float, rms: float) -> None:
    found = difference("x", F32, np.array(actual, "f4"), np.array(expected, "f4"))
    assert found.largest == pytest.approx(largest, rel=1e-6) and found.rms == pytest.approx(rms, rel=1e-6)
    assert found.within == (largest == 0)


def test_an_error_spread_wide_fails_by_its_rms() -> None:
    expected = np.array([1, 1, 1], "f4")
    assert difference("x", F32, expected * np.float32(1.00004), expected).within
    spread = difference("x", F32, expected * np.float32(1.00008), expected)
    assert spread.largest < spread.tolerance and not spread.within


def test_shapes_kinds_and_integers_must_be_equal() -> None:
    expected = np.array([1, 2, 3], "f4")
    assert difference("x", F32, expected[None], expected).largest == np.inf
    assert difference("x", F32, expected.astype(int), expected).largest == np.inf
    assert difference("x", F32, expected.astype("f8"), expected).within
    integers = dc.replace(F32, dtype=np.dtype(np.int64))
    found = difference("x", integers, np.array([10**9, 2, 3]), np.array([10**9 + 1, 2, 3]), Tolerance(1.0, 1.0))
    assert not found.within
    empty = difference("x", dc.replace(F32, shape=(0,)), np.zeros(0, "f4"), np.zeros(0, "f4"))
    assert empty.within


class Imprecise(Perturbed):
    """A backend of so low a precision, whose answers are off by a share of it."""

    def __init__(self, error: float, share: float = 0.3) -> None:
        super().__init__(lambda graph, outputs: [o * np.float32(1 + share * error) for o in outputs])
        self.error = error


def test_a_lower_precision_is_no_fault(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    """The larger error of the two that are compared decides, unless the user does; and no more than that is allowed."""
    assert isinstance(Imprecise(2e-2), Approximate) and not isinstance(load_backend("reference"), Approximate)
    for backends in (["reference", Imprecise(2e-2)], [Imprecise(2e-2), "reference"], [Imprecise(1e-3, 0), Imprecise(2e-2)]):
        verdict = only(compare(graph, inputs, backends, passes=[]))
        assert verdict.agrees and not verdict.culprit
        assert [(d.tolerance, d.rms_tolerance) for d in verdict.differences] == [(2e-2, 1e-2)] * 2
    assert not only(compare(graph, inputs, ["reference", Imprecise(2e-2)], passes=[], tolerance=1e-4)).agrees
    assert not only(compare(graph, inputs, ["reference", Imprecise(2e-2, 1.1)], passes=[])).agrees
    assert only(compare(graph, inputs, ["reference", Imprecise(0.0)], passes=[])).differences[0].tolerance == 1e-4


def test_a_pass_is_judged_by_the_precision_of_the_judge(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    def harmful(graph: Graph) -> Graph:
        return graph.with_outputs([pointwise("mul", output, 1.005) for output in graph.outputs])

    verdict = only(compare(graph, inputs, ["reference", Imprecise(2e-2, 0.9)], passes=[harmful]))
    assert not verdict.agrees and verdict.culprit.startswith("pass harmful changes the answer")


@needs_compiler
@pytest.mark.parametrize("precision", list(ERRORS))
def test_every_precision_of_a_gpu_agrees(precision: str, rng: np.random.Generator) -> None:
    digit = {"image": rng.standard_normal((1, 1, 28, 28)).astype("f4")}
    verdict = only(compare("lenet5", digit, ["reference:float64", f"cuda_emulated:{precision}"]))
    assert verdict.agrees and {d.tolerance for d in verdict.differences} == {ERRORS[precision]}
    assert max(d.largest for d in verdict.differences) > 1e-5, "it is another precision"


@needs_compiler
def test_errors_are_those_of_precisions() -> None:
    assert set(ERRORS) < set(PRECISIONS.values()) and load_backend("cuda_emulated").error == 0  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("tolerance", [-1e-9, float("nan")])
def test_no_tolerance_is_below_nothing(tolerance: float, graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match="expected a number of at least 0"):
        compare(graph, inputs, ["reference", "reference"], tolerance=tolerance)


def test_one_backend_is_too_few(graph: Graph, inputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match="at least two"):
        compare(graph, inputs, ["reference"])
    with pytest.raises(ModelError, match="no 'abacus' among the backends"):
        compare(graph, inputs, ["reference", "abacus"], passes=[])
    with pytest.raises(ModelError, match="missing input x"):
        compare(graph, {}, ["reference", "reference"], passes=[])


def test_results_of_several_valued_nodes_are_compared(rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(3, 8))
    best: Node = TopK(x, k=3, axis=1)
    graph = Graph((x,), (Result(best, index=0), Result(best, index=1)), ("values", "indices"))
    verdict = only(compare(graph, {"x": rng.standard_normal((3, 8)).astype("f4")}, ["reference", "reference"], passes=[]))
    assert verdict.agrees and [str(d.type) for d in verdict.differences] == ["f32[3,3]", "i64[3,3]"]
    assert len(with_inner_values(graph)[1]) == 2
