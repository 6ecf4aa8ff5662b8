"""The onnx package's operator tests on the emulated GPU, for the operators that move, gather, reduce, pool and resize."""

from __future__ import annotations

import pytest
from cuda_harness import needs_compiler
from test_onnx_conformance import cases, is_standard, operator_of, run

pytestmark = needs_compiler
OPERATORS = frozenset(
    ["ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Concat", "CumSum", "DepthToSpace", "Expand", "Flatten", "GRU", "Gather"]
    + ["GatherElements", "GatherND", "GlobalAveragePool", "GlobalMaxPool", "LRN", "LSTM", "LayerNormalization", "LogSoftmax", "MaxPool"]
    + ["MeanVarianceNormalization", "Pad", "RNN", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"]
    + ["ReduceProd", "ReduceSum", "ReduceSumSquare", "Reshape", "Resize", "ScatterElements", "ScatterND", "Slice", "Softmax"]
    + ["SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Upsample"]
)
NAMES = sorted(name for name, case in cases().items() if is_standard(case) and operator_of(case) in OPERATORS)


def check(name: str) -> None:
    """The case passes, or is one that no backend passes."""
    case = cases()[name]
    outcome = run(case, "cuda_emulated")
    assert outcome.status == "passed" or outcome == run(case, "reference"), outcome.reason


@pytest.mark.parametrize("name", NAMES[::16])
def test_some_cases(name: str) -> None:
    check(name)


@pytest.mark.sweep
@pytest.mark.parametrize("name", NAMES)
def test_cases(name: str) -> None:
    check(name)
