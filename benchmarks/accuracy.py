"""How far whole networks are from float64: max |difference| / max |output|, for each accuracy and for onnxruntime in float32.

    python benchmarks/accuracy.py FILE.onnx ... [--inputs 1] [--seed 0]

The judge is the reference backend in float64 on the graph as it was imported. Inputs are normally distributed.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

import tilewright as tw
from tilewright.engine.backend import ACCURACIES
from tilewright.engine.bench.engines import Task, onnxruntime
from tilewright.engine.cli import console
from tilewright.engine.cli.inputs import random_array, require_shapes
from tilewright.engine.compiler import load_source

BOUNDS = {"fast": 1e-4, "strict": 2e-5}
COLUMNS = ["network", *ACCURACIES, "onnxruntime"]

Arrays = Mapping[str, np.ndarray]


def error(found: Arrays, wanted: Arrays) -> float:
    """The largest over the outputs."""
    return max(float(np.abs(found[name] - exact).max() / np.abs(exact).max()) for name, exact in wanted.items())


def errors(path: str, count: int, seed: int) -> list[float]:
    """For each accuracy, and for onnxruntime: the largest over that many random inputs."""
    source, rng = load_source(path), np.random.default_rng(seed)
    shapes = require_shapes(source, {})
    judge = tw.compile(path, backend="reference", precision="float64", passes=[])
    sessions = [tw.compile(path, accuracy=accuracy) for accuracy in ACCURACIES]
    peer, found = onnxruntime(Task(path, shapes, {}, 1)), list[list[float]]()
    for _ in range(count):
        inputs = {spec.name: random_array(spec, shapes[spec.name], rng) for spec in source.inputs}
        wanted = judge.run(inputs)
        answers = [session.run(inputs) for session in sessions]
        answers.append(dict(zip(source.output_names, peer(inputs), strict=True)))
        found.append([error(answer, wanted) for answer in answers])
    return [max(column) for column in zip(*found, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """1 when a bound is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE.onnx")
    parser.add_argument("--inputs", type=int, default=1, metavar="N", help="the worst of N random inputs counts")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    options = parser.parse_args(arguments)
    found = {}
    for file in options.files:
        with console.working(f"{file} in float64"):
            found[pathlib.Path(file).stem] = errors(file, options.inputs, options.seed)
    console.table(COLUMNS, [[name, *(f"{value:.1e}" for value in row)] for name, row in found.items()])
    kept = {a: all(row[ACCURACIES.index(a)] <= bound for row in found.values()) for a, bound in BOUNDS.items()}
    print("\n" + "; ".join(f"{a} <= {bound:.0e}: {'yes' if kept[a] else 'NO'}" for a, bound in BOUNDS.items()))
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
