"""Convolutions of single taps as steps of Strassen's algorithm: which layers, and their numbers."""

from __future__ import annotations

import math

from ...engine.graph import Blocked
from ...engine.ops import Conv
from ..common.problem import ConvProblem
from ..common.strassen import StrassenProblem, is_faster
from .conv_strassen import StrassenKernel, strassen_weight
from .frequency_steps import FrequencySteps, Work, register_block
from .kernel import Call, Machine, NoKernel, lowers
from .product import F4, Map, constant_weight, epilogue_operands


@lowers(Conv)
def lower_strassen(node: Conv, machine: Machine) -> list[Call]:
    """NoKernel where the direct algorithm is at least as fast, or the accuracy that was asked for forbids it."""
    weight, lanes = constant_weight(node, node.weight, node.bias, machine), machine.target.lanes(F4)
    is_pointwise = set(node.kernel) == {1} and set(node.strides) == {1} and not any(map(any, node.pads)) and node.groups == 1
    blocked = Blocked(1, lanes)
    if not is_pointwise or node.x.type.layout != blocked or node.type.layout != blocked:
        raise NoKernel("Strassen's algorithm needs a convolution of single taps without strides, pads and groups")
    outputs, channels = weight.shape[:2]
    pixels = math.prod(node.type.shape[2:])
    problem = StrassenProblem(channels, outputs, pixels, lanes)
    if machine.accuracy != "fast" or not asked(node, problem, machine):
        raise NoKernel("the direct algorithm is faster, or asked for")
    x, y, pairs = Map.of(node.x.type), Map.of(node.type), -(-pixels // 2)
    work = Work(node.type.shape[0] * pairs, outputs // 2 // lanes, channels // 2)
    tiles, vectors = register_block(work, machine.target.registers)
    epilogue, kinds, extras = epilogue_operands(node, node.extras, node.epilogue, lanes)
    kernel = StrassenKernel(lanes, tiles, vectors, "fused", epilogue, kinds)
    own = {
        **{"x": node.x, "x_image": x.image, "x_block": x.block, "x_half": x.image // 2, "pixels": pixels, "pairs": pairs},
        **{"y_half": y.image // 2, "channel_half": outputs // 2 * 4, **extras},
    }
    packed = strassen_weight(weight.reshape(outputs, channels), vectors, lanes)
    return FrequencySteps(node, work, kernel, machine).calls(packed, own)


def asked(node: Conv, problem: StrassenProblem, machine: Machine) -> bool:
    """Whether to use the algorithm; it changes bits, so the problem knows neither batch nor threads."""
    either = [True, False] if problem.is_even else [False]
    return machine.schedules.choose((ConvProblem.of(node), problem), lambda: is_faster(problem), lambda: either)
