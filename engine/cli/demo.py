"""Classify handwritten digits with the LeNet-5 that comes with Tilewright."""

from __future__ import annotations

import argparse

from .. import plugins
from .arguments import add_compilation


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright demo`."""
    add_compilation(parser)


def main(arguments: argparse.Namespace) -> int:
    """What `models/demo.py::demo` returns for the parsed arguments."""
    return plugins.load("models", "demo")(arguments)
