"""Compile a model into one file: for this machine, to be run without compiling again, or kernels for GPUs that are elsewhere."""

from __future__ import annotations

import argparse
import json
import zipfile
from typing import IO

from .. import plugins
from ..backend import CrossCompiling, MachineCode, Options
from ..compiler import compile, load_source, optimize, stage
from ..errors import ModelError
from . import console
from .arguments import add_compilation, add_model, add_pictures, architectures, shapes
from .files import checked_target, write
from .inputs import require_shapes
from .model import model_of

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every member of an archive, so that equal contents are equal files."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright compile`."""
    add_model(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write: FILE.tw, with --arch FILE.zip")
    how = "with --backend cuda: write the machine code of all kernels for these GPUs, as sm_80,sm_90 or all, and what each kernel uses"
    parser.add_argument("--arch", type=architectures, metavar="A,B,...", help=how)
    add_compilation(parser)
    add_pictures(parser)


def main(arguments: argparse.Namespace) -> int:
    """0 when the file was written."""
    kind = plugins.load("backends", arguments.backend)
    if arguments.arch is not None:
        return cross_compile(kind, arguments)
    if isinstance(kind, CrossCompiling):
        raise ModelError(
            f"compiled models of the {arguments.backend} backend cannot be kept, but kernels can: give --arch sm_90 -o FILE.zip"
        )
    target = checked_target(arguments.output, ".tw")
    with console.working(f"compiling {arguments.model} for {arguments.backend}"):
        session = compile(
            model_of(arguments),
            backend=arguments.backend,
            threads=arguments.threads,
            shapes=shapes(arguments),
            passes=arguments.passes,
            accuracy=arguments.accuracy,
            precision=arguments.precision,
            tune=arguments.tune,
        )
        if not session.plans:
            require_shapes(session.source, shapes(arguments))
        session.save(target)
    return 0


def cross_compile(kind: object, arguments: argparse.Namespace) -> int:
    """Write the archive and print its report."""
    if not isinstance(kind, CrossCompiling):
        raise ModelError(f"--arch: the {arguments.backend} backend compiles for this machine only; --backend cuda takes it")
    if arguments.tune:
        raise ModelError("--tune measures on the GPU that it finds; it does not go with --arch")
    target = checked_target(arguments.output, ".zip")
    with console.working(f"compiling {arguments.model} for {', '.join(arguments.arch)}"):
        source = load_source(model_of(arguments))
        graph = optimize(source.graph(require_shapes(source, shapes(arguments)), {}), arguments.passes)
        options = Options(arguments.threads, arguments.accuracy, arguments.precision)
        with stage("backend"):
            code = kind.machine_code(graph, arguments.arch, options)
        write(target, lambda file: fill_archive(file, code))
    console.table(code.columns, code.rows) if code.rows else print("no kernels: only views")
    return 0


def fill_archive(file: IO[bytes], code: MachineCode) -> None:
    """The code, a file each, and report.json."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        members = {**code.files, "report.json": json.dumps(code.report, indent=1).encode()}
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)
