"""Preprocessing inside the graph: against pictures from files, against NumPy, for all orders and layouts, and in how few steps."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import numpy as np
import pytest
from command_line import Command
from PIL import Image

import tilewright as tw
from tilewright.engine.graph import Constant, Input
from tilewright.engine.images import Preprocessing, read_picture
from tilewright.engine.ops import Conv
from tilewright.engine.session import Session
from tilewright.frontends.dsl import Value, conv, dsl, model, relu
from tilewright.frontends.onnx.export import export

IMAGENET: dict[str, Any] = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
Random = np.random.Generator


@model(image=("batch=1", 3, "height=12", "width=10"))
def identity(image: Value) -> Value:
    """What the model is given, as its output."""
    return image * 1.0


@model(image=("batch=1", 1, "height=12", "width=10"))
def grey_identity(image: Value) -> Value:
    """The same for one channel."""
    return image * 1.0


@model(image=("batch=1", "height=12", "width=10", 3))
def last_identity(image: Value) -> Value:
    """The same for channels last."""
    return image * 1.0


@model(image=("batch=1", 3, "height=20", "width=18"))
def filters(image: Value) -> Value:
    """One convolution with a border of zeros."""
    return relu(conv(image, 8, 3, stride=2, pad=1))


def steps(session: Session) -> list[str]:
    """The operators of a plan in order, every one computed by a vector kernel."""
    assert all(step.engine == "vector" for step in session.executable.steps), session.plan  # type: ignore[attr-defined]
    return [step.node.opname for step in session.executable.steps]  # type: ignore[attr-defined]


def laid_out(rgb: np.ndarray, order: str, layout: str) -> np.ndarray:
    """Pictures (n, h, w, 3) of red, green and blue in another order and layout; grey is their red."""
    ordered = {"rgb": rgb, "bgr": rgb[..., ::-1], "grey": rgb[..., :1]}[order]
    return np.ascontiguousarray(ordered if layout == "nhwc" else ordered.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_every_order_and_layout(name: str, rng: Random) -> None:
    rgb = rng.integers(0, 256, (2, 13, 9, 3), dtype=np.uint8)
    mean, std = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    for order, layout, theirs, own in itertools.product(("rgb", "bgr"), ("nchw", "nhwc"), ("rgb", "bgr", "grey"), ("nchw", "nhwc")):
        target = identity if layout == "nchw" else last_identity
        how = Preprocessing(order=order, scale=0.5, mean=mean, std=std, layout=layout)
        session = tw.compile(tw.preprocess(target, how, picture_order=theirs, picture_layout=own), backend=name)
        colours = np.repeat(rgb[..., :1], 3, -1) if theirs == "grey" else rgb
        wanted = laid_out(colours, order, "nhwc").astype(np.float64)
        wanted = (wanted * 0.5 - mean) / std
        wanted = wanted if layout == "nhwc" else wanted.transpose(0, 3, 1, 2)
        found = session(laid_out(rgb, theirs, own))
        np.testing.assert_allclose(found, wanted, atol=2e-5, err_msg=f"{order} {layout} of {theirs} {own}")


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_grey_of_colours_is_pillows(order: str, rng: Random) -> None:
    rgb = rng.integers(0, 256, (1, 40, 50, 3), dtype=np.uint8)
    session = tw.compile(tw.preprocess(grey_identity, order="grey", picture_order=order))
    wanted = np.asarray(Image.fromarray(rgb[0]).convert("L"))
    np.testing.assert_array_equal(session(laid_out(rgb, order, "nhwc"))[0, 0], wanted)


HOWS = [
    Preprocessing(),
    Preprocessing(**IMAGENET),
    Preprocessing(resize_short=9, crop=(7, 8), **IMAGENET),
    Preprocessing(resize=(33, 18), order="bgr", mean=(104, 117, 123)),
    Preprocessing(crop=(6, 5), order="grey", scale=1 / 255),
    Preprocessing(resize_short=40, crop=(31, 39), order="grey", std=(2.0,)),
]


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("how", HOWS)
def test_as_pictures_from_files(how: Preprocessing, name: str, tmp_path: pathlib.Path, rng: Random) -> None:
    """A file is scaled with rounding to whole numbers, after each direction; inside the graph there is none."""
    session = tw.compile(tw.preprocess(grey_identity if how.order == "grey" else identity, how), backend=name)
    for size in ((21, 13), (14, 30), (20, 20)):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "picture.png")
        tolerance = (1e-4 if not (how.resize or how.resize_short) else 1.01) * how.scale / min(how.std)
        np.testing.assert_allclose(session(pixels[None]), read_picture(tmp_path / "picture.png", how), atol=tolerance)


def test_scaling_against_numpy(rng: Random) -> None:
    """Each pixel of the result is a mean over triangles as wide as the pixels that make it."""

    def matrix(before: int, after: int) -> np.ndarray:
        step = before / after
        centres, positions = (np.arange(after) + 0.5) * step, np.arange(before) + 0.5
        weights = np.maximum(0, 1 - np.abs(positions - centres[:, None]) / max(step, 1))
        return weights / weights.sum(1, keepdims=True)

    pixels = rng.integers(0, 256, (2, 37, 23, 3), dtype=np.uint8)
    for width, height in ((9, 11), (50, 40), (23, 12)):
        wanted = np.einsum("yh,xw,nhwc->ncyx", matrix(37, height), matrix(23, width), pixels)
        for name in ("reference", "cpu"):
            session = tw.compile(tw.preprocess(identity, resize=(width, height), size=(23, 37)), backend=name)
            np.testing.assert_allclose(session(pixels), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_one_step_stands_before_the_first_convolution(order: str, layout: str, rng: Random) -> None:
    source = tw.preprocess(filters, picture_order=order, picture_layout=layout, **IMAGENET)
    session = tw.compile(source)
    names = steps(session)
    assert names[0] in ("planes", "pointwise") and names[1] == "conv"
    (convolution,) = session.graph.find(Conv)
    assert convolution.operands[0].operands[0] is session.graph.inputs[0]
    pictures = rng.integers(0, 256, session.graph.inputs[0].type.shape, dtype=np.uint8)
    wanted = tw.compile(source, backend="reference", passes=[])(pictures)
    np.testing.assert_allclose(session(pictures), wanted, atol=1e-4 * np.abs(wanted).max())


def test_resized_and_cut_in_one_step_more(rng: Random) -> None:
    source = tw.preprocess(filters, resize_short=24, crop=(18, 20), size=(61, 47), **IMAGENET)
    session = tw.compile(source)
    assert steps(session)[:3] == ["picture_resize", "planes", "conv"]
    pictures = rng.integers(0, 256, (1, 47, 61, 3), dtype=np.uint8)
    wanted = tw.compile(source, backend="reference", passes=[])(pictures)
    np.testing.assert_allclose(session(pictures), wanted, atol=1e-4 * np.abs(wanted).max())


def test_any_size_and_any_kind_of_model(tmp_path: pathlib.Path, rng: Random) -> None:
    """A name, a Model, a Graph and a file; each size of picture gets a plan."""
    graph = tw.load(filters)
    (tmp_path / "filters.onnx").write_bytes(export(graph).SerializeToString())
    pictures = [rng.integers(0, 256, (1, *size, 3), dtype=np.uint8) for size in ((30, 41), (25, 22))]
    answers = []
    for kind in (filters, graph, tmp_path / "filters.onnx"):
        session = tw.compile(tw.preprocess(kind, resize_short=22, crop=(18, 20)))
        assert not session.plans
        answers.append([session(picture) for picture in pictures])
        assert len(session.plans) == 2
    for other in answers[1:]:
        for found, wanted in zip(other, answers[0], strict=True):
            np.testing.assert_array_equal(found, wanted)
    digits = tw.compile(tw.preprocess("lenet5", order="grey", picture_order="grey", scale=1 / 255))
    assert digits(np.zeros((1, 28, 28, 1), np.uint8)).shape == (1, 10)


def test_half_precision_and_batches(rng: Random) -> None:
    @model(image=(np.float16, "batch=1", 3, 6, 5))
    def halves(image: Value) -> Value:
        return image + 0.0

    pictures = rng.integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    found = tw.compile(tw.preprocess(halves))(pictures)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, pictures.transpose(0, 3, 1, 2))


def test_other_inputs_and_outputs_stay() -> None:
    @model(scale=("batch=1", 1), image=("batch=1", 3, 4, 4))
    def two(scale: Value, image: Value) -> dict[str, Value]:
        return {"scaled": image * 2.0, "given": scale * 1.0}

    source = tw.preprocess(two)
    assert [s.name for s in source.inputs] == ["scale", "image"] and source.output_names == ("scaled", "given")
    outputs = tw.compile(source, backend="reference").run(
        {"scale": np.full((1, 1), 7, np.float32), "image": np.ones((1, 4, 4, 3), np.uint8)}
    )
    assert outputs["scaled"].shape == (1, 3, 4, 4) and (outputs["scaled"] == 2).all() and outputs["given"] == 7


@pytest.mark.parametrize("how", HOWS)
def test_onnxruntime_agrees(how: Preprocessing, rng: Random) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    target = grey_identity if how.order == "grey" else identity
    graph = tw.load(tw.preprocess(target, how, size=(23, 37)), {"image": (1, 37, 23, 3)})
    exported = onnxruntime.InferenceSession(export(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    picture = rng.integers(0, 256, (1, 37, 23, 3), dtype=np.uint8)
    (wanted,) = exported.run(None, {"image": picture})
    found = tw.compile(graph)(picture)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_what_does_not_fit_is_refused() -> None:
    @model(tokens=("batch=1", 7))
    def tokens(tokens: Value) -> Value:
        return tokens * 2.0

    @model(left=(1, 3, 4, 4), right=(1, 3, 4, 4))
    def pair(left: Value, right: Value) -> Value:
        return left + right

    with pytest.raises(tw.ModelError, match=r"expected one floating-point input of rank 4, the model takes tokens: f32\[batch,7\]"):
        tw.preprocess(tokens)
    with pytest.raises(tw.ModelError, match="say which"):
        tw.preprocess(pair)
    assert tw.preprocess(pair, input="left").inputs[0].dtype == np.uint8
    with pytest.raises(tw.ModelError, match="input 'up' of rank 4"):
        tw.preprocess(pair, input="up")
    with pytest.raises(tw.ModelError, match="no option sharpen; there are resize_short"):
        tw.preprocess(filters, sharpen=True)
    with pytest.raises(tw.ModelError, match="picture_order"):
        tw.preprocess(filters, picture_order="rbg")
    with pytest.raises(tw.ModelError, match="either a Preprocessing or mean"):
        tw.preprocess(filters, Preprocessing(), mean=(1.0,))
    with pytest.raises(tw.ModelError, match="cannot crop 18x20 out of 10x12"):
        tw.compile(tw.preprocess(filters, crop=(18, 20), size=(10, 12)))
    with pytest.raises(tw.ModelError, match=r"got f32\[1,3,5,6\]"):
        tw.compile(tw.preprocess(pair, input="left", size=(6, 5)))
    with pytest.raises(tw.ModelError, match=r"expected dtype uint8"):
        tw.compile(tw.preprocess(filters))(np.zeros((1, 20, 18, 3), np.float32))


def test_the_graph_of_the_model_is_not_touched() -> None:
    graph = dsl(filters).graph({"image": (1, 3, 20, 18)}, {})
    before = str(graph)
    changed = tw.load(tw.preprocess(graph))
    assert str(graph) == before and changed.find(Input)[0].type.dtype == np.uint8
    assert {id(c.data) for c in graph.find(Constant)} <= {id(c.data) for c in changed.find(Constant)}  # type: ignore[attr-defined]


def test_on_the_command_line(cli: Command, tmp_path: pathlib.Path, rng: Random) -> None:
    """A picture goes in as it is, and a model is exported, compiled and shown with its preprocessing inside."""
    Image.fromarray(rng.integers(0, 256, (60, 44, 3), dtype=np.uint8)).save(tmp_path / "picture.png")
    how = ("--order", "grey", "--resize-short", 30, "--crop", 28, "--scale", 1 / 255)
    outside = cli("run", "lenet5", "--image", tmp_path / "picture.png", *how, "--output", tmp_path / "outside.npz")
    inside = cli("run", "lenet5", "--image", tmp_path / "picture.png", *how, "--preprocess", "--output", tmp_path / "inside.npz")
    assert (outside.code, inside.code) == (0, 0)
    with np.load(tmp_path / "outside.npz") as wanted, np.load(tmp_path / "inside.npz") as found:
        np.testing.assert_allclose(found["output"], wanted["output"], atol=0.02)
    size = ("--shape", "image=1x60x44x3")
    assert cli("export", "lenet5", tmp_path / "bytes.onnx", "--preprocess", *how, *size).code == 0
    assert tw.load(tmp_path / "bytes.onnx").inputs[0].type.shape == (1, 60, 44, 3)
    assert cli("compile", "lenet5", "-o", tmp_path / "bytes.tw", "--preprocess", *how, *size).code == 0
    assert tw.open(tmp_path / "bytes.tw").source.inputs[0].dtype == np.uint8
    assert "image: u8[1,60,44,3]" in cli("show", "lenet5", "--preprocess", *how, *size).out
    late = cli("run", tmp_path / "bytes.tw", "--random", "--preprocess")
    assert late.code == 2 and "--preprocess can be given to `tilewright compile` only" in late.err
    open_size = cli("export", "lenet5", tmp_path / "bytes.onnx", "--preprocess", *how)
    assert open_size.code == 2 and "--shape image=" in open_size.err
