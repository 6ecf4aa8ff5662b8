"""Pads on the emulated GPU, in every mode, plain and with channels last."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_cases import channels_last, given
from cuda_harness import check_node, needs_compiler

from tilewright.engine.ops import Pad

pytestmark = needs_compiler
F2, F4 = np.float16, np.float32
MODES = ("constant", "reflect", "edge", "wrap")


@pytest.mark.parametrize("mode", MODES)
def test_plain(mode: str) -> None:
    x, values = given((2, 3, 4, 5))
    check_node(Pad(x, pads=((0, 0), (0, 0), (1, 2), (3, 0)), mode=mode, value=2.5), values, 0)
    check_node(Pad(x, pads=((1, 0), (2, 1), (9, 7), (0, 11)), mode=mode, value=-np.inf), values, 0)
    x, values = given((7,), np.int64)
    check_node(Pad(x, pads=((2, 5),), mode=mode, value=-3), values)
    x, values = given((3, 1), bool)
    check_node(Pad(x, pads=((1, 1), (1, 2)), mode=mode, value=1), values)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [F4, F2])
def test_channels_last(mode: str, dtype: type) -> None:
    x, values = given((2, 6, 4, 5), dtype, channels_last(dtype, 6))
    (call,) = check_node(Pad(x, pads=((0, 0), (0, 0), (1, 2), (2, 1)), mode=mode, value=2, layout=x.layout), values, 0)
    assert f", {16 // np.dtype(dtype).itemsize}>" in call.kernel.source()
    check_node(Pad(x, pads=((1, 0), (1, 2), (0, 0), (2, 1)), mode=mode, value=np.inf, layout=channels_last(dtype, 9)), values, 0)
    check_node(Pad(x, pads=((0, 0), (1, 0), (0, 0), (0, 0)), mode=mode, layout=x.layout), values, 0)
    check_node(Pad(x, pads=((0, 0), (1, 2), (1, 0), (2, 1)), mode=mode, value=2), values, 0)
