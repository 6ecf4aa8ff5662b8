"""Compile a model into one file that `tilewright run` and `tilewright.open` take, without compiling anything again."""

from __future__ import annotations

import argparse

from ..compiler import compile
from . import console
from .arguments import add_compilation, add_model, add_pictures, shapes
from .files import checked_target
from .inputs import require_shapes
from .model import model_of


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright compile`."""
    add_model(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE.tw", help="the file to write")
    add_compilation(parser)
    add_pictures(parser)


def main(arguments: argparse.Namespace) -> int:
    """0 when the file was written."""
    target = checked_target(arguments.output, ".tw")
    with console.working(f"compiling {arguments.model} for {arguments.backend}"):
        session = compile(
            model_of(arguments),
            backend=arguments.backend,
            threads=arguments.threads,
            shapes=shapes(arguments),
            passes=arguments.passes,
            accuracy=arguments.accuracy,
            tune=arguments.tune,
        )
        if not session.plans:
            require_shapes(session.source, shapes(arguments))
        session.save(target)
    return 0
