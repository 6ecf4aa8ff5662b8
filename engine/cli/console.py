"""What the command line prints: tables, colour and a spinner on a terminal, plain aligned text everywhere else."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence

from .. import knobs


def printable(text: str) -> str:
    """The text with control characters spelled out: names come out of files that somebody else made."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_text(text: str) -> None:
    """Several lines as they are, control characters spelled out."""
    print("\n".join(map(printable, text.split("\n"))))


def heading(text: str) -> None:
    """The title of a section."""
    if not sys.stdout.isatty():
        print(f"\n== {printable(text)}")
        return
    from rich.console import Console
    from rich.text import Text

    Console().print(Text(f"\n{printable(text)}", style="bold cyan"))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under column titles; columns of numbers are aligned to the right."""
    cells = [[printable(cell) for cell in row] for row in rows]
    right = [all(_is_number(row[i]) for row in cells) and bool(cells) for i in range(len(columns))]
    if not sys.stdout.isatty():
        return _plain_table([list(columns), *cells], right)
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, header_style="bold")
    for title, is_right in zip(columns, right, strict=True):
        made.add_column(title, justify="right" if is_right else "left", overflow="fold")
    for row in cells:
        made.add_row(*map(Text, row))
    Console().print(made)


def _plain_table(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [c.rjust(w) if is_right else c.ljust(w) for c, w, is_right in zip(row, widths, right, strict=True)]
        print("  ".join(cells).rstrip())


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in "-" or cell in ("nan", "inf")


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something long is going on; the other debug levels print their own lines."""
    if not sys.stderr.isatty() or knobs.get("debug"):
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(printable(what))):
        yield


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal: each call says what begins now. It is drawn at these calls alone, so that it disturbs no measurement."""
    if not sys.stderr.isatty() or knobs.get("debug"):
        yield lambda what: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=total)
        done = itertools.count()
        yield lambda what: bar.update(task, completed=next(done), description=rich_text(what), refresh=True)


def rich_text(text: str) -> str:
    """The text for places where rich would read markup."""
    from rich.markup import escape

    return escape(printable(text))


def quantity(value: float, unit: str) -> str:
    """A number with three digits and a decimal prefix: `1.23 GFLOP`."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """`12.3 ms`; seconds from one second on."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
