"""What compiling a model costs in a fresh process, imports not counted: without any cached kernel, and again with all of them.

python benchmarks/compile.py MODEL [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

PROGRAM = """
import sys, time
start = time.perf_counter()
import tilewright as tw
from tilewright.engine import plugins
from tilewright.engine.backend import Options
from tilewright.engine.compiler import resolve_passes
resolve_passes(None)
plugins.load("backends", "cpu")(Options()), plugins.load("frontends", "onnx"), plugins.load("frontends", "dsl")
from tilewright.backends.cpu import executable
middle = time.perf_counter()
tw.compile(sys.argv[1])
print(middle - start, time.perf_counter() - middle)
"""


def seconds(model: str, folder: str) -> tuple[float, float]:
    """(for imports, to compile) in one interpreter that keeps kernels in this folder."""
    environment = {**os.environ, "TILEWRIGHT_CACHE_DIR": folder, "TILEWRIGHT_DEBUG": "0"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, model], env=environment, check=True, capture_output=True, text=True)
    imports, compiling = map(float, done.stdout.split())
    return imports, compiling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an ONNX file or a name of the zoo")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rounds = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append((seconds(arguments.model, folder), seconds(arguments.model, folder)))
    imports = statistics.median(first for pair in rounds for first, _ in pair)
    cold, warm = (statistics.median(pair[i][1] for pair in rounds) for i in range(2))
    print(f"compiling {arguments.model}: cold {cold:.2f} s, with cached kernels {warm:.2f} s; imports {imports:.2f} s besides")


if __name__ == "__main__":
    main()
