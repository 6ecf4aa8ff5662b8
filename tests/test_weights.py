"""load_weights: files of safetensors and PyTorch, the names of others, and what is said about a file that does not fit."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from command_line import REFERENCE, Command

import tilewright as tw
from tilewright import models
from tilewright.engine.errors import ModelWarning
from tilewright.engine.graph import Constant
from tilewright.engine.tensor import TensorType
from tilewright.engine.tensor_files import TensorFile
from tilewright.engine.weights import OWN_NAMES, fitted, weights_report
from tilewright.frontends.dsl import batch_norm, constant, conv, flatten, linear, model, relu

save_file = pytest.importorskip("safetensors.numpy").save_file

SMALL_SHAPES = {
    "features.0.weight": (4, 3, 3, 3), "features.1.weight": (4,), "features.1.bias": (4,), "features.1.running_mean": (4,),
    "features.1.running_var": (4,), "classifier.weight": (10, 64), "classifier.bias": (10,),
}  # fmt: skip


@model(image=("batch=2", 3, 6, 6))
def small(image: Any) -> Any:
    """Seven parameters, and a constant array that is none."""
    x = conv(image, 4, 3, bias=False, name="features.0")
    x = relu(batch_norm(x, name="features.1")) + constant(np.ones((4, 1, 1), np.float32))
    return linear(flatten(x), 10, name="classifier")


@pytest.fixture
def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights for `small`."""
    return {name: rng.random(shape, np.float32) + np.float32(0.1) for name, shape in SMALL_SHAPES.items()}


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> Callable[[Mapping[str, np.ndarray]], pathlib.Path]:
    """Writes arrays as safetensors."""

    def save(arrays: Mapping[str, np.ndarray]) -> pathlib.Path:
        path = tmp_path / "weights.safetensors"
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        return path

    return save


def assert_loaded(loaded: Any, arrays: Mapping[str, np.ndarray]) -> None:
    found = loaded.parameters()
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_the_arrays_of_a_file_replace_the_initial_ones(arrays: dict[str, np.ndarray], saved: Any) -> None:
    assert_loaded(tw.load_weights(small, saved(arrays)), arrays)


def test_a_graph_gets_the_weights_that_a_model_gets(arrays: dict[str, np.ndarray], saved: Any, rng: np.random.Generator) -> None:
    file, image = saved(arrays), rng.random((2, 3, 6, 6), np.float32)
    graph = tw.load(small)
    before = [node.data.copy() for node in graph.find(Constant)]  # type: ignore[attr-defined]
    loaded = tw.load_weights(graph, file)
    assert isinstance(loaded, tw.Graph) and loaded.inputs == graph.inputs
    found = tw.compile(loaded, backend="reference")(image)
    np.testing.assert_array_equal(found, tw.compile(tw.load_weights(small, file), backend="reference")(image))
    assert not np.array_equal(found, tw.compile(graph, backend="reference")(image))
    for node, array in zip(graph.find(Constant), before, strict=True):
        np.testing.assert_array_equal(node.data, array)  # type: ignore[attr-defined]


def test_a_name_of_the_zoo_and_half_precision(saved: Any) -> None:
    halves = {name: array.astype(np.float16) for name, array in models.lenet5.with_seed(3).parameters().items()}
    file = saved(halves)
    assert_loaded(tw.load_weights("lenet5", file), {name: array.astype(np.float32) for name, array in halves.items()})
    assert f"{len(halves)} tensors were float16 and are float32 now" in str(weights_report("lenet5", file))


def test_bfloat16_is_widened(arrays: dict[str, np.ndarray], tmp_path: pathlib.Path) -> None:
    """NumPy has no bfloat16, so the file is written by hand: a header in JSON, then the upper halves of the numbers."""
    upper = {name: (array.view(np.uint32) >> np.uint32(16)).astype(np.uint16) for name, array in arrays.items()}
    header, at = {}, 0
    for name, half in upper.items():
        header[name] = {"dtype": "BF16", "shape": half.shape, "data_offsets": [at, at + half.nbytes]}
        at += half.nbytes
    text, path = json.dumps(header).encode(), tmp_path / "bf16.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(half.tobytes() for half in upper.values()))
    assert_loaded(tw.load_weights(small, path), {n: (h.astype(np.uint32) << np.uint32(16)).view(np.float32) for n, h in upper.items()})
    assert "7 tensors were bfloat16" in str(weights_report(small, path))


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod."])
def test_prefixes_of_all_names_and_counters_do_not_matter(prefix: str, arrays: dict[str, np.ndarray], saved: Any) -> None:
    counter = {"features.1.num_batches_tracked": np.array(7)}
    assert_loaded(tw.load_weights(small, saved({prefix + name: a for name, a in (arrays | counter).items()})), arrays)


def test_what_does_not_fit_is_listed(arrays: dict[str, np.ndarray], saved: Any) -> None:
    del arrays["features.1.bias"]
    arrays |= {"features.0.weight": arrays["features.0.weight"][:, :2], "features.1.running_var": np.ones(4, np.int64)}
    file = saved(arrays | {"aux.weight": np.ones(3, np.float32)})
    with pytest.raises(tw.ModelError) as caught:
        tw.load_weights(small, file)
    assert "4 of the 7 parameters of small" in str(caught.value) and OWN_NAMES in str(caught.value)
    assert "missing in the file: 'features.1.bias'" in str(caught.value)
    assert "not in the model: 'aux.weight'" in str(caught.value)
    assert "'features.0.weight', expected f32[4,3,3,3], found f32[4,2,3,3]" in str(caught.value)
    assert "'features.1.running_var', expected f32[4], found i64[4]" in str(caught.value)
    assert "strict=False" in str(caught.value)
    report = weights_report(small, file)
    assert (report.missing, report.unexpected) == (("features.1.bias",), ("aux.weight",)) and not report.fits
    assert [misfit.name for misfit in report.misshaped] == ["features.0.weight", "features.1.running_var"] and report.classes is None


def test_what_fits_is_loaded_on_demand(arrays: dict[str, np.ndarray], saved: Any) -> None:
    del arrays["features.1.bias"]
    with pytest.warns(ModelWarning, match=r"missing in the file: 'features\.1\.bias'"):
        loaded = tw.load_weights(small, saved(arrays), strict=False)
    assert_loaded(loaded, arrays | {"features.1.bias": small.parameters()["features.1.bias"]})


def test_another_number_of_classes_is_recognised(arrays: dict[str, np.ndarray], saved: Any) -> None:
    arrays |= {"classifier.weight": np.ones((3, 64), np.float32), "classifier.bias": np.ones(3, np.float32)}
    with pytest.raises(tw.ModelError, match="file is for 3 classes, that of the model for 10\nmake the model for 3 classes"):
        tw.load_weights(small, saved(arrays))


def test_the_last_layer_may_be_a_convolution_over_everything(arrays: dict[str, np.ndarray], saved: Any) -> None:
    file = saved(arrays | {"classifier.weight": arrays["classifier.weight"].reshape(10, 4, 4, 4)})
    assert_loaded(tw.load_weights(small, file), arrays)
    assert "fully connected" in str(weights_report(small, file))


def test_a_square_weight_is_not_taken_in_another_shape(arrays: dict[str, np.ndarray], saved: Any) -> None:
    with pytest.raises(tw.ModelError, match=r"expected f32\[10,64\], found f32\[64,10\]"):
        tw.load_weights(small, saved(arrays | {"classifier.weight": arrays["classifier.weight"].T}))


@pytest.mark.parametrize("strict", [True, False])
def test_a_file_for_another_model_is_refused(strict: bool, saved: Any) -> None:
    with pytest.raises(tw.ModelError, match=r"names: of something else\n(.*\n)*no tensor fits: is the file for another model"):
        tw.load_weights(small, saved({"encoder.weight": np.ones(3, np.float32)}), strict=strict)


def test_files_that_are_none(tmp_path: pathlib.Path, arrays: dict[str, np.ndarray], saved: Any) -> None:
    whole = saved(arrays).read_bytes()
    for content in (b"", b"abc", whole[: len(whole) // 2], whole[:20], b"\xff" * 64):
        (tmp_path / "cut.safetensors").write_bytes(content)
        with pytest.raises(tw.ModelError, match="no safetensors file, or damaged"):
            tw.load_weights(small, tmp_path / "cut.safetensors")
    with pytest.raises(tw.ModelError, match="there is no such file"):
        tw.load_weights(small, tmp_path / "absent.safetensors")
    (tmp_path / "weights.h5").write_bytes(whole)
    with pytest.raises(tw.ModelError, match=r"expected the ending \.safetensors"):
        tw.load_weights(small, tmp_path / "weights.h5")
    with pytest.raises(tw.ModelError, match="expected a name of the zoo, a DSL model or a Graph"):
        tw.load_weights("some/file.onnx", saved(arrays))


@pytest.mark.parametrize(
    ("package", "suffix", "how"), [("safetensors", ".safetensors", r"tilewright\[weights\]"), ("torch", ".pth", "pip install torch")]
)
def test_a_missing_package_is_named(package: str, suffix: str, how: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / f"weights{suffix}").write_bytes(b"")
    with pytest.raises(tw.MachineError, match=how):
        tw.load_weights(small, tmp_path / f"weights{suffix}")


TIMM = {
    "vgg11": {
        "features.0.weight": "features.0.weight",
        "pre_logits.fc1.bias": "classifier.0.bias",
        "pre_logits.fc2.weight": "classifier.3.weight",
        "head.fc.weight": "classifier.6.weight",
    },
    "mobilenet_v2": {
        "conv_stem.weight": "features.0.0.weight",
        "bn1.running_var": "features.0.1.running_var",
        "blocks.0.0.conv_dw.weight": "features.1.conv.0.0.weight",
        "blocks.0.0.conv_pw.weight": "features.1.conv.1.weight",
        "blocks.0.0.bn2.bias": "features.1.conv.2.bias",
        "blocks.1.0.conv_pw.weight": "features.2.conv.0.0.weight",
        "blocks.2.2.bn1.weight": "features.6.conv.0.1.weight",
        "blocks.3.3.conv_dw.weight": "features.10.conv.1.0.weight",
        "blocks.5.2.conv_pwl.weight": "features.16.conv.2.weight",
        "blocks.6.0.bn3.running_mean": "features.17.conv.3.running_mean",
        "conv_head.weight": "features.18.0.weight",
        "bn2.weight": "features.18.1.weight",
        "classifier.bias": "classifier.1.bias",
    },
    "efficientnet_b0": {
        "conv_stem.weight": "features.0.0.weight",
        "blocks.0.0.se.conv_reduce.bias": "features.1.0.block.1.fc1.bias",
        "blocks.0.0.bn2.weight": "features.1.0.block.2.1.weight",
        "blocks.1.1.conv_pw.weight": "features.2.1.block.0.0.weight",
        "blocks.4.2.se.conv_expand.weight": "features.5.2.block.2.fc2.weight",
        "blocks.6.0.bn3.running_mean": "features.7.0.block.3.1.running_mean",
        "bn2.bias": "features.8.1.bias",
        "classifier.weight": "classifier.1.weight",
    },
    "densenet121": {
        "features.denseblock1.denselayer2.norm.1.weight": "features.denseblock1.denselayer2.norm1.weight",
        "features.denseblock4.denselayer16.conv.2.weight": "features.denseblock4.denselayer16.conv2.weight",
        "features.norm5.bias": "features.norm5.bias",
    },
}
"""Names in files of timm (for DenseNet: in torchvision's first files), and what torchvision calls the same parameter."""


@pytest.mark.parametrize("name", TIMM)
def test_names_of_others_are_known(name: str) -> None:
    expected = {own: declared for own, declared in getattr(models, name).declarations().items() if own in TIMM[name].values()}
    assert len(expected) == len(TIMM[name])
    types = {own: TensorType(p.dtype, p.shape) for own, p in expected.items()}
    tensors = {other: np.zeros(expected[own].shape, np.float32) for other, own in TIMM[name].items()}
    arrays, report = fitted(name, types, TensorFile("file", tensors))
    assert report.fits and arrays.keys() == types.keys() and report.naming != OWN_NAMES


def test_weights_on_the_command_line(cli: Command, tmp_path: pathlib.Path, rng: np.random.Generator, saved: Any) -> None:
    file, image = saved(models.lenet5.with_seed(5).parameters()), rng.random((1, 1, 28, 28), np.float32)
    np.save(tmp_path / "image.npy", image)
    given = ("--weights", file, "--input", tmp_path / "image.npy", "--output", tmp_path / "out.npz")
    assert cli("run", "lenet5", *given, *REFERENCE).code == 0
    expected = tw.compile(models.lenet5.with_seed(5), backend="reference")(image)
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_array_equal(found["output"], expected)
    assert cli("export", "lenet5", tmp_path / "lenet5.onnx", "--weights", file).code == 0
    np.testing.assert_array_equal(tw.compile(tmp_path / "lenet5.onnx", backend="reference")(image), expected)
    assert cli("compare", "lenet5", "--weights", file, "--random", "--backends", "reference,reference").code == 0
    refused = cli("run", tmp_path / "lenet5.onnx", *given, *REFERENCE)
    assert refused.code == 2 and "expected a name of the zoo" in refused.err
    wrong = cli("show", "lenet5", "--weights", saved({"conv1.weight": np.ones((6, 1, 5, 5), np.float32)}), *REFERENCE)
    assert wrong.code == 2 and "missing in the file" in wrong.err
