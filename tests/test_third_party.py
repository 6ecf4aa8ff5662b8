"""A package of someone else's, installed beside ours: its pass is found by name through its entry point."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
import zipfile

import pytest

NAME = "gentle_passes-1.0"
WHEEL = {
    "gentle_passes.py": '''
        """relu(x)  =>  sigmoid(x): not the same numbers, so that a test can tell that it ran."""

        from tilewright.engine.expression import IDENTITY, apply
        from tilewright.engine.graph import Graph
        from tilewright.engine.ops import Pointwise


        def soften(node, uses):
            if isinstance(node, Pointwise) and node.expression == apply("relu", IDENTITY):
                return node.replace(expression=apply("sigmoid", IDENTITY))


        def report_sizes(graph: Graph) -> Graph:
            print("sizes:", *(node.type.size for node in graph))
            return graph
    ''',
    f"{NAME}.dist-info/METADATA": """
        Metadata-Version: 2.1
        Name: gentle-passes
        Version: 1.0
    """,
    f"{NAME}.dist-info/WHEEL": """
        Wheel-Version: 1.0
        Generator: by hand
        Root-Is-Purelib: true
        Tag: py3-none-any
    """,
    f"{NAME}.dist-info/entry_points.txt": """
        [tilewright.passes]
        soften = gentle_passes:soften
        report_sizes = gentle_passes:report_sizes
    """,
}

USE = """
    import numpy as np
    import tilewright as tw
    from tilewright.engine import plugins
    from tilewright.engine.graph import Graph, Input
    from tilewright.engine.ops import pointwise

    x = Input(name="x", shape=(2, 3))
    graph = Graph((x,), (pointwise("relu", x),), ("y",))
    session = tw.compile(graph, backend="reference", passes=["fold_constants", "soften", "report_sizes"])
    data = np.array([[-1, 0, 1], [2, -3, 4]], np.float32)
    np.testing.assert_allclose(session(data), 1 / (1 + np.exp(-data)), rtol=1e-6)
    print(session.explain())
    print("soften" in plugins.available("passes"), "fold_constants" in plugins.available("passes"))
    np.testing.assert_array_equal(tw.compile(graph, backend="reference")(data), np.maximum(data, 0))
    try:
        tw.compile(graph, backend="reference", passes=["harden"])
    except tw.ModelError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder into which pip installed the package: from a wheel, so that neither a network nor a build is needed."""
    wheel, target = tmp_path_factory.mktemp("wheel") / f"{NAME}-py3-none-any.whl", tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in WHEEL.items():
            archive.writestr(name, textwrap.dedent(text).lstrip())
        archive.writestr(f"{NAME}.dist-info/RECORD", "".join(f"{name},,\n" for name in [*WHEEL, f"{NAME}.dist-info/RECORD"]))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def run(site: pathlib.Path | None, code: str) -> subprocess.CompletedProcess[str]:
    """A fresh Python that finds our package and, given `site`, the other one."""
    ours = pathlib.Path(__file__).parents[1] / "src"
    paths = [str(ours), *([str(site)] if site else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True)


def test_a_pass_from_another_package_is_found_by_name(site: pathlib.Path) -> None:
    done = run(site, USE)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "sizes: 6 6"
    assert any(line.startswith("soften: 1 rewrites") for line in lines)
    assert "True True" in lines
    assert "no 'harden' among the passes: " in lines[-1] and "soften" in lines[-1] and "fold_constants" in lines[-1]


def test_without_the_package_the_name_is_unknown() -> None:
    done = run(None, USE)
    assert done.returncode != 0 and "no 'soften' among the passes" in done.stderr
