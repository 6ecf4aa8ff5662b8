"""Whole networks against float64: the error that each accuracy promises, max |difference| / max |output|."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import real_models
from small_networks import NETWORKS

import tilewright as tw
from tilewright.frontends.dsl import Model

BOUNDS = {"fast": 1e-4, "strict": 2e-5, "exact": 1e-5}
CASES = (
    "FastestDet.bus",
    "ImageClassifier_cifar.four",
    "mnist-cntk-7.zero",
    "mtcnn_pnet.pair_large",
    "oww_embedding_model.one",
    "pytorch_super_resolution.mandrill",
    "silero_vad_openvino_16k.silence",
    "squeezenet_fp32_derived.hummingbird",
    "version-RFB-320.group",
    pytest.param("road_segmentation_adas_0001.street", marks=pytest.mark.sweep),
)


def check(model: Any, inputs: Mapping[str, np.ndarray]) -> None:
    """Every accuracy keeps its bound on every output."""
    wanted = tw.compile(model, backend="reference", precision="float64", passes=[]).run(inputs)
    for accuracy, bound in BOUNDS.items():
        found = tw.compile(model, accuracy=accuracy).run(inputs)
        for name, exact in wanted.items():
            assert exact.dtype == np.float64 and found[name].dtype == np.float32
            error = np.abs(found[name] - exact).max() / np.abs(exact).max()
            assert error <= bound, f"{name}, {accuracy}: {error:.1e}"


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_small_networks(network: Model, rng: np.random.Generator) -> None:
    (spec,) = network.inputs
    assert spec.typical
    check(network, {spec.name: rng.standard_normal((2, *spec.typical[1:])).astype(np.float32)})


@pytest.mark.skipif(not real_models.cases(), reason=real_models.MISSING)
@pytest.mark.parametrize("case", CASES)
def test_exported_networks(case: str) -> None:
    feeds, _ = real_models.load(case)
    check(real_models.model_path(case), feeds)
