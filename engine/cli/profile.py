"""Show where the time of a run goes: each step under the names of the model, totals by kernel, and what is lost between them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from ..backend import Executable, Itemized, Measurable
from ..compiler import load_source, optimize, resolve_passes
from ..graph import Graph
from ..profiling import FAIR, WORTH, Profile, Row, measure, measure_runs, memory_rate, rows, totals
from ..rest import warning
from ..source import specialize
from . import console
from .arguments import add_compilation, add_inputs, add_model, make_backend, positive
from .inputs import gather, wants_inputs
from .model import model_of
from .opening import add_verification, opened

FIGURES = ["time", "share", "GFLOP/s", "% of peak", "GB/s", "1 thread", "gain"]
BARE = ["time", "share", "GFLOP/s", "GB/s"]
"""The figures that take neither the machine's peak nor a plan for one thread."""
LAGGING = ["operator", "kernel", "time", "1 thread", "gain", "GB/s", "% of memory", "names in the model"]
PEAKS = 9
"""How often the ceiling is measured; everything that can happen lowers it."""
NAMES = 3
"""How many names of a fused node are printed."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright profile`."""
    add_model(parser)
    parser.add_argument("--top", type=positive, metavar="K", help="only the K slowest steps, the slowest first; default: all, in order")
    parser.add_argument("--repeat", type=positive, default=20, metavar="N", help="every time is the median of N runs; default: 20")
    add_verification(parser)
    add_compilation(parser)
    add_inputs(parser)


def main(arguments: argparse.Namespace) -> int:
    """0 when the model ran."""
    session = opened(arguments)
    source = session.source if session else load_source(model_of(arguments))
    arguments.random = arguments.random or not wants_inputs(arguments)
    inputs = gather(source, arguments)
    arrays = list(inputs.values())
    if session:
        session.run(inputs)
        print_unmeasured(session.executable, arrays, arguments)
        return 0
    with console.working(f"compiling {source.name} for {arguments.backend}"):
        graph = optimize(specialize(source, inputs), resolve_passes(arguments.passes))
        backend = make_backend(arguments, arguments.threads)
        executable = backend.compile(graph)
    if isinstance(executable, Itemized) and isinstance(backend, Measurable):
        print_measured(graph, backend, executable, arrays, arguments)
    else:
        print_unmeasured(executable, arrays, arguments)
    return 0


def print_measured(
    graph: Graph, backend: Measurable, executable: Executable, arrays: Sequence[np.ndarray], arguments: argparse.Namespace
) -> None:
    """Everything, where the backend knows its threads and its peak."""
    with console.working(f"measuring {graph.name}"):
        peak = max(backend.peak() for _ in range(PEAKS))
        single = executable if backend.threads == 1 else make_backend(arguments, 1).compile(graph)
        profile = measure(executable, single, backend.threads, arrays, arguments.repeat)
        memory = memory_rate(backend.threads)
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    ceilings = f"peak {peak / 1e9:.4g} GFLOP/s, memory {memory / 1e9:.3g} GB/s"
    console.heading(f"{graph.name}: {console.quantity(graph.flops(), 'FLOP')}, {threads}, {ceilings}")
    print_rows(profile.rows, peak, arguments.top)
    print_lagging(profile, memory)
    print_summary(profile)


def print_unmeasured(executable: Executable, arrays: Sequence[np.ndarray], arguments: argparse.Namespace) -> None:
    """What can be said without a peak: the steps, totals by kernel where nodes are known, and what the whole run takes beside them."""
    with console.working("measuring"):
        steps = executable.profile(arrays, arguments.repeat)
        wall = measure_runs(executable, arrays, arguments.repeat)
    if isinstance(executable, Itemized):
        print_rows(rows(executable.items(), [seconds for _, seconds in steps]), None, arguments.top)
    else:
        print_steps(steps, arguments.top)
    total = sum(seconds for _, seconds in steps)
    parts = [
        (wall, "the whole run", "by the caller's clock, from arrays to arrays"),
        (total, "the steps", "the sum of their medians"),
        (wall - total, "around the steps", "the difference"),
    ]
    print_parts(parts, wall)


def print_steps(steps: Sequence[tuple[str, float]], top: int | None) -> None:
    """What a backend tells that knows only the times of its steps."""
    total = sum(seconds for _, seconds in steps)
    shown = steps if top is None else sorted(steps, key=lambda step: -step[1])[:top]
    console.table(["time", "share", "step"], [[console.duration(s), _percent(s, total), label] for label, s in shown])


def print_rows(found: Sequence[Row], peak: float | None, top: int | None) -> None:
    """The steps, and the totals by operator and kernel."""
    total, figures = sum(row.seconds for row in found), BARE if peak is None else FIGURES
    shown = found if top is None else sorted(found, key=lambda row: -row.seconds)[:top]
    step = ["operator", "kernel", *figures, "names in the model"]
    console.table(step, [[r.operator, r.kernel, *_figures(r, total, peak), names(r)] for r in shown])
    console.heading("totals")
    kernels = [[r.operator, r.kernel, str(r.steps), *_figures(r, total, peak)] for r in totals(found)]
    console.table(["operator", "kernel", "steps", *figures], kernels)


def print_lagging(profile: Profile, memory: float) -> None:
    """Which steps the threads help too little, and how much of what memory gives they move."""
    if profile.threads == 1:
        return
    console.heading(f"convolutions and products above {console.duration(WORTH)} that gain less than {FAIR * profile.threads:.3g}")
    found = profile.lagging()
    rows = [[r.operator, r.kernel, console.duration(r.seconds), *_gain(r), *_traffic(r, memory), names(r)] for r in found]
    console.table(LAGGING, rows) if found else print("none")


def names(row: Row) -> str:
    """The first few names of the nodes of the user's model that became this one."""
    return ", ".join(row.origin[:NAMES]) + (f", and {len(row.origin) - NAMES} more" if len(row.origin) > NAMES else "")


def print_summary(profile: Profile) -> None:
    """What the whole run takes beside its parts, and how each figure was measured."""
    wall = profile.wall
    parts = [
        (wall, "the whole run", "by the caller's clock, from arrays to arrays"),
        (profile.steps, "the steps", "in turn, by the clock of the thread that walks through the plan"),
        (wall - profile.steps, "around the steps", "the difference"),
        (profile.reorders, "reorders", "those among the steps that only change layouts"),
        (profile.alone, "contractions alone", "each convolution and matrix product repeated by itself"),
        (profile.single, "on one thread", "all steps but reorders, by one thread that has the machine for itself"),
    ]
    print_parts(parts, wall)
    if profile.alone:
        print(f"\nthe whole run / contractions alone = {wall / profile.alone:.2f}")
    equation = f"1 - {profile.single * 1e3:.4g} / ({profile.threads} x {wall * 1e3:.4g})"
    print(f"1 - kernel time on one thread / (threads x wall) = {equation} = {profile.lost:.1%}")
    if said := warning(profile.busy):
        print(said)


def print_parts(parts: Sequence[tuple[float, str, str]], wall: float) -> None:
    """Each part of a whole run: seconds, what it is, and how it was measured."""
    console.heading("the whole and its parts")
    cells = [[console.duration(seconds), _percent(seconds, wall), what, how] for seconds, what, how in parts]
    console.table(["time", "% of the whole", "what", "how it was measured"], cells)


def _figures(row: Row, total: float, peak: float | None) -> list[str]:
    figures = {
        "time": console.duration(row.seconds),
        "share": _percent(row.seconds, total),
        "GFLOP/s": f"{row.rate / 1e9:.4g}" if row.flops else "-",
        "GB/s": f"{row.traffic / 1e9:.3g}",
    }
    if peak is None:
        return [figures[name] for name in BARE]
    single, gain = _gain(row)
    figures |= {"% of peak": _percent(row.rate, peak) if row.flops else "-", "1 thread": single, "gain": gain}
    return [figures[name] for name in FIGURES]


def _gain(row: Row) -> list[str]:
    if row.single is None or row.gain is None:
        return ["-", "-"]
    return [console.duration(row.single), f"{row.gain:.2f}"]


def _traffic(row: Row, memory: float) -> list[str]:
    return [f"{row.traffic / 1e9:.3g}", _percent(row.traffic, memory)]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"
