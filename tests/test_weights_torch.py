"""load_weights from what PyTorch saves: the answers of torchvision and timm, checkpoints, damaged and hostile files."""

from __future__ import annotations

import pathlib
import pickle
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.weights import weights_report
from tilewright.frontends.dsl import conv, flatten, linear, model

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


@model(image=("batch=2", 3, 6, 6))
def small(image: Any) -> Any:
    """Three parameters."""
    return linear(flatten(conv(image, 4, 3, bias=False, name="features.0")), 10, name="classifier")


@pytest.fixture
def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights for `small`."""
    return {name: rng.random(p.shape, np.float32) for name, p in small.declarations().items()}


PAIRS = {
    "resnet18": "resnet18",
    "vgg11": "vgg11",
    "densenet121": "densenet121",
    "mobilenet_v2": "mobilenetv2_100",
    "efficientnet_b0": "efficientnet_b0",
}
"""What torchvision (and the zoo) and timm call the same network."""


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_state_dict_gives_the_answers_of_torch(name: str, library: str, tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    made = _made(name, library).eval()
    state = made.state_dict()
    for key, tensor in state.items():  # statistics other than those of an untrained network, so that exchanged ones are noticed
        if key.endswith(("running_var", "running_mean")):
            tensor.uniform_(0.5, 1.5) if key.endswith("var") else tensor.uniform_(-0.1, 0.1)
    torch.save(state, tmp_path / "weights.pth")
    image = rng.standard_normal((1, 3, 64, 64), np.float32)
    if name == "vgg11":
        image = rng.standard_normal((1, 3, 224, 224), np.float32)
    with torch.inference_mode():
        expected = made(torch.from_numpy(image)).numpy()
    found = tw.compile(tw.load_weights(name, tmp_path / "weights.pth"), shapes={"image": image.shape})(image)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def _made(name: str, library: str) -> Any:
    if library == "timm":
        return pytest.importorskip("timm").create_model(PAIRS[name])
    return getattr(pytest.importorskip("torchvision").models, name)()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_checkpoints_of_torch(wrapper: str | None, arrays: dict[str, np.ndarray], tmp_path: pathlib.Path) -> None:
    state = {f"module.{name}": torch.from_numpy(array).bfloat16() for name, array in arrays.items()}
    content = {wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}} if wrapper else state
    torch.save(content, tmp_path / "checkpoint.pt")
    rounded = {name: torch.from_numpy(array).bfloat16().float().numpy() for name, array in arrays.items()}
    found = tw.load_weights(small, tmp_path / "checkpoint.pt").parameters()
    assert found.keys() == rounded.keys()
    for name, array in rounded.items():
        np.testing.assert_array_equal(found[name], array)
    assert ("in the entry" in str(weights_report(small, tmp_path / "checkpoint.pt"))) == (wrapper is not None)


class Hostile:
    """Its pickle runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code of the file ran')",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_of_torch_that_are_none(arrays: dict[str, np.ndarray], tmp_path: pathlib.Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    whole = path.read_bytes()
    for content in (b"", b"abc", whole[: len(whole) // 2], whole[:-40], pickle.dumps(Hostile()), pickle.dumps({"weight": Hostile()})):
        path.write_bytes(content)
        with pytest.raises(tw.ModelError, match="no PyTorch file of tensors alone, or damaged"):
            tw.load_weights(small, path)
    torch.save({"a": Hostile()}, path)
    with pytest.raises(tw.ModelError, match=r"save model\.state_dict\(\)"):
        tw.load_weights(small, path)
    torch.save([1, 2], path)
    with pytest.raises(tw.ModelError, match="holds no state dict"):
        tw.load_weights(small, path)
