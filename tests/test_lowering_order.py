"""Lowerings are asked in the order in which a backend names their modules, whichever of them somebody imported first."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest
from command_line import ROOT

IMPORT_AND_PRINT = """
import importlib, sys
package = importlib.import_module(sys.argv[1])
names = [name for tuple_of in ("KERNELS", "VECTOR_KERNELS", "NUMBA_KERNELS") for name in getattr(package, tuple_of, ())]
for name in reversed(names) if sys.argv[2] == "backwards" else names:
    importlib.import_module(f"{sys.argv[1]}.{name}")
lowerings = importlib.import_module(f"{sys.argv[1]}.kernel").LOWERINGS
print(sorted((kind.__name__, [function.__name__ for function in asked]) for kind, asked in lowerings.items()))
"""


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_imports_decide_nothing(backend: str) -> None:
    run = functools.partial(subprocess.check_output, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    forwards, backwards = (
        run([sys.executable, "-c", IMPORT_AND_PRINT, f"tilewright.backends.{backend}", direction])
        for direction in ("forwards", "backwards")
    )
    assert forwards == backwards and forwards.count("lower_") > 15
