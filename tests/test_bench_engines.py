"""Engines that others offer: by entry point, as a function of a module, in an interpreter of their own; and what goes wrong with them."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import foreign_engines
import numpy as np
import pytest
from command_line import Command, assert_wrong_input
from foreign_engines import QUICK


@pytest.fixture
def model(rng: np.random.Generator, tmp_path: pathlib.Path) -> pathlib.Path:
    return foreign_engines.save_model(tmp_path, rng)


@pytest.fixture
def foreign(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    yield foreign_engines.install(tmp_path, monkeypatch)
    foreign_engines.forget()


@pytest.mark.usefixtures("foreign")
def test_an_engine_of_another_package(cli: Command, model: pathlib.Path) -> None:
    """By its entry point, as CONTRIBUTING.md says; and as a function of a module."""
    ending = cli("bench", model, "--shape", "x=1x3x9x11", "--against", "right,foreign:right", *QUICK)
    assert ending.code == 0, ending
    rows = [line for line in ending.out.splitlines() if line.startswith(("right", "foreign:right"))]
    assert len(rows) == 2 and all(row.endswith("yes") for row in rows)


def test_an_engine_of_another_interpreter(
    cli: Command, model: pathlib.Path, foreign: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets this package and what PYTHONPATH says, and nothing else that this interpreter can import."""
    monkeypatch.setenv("PYTHONPATH", str(foreign))
    monkeypatch.syspath_prepend(str(tmp_path / "only here"))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    arguments = ("bench", model, "--shape", "x=1x3x9x11", "--against", "foreign:right,foreign:where", *QUICK)
    here, there = cli(*arguments).out, cli(*arguments, "--python", f"foreign:where={python}").out
    assert "only here" in here and f"foreign:where failed: {sys.executable} " in there
    assert "only here" not in there and str(foreign) in there
    assert all("foreign:right " in out and "yes" in out for out in (here, there))
    everywhere = cli(*arguments, "--python", str(python)).out
    assert "only here" not in everywhere and "yes" in everywhere
    assert_wrong_input(cli(*arguments, "--python", "foreign:right=/absent/python"), "expected a Python interpreter", "/absent/python")


@pytest.mark.usefixtures("foreign")
def test_an_answer_that_differs_is_a_failed_check(cli: Command, model: pathlib.Path) -> None:
    arguments = ("bench", model, "--shape", "x=1x3x9x11", "--against", "onnxruntime,wrong", *QUICK)
    ending = cli(*arguments)
    assert ending.code == 1
    rows = {line.split()[0]: line for line in ending.out.splitlines() if line}
    assert rows["onnxruntime"].endswith("yes") and rows["wrong"].endswith("NO") and "9.9e-03" in rows["wrong"]
    assert cli(*arguments, "--tolerance", "0.02").code == 0


@pytest.mark.usefixtures("foreign")
def test_engines_that_fail_do_not_stop_the_others(cli: Command, model: pathlib.Path) -> None:
    ending = cli("bench", model, "--shape", "x=1x3x9x11", "--against", "refuses,dies,onnxruntime", *QUICK)
    assert ending.code == 1
    assert "refuses failed: cannot read net.onnx\n" in ending.out
    assert "dies failed: its process ended with code 7: its last words\n" in ending.out
    (row,) = [line for line in ending.out.splitlines() if line.startswith("onnxruntime")]
    assert row.endswith("yes")
