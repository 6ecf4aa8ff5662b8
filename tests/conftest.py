"""Fixtures that all tests share: random numbers, golden texts (`pytest --update-golden`), the command line, and the programs."""

from __future__ import annotations

import difflib
import importlib
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from command_line import Command, Ending

from tilewright.engine.cli import main

GOLDEN = pathlib.Path(__file__).parent / "golden"
BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden texts anew instead of comparing with them")


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run of a test."""
    return np.random.default_rng(20240229)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """`golden(text)` fails unless the text is what tests/golden/<test name>.txt holds; with --update-golden it writes that file."""
    path = GOLDEN / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', request.node.name).strip('-')}.txt"
    update = request.config.getoption("--update-golden")

    def compare(text: str) -> None:
        __tracebackhide__ = True
        text = text.rstrip("\n") + "\n"
        if update:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        how = f"run `pytest {request.node.nodeid} --update-golden`, then look at `git diff tests/golden`"
        if not path.exists():
            pytest.fail(f"{path} does not exist yet: {how}", pytrace=False)
        stored = path.read_text(encoding="utf-8")
        if text != stored:
            difference = difflib.unified_diff(stored.splitlines(), text.splitlines(), str(path), "this run", lineterm="")
            pytest.fail("\n".join([*difference, f"if this is what you meant: {how}"]), pytrace=False)

    return compare


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Command:
    """`cli("run", "lenet5")` in this process."""

    def call(*arguments: str | pathlib.Path) -> Ending:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ending(code, captured.out, captured.err)

    return call


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`program("gpu")` is the module benchmarks/gpu.py."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for path in BENCHMARKS.glob("*.py"):
        sys.modules.pop(path.stem, None)
