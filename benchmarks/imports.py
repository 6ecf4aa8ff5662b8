"""What importing costs: whole interpreters that import NumPy, and that import Tilewright, in turn.

python benchmarks/imports.py [--rounds 21]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time


def seconds(module: str) -> float:
    """One interpreter from start to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = [(seconds("numpy"), seconds("tilewright")) for _ in range(parser.parse_args().rounds + 1)][1:]
    numpy, tilewright = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(b / a for a, b in rounds)
    print(f"import numpy {numpy * 1e3:.0f} ms, import tilewright {tilewright * 1e3:.0f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
