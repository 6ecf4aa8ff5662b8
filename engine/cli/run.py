"""Run a model once and print, classify or save what comes out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..compiler import compile, load_source
from ..tensor import TensorType
from . import console
from .arguments import add_compilation, add_inputs, add_model, positive, shapes
from .classification import add_classification, print_classes, read_labels
from .files import checked_target, write_arrays
from .inputs import gather
from .model import model_of
from .opening import add_verification, opened


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright run`."""
    add_model(parser)
    add_inputs(parser)
    add_compilation(parser)
    add_classification(parser)
    add_verification(parser)
    parser.add_argument("--output", metavar="FILE.npz", help="save every output under its name")
    parser.add_argument("--repeat", type=positive, metavar="N", help="run N more times and print the median time")


def main(arguments: argparse.Namespace) -> int:
    """0 when the model ran."""
    labels = read_labels(arguments.labels) if arguments.labels else None
    target = checked_target(arguments.output, ".npz") if arguments.output else None
    session = opened(arguments)
    source = session.source if session else load_source(model_of(arguments))
    inputs = gather(source, arguments)
    with console.working(f"compiling {source.name} for {arguments.backend}"):
        session = session or compile(
            source,
            backend=arguments.backend,
            threads=arguments.threads,
            shapes=shapes(arguments),
            passes=arguments.passes,
            accuracy=arguments.accuracy,
            precision=arguments.precision,
            tune=arguments.tune,
        )
        outputs = session.run(inputs)
    print_outputs(outputs)
    if labels is not None or arguments.top:
        print_classes(outputs, labels, arguments.top or 5)
    if arguments.repeat:
        print(f"median of {arguments.repeat} runs: {console.duration(median_seconds(lambda: session.run(inputs), arguments.repeat))}")
    if target:
        write_arrays(target, outputs)
    return 0


def print_outputs(outputs: Mapping[str, np.ndarray]) -> None:
    """Type and range of every output, and how many of its numbers are none."""
    rows = []
    for name, array in outputs.items():
        finite = array[np.isfinite(array)].astype(np.float64) if array.dtype.kind == "f" else array.astype(np.float64).ravel()
        figures = [f"{f(finite):.6g}" for f in (np.min, np.mean, np.max)] if finite.size else ["-"] * 3
        rows.append([name, str(TensorType(array.dtype, array.shape)), *figures, str(array.size - finite.size)])
    console.table(["output", "type", "min", "mean", "max", "not finite"], rows)


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median time of `repeats` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
