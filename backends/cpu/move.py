"""Lowers the operators that only move data to strided copies: slices, concatenations, transposes, pads, changes of layout."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...engine.ops.layout import Reorder
from ...engine.ops.shape import Concat, Expand, Pad, Reshape, Slice, Transpose
from .copies import copy
from .kernel import Call, Machine, NoKernel, lowers
from .view import View


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
    if 0 in node.type.shape:
        return []
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
        if operand.type.size:
            calls += copy(View.of(operand), View.of(node).along(node.axis, start, size), machine)
        start += size
    return calls


@lowers(Pad)
def lower_pad(node: Pad, machine: Machine) -> list[Call]:
    """x goes to the inside of y; then the borders are filled, or copied from what y holds by then, axis after axis."""
    whole = View.of(node)
    if 0 in node.type.shape:
        return []
    calls: list[Call] = []
    if node.x.type.size:
        calls += copy(View.of(node.x), _inside(node, whole, 0), machine)
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
    before, end = node.pads[axis][0], node.pads[axis][0] + node.x.type.shape[axis]
    part = _inside(node, whole, axis + 1)
    for first, last in ((0, before), (end, len(sources))):
        start = first
        while start < last:
            steps = np.diff(sources[start:last])
            step = int(steps[0]) if len(steps) else 1
            size = 1 + next((i for i, s in enumerate(steps) if s != step), len(steps))
            yield part.along(axis, int(sources[start]), size, step), part.along(axis, start, size)
            start += size
