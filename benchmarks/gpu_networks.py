"""Whole networks on the GPU: tuned, then beside PyTorch, in turns."""

from __future__ import annotations

import dataclasses as dc
import functools
import gc
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from gpu_floor import floor_seconds, measured_ceilings
from gpu_log import read_answers, write_answers
from gpu_peers import COMPILED, WAYS, Way, difference, peer
from gpu_steps import Task

ROUNDS, WINDOW, WARM = 7, 0.02, 3
"""Turns, the seconds of each, and runs before them that do not count."""
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


def cases(quick: bool, precisions: Sequence[str] = PRECISIONS) -> Iterator[Case]:
    """The most telling first: whatever the time does not suffice for is at the end."""
    for batch in BATCHES[:1] if quick else BATCHES:
        for network in list(NETWORKS)[:2] if quick else NETWORKS:
            for precision in precisions:
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
    """The step: ours, PyTorch eager, and PyTorch in a CUDA graph."""
    _measure_all(task, WAYS, PATIENCE)


def compiled(task: Task) -> None:
    """The step: ours and torch.compile, which takes longest where there are no tensor cores to multiply."""
    _measure_all(task, COMPILED, task.left, PRECISIONS[::-1])


def _measure_all(task: Task, ways: Sequence[Way], patience: float, precisions: Sequence[str] = PRECISIONS) -> None:
    if importlib.util.find_spec("torch") is None:
        task.skip(f"{', '.join(way.label for way in ways)}: torch is not installed")
        ways = ()
    left = list(cases(task.quick, precisions))[task.begun :]
    while left and task.left > 5:
        case = left.pop(0)
        with task.turn(str(case), patience):
            task.attempt(str(case), lambda case=case: measure(task, case, ways))
        gc.collect()  # PyTorch's modules are cycles, and hold memory of the GPU
    if left:
        task.skip(f"{len(left)} cases from {left[0]} on: no time left")


def measure(task: Task, case: Case, ways: Sequence[Way]) -> None:
    """Everybody ready, outputs compared, then turns."""
    graph = graph_of(case)
    ceilings = measured_ceilings(task.log.records())
    task.add("floor", seconds=floor_seconds(graph, case.precision, ceilings), **case.as_dict())
    x = np.random.default_rng(0).standard_normal(case.shapes["image"]).astype(np.float32)
    run, result = ours(task, case, graph, x)
    runners = {OURS: run}
    for way in ways:
        label = f"{case} {way.label}"
        if (found := task.attempt(label, lambda way=way: peer(way, case.precision, graph, x))) is not None:
            runners[way.label], output = found
            task.check(label, difference(output, result, case.precision))
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
