"""Engines that do not read ONNX themselves, as plug-ins: `PYTHONPATH=benchmarks tilewright bench FILE --against peers:torch,peers:ncnn`.

torch: the network's own Python, in float32, channels last. It comes from `zoo.build(name, weights)` in the folder that
    BENCH_ZOO names (default: ../shared/bench beside the repository), the weights from NAME.pt beside NAME.onnx.
ncnn: through pnnx, which is installed beside the interpreter, in float32. What it makes is kept in a folder beside the folder of
    the models (tmp/NAME_b1_ncnn), or made there; one image at a time.
"""

from __future__ import annotations

import importlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilewright.engine.bench.engines import Runner, Task

ZOO = pathlib.Path(__file__).resolve().parents[2] / "shared" / "bench"


def torch(task: Task) -> Runner:
    """Eager PyTorch in inference mode."""
    package: Any = importlib.import_module("torch")
    package.set_num_threads(task.threads)
    sys.path.insert(0, os.environ.get("BENCH_ZOO", str(ZOO)))
    path = pathlib.Path(task.path)
    name = path.stem.removesuffix("_b8")
    network, _ = importlib.import_module("zoo").build(name, str(path.with_name(f"{name}.pt")))
    network = network.to(memory_format=package.channels_last)

    def run(inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        given = [package.from_numpy(array).to(memory_format=package.channels_last) for array in inputs.values()]
        with package.inference_mode():
            return [network(*given).numpy()]

    return run


def ncnn(task: Task) -> Runner:
    """Tencent's ncnn without any of its shorter number formats."""
    (shape,) = task.shapes.values()
    if shape[0] != 1:
        raise NotImplementedError(f"ncnn takes one image, got {shape[0]}")
    folder = converted(pathlib.Path(task.path), shape)
    package: Any = importlib.import_module("ncnn")
    net = package.Net()
    net.opt.num_threads = task.threads
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)
    if net.load_param(str(folder / "m.ncnn.param")) or net.load_model(str(folder / "m.ncnn.bin")):
        raise RuntimeError(f"ncnn does not read {folder}")

    def run(inputs: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        (image,) = inputs.values()
        extractor = net.create_extractor()
        extractor.input("in0", package.Mat(image[0]))
        return [np.array(extractor.extract("out0")[1])[None]]

    return run


def converted(path: pathlib.Path, shape: Sequence[int]) -> pathlib.Path:
    """The folder with ncnn's files of a model, made at the first call."""
    folder = path.parents[1] / "tmp" / f"{path.stem}_b{shape[0]}_ncnn"
    if not (folder / "m.ncnn.bin").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "m.onnx").unlink(missing_ok=True)
        (folder / "m.onnx").symlink_to(path.resolve())
        command = [str(pathlib.Path(sys.executable).with_name("pnnx")), "m.onnx", f"inputshape=[{','.join(map(str, shape))}]", "fp16=0"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder
