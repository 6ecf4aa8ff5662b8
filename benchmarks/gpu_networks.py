"""Whole networks on the GPU: tuned, then beside PyTorch, in turns."""

from __future__ import annotations

import dataclasses as dc
import functools
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gpu_floor import floor_seconds, measured_ceilings
from gpu_log import read_answers, write_answers
from gpu_steps import Task

ROUNDS, WINDOW, WARM = 7, 0.02, 3
"""Turns, the seconds of each, and runs that do not count."""
BATCHES, PRECISIONS = (1, 8, 64), ("fp32", "tf32", "fp16")
NETWORKS = {
    "resnet50": (3, 224, 224), "mobilenet_v2": (3, 224, 224), "efficientnet_b0": (3, 224, 224), "resnet18": (3, 224, 224),
    "densenet121": (3, 224, 224), "vgg16": (3, 224, 224), "unet": (1, 252, 252),
}  # fmt: skip
"""Models and one image; U-Net has no padding and gets an extent that it can halve four times."""
LEAST = 6.0
"""Seconds to tune a case: with fewer, hardly a candidate would be measured once all are compiled. So only the first cases get a turn."""
PATIENCE = 40.0
"""Seconds after which a case that has not ended is left."""
OURS = "tilewright"
PEERS = "cuda"
"""Where PyTorch runs."""


@dc.dataclass(frozen=True)
class Case:
    """A network at a batch, in a precision."""

    network: str
    batch: int
    precision: str

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the input."""
        return {"image": (self.batch, *NETWORKS[self.network])}

    def as_dict(self) -> dict[str, Any]:
        """For records."""
        return dc.asdict(self)


def cases(quick: bool) -> Iterator[Case]:
    """The most telling first: whatever the time does not suffice for is at the end."""
    for batch in BATCHES[:1] if quick else BATCHES:
        for network in list(NETWORKS)[:2] if quick else NETWORKS:
            for precision in PRECISIONS:
                yield Case(network, batch, precision)


def graph_of(case: Case) -> Any:
    """As it was imported."""
    return _loaded(case.network, tuple(case.shapes.items()))


@functools.lru_cache(maxsize=1)
def _loaded(network: str, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Any:
    from tilewright.engine.compiler import load

    return load(network, dict(shapes))


def tune(task: Task) -> None:
    """The step: every case gets an equal share of the time, if that is enough to be of use; the table is written after each."""
    left = list(cases(task.quick))[task.begun :]
    while left and task.left > LEAST + 5:
        case = left.pop(0)
        share = max((task.left - 5) / (len(left) + 1), LEAST)
        with task.turn(f"tune {case}", share + PATIENCE):
            task.attempt(f"tune {case}", lambda case=case, share=share: _tune(task, case, share))
    if left:
        task.skip(f"tuning of {len(left)} cases from {left[0]} on: no time left")


def _tune(task: Task, case: Case, seconds: float) -> None:
    import tilewright as tw
    from tilewright.backends.cuda.tuning import store_for
    from tilewright.engine import plugins
    from tilewright.engine.backend import Options

    backend: Any = plugins.load("backends", task.backend)(Options(precision=case.precision, tune=seconds))
    with tw.knobs(debug=1):  # says what each candidate of the finals took
        tw.compile(graph_of(case), backend=backend)
    answers = store_for(backend.device).read()
    write_answers(task.log.folder, backend.device.name, answers)
    task.add("tuned", answers=len(answers), **case.as_dict())


def networks(task: Task) -> None:
    """The step: ours, PyTorch eager and PyTorch in a CUDA graph, batch norms folded and not."""
    _measure_all(task, {"eager": eager, "graph": captured}, PATIENCE)


def compiled(task: Task) -> None:
    """The step: ours and torch.compile."""
    _measure_all(task, {"compile": max_autotune}, task.left)


def _measure_all(task: Task, ways: dict[str, Callable[..., Any]], patience: float) -> None:
    left = list(cases(task.quick))[task.begun :]
    while left and task.left > 5:
        case = left.pop(0)
        with task.turn(str(case), patience):
            task.attempt(str(case), lambda case=case: measure(task, case, ways))
        gc.collect()  # PyTorch's modules are cycles, and hold memory of the GPU
    if left:
        task.skip(f"{len(left)} cases from {left[0]} on: no time left")


def measure(task: Task, case: Case, ways: dict[str, Callable[..., Any]]) -> None:
    """Everybody ready, outputs compared, then turns."""
    graph = graph_of(case)
    ceilings = measured_ceilings(task.log.records())
    task.add("floor", seconds=floor_seconds(graph, case.precision, ceilings), **case.as_dict())
    x = np.random.default_rng(0).standard_normal(case.shapes["image"]).astype(np.float32)
    run, result = ours(task, case, graph, x)
    runners = {OURS: run}
    for name, way in ways.items():
        for folded in (False, True) if name != "compile" else (False,):
            label = f"{name} folded" if folded else name
            runner = task.attempt(f"{case} {label}", lambda way=way, folded=folded: peer(way, case, graph, x, folded, result))
            if runner is not None:
                runners[label] = runner
    for engine, samples in turns(runners).items():
        task.add("time", engine=engine, samples=samples, **case.as_dict())


def ours(task: Task, case: Case, graph: Any, x: np.ndarray) -> tuple[Callable[[], Any], np.ndarray]:
    """Replays the captured graph and waits; and the output. Choices are those that ship, and those that the step `tune` found."""
    import tilewright as tw
    from tilewright.backends.common.choices import Kept
    from tilewright.backends.cuda.tuning import shipped
    from tilewright.engine import plugins
    from tilewright.engine.backend import Options

    backend: Any = plugins.load("backends", task.backend)(Options(precision=case.precision))
    name = backend.device.name
    backend.schedules = kept = Kept({**shipped().get(name, {}), **read_answers(task.log.folder, name)})
    session = tw.compile(graph, backend=backend)
    task.add("choices", measured=len(kept.used), by_rule=len(kept.open), **case.as_dict())
    result = np.asarray(session(x))
    executable: Any = session.executable
    context = executable._take()

    def once() -> None:
        with backend.device.current():
            context.replay()
            context.stream.synchronise()

    return once, result


def peer(way: Callable[..., Any], case: Case, graph: Any, x: np.ndarray, folded: bool, wanted: np.ndarray) -> Callable[[], Any]:
    """PyTorch on the same graph; constants are folded in any case, batch norms where it is asked for."""
    import torch  # pyright: ignore[reportMissingImports]
    from gpu_torch import torch_module

    from tilewright.engine.compiler import optimize

    module = torch_module(optimize(graph, ["fold_constants", *(["fold_batchnorm", "fold_constants"] if folded else [])]))
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = case.precision == "tf32"
    dtype = torch.float16 if case.precision == "fp16" else torch.float32
    module = module.to(PEERS, dtype, memory_format=torch.channels_last)
    given = torch.from_numpy(x).to(PEERS, dtype, memory_format=torch.channels_last)
    with torch.inference_mode():
        (found,) = module(given)
        error = np.abs(found.float().cpu().numpy() - wanted).max() / np.abs(wanted).max()
        bound = 1e-3 if case.precision == "fp32" else 5e-2
        if not error < bound:
            raise ValueError(f"its output differs from ours by {error:.2g} of the largest number, more than {bound:g}")
        return way(torch, module, given)


def eager(torch: Any, module: Any, given: Any) -> Callable[[], Any]:
    """Call by call."""

    def once() -> None:
        with torch.inference_mode():
            module(given)
        torch.cuda.synchronize()

    return once


def captured(torch: Any, module: Any, given: Any) -> Callable[[], Any]:
    """All calls as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            module(given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(given)

    def once() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return once


def max_autotune(torch: Any, module: Any, given: Any) -> Callable[[], Any]:
    """What torch.compile makes of it, in a CUDA graph, too."""
    once = eager(torch, torch.compile(module, mode="max-autotune"), given)
    once()
    return once


def turns(runners: dict[str, Callable[[], Any]], rounds: int = ROUNDS, window: float = WINDOW) -> dict[str, list[float]]:
    """Seconds of runs by engine: in each round everybody has a turn, in another order."""
    names, samples = list(runners), {name: list[float]() for name in runners}
    for run in (run for run in runners.values() for _ in range(WARM)):
        run()
    for index in range(rounds):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            end = time.perf_counter() + window
            while True:
                start = time.perf_counter()
                runners[name]()
                stop = time.perf_counter()
                samples[name].append(stop - start)
                if stop >= end:
                    break
    return samples
