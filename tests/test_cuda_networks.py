"""Whole small networks on the emulated GPU, in several precisions, against float64; and the zoo, of which everything must have kernels."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import real_models
import zoo_table
from command_line import Command
from cuda_harness import load_kernels, needs_compiler
from small_networks import dense_blocks, head, inverted_residuals, unit

import tilewright as tw
from tilewright.backends.common.storage import Storage
from tilewright.backends.cuda import in_precision
from tilewright.backends.cuda.architecture import ARCHITECTURES
from tilewright.backends.cuda.kernel import Machine
from tilewright.backends.cuda.layout import assign_layouts
from tilewright.backends.cuda.plan import ALIGNMENT, lowered
from tilewright.backends.cuda.pool import PoolKernel
from tilewright.engine import plugins
from tilewright.engine.compiler import load_source, optimize
from tilewright.engine.errors import UnsupportedError
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import pointwise
from tilewright.frontends.dsl import Value, max_pool, model, relu
from tilewright.models import lenet5

TOLERANCE = {"fp32": 1e-5, "tf32x3": 1e-5, "tf32": 5e-3, "bf16": 4e-2, "fp16": 2e-2}


@model(image=("batch=1", 3, 33, 29))
def residual_blocks(image: Value) -> dict[str, Value]:
    """As in ResNet: a stem, blocks of two convolutions with a way around them, one of them with a stride."""
    x = max_pool(relu(unit(image, 16, 7, stride=2)), 3, stride=2, pad=1)
    for channels, stride in ((16, 1), (40, 2)):
        y = unit(relu(unit(x, channels, 3, stride)), channels, 3)
        x = relu(y + (x if x.shape == y.shape else unit(x, channels, 1, stride)))
    return head(x, 11)


@functools.cache
def answer(network: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """An image, and what the network says in float64."""
    source = load_source(network)
    shape = source.inputs[0].shape_in_advance
    assert shape is not None
    image = np.random.default_rng(5).random((2, *shape[1:]), np.float32)
    session = tw.compile(network, backend="reference", precision="float64", shapes={source.inputs[0].name: image.shape})
    return image, session.run({source.inputs[0].name: image})


@needs_compiler
@pytest.mark.parametrize(
    "network, precision",
    [
        (lenet5, "fp32"),
        (lenet5, "tf32x3"),
        (residual_blocks, "fp32"),
        (residual_blocks, "fp16"),
        (inverted_residuals, "fp32"),
        (inverted_residuals, "fp16"),
        (dense_blocks, "fp32"),
        (dense_blocks, "tf32"),
        pytest.param(residual_blocks, "bf16", marks=pytest.mark.sweep),
        pytest.param(dense_blocks, "fp16", marks=pytest.mark.sweep),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_network(network: Any, precision: str) -> None:
    image, wanted = answer(network)
    name = load_source(network).inputs[0].name
    session = tw.compile(network, backend="cuda_emulated", precision=precision, shapes={name: image.shape})
    found = session.run({name: image})
    for output, value in wanted.items():
        assert found[output].dtype == np.float32
        error = np.abs(found[output] - value).max() / np.abs(value).max()
        assert error <= TOLERANCE[precision], f"{output}: {error:.1e}"
    again = session.run({name: image})
    assert all(np.array_equal(found[output], again[output]) for output in found)


@needs_compiler
def test_compare_names_the_layer_whose_kernel_is_broken(cli: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    path = tmp_path / "small.onnx"
    assert cli("export", "lenet5", path).code == 0
    command = ("compare", path, "--random", "--backends", "reference:float64,cpu,cuda-emulated")
    good = cli(*command)
    assert good.code == 0 and "cuda-emulated" in good.out
    break_pools(monkeypatch)
    bad = cli(*command)
    assert bad.code == 1 and "cuda-emulated: first layer that differs" in bad.out
    assert "average_pool(" in bad.out.partition("first layer that differs")[2].splitlines()[0]


def break_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the kernels of pools add every value twice."""
    whole = PoolKernel._combine
    monkeypatch.setattr(PoolKernel, "_combine", lambda self: whole(self).replace("+= one", "+= 2 * one"))


def missing(graph: Graph, precision: str = "fp32") -> str:
    """The nodes that no kernel computes, as text."""
    load_kernels()
    graph = assign_layouts(in_precision(optimize(graph), precision))
    try:
        lowered(Storage(graph, ALIGNMENT), Machine(ARCHITECTURES["sm_90"], precision))
    except UnsupportedError as error:
        return str(error)
    return ""


def test_what_is_finite_stays_finite_in_float16() -> None:
    """Masks of -3e38, as transformers have them, and infinities, as they are."""
    x = Input(name="x", shape=(3,))
    mask = Constant(np.array([-3e38, np.inf, np.nan], np.float32))
    (inner,) = in_precision(Graph((x,), (pointwise("add", x, mask),), ("y",)), "fp16").outputs
    assert inner.type.dtype == np.float32
    constants = [n.data for n in Graph((x,), (inner,), ("y",)) if isinstance(n, Constant)]
    np.testing.assert_array_equal(constants, [np.array([-65504, np.inf, np.nan], np.float16)])


ROWS = [pytest.param(row, id=row.model, marks=() if row.ci else pytest.mark.sweep) for row in zoo_table.ROWS.values()]


@pytest.mark.parametrize("row", ROWS)
def test_the_zoo_has_kernels(row: zoo_table.Row) -> None:
    graph = load_source(plugins.load("models", row.model)).graph(row.shapes, {})
    assert not (text := missing(graph)), text


@pytest.mark.sweep
@pytest.mark.parametrize("row", ROWS)
def test_the_zoo_has_kernels_for_float16(row: zoo_table.Row) -> None:
    graph = load_source(plugins.load("models", row.model)).graph(row.shapes, {})
    assert not (text := missing(graph, "fp16")), text


@pytest.mark.skipif(not real_models.cases(), reason=real_models.MISSING)
@pytest.mark.parametrize("case", real_models.cases())
def test_real_models_have_kernels(case: str) -> None:
    from tilewright.engine.source import specialize

    feeds, _ = real_models.load(case)
    graph = specialize(load_source(str(real_models.model_path(case))), feeds)
    assert not (text := missing(graph)), text
