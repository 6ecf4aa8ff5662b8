"""What benchmarks/gpu.py finds, kept as it comes: one JSON object a line, and everything that was said as text."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

LOST = 3
"""The exit code of a step's process that another one should replace."""
TABLE = "tuned.json"
"""In the same folder: what the step `tune` found, as backends/cuda/tuned.json holds it."""
Record = dict[str, Any]
"""At least "step" and "kind"."""


class Log:
    """Two files in a folder; several processes may append."""

    def __init__(self, folder: str | pathlib.Path) -> None:
        self.folder = pathlib.Path(folder)

    def add(self, step: str, kind: str, **values: Any) -> None:
        """Keep a record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")

    def say(self, line: str) -> None:
        """Show and keep a line of text."""
        print(line, flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def start(self, step: str) -> None:
        """From here on an earlier run of the step in the same folder does not count."""
        self.add(step, "started")

    def records(self) -> list[Record]:
        """Of the last run of each step; a line that was cut off is left out."""
        try:
            lines = (self.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [record for line in lines if (record := _parsed(line)) is not None]
        starts = {record["step"]: i for i, record in enumerate(found) if record["kind"] == "started"}
        return [record for i, record in enumerate(found) if i >= starts.get(record["step"], 0)]


def write_answers(folder: pathlib.Path, device: str, answers: Mapping[str, str]) -> None:
    """Replace the table in one step, because a time limit may end the process meanwhile."""
    new = folder / f"{TABLE}.new"
    new.write_text(json.dumps({device: answers}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    new.replace(folder / TABLE)


def read_answers(folder: pathlib.Path, device: str) -> dict[str, str]:
    """Of a device, by question; none where there is no table."""
    try:
        return json.loads((folder / TABLE).read_text(encoding="utf-8")).get(device, {})
    except FileNotFoundError:
        return {}


def _parsed(line: str) -> Record | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
