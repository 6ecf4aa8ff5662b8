"""What the levels of TILEWRIGHT_DEBUG show: lines on stdout, and whole stages there or as files."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

from . import knobs


def report(text: str) -> None:
    """One line at debug level 1 and above."""
    if knobs.get("debug") >= 1:
        print(f"tilewright: {text}")


def dump(stage: object, title: str, level: int = 2) -> None:
    """Show what prints itself at this debug level and above: on stdout, or as a file in the debug folder."""
    if knobs.get("debug") < level:
        return
    if folder := knobs.get("debug_dir"):
        path = pathlib.Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{title}.txt").write_text(f"{stage}\n", encoding="utf-8")
    else:
        print(f"--- {title}\n{stage}")


def dump_each(stages: Iterable[tuple[str, object]], level: int) -> None:
    """`dump` each (title, stage). Below the level none is asked for, so that a generator need not make them."""
    if knobs.get("debug") >= level:
        for title, stage in stages:
            dump(stage, title, level)
