"""What starting costs, each time in a fresh process: compiling without any cached kernel, with all of them, saving, opening; and memory.

python benchmarks/startup.py MODEL.onnx ... [--rounds 5] [--threads 2] [--against onnxruntime]

Seconds are by the caller's clock from the start of the interpreter to the first answer (`ready`: until the session is there), medians of
all rounds; memory is the largest resident set. What the interpreter and NumPy alone take is stated, too.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

FIRST_ANSWER = """
import numpy as np
array = np.random.default_rng(0).random([d if isinstance(d, int) else 1 for d in shape], np.float32)
ready = time.time()
answer()
memory = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(ready, time.time(), memory)
"""
COMPILED = """
import sys, time
import tilewright as tw
session = {make}
shape, answer = session.source.inputs[0].shape, lambda: session(array)
"""
PROGRAMS = {
    "numpy": "import time, numpy\nshape, answer = (), lambda: None",
    "cold": COMPILED.format(make="tw.compile(sys.argv[1], threads=int(sys.argv[2]))"),
    "warm": COMPILED.format(make="tw.compile(sys.argv[1], threads=int(sys.argv[2]))"),
    "opened": COMPILED.format(make="tw.open(sys.argv[3])"),
    "verified": COMPILED.format(make="tw.open(sys.argv[3], verify=True)"),
    "onnxruntime": """
import sys, time, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options)
shape, answer = session.get_inputs()[0].shape, lambda: session.run(None, {session.get_inputs()[0].name: array})
""",
}
SAVE = """
import sys, time, tilewright as tw
session = tw.compile(sys.argv[1], threads=int(sys.argv[2]))
start = time.time()
session.save(sys.argv[3])
print(time.time() - start)
"""


def run(program: str, arguments: list[str], cache: str) -> list[float]:
    """The numbers that a program prints."""
    environment = {**os.environ, "TILEWRIGHT_CACHE_DIR": cache, "TILEWRIGHT_DEBUG": "0"}
    done = subprocess.run([sys.executable, "-c", program, *arguments], env=environment, check=True, capture_output=True, text=True)
    return list(map(float, done.stdout.split()))


def measured(name: str, arguments: list[str], cache: str) -> tuple[float, float, float]:
    """Seconds until the session is ready, until the first answer, and MB."""
    start = time.time()
    ready, answered, kilobytes = run(PROGRAMS[name] + FIRST_ANSWER, arguments, cache)
    return ready - start, answered - start, kilobytes * 1024 / 1e6


def benchmark(model: str, threads: int, rounds: int, against: list[str]) -> None:
    """Print the table of one model."""
    names = ["numpy", "cold", "warm", "opened", "verified", *against]
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    saving, size = [], 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            arguments = [model, str(threads), os.path.join(folder, "model.tw")]
            for name in names:
                if name == "opened":
                    saving += run(SAVE, arguments, folder)
                    size = os.path.getsize(arguments[2])
                found[name].append(measured(name, arguments, folder))
    print(f"{pathlib.Path(model).stem}, {threads} threads: saving takes {statistics.median(saving):.2f} s and {size / 1e6:.0f} MB")
    print(f"{'':12}{'ready s':>9}{'best':>7}{'first answer s':>16}{'best':>7}{'memory MB':>11}")
    for name, rows in found.items():
        ready, answered, memory = zip(*rows, strict=True)
        figures = f"{statistics.median(ready):9.2f}{min(ready):7.2f}{statistics.median(answered):16.2f}{min(answered):7.2f}"
        print(f"{name:12}{figures}{statistics.median(memory):11.0f}")


def main(given: list[str] | None = None) -> int:
    """0 when everything ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="ONNX files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--against", choices=["onnxruntime", "nothing"], default="onnxruntime")
    arguments = parser.parse_args(given)
    for model in arguments.models:
        benchmark(model, arguments.threads, arguments.rounds, [name for name in [arguments.against] if name in PROGRAMS])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
