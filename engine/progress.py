"""What a terminal shows while something long is going on: a spinner or a bar; nothing elsewhere."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from . import knobs

_spinners: list[Any] = []
"""Those that turn now, the innermost last: a bar takes their line for a while."""


def printable(text: str) -> str:
    """The text with control characters spelled out: names come out of files that somebody else made."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def is_shown() -> bool:
    """Whether somebody watches; the other debug levels print their own lines."""
    return sys.stderr.isatty() and not knobs.get("debug")


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner on a terminal."""
    if not is_shown():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(printable(what))) as spinner:
        _spinners.append(spinner)
        try:
            yield
        finally:
            _spinners.remove(spinner)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal: each call says what begins now. It is drawn at these calls alone, so that it disturbs no measurement."""
    if not is_shown():
        yield lambda what: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with _spinners_stopped(), Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=total)
        done = itertools.count()
        yield lambda what: bar.update(task, completed=next(done), description=_literal(what), refresh=True)


@contextlib.contextmanager
def _spinners_stopped() -> Iterator[None]:
    stopped = list(_spinners)
    for spinner in stopped:
        spinner.stop()
    try:
        yield
    finally:
        for spinner in stopped:
            spinner.start()


def _literal(text: str) -> str:
    """The text for places where rich would read markup."""
    from rich.markup import escape

    return escape(printable(text))
