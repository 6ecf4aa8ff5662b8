"""List the operators, passes, backends, models or settings there are."""

from __future__ import annotations

import argparse
import inspect
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from .. import knobs, ops, plugins
from ..backend import Options
from ..compiler import default_passes
from ..errors import TilewrightError
from ..expression import FUNCTIONS, Operand, apply
from ..graph import Node
from . import console

Rows = list[list[str]]


def configure(parser: argparse.ArgumentParser) -> None:
    """What `tilewright list` takes."""
    parser.add_argument("what", choices=list(LISTS))


def main(arguments: argparse.Namespace) -> int:
    """0 always."""
    columns, rows = LISTS[arguments.what]
    console.table(columns, rows())
    return 0


def operators() -> Rows:
    """Every node class, and what Pointwise can compute: how a function is spelled in terms of others, or how it is printed."""
    found = [value for name in ops.__all__ if isinstance(value := getattr(ops, name), type) and issubclass(value, Node)]
    rows = [[kind.__name__, purpose(kind)] for kind in sorted(found, key=lambda kind: kind.__name__.lower())]
    spelled = {name: f.definition or apply(name, *map(Operand, range(f.arity))) for name, f in FUNCTIONS.items()}
    return [*rows, *([f"Pointwise {name}", str(expression)] for name, expression in spelled.items())]


def passes() -> Rows:
    """The default passes with their places in the order, then the others."""
    places: dict[str, list[str]] = defaultdict(list)
    for place, name in enumerate(default_passes(), start=1):
        places[name].append(str(place))
    names = [*places, *(name for name in plugins.available("passes") if name not in places)]
    return [[name, ", ".join(places.get(name, "-")), purpose(plugins.load("passes", name))] for name in names]


def backends() -> Rows:
    """Every backend, and why it cannot be used here."""
    return [[name, _usable(name)] for name in plugins.available("backends")]


def models() -> Rows:
    """The zoo, with what papers count at typical input shapes, and which papers; resnet18 comes before resnet101."""
    names = sorted(plugins.available("models"), key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])
    return [[name, *_described(plugins.load("models", name))] for name in names]


def _described(model: Any) -> list[str]:
    """What it is, parameters, multiply-adds, source; a model that somebody else offers may know only the first."""
    if not hasattr(model, "parameter_count"):
        return [purpose(model), "-", "-", "-"]
    return [purpose(model), f"{model.parameter_count:,}", f"{model.multiply_adds:,}", model.source]


def settings() -> Rows:
    """Every environment variable and its present value."""
    return [[knob.variable, str(knobs.get(name)) or "-", knob.help] for name, knob in knobs.TABLE.items()]


def purpose(thing: object) -> str:
    """The first line of the docstring of an object, or of its module."""
    text = inspect.getdoc(thing) or inspect.getdoc(inspect.getmodule(thing)) or ""
    return text.partition("\n")[0]


def _usable(name: str) -> str:
    try:
        plugins.load("backends", name)(Options())
    except TilewrightError as error:
        return f"not here: {error}"
    return purpose(inspect.getmodule(plugins.load("backends", name)))


LISTS: dict[str, tuple[list[str], Callable[[], Rows]]] = {
    "ops": (["operator", "meaning"], operators),
    "passes": (["pass", "order", "equation"], passes),
    "backends": (["backend", "what it is"], backends),
    "models": (["model", "what it is", "parameters", "multiply-adds", "source"], models),
    "knobs": (["variable", "now", "meaning"], settings),
}
