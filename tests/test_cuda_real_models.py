"""Models that others exported, on real inputs, on the emulated GPU, against what onnxruntime answered."""

from __future__ import annotations

import pytest
import real_models
from cuda_harness import needs_compiler

import tilewright as tw

pytestmark = [needs_compiler, pytest.mark.skipif(not real_models.cases(), reason=real_models.MISSING)]
SMALL = ("mnist-cntk-7.five", "ImageClassifier_cifar", "silero_vad_openvino_16k.speech", "SqueezeNet_fp16.dog", "mtcnn_pnet.pair")


def check(case: str) -> None:
    feeds, expected = real_models.load(case)
    real_models.check(tw.compile(real_models.model_path(case), backend="cuda_emulated").run(feeds), expected)


@pytest.mark.parametrize("case", [case for case in real_models.cases() if case.startswith(SMALL)])
def test_small(case: str) -> None:
    check(case)


@pytest.mark.sweep
@pytest.mark.parametrize("case", real_models.cases())
def test_all(case: str) -> None:
    check(case)
