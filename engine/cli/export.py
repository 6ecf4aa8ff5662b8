"""Write a model, with its input shapes fixed, as an ONNX file."""

from __future__ import annotations

import argparse

from .. import plugins
from ..compiler import load_source
from . import files
from .arguments import add_model, add_pictures, shapes
from .inputs import require_shapes
from .model import model_of


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright export`."""
    add_model(parser)
    parser.add_argument("file", metavar="FILE.onnx")
    add_pictures(parser)


def main(arguments: argparse.Namespace) -> int:
    """0 when the file was written."""
    target = files.checked_target(arguments.file, ".onnx")
    source = load_source(model_of(arguments))
    graph = source.graph(require_shapes(source, shapes(arguments)), {})
    content = plugins.load("frontends", "onnx.export")(graph).SerializeToString()
    files.write(target, lambda file: file.write(content))
    return 0
