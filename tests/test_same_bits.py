"""An image gives the same bits on any number of threads, alone, and at every place of a batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import real_models
from small_networks import NETWORKS

import tilewright as tw
from tilewright.backends.cpu.target import Target
from tilewright.frontends.dsl import Model

THREADS, ALONE = (1, 2, 3, 5), (1, 2)
BATCH = 8
TARGETS = [name for name in ("avx512", "avx2") if Target.describe(name).is_runnable]
OPEN = ("ImageClassifier_cifar.four", "ch_ppocr_mobile_v2.0_cls_infer.two", "mtcnn_pnet.pair")
FIXED = ("FastestDet.bus", "squeezenet_fp32_derived.kitten", "version-RFB-320.pair", "silero_vad_openvino_16k.speech")
real = pytest.mark.skipif(not real_models.cases(), reason=real_models.MISSING)


def assert_same_bits(found: np.ndarray, wanted: np.ndarray, what: str) -> None:
    assert found.dtype == wanted.dtype and found.shape == wanted.shape, what
    unequal = np.count_nonzero(found.view(np.uint8) != wanted.view(np.uint8))
    assert not unequal, f"{what}: {unequal} bytes differ, values by up to {np.abs(found - wanted).max():.2g}"


def check(model: Any, name: str, images: np.ndarray, target: str) -> None:
    """One run of all images on one thread is the measure: for other numbers of threads, and for each image alone."""
    compile = functools.partial(tw.compile, model, target=target)
    together = compile(threads=1, shapes={name: images.shape}).run({name: images})
    for output, values in together.items():
        assert len({image.tobytes() for image in values}) == len(images), f"{output} does not depend on the image"
    for threads in THREADS[1:]:
        for output, values in compile(threads=threads, shapes={name: images.shape}).run({name: images}).items():
            assert_same_bits(values, together[output], f"{output}, {threads} threads")
    for threads in ALONE:
        session = compile(threads=threads, shapes={name: (1, *images.shape[1:])})
        for place in range(len(images)):
            for output, values in session.run({name: images[place : place + 1]}).items():
                assert_same_bits(values[0], together[output][place], f"{output}, {threads} threads, image {place} alone")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_small_networks(network: Model, target: str, rng: np.random.Generator) -> None:
    (spec,) = network.inputs
    assert spec.typical
    check(network, spec.name, rng.standard_normal((BATCH, *spec.typical[1:])).astype(np.float32), target)


@real
@pytest.mark.parametrize("case", OPEN)
def test_exported_networks_with_an_open_batch(case: str, rng: np.random.Generator) -> None:
    feeds, _ = real_models.load(case)
    ((name, image),) = feeds.items()
    images = image[:1] * rng.uniform(0.5, 1.5, (BATCH, *[1] * (image.ndim - 1))).astype(np.float32)
    check(real_models.model_path(case), name, images, TARGETS[0])


@real
@pytest.mark.parametrize("case", FIXED)
def test_exported_networks_with_one_image(case: str) -> None:
    feeds, _ = real_models.load(case)
    answers: list[Mapping[str, np.ndarray]] = [tw.compile(real_models.model_path(case), threads=n).run(feeds) for n in THREADS]
    for threads, answer in zip(THREADS[1:], answers[1:], strict=True):
        for name in answer:
            assert_same_bits(answer[name], answers[0][name], f"{name}, {threads} threads")
