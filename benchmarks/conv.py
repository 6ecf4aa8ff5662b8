"""Direct convolution kernels alone, warm, beside the FMA peak measured in the same run.

    python benchmarks/conv.py [--threads 1,2] [--target avx512,avx2] [--rounds 15] [--only 3x3]

Only real multiply-adds count: taps that fall into padding are neither computed nor counted; Winograd is left out. Each round
measures the peak and then the kernel; the table shows medians over the rounds.
"""

from __future__ import annotations

import argparse
import math
import statistics

import numpy as np
from rich.console import Console
from rich.table import Table

import tilewright as tw
from tilewright.backends.common.geometry import phases
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.kernel import Machine
from tilewright.backends.cpu.peak import Peak
from tilewright.backends.cpu.target import resolve
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv

# name: channels, outputs, height and width, kernel, stride, padding, groups
SHAPES = {
    "ResNet 1x1 64-256 @56": (64, 256, 56, 1, 1, 0, 1),
    "ResNet 1x1 256-64 @56": (256, 64, 56, 1, 1, 0, 1),
    "ResNet 1x1 512-128 @28": (512, 128, 28, 1, 1, 0, 1),
    "ResNet 1x1 1024-256 @14": (1024, 256, 14, 1, 1, 0, 1),
    "ResNet 1x1 256-1024 @14": (256, 1024, 14, 1, 1, 0, 1),
    "ResNet 1x1 2048-512 @7": (2048, 512, 7, 1, 1, 0, 1),
    "ResNet 1x1 512-2048 @7": (512, 2048, 7, 1, 1, 0, 1),
    "ResNet 1x1 stride 2 256-512 @56": (256, 512, 56, 1, 2, 0, 1),
    "ResNet 3x3 64 @56": (64, 64, 56, 3, 1, 1, 1),
    "ResNet 3x3 128 @28": (128, 128, 28, 3, 1, 1, 1),
    "ResNet 3x3 256 @14": (256, 256, 14, 3, 1, 1, 1),
    "ResNet 3x3 512 @7": (512, 512, 7, 3, 1, 1, 1),
    "ResNet 3x3 stride 2 128 @56": (128, 128, 56, 3, 2, 1, 1),
    "ResNet 3x3 stride 2 256 @28": (256, 256, 28, 3, 2, 1, 1),
    "ResNet 3x3 stride 2 512 @14": (512, 512, 14, 3, 2, 1, 1),
    "ResNet 7x7 stride 2 3-64 @224": (3, 64, 224, 7, 2, 3, 1),
    "VGG 3x3 3-64 @224": (3, 64, 224, 3, 1, 1, 1),
    "VGG 3x3 64 @224": (64, 64, 224, 3, 1, 1, 1),
    "VGG 3x3 128 @112": (128, 128, 112, 3, 1, 1, 1),
    "VGG 3x3 256 @56": (256, 256, 56, 3, 1, 1, 1),
    "VGG 3x3 512 @28": (512, 512, 28, 3, 1, 1, 1),
    "VGG 3x3 512 @14": (512, 512, 14, 3, 1, 1, 1),
    "AlexNet 11x11 stride 4 3-64 @224": (3, 64, 224, 11, 4, 2, 1),
    "AlexNet 5x5 two groups 96-256 @27": (96, 256, 27, 5, 1, 2, 2),
}


def convolution(c: int, k: int, size: int, kernel: int, stride: int, pad: int, groups: int) -> Conv:
    """One convolution with random weights."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((k, c // groups, kernel, kernel)).astype(np.float32)
    x = Input(name="x", shape=(1, c, size, size))
    bias = rng.standard_normal(k).astype(np.float32)
    pads = ((pad, pad), (pad, pad))
    return Conv(x, Constant(weight), Constant(bias), strides=(stride, stride), pads=pads, groups=groups)


def real_flops(node: Conv) -> int:
    """Twice the multiply-adds whose tap reads inside the input."""
    [axes] = phases(node)
    positions = math.prod(sum(len(axis.valid_taps(j)) for j in range(axis.count)) for axis in axes)
    k, c = node.weight.type.shape[:2]
    return 2 * positions * k * c


class Case:
    """One shape on one target with one number of threads."""

    def __init__(self, shape: tuple[int, ...], machine: Machine) -> None:
        node = convolution(*shape)
        self.flops = real_flops(node)
        graph = Graph((node.x,), (node,), ("y",))  # type: ignore[arg-type]
        session = tw.compile(graph, passes=[], threads=machine.threads, target=machine.target.name, accuracy="exact")
        executable = session.executable
        assert isinstance(executable, NativeExecutable)
        self.executable = executable
        self.x = np.random.default_rng(1).standard_normal(node.x.type.shape).astype(np.float32)

    def seconds(self) -> float:
        """All convolution steps once; steps that reorder input and output do not count."""
        steps = self.executable.profile([self.x], repeats=3)
        return sum(seconds for label, seconds in steps if label.startswith("conv "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--target", default="native")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="only shapes whose name contains this")
    options = parser.parse_args()
    for target in options.target.split(","):
        for threads in map(int, options.threads.split(",")):
            measure(Machine(resolve(target), threads), options.rounds, options.only)


def measure(machine: Machine, rounds: int, only: str) -> None:
    """Print the table of one target and number of threads."""
    peak, peaks, shares = Peak(machine), list[float](), list[float]()
    table = Table(title=f"{machine.target.name}, {machine.threads} threads")
    for heading in ("shape", "ms", "GFLOP/s", "% of peak"):
        table.add_column(heading, justify="left" if heading == "shape" else "right")
    for name, shape in SHAPES.items():
        if only not in name:
            continue
        case = Case(shape, machine)
        samples = [(case.seconds(), peak.measure()) for _ in range(rounds)]
        seconds = statistics.median(s for s, _ in samples)
        ceiling = statistics.median(p for _, p in samples)
        peaks.append(ceiling)
        shares.append(case.flops / seconds / ceiling)
        table.add_row(name, f"{seconds * 1e3:.3f}", f"{case.flops / seconds / 1e9:.1f}", f"{100 * shares[-1]:.1f}")
    Console(width=100).print(table)
    lowest, middle = (100 * f(shares) for f in (min, statistics.median))
    print(f"FMA peak {statistics.median(peaks) / 1e9:.1f} GFLOP/s; lowest share {lowest:.1f} %, median {middle:.1f} %")


if __name__ == "__main__":
    main()
