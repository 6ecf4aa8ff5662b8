"""What the command line prints: tables and colour on a terminal, plain aligned text everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..progress import printable, progress, working

__all__ = ["duration", "heading", "print_text", "printable", "progress", "quantity", "table", "working"]


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


def quantity(value: float, unit: str) -> str:
    """A number with three digits and a decimal prefix: `1.23 GFLOP`."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """`12.3 ms`; seconds from one second on."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
