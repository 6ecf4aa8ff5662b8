"""What is special about GoogLeNet, Inception v3 and AmoebaNet: auxiliary classifiers, the two forms of one network, cells as data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amoebanet_torch import Network

import tilewright as tw
from tilewright.engine.evaluate import evaluate
from tilewright.engine.ops import LRN, BatchNorm, MaxPool
from tilewright.frontends import dsl as nn
from tilewright.models import amoebanet_a, googlenet, googlenet_auxiliary, googlenet_paper, inception_v3, inception_v3_auxiliary
from tilewright.models.amoebanet import OPERATIONS, REDUCTION, Cell, amoebanet, stacks
from tilewright.models.inception_v3 import auxiliary

TOLERANCE = 1e-4
"""Of the largest number of an output."""


def run(model: nn.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    graph = tw.load(model, {"image": image.shape})
    return dict(zip(graph.output_names, evaluate(graph, [image]), strict=True))


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape and np.ptp(expected) > 0
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_auxiliary_classifiers_change_nothing(rng: np.random.Generator) -> None:
    image = rng.standard_normal((1, 3, 40, 49), np.float32)
    found = run(googlenet_auxiliary, image)
    assert list(found) == ["output", "auxiliary1", "auxiliary2"]
    np.testing.assert_array_equal(found["output"], run(googlenet, image)["output"])


def test_the_auxiliary_classifier_of_inception_v3_is_an_option() -> None:
    plain, more = inception_v3.declarations(), inception_v3_auxiliary.declarations()
    added = more.keys() - plain.keys()
    assert plain.keys() < more.keys() and all(name.startswith("AuxLogits.") for name in added)
    assert tw.load(inception_v3_auxiliary).output_names == ("output", "auxiliary")


@pytest.mark.torch
def test_auxiliary_classifiers_of_googlenet_are_torchvisions(rng: np.random.Generator) -> None:
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    theirs = torchvision.models.googlenet(aux_logits=True, init_weights=False)
    take(theirs, googlenet_auxiliary.parameters())
    theirs.training = True  # the network alone, not its layers: only then it gives what the auxiliary classifiers say
    image = rng.standard_normal((2, 3, 65, 96), np.float32)
    with torch.no_grad():
        output, second, first = (tensor.numpy() for tensor in theirs(torch.from_numpy(image)))
    for ours, expected in zip(run(googlenet_auxiliary, image).values(), (output, first, second), strict=True):
        close(ours, expected)


@pytest.mark.torch
@pytest.mark.parametrize("extents", [(17, 17), (18, 23)], ids=str)
def test_the_auxiliary_classifier_of_inception_v3_is_torchvisions(extents: tuple[int, int], rng: np.random.Generator) -> None:
    torch, inception = pytest.importorskip("torch"), pytest.importorskip("torchvision.models.inception")
    head = nn.model(image=(2, 768, *extents))(auxiliary)
    theirs = inception.InceptionAux(768, 1000)
    take(theirs, {name.removeprefix("AuxLogits."): array for name, array in head.parameters().items()})
    image = rng.standard_normal((2, 768, *extents), np.float32)
    with torch.no_grad():
        close(run(head, image)["output"], theirs(torch.from_numpy(image)).numpy())


def take(theirs: Any, weights: dict[str, np.ndarray]) -> None:
    """Give a module of PyTorch, for inference, all of its arrays."""
    torch = pytest.importorskip("torch")
    missing, unexpected = theirs.eval().load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()}, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)


def test_the_paper_has_other_layers_than_torchvision() -> None:
    graphs = {model.name: tw.load(model, {"image": (1, 3, 64, 64)}) for model in (googlenet, googlenet_paper)}
    assert [len(graph.find(LRN)) for graph in graphs.values()] == [0, 2]
    assert [len(graph.find(BatchNorm)) for graph in graphs.values()] == [57, 0]
    halving = [[pool.kernel[0] for pool in graph if isinstance(pool, MaxPool) and pool.strides == (2, 2)] for graph in graphs.values()]
    assert halving == [[3, 3, 3, 2], [3, 3, 3, 3]]
    wide = "inception4c.branch3.1"
    assert googlenet.declarations()[f"{wide}.conv.weight"].shape == (64, 24, 3, 3)
    assert googlenet_paper.declarations()[f"{wide}.weight"].shape == (64, 24, 5, 5)


@pytest.mark.parametrize("model", [googlenet, googlenet_paper])
def test_extents_of_the_papers_table(model: nn.Model) -> None:
    shapes = {o: node.type.shape for node in tw.load(model) for o in node.origin}
    found = [shapes[f"{name}.concat1"] for name in ("inception3b", "inception4a", "inception4d", "inception5b")]
    assert found == [(1, 480, 28, 28), (1, 512, 14, 14), (1, 528, 14, 14), (1, 1024, 7, 7)]


EVERYTHING = tuple(((operation, 0), (operation, 1)) for operation in OPERATIONS)
"""A combination of each operation with itself."""
CELLS = {
    "published": [(REDUCTION, 5), (REDUCTION, 11), *stacks(1, 22)],
    "repeated": stacks(1, 8),
    "every operation": [(Cell(EVERYTHING, (1, *range(2, 2 + len(EVERYTHING))), 1), 12)],
    "every operation halving": [(Cell(EVERYTHING, tuple(range(2, 2 + len(EVERYTHING))), 2), channels) for channels in (8, 13)],
}


@pytest.mark.torch
@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("extents", [(17, 14), (16, 31)], ids=str)
def test_cells_are_data(cells: list[tuple[Cell, int]], extents: tuple[int, int], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    model = nn.model(image=(2, 6, *extents))(lambda image: amoebanet(image, cells, 5))
    image = rng.standard_normal((2, 6, *extents), np.float32)
    weights = {name: torch.from_numpy(array) for name, array in model.parameters().items()}
    close(run(model, image)["output"], Network(torch, weights)(torch.from_numpy(image), cells).numpy())


def test_cells_of_amoebanet_a() -> None:
    """The extents of NASNet's stem and of the three stacks, and five or four states of F, 2 F and 4 F channels side by side."""
    shapes = {o: node.type.shape for node in tw.load(amoebanet_a, {"image": (1, 3, 331, 331)}) for o in node.origin}
    found = [shapes[f"cells.{number}.concat1"][1:3] for number in (0, 1, 2, 7, 8, 9, 14, 15, 21)]
    stem, stack = [(5 * 47, 83), (5 * 95, 42)], [(4 * 190, 42)] * 2
    assert found == [*stem, *stack, (5 * 380, 21), *[(4 * 380, 21)] * 2, (5 * 760, 11), (4 * 760, 11)]
