"""The operator tests of the onnx package on the cpu backend, and a ledger of what does not pass, or only by NumPy, and why.

`pytest tests/test_onnx_conformance.py --update-golden` writes conformance_ledger.json anew.
"""

from __future__ import annotations

import dataclasses as dc
import difflib
import functools
import json
import pathlib
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner
from onnx_backend import TilewrightBackend

from tilewright.backends.cpu import kernel
from tilewright.engine.errors import UnsupportedError
from tilewright.engine.ops import Softmax

LEDGER = pathlib.Path(__file__).with_name("conformance_ledger.json")
REQUIRED = 0.98
"""The share of the cases of MODEL_OPERATORS that must pass."""

MODEL_OPERATORS = frozenset(
    ["Add", "AveragePool", "BatchNormalization", "Cast", "Concat", "Constant", "ConstantOfShape", "Conv", "DepthToSpace", "Div", "Dropout"]
    + ["Exp", "Gather", "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "LSTM", "LeakyRelu", "MatMul", "Max", "MaxPool", "Mul"]
    + ["PRelu", "Pad", "Pow", "ReduceMean", "Relu", "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Softmax", "Sqrt", "Squeeze", "Sub"]
    + ["Transpose", "Unsqueeze"]
)
"""`{node.op_type for every node, also inside subgraphs}` over the real models that Tilewright is measured with: FastestDet, a CIFAR
classifier, SqueezeNet, PP-OCR's angle classifier, MNIST, MTCNN's first stage, openWakeWord's embedding, super resolution, road
segmentation, Silero VAD and the face detector RFB-320."""

STANDARD = frozenset(
    [TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.BOOL]
    + [TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64]
    + [TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64]
)

EXPLAINED = {
    **dict.fromkeys(
        ("test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"),
        "expects the corners of a result of fractional size to align; the text of the specification and onnxruntime round the size first",
    ),
}
"""Why numbers may differ from those of a case; any other difference is a mistake."""


class Outcome(NamedTuple):
    """How a case ended: "passed", "fallback" (passed, but some steps ran by their NumPy meaning) or "failed"; and why."""

    status: str
    reason: str = ""


@functools.cache
def cases() -> dict[str, TestCase]:
    """Every node case of the installed onnx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node")}


def operator_of(case: TestCase) -> str:
    """The operator that a case tests; the variant that spells it by others counts with it."""
    original = cases()[re.sub(r"_expanded(_ver\d+)?$", "", case.name)]
    assert original.model is not None
    return original.model.graph.node[0].op_type


def is_standard(case: TestCase) -> bool:
    """Whether everything in it is a tensor of float16, 32 or 64, integers or bools."""
    assert case.model is not None
    graph = case.model.graph
    values = [v.type for v in (*graph.input, *graph.output)]
    casts = [a.i for node in graph.node for a in node.attribute if a.name in ("to", "output_dtype") and a.i]
    return all(v.HasField("tensor_type") for v in values) and {*casts, *(v.tensor_type.elem_type for v in values)} <= STANDARD


def is_of_models(case: TestCase) -> bool:
    """Whether the case counts for REQUIRED."""
    return operator_of(case) in MODEL_OPERATORS and is_standard(case)


def run(case: TestCase, backend: str = "cpu") -> Outcome:
    """Compile and run a case and compare within its own tolerances. Errors that are no answer pass through."""
    assert case.model is not None and case.data_sets is not None
    try:
        prepared = TilewrightBackend.prepare(case.model, backend=backend)
        for inputs, outputs in case.data_sets:
            found = prepared.run(as_arrays(inputs))
            Runner.assert_similar_outputs(as_arrays(outputs), found, case.rtol, case.atol)
    except UnsupportedError as error:
        return Outcome("failed", brief(str(error)))
    except AssertionError:
        if case.name not in EXPLAINED:
            raise
        return Outcome("failed", EXPLAINED[case.name])
    reasons = [line.partition(": ")[2] for line in prepared.fallbacks]
    return Outcome("fallback", "; ".join(dict.fromkeys(reasons))) if reasons else Outcome("passed")


def as_arrays(values: Sequence[Any]) -> list[np.ndarray]:
    """The values of a case, some of which come as TensorProto."""
    return [onnx.numpy_helper.to_array(v) if isinstance(v, TensorProto) else v for v in values]


def brief(message: str) -> str:
    """An UnsupportedError without the names of nodes and inputs, and without where to add what is missing."""
    message = message.removeprefix("not supported yet: ").partition("; converters are in")[0]
    message = re.sub(r"\((?:nodes? '[^']*'(?:, '[^']*')*(?: and \d+ more)?)(?:: )?(.*?)\)", r"(\1)", message)
    return re.sub(r"^input '[^']*' ", "input ", message).replace(" ()", " (no converter)")


def entry(chosen: Iterable[TestCase], backend: str = "cpu") -> dict[str, Any]:
    """What the ledger says about cases: how many end how, and the names of those that do not pass, by reason."""
    outcomes = {case.name: run(case, backend) for case in chosen}
    counts = Counter(outcome.status for outcome in outcomes.values())
    found: dict[str, Any] = {"cases": len(outcomes), **{status: counts[status] for status in ("passed", "fallback", "failed")}}
    for status in ("fallback", "failed"):
        reasons = sorted({o.reason for o in outcomes.values() if o.status == status})
        found[f"why {status}"] = {r: sorted(n for n, o in outcomes.items() if o == (status, r)) for r in reasons}
    return found


def check_ledger(name: str, found: dict[str, Any], config: pytest.Config) -> None:
    """Assert that the ledger has this entry, or write it."""
    stored = json.loads(LEDGER.read_text(encoding="utf-8")) if LEDGER.exists() else {}
    if config.getoption("--update-golden"):
        LEDGER.write_text(json.dumps({**stored, "onnx": onnx.__version__, name: found}, indent=1) + "\n", encoding="utf-8")
        return
    if stored["onnx"] != onnx.__version__:
        pytest.skip(f"the ledger is about onnx {stored['onnx']}, here is {onnx.__version__}")
    before, now = (json.dumps(e, indent=1).splitlines() for e in (stored[name], found))
    difference = [*difflib.unified_diff(before, now, str(LEDGER), "this run", lineterm="", n=1)]
    how = "if this is what you meant: pytest tests/test_onnx_conformance.py --update-golden, then look at `git diff tests`"
    if difference:
        pytest.fail("\n".join([*difference, how]), pytrace=False)


@pytest.fixture(scope="module")
def of_models() -> dict[str, Any]:
    """The entry of all cases of the real models' operators."""
    return entry(case for case in cases().values() if is_of_models(case))


def test_operators_of_the_real_models(of_models: dict[str, Any]) -> None:
    assert of_models["cases"] > 300
    assert (of_models["passed"] + of_models["fallback"]) / of_models["cases"] >= REQUIRED, of_models["why failed"]


def test_ledger_of_the_real_models(of_models: dict[str, Any], request: pytest.FixtureRequest) -> None:
    check_ledger("operators of the real models", of_models, request.config)


def test_ledger_of_all_others(request: pytest.FixtureRequest) -> None:
    """Other operators, and other element types: nothing is required of them."""
    check_ledger("other operators", entry(case for case in cases().values() if not is_of_models(case)), request.config)


def test_the_reference_backend_passes_the_same_cases(of_models: dict[str, Any]) -> None:
    by_numpy = entry((case for case in cases().values() if is_of_models(case)), "reference")
    assert by_numpy["why failed"] == of_models["why failed"]


def test_a_step_that_falls_back_is_told_from_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases()["test_softmax_axis_0"]
    assert run(case) == ("passed", "")
    monkeypatch.setitem(kernel.LOWERINGS, Softmax, [])
    assert run(case) == ("fallback", "no kernel for softmax")


def test_numbers_that_differ_are_a_failure_unless_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases()["test_relu"]
    assert case.data_sets is not None
    (inputs, (expected,)), *_ = case.data_sets
    wrong = dc.replace(case, data_sets=[(inputs, [expected + np.float32(0.01)])])
    with pytest.raises(AssertionError, match="Not equal"):
        run(wrong)
    monkeypatch.setitem(EXPLAINED, "test_relu", "because")
    assert run(wrong) == ("failed", "because")


def test_the_backend_answers_like_any_other() -> None:
    case = cases()["test_relu"]
    assert case.model is not None and case.data_sets is not None
    inputs, (expected,) = case.data_sets[0]
    assert TilewrightBackend.supports_device("CPU") and not TilewrightBackend.supports_device("CUDA:1")
    np.testing.assert_array_equal(TilewrightBackend.run_model(case.model, inputs)[0], expected)
