"""Time models beside other engines, in turns: medians, ratios, share of the machine's peak, memory, and whether the answers agree."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .. import plugins
from ..backend import ACCURACIES, Measurable, Options
from ..bench.engines import OURS, Task, check
from ..bench.measure import Contest, bench
from ..bench.process import EngineFailed
from ..bench.results import Result, Turnout, geometric_mean
from ..compiler import load_source, optimize
from ..errors import MachineError, ModelError
from ..graph import Graph
from ..rest import warning
from ..source import Shapes, Source, specialize
from . import console, failure, files
from .arguments import add_model, add_pictures, add_tuning, names, positive, seconds, shapes, tolerance
from .inputs import random_array, require_shapes
from .model import is_file_as_it_is, model_of

COLUMNS = ["engine", "median", "best", "ratio", "GFLOP/s", "% of peak", "first answer", "memory", "max error", "agrees"]
LEGEND = """
ratio: the engine's median / Tilewright's, above 1 Tilewright is faster; GFLOP/s: by the operations that the model asks for
first answer: after the start of the engine's process; max error: largest |our output - its output| / largest |its output|"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `tilewright bench`."""
    add_model(parser, several=True)
    known = "onnxruntime, openvino, one of an installed package, or MODULE:FUNCTION"
    parser.add_argument("--against", type=names, default=(), metavar="A,B,...", help=f"other engines: {known}")
    where = "the interpreter that another engine is installed for, or all others are; default: this one"
    parser.add_argument("--python", type=interpreter, action="append", default=[], metavar="[ENGINE=]PATH", help=where)
    parser.add_argument("--threads", type=positive, metavar="N", help="of every engine; default: as many as this process may use")
    parser.add_argument("--accuracy", choices=ACCURACIES, default="fast", help="of Tilewright; default: fast")
    add_tuning(parser)
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each engine; default: 5")
    parser.add_argument("--window", type=seconds, default=0.25, metavar="S", help="seconds of a turn, after its warm-up; default: 0.25")
    parser.add_argument(
        "--tolerance", type=tolerance, metavar="T", help="largest error that agrees; default: by the type, 1e-4 for float32"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the random inputs; default: 0")
    parser.add_argument("--json", metavar="FILE.json", help="save everything, every single time included")
    add_pictures(parser)


def main(arguments: argparse.Namespace) -> int:
    """0 when every engine ran and agrees with Tilewright, 1 otherwise."""
    check([engine for engine in arguments.against if engine not in interpreters(arguments)])
    target = files.checked_target(arguments.json, ".json") if arguments.json else None
    arguments.threads = arguments.threads or default_threads()
    sources = {model: load_source(model_of(arguments, model)) for model in arguments.models}
    check_names(shapes(arguments), sources.values())
    engines = len({OURS, *arguments.against})
    results = []
    with console.progress(len(sources) * (engines + arguments.rounds)) as progress:
        for model, source in sources.items():
            results.append(measured(model, source, arguments, progress))
    for result in results:
        print_result(result)
    print(LEGEND)
    print_means(results, arguments.against)
    if target:
        content = json.dumps([result.as_dict() for result in results]).encode()
        files.write(target, lambda file: file.write(content))
    return failure.DONE if all(t.agrees for result in results for t in result.turnouts) else failure.DIFFERS


def interpreter(text: str) -> tuple[str, str]:
    """`torch=/path/python` is (torch, /path/python), a path alone stands for every other engine."""
    engine, _, path = text.rpartition("=")
    return engine, path


def interpreters(arguments: argparse.Namespace) -> dict[str, str]:
    """The interpreter of each engine that does not use this one."""
    named = dict[str, str](arguments.python)
    everywhere = named.pop("", None)
    given = {engine: named.get(engine, everywhere) for engine in arguments.against if engine != OURS}
    return {engine: path for engine, path in given.items() if path}


def default_threads() -> int:
    """As many as the cpu backend would use."""
    backend = plugins.load("backends", "cpu")(Options())
    return backend.threads if isinstance(backend, Measurable) else 1


def check_names(fixed: Shapes, sources: Iterable[Source]) -> None:
    """ModelError for a --shape that fits an input of no model."""
    known = {spec.name for source in sources for spec in source.inputs}
    if unknown := fixed.keys() - known:
        raise ModelError(f"--shape: no input named {', '.join(sorted(unknown))}; the models take {', '.join(sorted(known))}")


def measured(model: str, source: Source, arguments: argparse.Namespace, progress: Callable[[str], None]) -> Result:
    """One model in all engines."""
    known = {spec.name for spec in source.inputs}
    fixed = require_shapes(source, {name: shape for name, shape in shapes(arguments).items() if name in known})
    rng = np.random.default_rng(arguments.seed)
    inputs = {spec.name: random_array(spec, fixed[spec.name], rng) for spec in source.inputs}
    graph = specialize(source, inputs)
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            onnx_file(model if is_file_as_it_is(arguments, model) else None, graph, folder),
            fixed,
            dimensions(source, fixed),
            arguments.threads,
            arguments.accuracy,
            arguments.tune,
        )
        name = pathlib.Path(model).stem if os.path.exists(model) else model
        how = arguments.rounds, arguments.window, arguments.tolerance, interpreters(arguments)
        contest = Contest(name, task, optimize(graph).flops(), inputs, *how)
        try:
            return bench(contest, arguments.against, progress)
        except EngineFailed as error:
            raise MachineError(f"{name}: Tilewright could not run: {error}") from None


def onnx_file(model: str | None, graph: Graph, folder: str) -> str:
    """The path of the model as a file; None: the graph is written into the folder."""
    if model is not None:
        return model
    path = pathlib.Path(folder, "model.onnx")
    path.write_bytes(plugins.load("frontends", "onnx.export")(graph).SerializeToString())
    return str(path)


def dimensions(source: Source, fixed: Shapes) -> dict[str, int]:
    """The size of every dimension that has a name."""
    pairs = [pair for spec in source.inputs for pair in zip(spec.shape, fixed[spec.name], strict=True)]
    return {symbol: size for symbol, size in pairs if isinstance(symbol, str)}


def print_result(result: Result) -> None:
    """The table of one model, and why engines failed."""
    peak = f", peak {result.peak / 1e9:.4g} GFLOP/s" if result.peak else ""
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    console.heading(f"{result.model}: {console.quantity(result.flops, 'FLOP')}, {threads}{peak}")
    console.table(COLUMNS, [_cells(result, turnout) for turnout in result.turnouts])
    for turnout in result.turnouts:
        if turnout.failure:
            console.print_text(f"{turnout.engine} failed: {turnout.failure}")
    if said := warning(result.busy):
        print(said)


def print_means(results: Sequence[Result], against: Sequence[str]) -> None:
    """The geometric mean of the ratios, for each engine and for whichever was the fastest on each model."""
    for engine in against:
        if len(results) > 1 and (mean := geometric_mean(results, [engine])):
            console.print_text(f"geometric mean of the ratio to {engine}: {mean:.3f}")
    if len(results) > 1 and len(against) > 1 and (mean := geometric_mean(results, against)):
        console.print_text(f"geometric mean of the ratio to the fastest of them on each model: {mean:.3f}")


def _cells(result: Result, turnout: Turnout) -> list[str]:
    rate, share = result.rate(turnout), result.share(turnout)
    return [
        turnout.engine,
        _cell(turnout.median, console.duration),
        _cell(min(turnout.seconds, default=None), console.duration),
        _cell(result.ratio(turnout), "{:.3f}".format) if turnout.engine != OURS else "-",
        _cell(rate, lambda value: f"{value / 1e9:.4g}"),
        _cell(share, lambda value: f"{value * 100:.1f}"),
        _cell(turnout.first_answer, console.duration),
        _cell(turnout.memory, lambda value: console.quantity(value, "B")),
        f"{turnout.difference.largest:.1e}" if turnout.difference else "-",
        "-" if turnout.engine == OURS else "yes" if turnout.agrees else "NO",
    ]


def _cell(value: float | None, form: Callable[[float], str]) -> str:
    return "-" if value is None else form(value)
