"""The zoo against torchvision and timm: their state_dict fits our models as it is, and the answers are the same.

A further model is one more line in CASES.
"""

from __future__ import annotations

import dataclasses as dc
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine import plugins
from tilewright.frontends.dsl import Model

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
TOLERANCE = 1e-4
"""Of the largest number of the output."""


@dc.dataclass(frozen=True)
class Case:
    """A model of the zoo, the function that makes the same one for PyTorch ("package.module.function"), and an input shape."""

    ours: str
    theirs: str
    shape: tuple[int, ...]
    options: Mapping[str, Any] = dc.field(default_factory=dict)


TORCHVISION = "torchvision.models"

CASES = [
    Case("resnet18", f"{TORCHVISION}.resnet18", (2, 3, 65, 96)),
    Case("resnet50", f"{TORCHVISION}.resnet50", (1, 3, 64, 77)),
    Case("vgg11", f"{TORCHVISION}.vgg11", (1, 3, 224, 224), {"init_weights": False}),
    Case("alexnet_single", f"{TORCHVISION}.alexnet", (2, 3, 224, 224)),
    Case("squeezenet1_1", f"{TORCHVISION}.squeezenet1_1", (2, 3, 67, 90)),
    Case("mobilenet_v1", "timm.models.efficientnet.mobilenetv1_100", (2, 3, 65, 77)),
    Case("mobilenet_v2", f"{TORCHVISION}.mobilenet_v2", (2, 3, 65, 96)),
    Case("mobilenet_v3_large", f"{TORCHVISION}.mobilenet_v3_large", (1, 3, 64, 77)),
    Case("mnasnet1_0", f"{TORCHVISION}.mnasnet1_0", (2, 3, 65, 96)),
    Case("efficientnet_b0", f"{TORCHVISION}.efficientnet_b0", (1, 3, 64, 77)),
    Case("shufflenet_v2_x1_0", f"{TORCHVISION}.shufflenet_v2_x1_0", (2, 3, 65, 96)),
    Case("googlenet", f"{TORCHVISION}.googlenet", (2, 3, 65, 96), {"aux_logits": False, "init_weights": False}),
    Case("inception_v3", f"{TORCHVISION}.inception_v3", (1, 3, 75, 107), {"aux_logits": False, "init_weights": False}),
    Case("inception_v4", "timm.models.inception_v4.inception_v4", (1, 3, 75, 107)),
    Case("resnet50_v2", "timm.models.resnetv2.resnetv2_50", (1, 3, 64, 77)),
    Case("se_resnet50", "timm.models.resnet.seresnet50", (1, 3, 64, 77)),
    Case("resnext50_32x4d", f"{TORCHVISION}.resnext50_32x4d", (1, 3, 64, 77)),
    Case("densenet121", f"{TORCHVISION}.densenet121", (1, 3, 65, 96)),
    Case("convnext_tiny", f"{TORCHVISION}.convnext_tiny", (2, 3, 65, 96)),
    Case("deeplab_v3_resnet50", f"{TORCHVISION}.segmentation.deeplabv3_resnet50", (1, 3, 97, 65), {"weights_backbone": None}),
    Case("mc3_18", f"{TORCHVISION}.video.mc3_18", (1, 3, 5, 33, 42)),
    Case("r2plus1d_18", f"{TORCHVISION}.video.r2plus1d_18", (1, 3, 5, 33, 42)),
]


def build(case: Case) -> Any:
    """The PyTorch model in evaluation mode, its batch norms as if it had been trained."""
    module, _, function = case.theirs.rpartition(".")
    pytest.importorskip(module.partition(".")[0])
    torch.manual_seed(0)
    network = getattr(importlib.import_module(module), function)(**case.options).eval()
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.weight.uniform_(0.3, 0.9)
                part.bias.normal_(0, 0.1)
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
            if hasattr(part, "layer_scale"):
                part.layer_scale.uniform_(0.1, 0.4)  # it starts so small that nobody would notice what it scales
    return network


def state(network: Any) -> dict[str, np.ndarray]:
    """Its parameters and statistics by name, without the counters of training steps."""
    return {name: tensor.numpy() for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.ours)
def test_same_numbers_as_torch(case: Case, rng: np.random.Generator) -> None:
    network, model = build(case), plugins.load("models", case.ours)
    assert isinstance(model, Model)
    weights = state(network)
    assert set(weights) == set(model.declarations())
    image = rng.standard_normal(case.shape, np.float32)
    found = tw.compile(model.with_weights(weights))(image)
    with torch.no_grad():
        given = network(torch.from_numpy(image))
    expected = (given["out"] if isinstance(given, dict) else given).numpy()
    assert found.shape == expected.shape and np.ptp(expected) > 0
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
