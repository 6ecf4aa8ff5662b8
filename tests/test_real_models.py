"""Models that others exported, on real inputs, against what onnxruntime answered: every case, every target, one thread and two."""

from __future__ import annotations

import pytest
import real_models

import tilewright as tw
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.backends.cpu.target import Target

pytestmark = pytest.mark.skipif(not real_models.cases(), reason=real_models.MISSING)
ON_REFERENCE = ("mnist-cntk-7", "ImageClassifier_cifar", "mtcnn_pnet.pair", "silero_vad", "oww_embedding_model.one")
"""Small enough for the NumPy meaning in a test run; the others are compared with `tilewright compare`."""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("target", ["avx512", "avx2"])
@pytest.mark.parametrize("case", real_models.cases())
def test_cpu(case: str, target: str, threads: int) -> None:
    if not Target.describe(target).is_runnable:
        pytest.skip(f"this machine has no {target}")
    feeds, expected = real_models.load(case)
    session = tw.compile(real_models.model_path(case), threads=threads, target=target)
    real_models.check(session.run(feeds), expected)
    executable = session.executable
    assert isinstance(executable, NativeExecutable)
    assert {step.engine for step in executable.steps} == {"vector"}, session.plan


@pytest.mark.parametrize("accuracy", ["strict", "exact"])
@pytest.mark.parametrize("case", [c for c in real_models.cases() if c.endswith((".kitten", ".street", ".pair", ".mandrill"))])
def test_other_accuracies(case: str, accuracy: str) -> None:
    feeds, expected = real_models.load(case)
    real_models.check(tw.compile(real_models.model_path(case), accuracy=accuracy).run(feeds), expected)


@pytest.mark.parametrize("case", [c for c in real_models.cases() if c.startswith(ON_REFERENCE)])
@pytest.mark.parametrize("passes", [None, []], ids=["passes", "no passes"])
def test_reference(case: str, passes: list[str] | None) -> None:
    feeds, expected = real_models.load(case)
    real_models.check(tw.compile(real_models.model_path(case), backend="reference", passes=passes).run(feeds), expected)


def test_plans_are_kept_for_each_shape() -> None:
    """One session serves the two sizes of a model whose dimensions are all open, in any order."""
    session = tw.compile(real_models.model_path("mtcnn_pnet.pair"))
    for case in ("mtcnn_pnet.pair", "mtcnn_pnet.pair_large", "mtcnn_pnet.pair"):
        feeds, expected = real_models.load(case)
        real_models.check(session.run(feeds), expected)
