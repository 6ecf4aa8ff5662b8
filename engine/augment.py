"""Test-time augmentation as part of a model: it sees variants of each picture, and its answers are averaged."""

from __future__ import annotations

import dataclasses as dc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .compiler import load_source
from .errors import ModelError
from .graph import Constant, Graph, Input, Node
from .images import LAYOUTS
from .ops import Concat, Gather, Pad, Reduce, Reshape, Slice, Softmax, pointwise
from .preprocess import graph_inside, picture_input, with_input
from .source import InputSpec, Releasable, Shapes, Source

Change = Callable[["Pictures"], "Pictures"]


def augment(
    model: Any,
    *,
    flip: bool = True,
    shifts: Sequence[tuple[int, int]] = (),
    angles: Sequence[float] = (),
    scales: Sequence[float] = (),
    softmax: bool = False,
    input: str | None = None,
    output: str | None = None,
    layout: str = "nchw",
) -> Source:
    """The model as one that averages over variants of each picture, which everything that takes a model takes.

    Variants are the picture itself, one for each of `shifts` (right, down) in pixels, of `angles` in degrees against the clock, and of
    `scales`, above 1 nearer; with `flip` all of them also mirrored left to right. What moves in from outside is the edge again;
    turning and scaling are bilinear, around the centre.
    softmax: average probabilities where the model's outputs are logits.
    input, output: which ones, where there are several; only what is averaged is an output then.
    layout: of the input, "nchw" or "nhwc".

    All variants run as one batch where the model leaves its batch open, otherwise as copies that share their weights.
    Pictures in bytes are augmented inside: `preprocess(augment(model), ...)`.
    Raises ModelError for a model without pictures and for outputs that are not scores of whole pictures.
    """
    if layout not in LAYOUTS:
        raise ModelError(f"augment: expected layout of {', '.join(LAYOUTS)}, got {layout!r}")
    if wrong := [s for s in scales if not s > 0]:
        raise ModelError(f"augment: expected scales above 0, got {', '.join(map(str, wrong))}")
    source = load_source(model)
    if output is not None and output not in source.output_names:
        raise ModelError(f"augment: no output named {output!r}; the model has {', '.join(source.output_names)}")
    changes = _changes(flip, shifts, angles, scales)
    return AugmentedSource(source, picture_input(source, input), changes, layout, output, softmax)


def _changes(flip: bool, shifts: Sequence[tuple[int, int]], angles: Sequence[float], scales: Sequence[float]) -> list[Change]:
    """What makes each variant of the pictures."""
    changes: list[Change] = [lambda pictures: pictures]
    changes += [lambda pictures, by=shift: pictures.shifted(*by) for shift in shifts]
    changes += [lambda pictures, angle=angle: pictures.sampled(angle, 1.0) for angle in angles]
    changes += [lambda pictures, scale=scale: pictures.sampled(0.0, scale) for scale in scales]
    mirrored: list[Change] = [lambda pictures, change=change: change(pictures).mirrored() for change in changes]
    return changes + mirrored if flip else changes


@dc.dataclass(frozen=True)
class Pictures:
    """A batch of pictures in a graph, and where its rows and columns are."""

    node: Node
    rows: int
    """The axis of the rows; that of the columns is the next one."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.node.type.shape[self.rows : self.rows + 2]
        return height, width

    def mirrored(self) -> Pictures:
        """Left is right."""
        shape, columns = self.node.type.shape, self.rows + 1
        starts = tuple(n - 1 if axis == columns else 0 for axis, n in enumerate(shape))
        steps = tuple(-1 if axis == columns else 1 for axis in range(len(shape)))
        return dc.replace(self, node=Slice(self.node, starts=starts, sizes=shape, steps=steps))

    def shifted(self, right: int, down: int) -> Pictures:
        """Moved by whole pixels."""
        shape = self.node.type.shape
        by = {self.rows: down, self.rows + 1: right}
        pads = tuple((max(by.get(axis, 0), 0), max(-by.get(axis, 0), 0)) for axis in range(len(shape)))
        starts = tuple(after for _, after in pads)
        padded = Pad(self.node, pads=pads, mode="edge")
        return dc.replace(self, node=Slice(padded, starts=starts, sizes=shape, steps=(1,) * len(shape)))

    def sampled(self, angle: float, scale: float) -> Pictures:
        """Turned and scaled: every pixel is a weighted sum of four, which are gathered by one list of positions."""
        shape, rows = self.node.type.shape, self.rows
        places, weights = bilinear_taps(self.size, angle, scale)
        flat = Reshape(self.node, shape=(*shape[:rows], math.prod(self.size), *shape[rows + 2 :]))
        taps = Gather(flat, Constant(places), axis=rows)
        by_tap = Constant(weights.astype(self.node.type.dtype).reshape(*weights.shape, *[1] * (len(shape) - rows - 2)))
        total = Reduce(pointwise("mul", taps, by_tap), kind="sum", axes=(rows,), keepdims=False)
        return dc.replace(self, node=Reshape(total, shape=shape))


def bilinear_taps(size: tuple[int, int], angle: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """(positions int64, weights float64), both (4, pixels): what each pixel of a turned and scaled picture is made of, edges repeated."""
    height, width = size
    turn = math.radians(angle)
    down, right = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    rows = (right * math.sin(turn) + down * math.cos(turn)) / scale + (height - 1) / 2
    columns = (right * math.cos(turn) - down * math.sin(turn)) / scale + (width - 1) / 2
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    above, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    below, beside = np.minimum(above + 1, height - 1), np.minimum(left + 1, width - 1)
    part, across = rows - above, columns - left
    corners = [(above, left), (above, beside), (below, left), (below, beside)]
    weights = [(1 - part) * (1 - across), (1 - part) * across, part * (1 - across), part * across]
    return np.stack([(row * width + column).ravel() for row, column in corners]), np.stack([w.ravel() for w in weights])


class AugmentedSource:
    """A Source that shows another one variants of its pictures and averages what it says."""

    def __init__(self, source: Source, spec: InputSpec, changes: Sequence[Change], layout: str, output: str | None, softmax: bool) -> None:
        self.name, self.inputs = source.name, source.inputs
        self.output_names = (output,) if output else source.output_names
        self._source, self._spec, self._changes, self._softmax = source, spec, changes, softmax
        self._rows = 2 if layout == "nchw" else 1

    def graph(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Graph:
        """See Source."""
        shape = tuple(shapes[self._spec.name])
        pictures = Input(name=self._spec.name, shape=shape, dtype=self._spec.dtype, origin=(self._spec.name,))
        variants = [change(Pictures(pictures, self._rows)).node for change in self._changes]
        is_batch = len(self.inputs) == 1 and not isinstance(self._spec.shape[0], int)
        together = [Concat(tuple(variants), axis=0)] if is_batch else variants
        inner = graph_inside(self._source, self._spec, together[0].type.shape, shapes, values)
        graphs = [with_input(inner, pictures, variant) for variant in together]
        answers = [[graph.outputs[graph.output_names.index(name)] for graph in graphs] for name in self.output_names]
        means = [self._mean(name, found, shape[0]) for name, found in zip(self.output_names, answers, strict=True)]
        return Graph(graphs[0].inputs, tuple(means), self.output_names, self.name)

    def release(self) -> None:
        """See engine.source.Releasable."""
        if isinstance(self._source, Releasable):
            self._source.release()

    def _mean(self, name: str, answers: Sequence[Node], pictures: int) -> Node:
        """The mean over all variants, which are copies of an output, or one output for all of them."""
        kind = answers[0].type
        count = len(self._changes)
        is_scores = kind.rank >= 2 and math.prod(kind.shape[2:]) == 1 and kind.dtype.kind == "f"
        if not is_scores or kind.shape[0] * len(answers) != count * pictures:
            raise ModelError(
                f"augment: output {name} is {kind}; expected scores (n, classes) for whole pictures, because those of "
                f"places move with the picture; choose another output: output=..."
            )
        scores = [Softmax(answer, axis=1) if self._softmax else answer for answer in answers]
        if len(scores) == 1:
            apart = Reshape(scores[0], shape=(count, pictures, *kind.shape[1:]))
            return Reduce(apart, kind="mean", axes=(0,), keepdims=False)
        total: Node = scores[0]
        for score in scores[1:]:
            total = pointwise("add", total, score)
        return pointwise("mul", total, 1 / count)
