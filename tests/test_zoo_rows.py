"""Every model of the zoo: the size its paper states, activations in range, and the same numbers from generated kernels,
the float64 reference and, after export, onnxruntime."""

from __future__ import annotations

import dataclasses as dc
import re
import zlib

import numpy as np
import pytest
from zoo_table import ROWS, Row

import tilewright as tw
from tilewright.engine import plugins
from tilewright.engine.evaluate import evaluate, widen
from tilewright.engine.graph import Graph
from tilewright.frontends.dsl import Model

TOLERANCE = 1e-4
"""Of the largest number of an output."""


def zoo(name: str) -> Model:
    return plugins.load("models", name)


def arrays(row: Row, graph: Graph) -> dict[str, np.ndarray]:
    """Random inputs: normally distributed, or indices below what the row allows."""
    rng = np.random.default_rng(zlib.crc32(row.model.encode()))
    found = {}
    for node in graph.inputs:
        if node.type.dtype.kind in "iu":
            found[node.name] = rng.integers(0, row.below[node.name], node.type.shape, node.type.dtype)
        else:
            found[node.name] = rng.standard_normal(node.type.shape).astype(node.type.dtype)
    return found


def test_every_model_has_a_row() -> None:
    ours = [name for name in plugins.available("models") if isinstance(zoo(name), Model)]
    assert sorted(ROWS) == ours and all(zoo(name).name == name for name in ours)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_counts(row: Row) -> None:
    model = zoo(row.model)
    assert model.parameter_count == row.parameters
    assert model.multiply_adds == pytest.approx(row.multiply_adds, rel=0.01)
    assert model.__doc__ and row.source
    assert re.fullmatch(r"\w.*: .*\w, (19|20)\d\d", model.source), "authors: title, year"


def check_numbers(row: Row, graph: Graph) -> None:
    inputs = arrays(row, graph)
    expected, activations = exact(graph, inputs)
    for spread in activations:
        assert 1e-3 < spread < 1e3, f"activations leave the range: {activations}"
    session = tw.compile(graph)
    assert " 0 numpy steps" in session.plan, session.plan
    close(session.run(inputs), expected, "cpu")
    onnxruntime = pytest.importorskip("onnxruntime")
    exported = plugins.load("frontends", "onnx.export")(graph).SerializeToString()
    theirs = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"]).run(list(expected), inputs)
    close(dict(zip(expected, theirs, strict=True)), expected, "onnxruntime")


def exact(graph: Graph, inputs: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[float]]:
    """The outputs in float64, and the standard deviation of what every convolution and matrix product gives."""
    wide = widen(graph)
    contractions = [node for node in wide if node.multiply_adds() and node.type.size > 16]
    names = (*wide.output_names, *(f"contraction{i}" for i in range(len(contractions))))
    everything = dc.replace(wide, outputs=(*wide.outputs, *contractions), output_names=names)
    found = evaluate(everything, [inputs[node.name] for node in graph.inputs])
    split = len(graph.outputs)
    return dict(zip(graph.output_names, found[:split], strict=True)), [float(np.std(a)) for a in found[split:]]


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], who: str) -> None:
    for name, array in expected.items():
        assert np.isfinite(array).all() and (np.ptp(array) > 0 or array.size == 1), f"{name} says nothing"
        assert found[name].shape == array.shape
        difference = np.abs(found[name] - array).max() / np.abs(array).max()
        assert difference <= TOLERANCE, f"{who} differs in {name} by {difference:.2e} of the largest number"


SMALL = {row.model: row for row in ROWS.values() if row.ci}


@pytest.mark.parametrize("row", SMALL.values(), ids=SMALL)
def test_numbers(row: Row) -> None:
    check_numbers(row, tw.load(zoo(row.model), row.shapes))


@pytest.mark.sweep
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_numbers_at_full_size(row: Row) -> None:
    check_numbers(row, tw.load(zoo(row.model)))
