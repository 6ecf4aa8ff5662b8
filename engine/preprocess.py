"""Preprocessing as the first layers of a model: what it takes then is the raw picture, in bytes."""

from __future__ import annotations

import dataclasses as dc
from collections.abc import Mapping
from typing import Any

import numpy as np

from .compiler import load_source
from .errors import ModelError
from .graph import Constant, Graph, Input, Node
from .images import LAYOUTS, ORDERS, Preprocessing
from .ops import Expand, Reduce, Resize, Slice, Transpose, cast, pointwise
from .source import InputSpec, NeedsValues, Releasable, Shapes, Source, check_shape

LUMA = (19595, 38470, 7471)
"""How much red, green and blue make grey, of 65536 (ITU-R BT.601 in fixed point, as Pillow computes it)."""
F4 = np.dtype(np.float32)


def preprocess(
    model: Any,
    how: Preprocessing | None = None,
    *,
    input: str | None = None,
    size: tuple[int, int] | None = None,
    picture_order: str = "rgb",
    picture_layout: str = "nhwc",
    **options: Any,
) -> Source:
    """The model over raw pictures of uint8, which `compile`, `load` and everything else that takes a model take.

    model: whatever `compile` takes. how: what the model expects, or by keywords: resize_short, resize, crop, order, scale, mean, std,
    layout. input: which input takes pictures, where several could.
    size: (width, height) of the pictures; None: any, a plan is made for each size that comes.
    picture_order, picture_layout: "rgb", "bgr" or "grey", "nhwc" or "nchw": what the pictures are given as.

    Scaling is bilinear and smooths what it shrinks, as Pillow does, without rounding in between.
    Raises ModelError when the model has no such input or the sizes do not fit.
    """
    if how is not None and options:
        raise ModelError(f"preprocess: give either a Preprocessing or {', '.join(options)}")
    if picture_order not in ORDERS or picture_layout not in LAYOUTS:
        raise ModelError(
            f"preprocess: expected picture_order of {', '.join(ORDERS)} and picture_layout of {', '.join(LAYOUTS)}, "
            f"got {picture_order!r}, {picture_layout!r}"
        )
    source = load_source(model)
    return PictureSource(source, how or _options(options), _Given(picture_order, picture_layout), picture_input(source, input), size)


def _options(options: dict[str, Any]) -> Preprocessing:
    known = [field.name for field in dc.fields(Preprocessing)]
    if unknown := options.keys() - set(known):
        raise ModelError(f"preprocess: no option {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return Preprocessing(**options)


def picture_input(source: Source, name: str | None = None) -> InputSpec:
    """The input that takes pictures: the one of this name, or the only one of rank 4. Raises ModelError where there is no such one."""
    floats = [s for s in source.inputs if len(s.shape) == 4 and s.dtype.kind == "f"]
    found = [s for s in floats if name in (None, s.name)]
    if len(found) != 1:
        asked = "one floating-point input of rank 4" if name is None else f"a floating-point input {name!r} of rank 4"
        hint = "; say which: input=..." if len(found) > 1 else ""
        if any(len(s.shape) == 4 and s.dtype.kind in "iu" for s in source.inputs):
            hint = "; one that takes bytes is preprocessed already, and augmentation comes first: preprocess(augment(model))"
        raise ModelError(f"expected {asked}, the model takes {', '.join(map(str, source.inputs))}{hint}")
    return found[0]


@dc.dataclass(frozen=True)
class _Given:
    """What raw pictures are given as."""

    order: str
    layout: str

    @property
    def channels(self) -> int:
        return 1 if self.order == "grey" else 3

    @property
    def channel_axis(self) -> int:
        return 3 if self.layout == "nhwc" else 1

    def shape(self, batch: Any, width: Any, height: Any) -> tuple[Any, ...]:
        """The axes in order."""
        return (batch, height, width, self.channels) if self.layout == "nhwc" else (batch, self.channels, height, width)

    def size(self, shape: tuple[Any, ...]) -> tuple[Any, Any]:
        """(width, height)."""
        height, width = shape[1:3] if self.layout == "nhwc" else shape[2:]
        return width, height


class PictureSource:
    """A Source whose pictures go through the layers of a Preprocessing before they reach another Source."""

    def __init__(self, source: Source, how: Preprocessing, given: _Given, spec: InputSpec, size: tuple[int, int] | None) -> None:
        self.name, self.output_names = source.name, source.output_names
        self._source, self._how, self._given, self._spec = source, how, given, spec
        self.inputs = tuple(self._picture_spec(size) if s is spec else s for s in source.inputs)

    def _picture_spec(self, size: tuple[int, int] | None) -> InputSpec:
        """The input for raw pictures: of the given size, of the model's where nothing changes it, or of any."""
        spec, how = self._spec, self._how
        inside = _Given(how.order, how.layout)
        keeps = not (how.resize or how.resize_short or how.crop)
        width, height = size or (inside.size(spec.shape) if keeps else ("picture_width", "picture_height"))
        shape = self._given.shape(spec.shape[0], width, height)
        typical = None
        if spec.typical is not None and (keeps or size):
            typical = self._given.shape(spec.typical[0], *(size or inside.size(spec.typical)))
        return InputSpec(spec.name, np.dtype(np.uint8), shape, typical)

    def graph(self, shapes: Shapes, values: Mapping[str, np.ndarray]) -> Graph:
        """See Source."""
        picture = Input(name=self._spec.name, shape=tuple(shapes[self._spec.name]), dtype=np.dtype(np.uint8), origin=(self._spec.name,))
        ready = self._ready(picture)
        return with_input(graph_inside(self._source, self._spec, ready.type.shape, shapes, values), picture, ready)

    def release(self) -> None:
        """See engine.source.Releasable."""
        if isinstance(self._source, Releasable):
            self._source.release()

    def _ready(self, picture: Node) -> Node:
        """The picture as the model expects it."""
        how, given = self._how, self._given
        x: Node = cast(picture, F4)
        if how.order == "grey" != given.order:
            x = _grey(x, given)
        x = _cropped(_resized(x, how, given), how, given)
        x = _normalised(x, how, given)
        if {how.order, given.order} == {"rgb", "bgr"}:
            x = _sliced(x, given.channel_axis, x.type.shape[given.channel_axis] - 1, -1, how.channels)
        if how.channels > x.type.shape[given.channel_axis]:
            x = Expand(x, shape=tuple(how.channels if a == given.channel_axis else n for a, n in enumerate(x.type.shape)))
        if how.layout != given.layout:
            x = Transpose(x, permutation=(0, 3, 1, 2) if how.layout == "nchw" else (0, 2, 3, 1))
        return x if self._spec.dtype == F4 else cast(x, self._spec.dtype)


def graph_inside(source: Source, spec: InputSpec, shape: tuple[int, ...], shapes: Shapes, values: Mapping[str, np.ndarray]) -> Graph:
    """A source's graph where one input is of this shape, because it is computed; ModelError where its numbers would decide about shapes."""
    try:
        return source.graph({**shapes, spec.name: check_shape(spec, shape)}, values)
    except NeedsValues as question:
        if spec.name in question.names:
            raise ModelError(f"shapes in {source.name} depend on the numbers in {spec.name}: it takes no pictures") from None
        raise


def with_input(graph: Graph, given: Input, ready: Node) -> Graph:
    """The graph with another input in the place of the one of the same name, and `ready`, which is made from it, where that was read."""
    new: dict[Node, Node] = {old: ready if old.name == given.name else old for old in graph.inputs}
    for node in graph:
        if node not in new:
            new[node] = node.map_operands(new.__getitem__)
    inputs = tuple(given if old.name == given.name else old for old in graph.inputs)
    return dc.replace(graph, inputs=inputs, outputs=tuple(new[o] for o in graph.outputs))


def _grey(x: Node, given: _Given) -> Node:
    """Whole numbers, as Pillow makes them."""
    weights = np.array(LUMA if given.order == "rgb" else LUMA[::-1], np.float32)
    total = Reduce(pointwise("mul", x, _by_channel(weights, given)), kind="sum", axes=(given.channel_axis,), keepdims=True)
    return pointwise("floor", pointwise("mul", pointwise("add", total, 32768.0), 1 / 65536))


def _resized(x: Node, how: Preprocessing, given: _Given) -> Node:
    before = given.size(x.type.shape)
    after = how.scaled(before)
    if after == before or 0 in before:
        return x
    shape = tuple(after[(3, 2).index(a)] if a in (2, 3) else n for a, n in enumerate(x.type.shape))
    if given.layout == "nhwc":
        shape = (x.type.shape[0], after[1], after[0], x.type.shape[3])
    scales = tuple(new / old if old else 1.0 for new, old in zip(shape, x.type.shape, strict=True))
    return Resize(x, shape=shape, scales=scales, mode="linear", coordinates="half_pixel", antialias=True, exclude_outside=True)


def _cropped(x: Node, how: Preprocessing, given: _Given) -> Node:
    size = given.size(x.type.shape)
    if how.crop is None or how.crop == size:
        return x
    (width, height), (left, top) = how.crop, how.corner(size)
    rows, columns = (1, 2) if given.layout == "nhwc" else (2, 3)
    return _sliced(_sliced(x, rows, top, 1, height), columns, left, 1, width)


def _sliced(x: Node, axis: int, start: int, step: int, count: int) -> Node:
    """x[start : : step] along an axis."""
    rank = x.type.rank
    starts, steps = (tuple(value if a == axis else other for a in range(rank)) for value, other in ((start, 0), (step, 1)))
    return Slice(x, starts=starts, sizes=tuple(count if a == axis else n for a, n in enumerate(x.type.shape)), steps=steps)


def _normalised(x: Node, how: Preprocessing, given: _Given) -> Node:
    """(x * scale - mean) / std as one product and one sum; mean and std are in the model's order, x in the picture's."""
    mean, std = np.array(how.mean, np.float64), np.array(how.std, np.float64)
    factor, shift = np.broadcast_arrays(how.scale / std, -mean / std)
    if how.order != given.order and "grey" not in (how.order, given.order):
        factor, shift = factor[::-1], shift[::-1]
    for function, numbers, neutral in (("mul", factor, 1), ("add", shift, 0)):
        if (numbers == numbers[0]).all():
            x = x if numbers[0] == neutral else pointwise(function, x, float(numbers[0]))
        else:
            x = pointwise(function, x, _by_channel(numbers.astype(np.float32), given))
    return x


def _by_channel(numbers: np.ndarray, given: _Given) -> Constant:
    return Constant(numbers if given.layout == "nhwc" else numbers.reshape(-1, 1, 1))
