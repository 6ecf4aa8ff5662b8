"""The zoo on the emulated GPU against float64, at the small shapes of the table."""

from __future__ import annotations

import pytest
from cuda_harness import needs_compiler
from test_zoo_rows import SMALL, arrays, close, exact, zoo

import tilewright as tw

pytestmark = needs_compiler
SAMPLE = ("gcn", "shufflenet_v2_x1_0", "text_cnn")
"""Graph convolutions scatter, shuffled channels are gathered and concatenated, and a sentence is looked up."""


def check(name: str) -> None:
    row = SMALL[name]
    graph = tw.load(zoo(name), row.shapes)
    inputs = arrays(row, graph)
    expected, _ = exact(graph, inputs)
    close(tw.compile(graph, backend="cuda_emulated").run(inputs), expected, "cuda")


@pytest.mark.parametrize("name", SAMPLE)
def test_sample(name: str) -> None:
    check(name)


@pytest.mark.sweep
@pytest.mark.parametrize("name", SMALL)
def test_every_family(name: str) -> None:
    check(name)
