"""The text before a kernel: the wrappers as inline PTX for a GPU, and the pointwise functions, which are the same everywhere."""

from __future__ import annotations

import functools
from pathlib import Path

FOLDER = Path(__file__).parent


@functools.cache
def text(name: str) -> str:
    """A file of this folder."""
    return (FOLDER / name).read_text(encoding="utf-8")


def device_text(source: str) -> str:
    """What NVRTC compiles."""
    return f'{text("types.cuh")}\n{text("prelude.cuh")}\n{text("functions.cuh")}\n#line 1 "kernel"\n{source}'
