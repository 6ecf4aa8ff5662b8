"""Every environment variable in one table; `with knobs(debug=2):` overrides them for a while."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .errors import ModelError


class Knob(NamedTuple):
    """One setting: the environment variable, how its text is read, the value without it, and what it does."""

    variable: str
    read: Callable[[str], Any]
    default: Any
    help: str


TABLE: dict[str, Knob] = {
    "debug": Knob(
        "TILEWRIGHT_DEBUG",
        int,
        0,
        "1: stages, times, fallbacks; 2: the graph after each pass that changed it; 3: the plan; 4: kernel sources",
    ),
    "debug_dir": Knob(
        "TILEWRIGHT_DEBUG_DIR",
        str,
        "",
        "a folder that receives what debug levels 2 to 4 show as files: 00_import.txt, 02_fold_constants.txt, ..., plan.txt",
    ),
    "cache_dir": Knob("TILEWRIGHT_CACHE_DIR", str, "", "where compiled kernels are kept; empty: the user's cache folder; 'off': nowhere"),
    "threads": Knob("TILEWRIGHT_THREADS", int, 0, "threads of the cpu backend; 0: as many as this process may use"),
    "tune_seconds": Knob(
        "TILEWRIGHT_TUNE_SECONDS", float, 20.0, "how long compile(tune=True) and --tune may measure candidates for the layers of a network"
    ),
    "target": Knob("TILEWRIGHT_TARGET", str, "", "the cpu backend's target: native, avx512, avx2 or neon; empty: native"),
}

_overrides: dict[str, Any] = {}


def get(name: str) -> Any:
    """The present value of a knob: an override, else the environment, else the default."""
    if name in _overrides:
        return _overrides[name]
    knob = TABLE[name]
    text = os.environ.get(knob.variable, "")
    try:
        return knob.read(text) if text else knob.default
    except ValueError as error:
        raise ModelError(f"{knob.variable}={text!r}: expected {knob.read.__name__} ({knob.help})") from error


@contextlib.contextmanager
def knobs(**values: Any) -> Iterator[None]:
    """Override knobs inside a `with` block: `with knobs(debug=2): ...`."""
    if unknown := values.keys() - TABLE.keys():
        raise ModelError(f"no knob named {', '.join(sorted(unknown))}; there are {', '.join(TABLE)}")
    before = dict(_overrides)
    _overrides.update(values)
    try:
        yield
    finally:
        _overrides.clear()
        _overrides.update(before)
