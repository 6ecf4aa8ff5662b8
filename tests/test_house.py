"""The house: who imports whom, what importing costs, what is packaged, and how long files may be."""

from __future__ import annotations

import ast
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Iterator

import pytest

import tilewright

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tilewright"
FOLDERS = ("engine", "frontends", "passes", "backends", "models")
HEAVY = ("onnx", "onnxruntime", "numba", "llvmlite", "cupy", "rich", "PIL", "torch", "safetensors")
PUBLIC = {
    "CompilerBug", "Graph", "MachineError", "ModelError", "Preprocessing", "Session", "TilewrightError", "UnsupportedError",
    "augment", "compile", "knobs", "load", "load_weights", "open", "optimize", "preprocess",
}  # fmt: skip
MAX_LINES = 300


def files_of_the_house(pattern: str) -> Iterator[pathlib.Path]:
    """Our files, without what tools leave behind."""
    for top in (*FOLDERS, "tests", "benchmarks", ".ci", "src/tilewright"):
        for path in sorted((ROOT / top).glob(pattern if top == "src/tilewright" else f"**/{pattern}")):
            if path.is_file() and not any(part.startswith("__pycache__") for part in path.parts):
                yield path
    yield from (path for path in sorted(ROOT.glob(pattern)) if path.is_file())


def name(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run_python(code: str, *arguments: str, path: pathlib.Path, folder: pathlib.Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120)


def lint_imports(path: pathlib.Path, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """The import contracts of pyproject.toml over the package that lies in `path`."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return run_python(code, "--no-cache", "--config", str(ROOT / "pyproject.toml"), path=path, folder=folder)


def test_import_contracts_are_kept() -> None:
    pytest.importorskip("importlinter")
    linted = lint_imports(ROOT / "src", ROOT)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/rewrite.py", "import onnx"),
        ("engine/graph.py", "def late():\n    import numba"),
        ("engine/cli/run.py", "from ...passes import fold_pad"),
        ("passes/fold_pad.py", "from ..backends import reference"),
        ("backends/reference.py", "from .cpu import target"),
        ("models/lenet5.py", "from ..frontends.onnx import onnx"),
    ],
)
def test_import_contracts_notice(file: str, line: str, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("importlinter")
    copy = tmp_path / "tilewright"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.onnx", "*.npz"))
    with (copy / file).open("a", encoding="utf-8") as source:
        source.write(f"\n\n{line}\n")
    linted = lint_imports(tmp_path, tmp_path)
    assert linted.returncode == 1 and "BROKEN" in linted.stdout, linted.stdout + linted.stderr


@pytest.mark.parametrize("module", ["tilewright", "tilewright.engine.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    done = run_python(f"import {module}, sys; print(*sys.modules)", path=ROOT / "src")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert module in loaded and not loaded & set(HEAVY)


def test_public_names() -> None:
    names = {n for n, value in vars(tilewright).items() if not n.startswith("_") and not isinstance(value, types.ModuleType)}
    assert names == PUBLIC


def test_every_folder_with_code_is_a_package() -> None:
    for path in files_of_the_house("*.py"):
        if name(path).partition("/")[0] in FOLDERS:
            assert (path.parent / "__init__.py").is_file(), f"{name(path.parent)} has no __init__.py"


def test_setuptools_finds_every_package() -> None:
    setuptools = pytest.importorskip("setuptools")
    expected = {
        f"tilewright.{name(p.parent).replace('/', '.')}" for p in files_of_the_house("*.py") if name(p).partition("/")[0] in FOLDERS
    }
    assert set(setuptools.find_packages(where=str(ROOT / "src"))) == {"tilewright", *expected}


def test_every_data_file_is_packaged() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for path in files_of_the_house("*"):
        folder = name(path.parent)
        if folder.partition("/")[0] in FOLDERS and path.suffix != ".py":
            known = patterns.get(f"tilewright.{folder.replace('/', '.')}", [])
            assert any(fnmatch.fnmatch(path.name, p) for p in known), f"{name(path)} would not be installed"


def test_the_links_lead_into_the_house() -> None:
    links = [path for path in PACKAGE.iterdir() if path.is_symlink()]
    assert {path.name for path in links} == set(FOLDERS)
    for path in links:
        assert not os.path.isabs(os.readlink(path)) and path.resolve() == ROOT / path.name


def test_files_are_short() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files_of_the_house("*.py")}
    assert len(lines) > 50
    assert {path: n for path, n in lines.items() if n > MAX_LINES} == {}


def test_modules_and_public_functions_say_what_they_are() -> None:
    """Every module has a docstring, and every public function outside the tests is annotated."""
    silent, bare = [], []
    for path in files_of_the_house("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if tree.body and ast.get_docstring(tree) is None:
            silent.append(name(path))
        if name(path).startswith("tests/"):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not _annotated(node):
                bare.append(f"{name(path)}: {node.name}")
    assert not silent and not bare


def _annotated(function: ast.FunctionDef) -> bool:
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return function.returns is not None and all(argument.annotation is not None for argument in given)


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    homes = re.compile("|".join(f"/{folder}/" for folder in ("root", "home", "work", "Users", "opt/tw")))
    for path in files_of_the_house("*"):
        if path.suffix not in (".onnx", ".npz", ".png", ".jpg"):
            found = homes.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name(path)} names {found and found[0]}"


def test_the_workflow_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
