"""Lowers the operators that only move data to strided copies: slices, concatenations, transposes, pads, changes of layout."""

from __future__ import annotations

import dataclasses as dc
import itertools
from collections.abc import Iterator

import numpy as np

from ...engine.graph import Constant
from ...engine.ops.gather import Gather
from ...engine.ops.layout import Reorder
from ...engine.ops.shape import Concat, Expand, Pad, Reshape, Slice, Transpose
from .copies import copy
from .kernel import Call, Machine, NoKernel, lowers
from .view import View

MOST_RUNS = 4
"""A gather by a constant list becomes at most so many slices."""


@lowers(Reorder)
def lower_reorder(node: Reorder, machine: Machine) -> list[Call]:
    """y[i] = x[i]."""
    return copy(View.of(node.x), View.of(node), machine)


@lowers(Reshape)
def lower_reshape(node: Reshape, machine: Machine) -> list[Call]:
    """The same elements in the same order; for where the result cannot share the memory of x."""
    if node.type.layout or node.x.type.layout:
        raise NoKernel("a reshape of a blocked value")
    return copy(View.of(node.x), View.of(node, node.x.type), machine)


@lowers(Transpose)
def lower_transpose(node: Transpose, machine: Machine) -> list[Call]:
    """Axis k of y is axis permutation[k] of x."""
    return copy(View.of(node.x).transpose(node.permutation), View.of(node), machine)


@lowers(Slice)
def lower_slice(node: Slice, machine: Machine) -> list[Call]:
    """y = x[start : : step]."""
    return copy(View.of(node.x).slice(node.starts, node.sizes, node.steps), View.of(node), machine)


@lowers(Expand)
def lower_expand(node: Expand, machine: Machine) -> list[Call]:
    """y = x repeated."""
    return copy(View.of(node.x).expand(node.shape), View.of(node), machine)


@lowers(Concat)
def lower_concat(node: Concat, machine: Machine) -> list[Call]:
    """Each operand goes to its slice of y."""
    calls, start = [], 0
    for operand in node.inputs:
        size = operand.type.shape[node.axis]
        calls += copy(View.of(operand), View.of(node).along(node.axis, start, size), machine)
        start += size
    return calls


@lowers(Pad)
def lower_pad(node: Pad, machine: Machine) -> list[Call]:
    """x goes to the inside of y; then the borders are filled, or copied from what y holds by then, axis after axis."""
    whole = View.of(node)
    calls = copy(View.of(node.x), _inside(node, whole, 0), machine)
    value = np.array([node.value], node.type.dtype)
    for axis in range(node.type.rank):
        if node.mode != "constant":
            for source, target in _repeats(node, whole, axis):
                calls += copy(source, target, machine)
            continue
        for border in _borders(node, whole, axis):
            filled = border.with_padding() if np.isfinite(value).all() else border
            calls += copy(View.repeat(value, filled.shape), filled, machine)
    return calls


def _inside(node: Pad, whole: View, axes_from: int) -> View:
    """The part of y that holds x along the axes from `axes_from` on; all of the axes before."""
    for axis in range(axes_from, node.type.rank):
        whole = whole.along(axis, node.pads[axis][0], node.x.type.shape[axis])
    return whole


def _borders(node: Pad, whole: View, axis: int) -> Iterator[View]:
    """What lies before and after x along the axis, where the axes before are whole; as one view where both are alike."""
    before, after = node.pads[axis]
    end = node.type.shape[axis] - after
    part = _inside(node, whole, axis + 1)
    if before == after > 0 and not part.lines[axis].block:
        yield part.along(axis, 0, before).pair(end * part.lines[axis].stride)
    else:
        yield from (part.along(axis, start, size) for start, size in ((0, before), (end, after)) if size)


def _repeats(node: Pad, whole: View, axis: int) -> Iterator[tuple[View, View]]:
    """(source, target) pairs of y that fill the borders along an axis: a pair for each run of evenly spaced sources."""
    sources = node.sources(axis) + node.pads[axis][0]
    part, end = _inside(node, whole, axis + 1), node.pads[axis][0] + node.x.type.shape[axis]
    for first, last in ((0, node.pads[axis][0]), (end, len(sources))):
        for position, start, size, step in evenly_spaced(sources[first:last]):
            yield part.along(axis, start, size, step), part.along(axis, first + position, size)


@lowers(Gather)
def lower_constant_gather(node: Gather, machine: Machine) -> list[Call]:
    """By indices that are known: one copy where they are a grid, else slices where they are a few runs."""
    if not isinstance(node.indices, Constant) or not node.indices.type.size:
        raise NoKernel("a gather that is not by constant indices")
    x, axis, extent = node.x.type, node.axis, node.x.type.shape[node.axis]
    indices = node.indices.data.astype(np.int64).ravel()
    indices = np.where(indices < 0, indices + extent, indices)
    if not (x.layout or node.type.layout) and (spans := grid(indices)) is not None:
        sizes, steps = zip(*spans, strict=True)
        result = dc.replace(node.type, shape=(*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))
        return copy(View.of(node.x).along(axis, int(indices[0]), 1).spread(axis, sizes, steps), View.of(node, result), machine)
    runs = list(itertools.islice(evenly_spaced(indices), MOST_RUNS + 1))
    if len(runs) > MOST_RUNS:
        raise NoKernel(f"a gather by indices in more than {MOST_RUNS} runs")
    result = dc.replace(node.type, shape=(*x.shape[:axis], len(indices), *x.shape[axis + 1 :]))
    source, target = View.of(node.x), View.of(node, result)
    pairs = [(source.along(axis, start, size, step), target.along(axis, at, size)) for at, start, size, step in runs]
    return [call for source, target in pairs for call in copy(source, target, machine)]


def grid(numbers: np.ndarray) -> list[tuple[int, int]] | None:
    """(how many, distance) along each dimension of the grid whose points, row by row, the numbers are; None if they are none."""
    _, _, size, step = next(evenly_spaced(numbers))
    if size == len(numbers):
        return [(size, step)]
    if len(numbers) % size:
        return None
    rows = numbers.reshape(-1, size)
    if (rows - rows[:, :1] != rows[0] - rows[0, 0]).any() or (outer := grid(rows[:, 0])) is None:
        return None
    return [*outer, (size, step)]


def evenly_spaced(numbers: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """(position, first number, how many, step) of runs that make up the numbers."""
    position = 0
    while position < len(numbers):
        steps = np.diff(numbers[position:])
        step = int(steps[0]) if len(steps) else 1
        size = 1 + next((i for i, s in enumerate(steps) if s != step), len(steps))
        yield position, int(numbers[position]), size, step
        position += size
