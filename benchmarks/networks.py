"""Whole networks beside other engines: the table of the README, from several runs.

    python benchmarks/networks.py --models FOLDER [--threads 2,1] [--batch 1] [--runs 3] [--python PATH] [--save FILE]
    python benchmarks/networks.py --report FILE

Every run goes through all networks; on each, the engines take turns (`tilewright bench`). NAME.onnx is the network for one image,
NAME_b8.onnx for eight. Engines whose package or files are not there are left out of the table. --python: the interpreter in which
the other engines are installed, or ENGINE=PATH, as for `tilewright bench`. Exit code 1 when outputs differ.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tilewright.engine.bench.engines import OURS
from tilewright.engine.cli import bench, console
from tilewright.engine.cli.arguments import Parser, names
from tilewright.engine.compiler import load_source

NETWORKS = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "vgg16": "VGG-16",
    "unet": "U-Net",
    "densenet121": "DenseNet-121",
    "googlenet": "GoogLeNet",
    "inception_v3": "Inception-v3",
    "seresnet50": "SE-ResNet-50",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_large": "MobileNetV3-L",
    "mnasnet1_0": "MNASNet 1.0",
    "efficientnet_b0": "EfficientNet-B0",
    "squeezenet1_1": "SqueezeNet 1.1",
    "shufflenet_v2": "ShuffleNetV2",
}
AGAINST = ("onnxruntime", "openvino", "peers:ncnn", "peers:torch")
Record = dict[str, Any]
"""One network in one run: what `Result.as_dict` says, and "run", "batch", "network"."""


def measure(options: argparse.Namespace) -> Iterator[Record]:
    """Every network in every setting, once a run."""
    parser = Parser()
    bench.configure(parser)
    chosen = [(batch, threads) for batch in options.batch for threads in options.threads]
    total = options.runs * len(chosen) * len(options.networks)
    with console.progress(total * (options.rounds + len(options.against) + 1)) as progress:
        for run in range(options.runs):
            for batch, threads in chosen:
                for network in options.networks:
                    path = pathlib.Path(options.models, network + (f"_b{batch}" if batch > 1 else "") + ".onnx")
                    arguments = parser.parse_args([str(path), "--threads", str(threads), *forwarded(options, batch)])
                    result = bench.measured(str(path), load_source(str(path)), arguments, progress)
                    yield result.as_dict() | {"run": run, "batch": batch, "network": network}


def forwarded(options: argparse.Namespace, batch: int) -> list[str]:
    """The options of `tilewright bench`."""
    against = [engine for engine in options.against if batch == 1 or engine != "peers:ncnn"]
    pythons = [word for python in options.python for word in ("--python", python)]
    return ["--against", ",".join(against), "--rounds", str(options.rounds), "--window", str(options.window), *pythons, *options.tune]


def medians(records: Iterable[Record], engine: str) -> list[float]:
    """An engine's median in each run, in milliseconds; empty where it did not run."""
    found = (each["median"] for record in records for each in record["engines"] if each["engine"] == engine)
    return [1e3 * median for median in found if median is not None]


def ratios(records: Iterable[Record], engines: Sequence[str]) -> list[float]:
    """In each run, the median of whichever of these engines was fastest over ours."""
    found = []
    for record in records:
        median = {each["engine"]: each["median"] for each in record["engines"] if each["median"]}
        theirs = [median[engine] for engine in engines if engine in median]
        if theirs:
            found.append(min(theirs) / median[OURS])
    return found


def cells(records: Sequence[Record], engines: Sequence[str]) -> list[str]:
    """A row: medians of the runs, and the ratios of the runs."""
    times = [medians(records, engine) for engine in (OURS, *engines)]
    shown = [f"{statistics.median(each):.3g}" if each else "-" for each in times]
    both = [ratios(records, engines), ratios(records, ["onnxruntime"])]
    return [*shown, *(f"{statistics.median(each):.2f} ({', '.join(f'{r:.2f}' for r in each)})" if each else "-" for each in both)]


def means(records: Sequence[Record], engines: Sequence[str]) -> str:
    """The geometric mean over the networks in each run."""
    runs = sorted({record["run"] for record in records})
    found = [[r for record in records if record["run"] == run for r in ratios([record], engines)] for run in runs]
    return ", ".join(f"{statistics.geometric_mean(each):.3f}" for each in found if each) or "-"


def report(records: Sequence[Record]) -> bool:
    """Print a table in Markdown for each setting; whether every output agreed."""
    for batch, threads in sorted({(record["batch"], record["threads"]) for record in records}):
        print(f"\n## batch {batch}, {threads} thread{'s' if threads > 1 else ''}: medians in ms; ratios: their median, then each run\n")
        print_table([record for record in records if (record["batch"], record["threads"]) == (batch, threads)])
    return tell_failures(records)


def print_table(records: Sequence[Record]) -> None:
    """One setting."""
    every = [each for record in records for each in record["engines"] if each["engine"] != OURS and each["median"]]
    engines = list(dict.fromkeys(each["engine"] for each in every))
    titles = ["network", "Tilewright", *(engine.removeprefix("peers:") for engine in engines), "over the fastest", "over onnxruntime"]
    print(f"| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}")
    for network in dict.fromkeys(record["network"] for record in records):
        row = cells([record for record in records if record["network"] == network], engines)
        print(f"| {NETWORKS.get(network, network)} | {' | '.join(row)} |")
    print(f"\ngeometric mean over the fastest, run by run: {means(records, engines)}")
    print(f"geometric mean over onnxruntime, run by run: {means(records, ['onnxruntime'])}")
    lowest = min((ratio, record["network"]) for record in records for ratio in ratios([record], engines or [OURS]))
    print(f"lowest ratio of a run: {lowest[0]:.2f} ({lowest[1]})")
    busy = [b for record in records if (b := record["processors_kept_busy_by_others"]) is not None]
    if busy:
        print(f"processors that others kept busy meanwhile: {np.mean(busy):.2f} on average, at most {max(busy):.2f}")


def tell_failures(records: Iterable[Record]) -> bool:
    """Print what went wrong, once each; whether every output that there was agreed."""
    failures = {(record["network"], each["engine"], each["failure"]) for record in records for each in record["engines"] if each["failure"]}
    for network, engine, failure in sorted(failures):
        print(f"{network}: {engine} failed: {failure}")
    wrong = {
        (r["network"], e["engine"], e["max_relative_error"]) for r in records for e in r["engines"] if not e["failure"] and not e["agrees"]
    }
    for network, engine, error in sorted(wrong, key=str):
        print(f"{network}: {engine} and Tilewright DIFFER by {error}")
    return not wrong


def numbers(text: str) -> list[int]:
    """`2,1` is [2, 1]."""
    return list(map(int, text.split(",")))


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all outputs agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", metavar="FOLDER", help="where the ONNX files are")
    parser.add_argument("--networks", type=names, default=tuple(NETWORKS), metavar="A,B,...")
    parser.add_argument("--against", type=names, default=AGAINST, metavar="A,B,...")
    parser.add_argument("--python", action="append", default=[], metavar="[ENGINE=]PATH")
    parser.add_argument("--threads", type=numbers, default=[2, 1])
    parser.add_argument("--batch", type=numbers, default=[1])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=float, default=0.25)
    parser.add_argument("--tune", action="store_const", const=["--tune"], default=[], help="tune Tilewright's kernels before")
    parser.add_argument("--save", metavar="FILE", help="keep every result, one JSON line each, as soon as it is there")
    parser.add_argument("--report", metavar="FILE", help="only print the tables of what was kept")
    options = parser.parse_args(arguments)
    if not (options.models or options.report):
        parser.error("expected --models FOLDER or --report FILE")
    if options.report:
        return 0 if report([json.loads(line) for line in pathlib.Path(options.report).read_text().splitlines()]) else 1
    here = str(pathlib.Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    records = []
    for record in measure(options):
        records.append(record)
        if options.save:
            with pathlib.Path(options.save).open("a") as file:
                print(json.dumps(record), file=file)
    return 0 if report(records) else 1


if __name__ == "__main__":
    raise SystemExit(main())
