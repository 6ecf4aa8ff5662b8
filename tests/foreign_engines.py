"""A model to time, and a package of someone else's that offers engines."""

from __future__ import annotations

import pathlib

import numpy as np
import onnx
import pytest

from tilewright.engine import plugins

QUICK = ("--rounds", "2", "--window", "0.01", "--threads", "2")

FOREIGN = '''
"""Engines of someone else's: one that is right, one that is wrong, one that refuses, one that dies, and one that lacks a package."""
import os
import numpy as np
from tilewright.engine.bench.engines import onnxruntime

def right(task):
    assert task.threads == 2 and task.shapes == {"x": (1, 3, 9, 11)} and task.dimensions == {"batch": 1}
    run = onnxruntime(task)
    return lambda inputs: run(inputs)

def wrong(task):
    run = onnxruntime(task)
    return lambda inputs: [1.01 * output for output in run(inputs)]

def refuses(task):
    print("a line that must not get among the answers", flush=True)
    raise NotImplementedError(f"cannot read {os.path.basename(task.path)}\\nin two lines")

def dies(task):
    run, left = onnxruntime(task), [3]
    def step(inputs):
        left[0] -= 1
        if left[0] == 0:
            print("its last words", flush=True)
            os._exit(7)
        return run(inputs)
    return step

def lacks(task):
    import absent_package

def where(task):
    import sys
    raise NotImplementedError(" ".join([sys.executable, *sys.path]))
'''


def save_model(folder: pathlib.Path, rng: np.random.Generator) -> pathlib.Path:
    """A small network whose batch is open."""
    weight = rng.standard_normal((5, 3, 3, 3)).astype(np.float32)
    text = """<ir_version: 8, opset_import: ["" : 17]>
        net (float[batch, 3, 9, 11] x) => (float[batch, 5, 9, 11] y) {
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            y = Relu (c)
        }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, folder / "net.onnx")
    return folder / "net.onnx"


def install(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder of a package that this process and its workers find, as long as the test lasts."""
    site = folder / "site"
    (site / "foreign-1.0.dist-info").mkdir(parents=True)
    (site / "foreign.py").write_text(FOREIGN)
    (site / "foreign-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    points = "".join(f"{name} = foreign:{name}\n" for name in ("right", "wrong", "refuses", "dies", "lacks"))
    (site / "foreign-1.0.dist-info" / "entry_points.txt").write_text(f"[tilewright.engines]\n{points}")
    monkeypatch.syspath_prepend(str(site))
    forget()
    return site


def forget() -> None:
    """What packages offer is looked up once."""
    plugins.entry_points.cache_clear()
