"""Show what a network sees in a picture, as a page: kernels, feature maps, and which places its prediction rests on."""

from __future__ import annotations

import argparse
import os
import pathlib

from ..compiler import load_source
from ..errors import ModelError
from ..look.page import page
from ..look.picture import Picture
from ..look.study import Subject, Wishes, study
from . import console
from .arguments import add_compilation, add_inputs, add_model, positive, preprocessing, shapes
from .classification import add_classification, read_labels
from .files import checked_target, write
from .inputs import from_files, gather, picture_input
from .model import model_of


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright look`."""
    add_model(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE.html", help="the page to write")
    group = parser.add_argument_group("what is shown")
    group.add_argument(
        "--layer", action="append", default=[], metavar="NAME", help="feature maps of this layer (repeatable); default: a few"
    )
    group.add_argument("--channels", type=positive, default=12, metavar="N", help="of each layer, the most active ones; default: 12")
    group.add_argument("--class", dest="target", type=int, metavar="K", help="the class to explain; default: the most probable one")
    group.add_argument("--patch", type=positive, metavar="N", help="side of the square that hides a part; default: a 7th of the short side")
    group.add_argument("--step", type=positive, metavar="N", help="how far it moves each time; default: half its side")
    add_classification(parser)
    add_inputs(parser, inside=False)
    add_compilation(parser)


def main(arguments: argparse.Namespace) -> int:
    """0 when the page was written."""
    target = checked_target(arguments.output, ".html")
    labels = read_labels(arguments.labels) if arguments.labels else None
    subject = subject_of(arguments)
    wishes = Wishes(
        arguments.layer, arguments.channels, arguments.target, arguments.patch, arguments.step, labels, arguments.top or Wishes.top
    )
    model = pathlib.Path(arguments.model).stem if os.path.exists(arguments.model) else arguments.model
    with console.working(f"looking into {model}"):
        found = study(subject, wishes, f"What {model} sees in {pathlib.Path(arguments.image[0]).name}")
    content = page(found).encode("utf-8")
    write(target, lambda file: file.write(content))
    return 0


def subject_of(arguments: argparse.Namespace) -> Subject:
    """The model with its inputs, one of them a picture."""
    if len(arguments.image) != 1:
        raise ModelError(f"expected one picture, got {len(arguments.image)}; give it with --image FILE")
    source = load_source(model_of(arguments))
    name = picture_input(source.inputs, arguments, from_files(source.inputs, arguments.input)).name
    inputs = gather(source, arguments)
    return Subject(
        source,
        inputs,
        Picture(name, inputs[name], preprocessing(arguments)),
        {name: getattr(arguments, name) for name in ("backend", "threads", "accuracy", "precision", "tune")},
        arguments.passes,
        shapes(arguments).get(name, (None,))[0],
    )
