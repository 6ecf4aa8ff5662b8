"""The table of benchmarks/gpu.py, made from what its steps have kept."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gpu_log import Record

OURS = "tilewright"


def report(records: Sequence[Record]) -> list[str]:
    """Lines in Markdown: how the steps ended, ceilings, checks that failed, and the networks."""
    lines = ["", "## steps", ""]
    lines += [f"- {r['step']}: {r['outcome']} ({r['seconds']} s)" for r in records if r["kind"] == "outcome"]
    lines += ["", "## versions and ceilings", ""]
    lines += [f"- {r['name']}: {r['value']}" for r in records if r["kind"] == "version"]
    lines += [f"- {r['name']}: {r['value'] / 1e12:.2f} T/s" for r in records if r["kind"] == "ceiling"]
    lines += [f"- skipped: {r['what']}" for r in records if r["kind"] == "skipped"]
    lines += [*checks(records), *networks(records)]
    return lines


def checks(records: Sequence[Record]) -> list[str]:
    """How many checks went well, and those that did not."""
    found = [r for r in records if r["kind"] == "check"]
    failed = [r for r in found if not r["passed"]]
    lines = ["", "## checks", "", f"{len(found) - len(failed)} of {len(found)} passed"]
    return lines + [f"- {r['step']}: {r['name']} FAILED: {r['why']}" for r in failed]


def networks(records: Sequence[Record]) -> list[str]:
    """A row for each network, batch and precision: medians, how many choices were measured ones, ratio and share of the floor."""
    timed = [r for r in records if r["kind"] == "time"]
    floors = {_key(r): r["seconds"] for r in records if r["kind"] == "floor"}
    if not timed:
        return []
    engines = list(dict.fromkeys(r["engine"] for r in timed if r["engine"] != OURS))
    choices = {_key(r): f"{r['measured']} of {r['measured'] + r['by_rule']}" for r in records if r["kind"] == "choices"}
    heads = ["network", "batch", "precision", "tuned choices", OURS, *engines, "fastest PyTorch / ours", "floor / ours"]
    lines = ["", "## networks: medians in microseconds", "", f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    for key in dict.fromkeys(map(_key, timed)):
        row = {engine: median(timed, key, engine) for engine in (OURS, *engines)}
        cells = [*map(str, key), choices.get(key, "-"), *map(_time, row.values()), *ratios(row, floors.get(key))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def median(timed: Sequence[Record], key: tuple[object, ...], engine: str) -> float | None:
    """Of all rounds, in seconds."""
    samples = [seconds for r in timed if _key(r) == key and r["engine"] == engine for seconds in r["samples"]]
    return statistics.median(samples) if samples else None


def ratios(row: dict[str, float | None], floor: float | None) -> list[str]:
    """The fastest of the others over ours, and the floor as a share of our time."""
    ours, others = row[OURS], [seconds for engine, seconds in row.items() if engine != OURS and seconds]
    return [f"{min(others) / ours:.2f}" if ours and others else "-", f"{floor / ours:.0%}" if ours and floor else "-"]


def _key(record: Record) -> tuple[object, ...]:
    return record["network"], record["batch"], record["precision"]


def _time(seconds: float | None) -> str:
    return f"{seconds * 1e6:.1f}" if seconds else "-"
