"""Everything that only a GPU can tell, in one command of at most 9 minutes; it needs no network.

    python benchmarks/gpu.py [--out FOLDER] [--steps A,B,...] [--quick] [--minutes 9] [--device cuda|emulated]
    python benchmarks/gpu.py --report FOLDER

versions: what is installed, and what the GPU reaches; wrappers: every wrapper of the prelude; cases: the tables of the emulated tests
on the GPU; zoo: small shapes of every model against float64; tune: the table that ships; networks, compiled: whole networks beside
PyTorch. Each step is a process of its own with a time limit of its own, and inherits what earlier ones have left of theirs; where a
network kills the process, another one goes on with the next network. What they find is appended to FOLDER/log.jsonl as it comes, what
they say to FOLDER/log.txt. What is not installed is named and skipped. --device emulated runs tiny parts of the first steps in the
emulator. Exit code 1 when a check has failed, 2 when nothing could be checked.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses as dc
import functools
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from gpu_log import LOST, Log
from gpu_steps import DEVICE
from gpu_table import report

HERE = pathlib.Path(__file__).parent
GRACE = 5.0
"""Seconds at the end for the table."""
LEAST = 15.0
"""Seconds that are worth another process for the rest of a step."""
LIMIT = "time limit"
OUTCOMES = {0: "done", 1: "a check failed", LOST: "the GPU was lost, or a turn did not end"}
ENDED = (OUTCOMES[0], OUTCOMES[1], LIMIT)


@dc.dataclass(frozen=True)
class Step:
    """A part with a process of its own."""

    name: str
    seconds: float
    """Its limit; earlier steps leave it more."""
    emulated: bool = False
    """Whether a tiny part of it runs without a GPU."""


STEPS = (
    Step("versions", 30, emulated=True),
    Step("wrappers", 20, emulated=True),
    Step("cases", 110, emulated=True),
    Step("zoo", 65, emulated=True),
    Step("tune", 80),
    Step("networks", 120),
    Step("compiled", 110),
)


def limits(steps: Sequence[Step], index: int, left: float) -> float:
    """Seconds for a step when so many are left for all: those that the later ones do not need, in proportion where there are too few."""
    later = sum(step.seconds for step in steps[index + 1 :])
    wanted = steps[index].seconds
    return max(left - later, left * wanted / (wanted + later))


def run_step(step: Step, command: Callable[[float, int], Sequence[str]], seconds: float, log: Log) -> str:
    """ "done", or how it ended. When a turn of it kills its process, another process goes on with the next turn."""
    end, begun = time.monotonic() + seconds, 0
    log.start(step.name)
    while True:
        left = end - time.monotonic()
        outcome = run_process(step, command(max(left - 2, 1.0), begun), left, log)
        now = turns(step, log)
        if outcome in ENDED or len(now) == begun or end - time.monotonic() < LEAST:
            return OUTCOMES[1] if begun and outcome == OUTCOMES[0] else outcome
        log.add(step.name, "check", name=now[-1], passed=False, why=f"its process ended: {outcome}")
        begun = len(now)


def turns(step: Step, log: Log) -> list[str]:
    """What it has begun so far."""
    return [record["what"] for record in log.records() if record["kind"] == "begun" and record["step"] == step.name]


def run_process(step: Step, command: Sequence[str], seconds: float, log: Log) -> str:
    """How a process of a step ended; its output is shown and kept as it comes."""
    log.say(f"== {step.name}: at most {seconds:.0f} s")
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True, env=environment()
    )
    reader = threading.Thread(target=_copy, args=(process, log), daemon=True)
    reader.start()
    try:
        code = process.wait(seconds)
        outcome = OUTCOMES.get(code, f"exit code {code}")
    except subprocess.TimeoutExpired:
        outcome = LIMIT
    _end(process)
    reader.join(2)
    log.add(step.name, "outcome", outcome=outcome, seconds=round(time.monotonic() - started, 2))
    log.say(f"== {step.name}: {outcome}, {time.monotonic() - started:.1f} s")
    return outcome


def environment() -> dict[str, str]:
    """Of a step: it finds the project and the tests."""
    folders = [str(HERE), str(HERE.parent / "src"), str(HERE.parent / "tests"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders)), "PYTHONUNBUFFERED": "1"}


def _copy(process: subprocess.Popen[str], log: Log) -> None:
    assert process.stdout
    for line in process.stdout:
        log.say(line.rstrip("\n"))


def _end(process: subprocess.Popen[str]) -> None:
    """The step and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def command_for(step: Step, options: argparse.Namespace, seconds: float, begun: int) -> list[str]:
    """The step as a process of its own; so many of its turns were begun before."""
    command = [sys.executable, str(HERE / "gpu_steps.py"), step.name, "--out", options.out, "--device", options.device]
    return [*command, "--seconds", f"{seconds:.0f}", "--begun", str(begun), *(["--quick"] if options.quick else [])]


def chosen_steps(options: argparse.Namespace) -> list[Step]:
    """In their order. Raises ValueError for names that are none, or that the emulator cannot do."""
    able = [step for step in STEPS if step.emulated or options.device == "cuda"]
    names = options.steps.split(",") if options.steps else [step.name for step in able]
    if unknown := [name for name in names if name not in {step.name for step in able}]:
        raise ValueError(f"no steps {', '.join(unknown)} of {options.device}; expected some of {','.join(step.name for step in able)}")
    return [step for step in able if step.name in names]


def run(options: argparse.Namespace, command: Callable[[Step, argparse.Namespace, float, int], list[str]] = command_for) -> int:
    """All steps, then the table; 0 when nothing failed, 2 when the device cannot be used."""
    log, steps = Log(options.out), chosen_steps(options)
    end, outcomes = time.monotonic() + 60 * options.minutes - GRACE, list[str]()
    for index, step in enumerate(steps):
        seconds = limits(steps, index, max(end - time.monotonic(), 1.0))
        outcomes.append(run_step(step, functools.partial(command, step, options), seconds, log))
        if index == 0 and (why := no_device(step, log)):
            print(f"gpu.py: nothing can be checked: {why}", file=sys.stderr)
            return 2
    for line in report(log.records()):
        log.say(line)
    return 0 if set(outcomes) <= {"done"} else 1


def no_device(step: Step, log: Log) -> str:
    """Why the step could not use the device; empty where it could."""
    found = (r["why"] for r in log.records() if (r["step"], r["kind"], r.get("name")) == (step.name, "check", DEVICE) and not r["passed"])
    return next(found, "")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every step ended well, 1 when a check failed, 2 when there was nothing to do it on, or to report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="gpu_results", metavar="FOLDER")
    parser.add_argument("--steps", default="", metavar="A,B,...")
    parser.add_argument("--quick", action="store_true", help="a small part of every step")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", choices=("cuda", "emulated"), default="cuda")
    parser.add_argument("--report", metavar="FOLDER", help="only print the table of what was kept there")
    options = parser.parse_args(arguments)
    if options.report:
        if not (records := Log(options.report).records()):
            parser.error(f"nothing was kept in {options.report}")
        print("\n".join(report(records)))
        return 0
    if not options.minutes > 0:
        parser.error(f"--minutes {options.minutes:g}: expected more than 0")
    try:
        return run(options)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    raise SystemExit(main())
