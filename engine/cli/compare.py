"""Run a model on several backends and say how far they are apart, and which pass or layer is the first to differ."""

from __future__ import annotations

import argparse

import numpy as np

from ..compare import Verdict, compare
from ..compiler import load_source
from . import console, failure
from .arguments import add_compilation, add_inputs, add_model, positive, tolerance
from .inputs import gather
from .model import model_of


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright compare`."""
    add_model(parser)
    parser.add_argument(
        "--backends",
        default="reference,cpu",
        metavar="A,B,...",
        help="the first is the judge and runs the graph without passes; NAME:PRECISION as in reference:float64; default: reference,cpu",
    )
    what = "largest difference / largest value, and half of it for the rms; default: by the type of an output and the backends' precision"
    parser.add_argument("--tolerance", type=tolerance, metavar="T", help=what)
    parser.add_argument("--repeat", type=positive, default=1, metavar="N", help="timed runs after the first one; default: 1")
    add_inputs(parser)
    add_compilation(parser, backend=False)


def main(arguments: argparse.Namespace) -> int:
    """0 when all backends agree with the first, 1 otherwise."""
    source = load_source(model_of(arguments))
    inputs = gather(source, arguments)
    names = [name.strip() for name in arguments.backends.split(",") if name.strip()]
    with console.working(f"running {source.name} on {', '.join(names)}"):
        verdicts = compare(
            source,
            inputs,
            names,
            passes=arguments.passes,
            threads=arguments.threads,
            accuracy=arguments.accuracy,
            tolerance=arguments.tolerance,
            repeats=arguments.repeat,
        )
    print_verdicts(verdicts)
    return failure.DONE if all(v.agrees for v in verdicts) else failure.DIFFERS


def print_verdicts(verdicts: list[Verdict]) -> None:
    """Times of all, errors of each output, and where the first difference is."""
    console.table(["backend", "time"], [[v.backend, console.duration(v.seconds)] for v in verdicts])
    rows = [
        [v.backend, d.name, str(d.type), *_beside(d.largest, d.tolerance), *_beside(d.rms, d.rms_tolerance), "yes" if d.within else "NO"]
        for v in verdicts
        for d in v.differences
    ]
    console.heading(f"differences from {verdicts[0].backend}, relative")
    console.table(["backend", "output", "type", "max", "allowed", "rms", "allowed", "agrees"], rows)
    for verdict in verdicts:
        if verdict.culprit:
            console.print_text(f"{verdict.backend}: {verdict.culprit}")


def _beside(error: float, allowed: float) -> list[str]:
    """The error in three digits, and the limit with all that it has: `2.5e-5`."""
    return [f"{error:.2e}", np.format_float_scientific(allowed, trim="-", exp_digits=1)]
