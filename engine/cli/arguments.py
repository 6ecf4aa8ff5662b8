"""Command-line options that several commands share, and how their texts are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from .. import plugins
from ..backend import ACCURACIES, Backend, Options
from ..compiler import default_passes, tune_seconds
from ..errors import ModelError
from ..images import LAYOUTS, ORDERS, Preprocessing


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ModelErrors, so that they end like every other wrong input."""

    def parse_known_args(self, *given: Any, **named: Any) -> Any:
        """None are unknown: what a command does not know is refused by its own parser, whose help it should know."""
        found, unknown = super().parse_known_args(*given, **named)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        raise ModelError(f"{message}; see `{self.prog} --help`")


def add_model(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """MODEL, or `models`, and the shapes of open dimensions."""
    what = "an ONNX file, a name that `tilewright list models` prints, or for some commands a compiled model"
    if several:
        parser.add_argument("models", nargs="+", metavar="MODEL", help=what)
    else:
        parser.add_argument("model", metavar="MODEL", help=what)
    parser.add_argument(
        "--shape", action="append", default=[], type=_shape, metavar="NAME=1x3x224x224", help="fix the shape of an input (repeatable)"
    )
    formats = "a .safetensors file or a PyTorch state dict (.pt, .pth, .bin), its names those of torchvision or timm"
    parser.add_argument("--weights", metavar="FILE", help=f"the weights of a MODEL of the zoo: {formats}")


def add_compilation(parser: argparse.ArgumentParser, backend: bool = True) -> None:
    """How to compile: backend, threads, accuracy, precision, passes."""
    group = parser.add_argument_group("compilation")
    if backend:
        group.add_argument("--backend", default="cpu", metavar="NAME", help="default: cpu")
        add_tuning(group)
        how = "of the arithmetic: fp32, tf32x3, tf32, bf16 or fp16 with --backend cuda, float64 with reference; default: the model's"
        group.add_argument("--precision", metavar="P", help=how)
    group.add_argument("--threads", type=positive, metavar="N", help="default: as many as this process may use")
    group.add_argument("--accuracy", choices=ACCURACIES, default="fast", help="default: fast")
    group.add_argument(
        "--passes", type=passes, metavar="A,B,...", help="these passes only; '' is none; +A,B runs the default ones and then A and B"
    )


def add_tuning(group: argparse._ActionsContainer) -> None:
    """--tune."""
    how = "measure what is fastest for each layer, once, and keep it (see TILEWRIGHT_TUNE_SECONDS)"
    group.add_argument("--tune", action="store_true", help=how)


def add_inputs(parser: argparse.ArgumentParser, inside: bool = True) -> None:
    """What to run the model on; `inside`: see `add_pictures`."""
    group = parser.add_argument_group("inputs")
    group.add_argument("--input", action="append", default=[], metavar="NAME=FILE", help="a .npy array, or an .npz with arrays by name")
    group.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture, or NAME=FILE; several make a batch")
    group.add_argument("--random", action="store_true", help="fill the inputs not given with random numbers")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the random numbers; default: 0")
    add_pictures(parser, inside)


def add_pictures(parser: argparse.ArgumentParser, inside: bool = True) -> None:
    """What the model expects of pictures, and where it may be so that the model sees to it itself, --preprocess."""
    group = parser.add_argument_group("pictures", "y = (x * scale - mean) / std over pixels 0..255, in the model's channel order")
    group.add_argument("--resize-short", type=positive, metavar="N", help="scale the short side to N pixels")
    group.add_argument("--resize", type=size, metavar="WxH", help="scale to exactly this size")
    group.add_argument("--crop", type=size, metavar="N|WxH", help="then cut this size out of the centre")
    group.add_argument("--order", choices=ORDERS, default="rgb", help="the model's channel order; default: rgb")
    group.add_argument("--scale", type=float, default=1.0, metavar="S", help="default: 1")
    group.add_argument("--mean", type=_numbers, default=(0.0,), metavar="A,B,C", help="one number or one a channel; default: 0")
    group.add_argument("--std", type=_numbers, default=(1.0,), metavar="A,B,C", help="one number or one a channel; default: 1")
    group.add_argument("--layout", choices=LAYOUTS, default="nchw", help="the model's axis order; default: nchw")
    if inside:
        how = "make all this the first layers of the model, which takes bytes then: n x height x width x 3, red, green, blue"
        group.add_argument("--preprocess", action="store_true", help=how)
    parser.set_defaults(preprocess=False)


def preprocessing(arguments: argparse.Namespace) -> Preprocessing:
    """The options about pictures as the engine takes them."""
    names = ("resize_short", "resize", "crop", "order", "scale", "mean", "std", "layout")
    return Preprocessing(**{name: getattr(arguments, name) for name in names})


def make_backend(arguments: argparse.Namespace, threads: int | None) -> Backend:
    """The backend that the command line asks for, with this number of threads."""
    options = Options(threads, arguments.accuracy, arguments.precision, tune=tune_seconds(arguments.tune))
    return plugins.load("backends", arguments.backend)(options)


def shapes(arguments: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Every --shape by input name."""
    return dict(arguments.shape)


def _reader(expected: str) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    """Decorator: a ValueError while reading an option's text becomes `expected X, got Y`."""

    def decorate(read: Callable[[str], Any]) -> Callable[[str], Any]:
        def checked(text: str) -> Any:
            try:
                return read(text)
            except ValueError:
                raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}") from None

        return checked

    return decorate


@_reader("NAME=1x3x224x224")
def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, sign, sizes = text.rpartition("=")
    if not sign or not name:
        raise ValueError
    return name, tuple(map(_natural, sizes.split("x"))) if sizes else ()


@_reader("a positive number")
def positive(text: str) -> int:
    """A count of at least 1."""
    return _natural(text)


@_reader("WxH or one number")
def size(text: str) -> tuple[int, int]:
    """`320x240` is (320, 240), `224` a square."""
    width, cross, height = text.partition("x")
    return _natural(width), _natural(height if cross else width)


@_reader("numbers like 104,117,123")
def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


@_reader("names like onnxruntime,openvino")
def names(text: str) -> tuple[str, ...]:
    """`a, b` is (a, b)."""
    return _split(text)


@_reader("sm_80,sm_90 or all")
def architectures(text: str) -> tuple[str, ...]:
    """As `names`."""
    return _split(text)


def _split(text: str) -> tuple[str, ...]:
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found:
        raise ValueError
    return found


@_reader("a number of seconds above 0")
def seconds(text: str) -> float:
    """A length of time."""
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError
    return value


@_reader("a number of at least 0")
def tolerance(text: str) -> float:
    """A share of the largest value."""
    if not (value := float(text)) >= 0:
        raise ValueError
    return value


def _natural(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def passes(text: str) -> tuple[str, ...]:
    """`fold_pad,mine` is those two, `+mine` the default ones and mine, an empty text none."""
    names = tuple(name.strip() for name in text.removeprefix("+").split(",") if name.strip())
    return (*default_passes(), *names) if text.startswith("+") else names
