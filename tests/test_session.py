"""A session as its users meet it: what goes in, what comes out, whose memory it is, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilewright as tw
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv, Reshape, pointwise
from tilewright.engine.session import MAX_PLANS
from tilewright.models import lenet5, resnet18

BACKENDS = ["reference", "cpu"]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
WRONG: Any = "not an array"


def pair(backend: str = "cpu") -> tw.Session:
    """image (2,3,6,5), mask (2,3,6,5) → exp(image) * mask, and a convolution of image."""
    rng = np.random.default_rng(3)
    image, mask = (Input(name=name, shape=(2, 3, 6, 5)) for name in ("image", "mask"))
    masked = pointwise("mul", pointwise("exp", image), mask)
    blurred = Conv(image, Constant(rng.standard_normal((4, 3, 3, 3), np.float32)), pads=((1, 1), (1, 1)))
    return tw.compile(Graph((image, mask), (masked, blurred), ("masked", "blurred")), backend=backend)


def picture(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, 3, 6, 5)).astype(np.float32)


@each_backend
def test_names_positions_and_tuples(backend: str, rng: np.random.Generator) -> None:
    session, image, mask = pair(backend), picture(rng), picture(rng)
    by_name = session.run({"mask": mask, "image": image})
    assert list(by_name) == ["masked", "blurred"]
    np.testing.assert_allclose(by_name["masked"], np.exp(image) * mask, rtol=1e-5)
    by_position = session(image, mask)
    assert isinstance(by_position, tuple) and len(by_position) == 2
    for one, other in zip(by_position, by_name.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    alone = tw.compile(lenet5, backend=backend)(rng.random((1, 1, 28, 28), np.float32))
    assert isinstance(alone, np.ndarray) and alone.shape == (1, 10)


def unaligned(array: np.ndarray) -> np.ndarray:
    """The same numbers one byte off."""
    return np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)


STRIDES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Fortran order": np.asfortranarray,
    "backwards": lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=3)[..., ::2],
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "not aligned": unaligned,
}


@each_backend
@pytest.mark.parametrize("stride", STRIDES)
def test_inputs_of_any_strides(backend: str, stride: str, rng: np.random.Generator) -> None:
    session, image, mask = pair(backend), picture(rng), picture(rng)
    view = STRIDES[stride](image)
    np.testing.assert_array_equal(view, image)
    view.flags.writeable = False
    for one, other in zip(session(view, mask), session(image, mask), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("backend", [*BACKENDS, "onnxruntime"])
def test_scalars_go_in_and_come_out(backend: str) -> None:
    x, y = (Input(name=name, shape=()) for name in "xy")
    session = tw.compile(Graph((x, y), (pointwise("mul", x, y),), ("product",)), backend=backend)
    product = session(np.asarray(3, np.float32), np.asarray(0.5, np.float32))
    assert product.shape == () and product == 1.5


@each_backend
def test_broadcast_inputs_are_read_as_they_look(backend: str, rng: np.random.Generator) -> None:
    session, image = pair(backend), picture(rng)
    spread = np.broadcast_to(image[:1, :1], image.shape)
    np.testing.assert_array_equal(session(spread, image)[0], session(spread.copy(), image)[0])


@each_backend
def test_outputs_belong_to_the_caller(backend: str, rng: np.random.Generator) -> None:
    session, image, mask = pair(backend), picture(rng), picture(rng)
    kept = image.copy()
    first = session(image, mask)
    copies = [array.copy() for array in first]
    session(mask, image)
    for array, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert array.flags.owndata and array.flags.writeable and array.flags.c_contiguous
    np.testing.assert_array_equal(image, kept)


@each_backend
def test_outputs_that_are_no_computation_are_copies_too(backend: str, rng: np.random.Generator) -> None:
    x, constant = Input(name="x", shape=(3, 4)), Constant(rng.random((3, 4), np.float32))
    y = pointwise("exp", x)
    graph = Graph((x,), (x, constant, y, y, Reshape(y, shape=(12,))), ("same", "known", "one", "again", "flat"))
    given = rng.random((3, 4), np.float32)
    results = tw.compile(graph, backend=backend).run({"x": given})
    np.testing.assert_array_equal(results["same"], given)
    np.testing.assert_array_equal(results["known"], constant.data)
    np.testing.assert_array_equal(results["flat"].reshape(3, 4), results["one"])
    arrays = [given, constant.data, *results.values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


@each_backend
def test_out_is_filled(backend: str, rng: np.random.Generator) -> None:
    session, image, mask = pair(backend), picture(rng), picture(rng)
    expected = session.run({"image": image, "mask": mask})
    out = {name: np.full_like(array, np.nan) for name, array in reversed(expected.items())}
    found = session.run({"image": image, "mask": mask}, out=out)
    for name, array in expected.items():
        assert found[name] is out[name]
        np.testing.assert_array_equal(out[name], array)


@each_backend
def test_out_may_be_an_input(backend: str, rng: np.random.Generator) -> None:
    """The blurred picture needs the whole input, which the masked one overwrites."""
    session, image, mask = pair(backend), picture(rng), picture(rng)
    masked, blurred = session(image, mask)
    session.run({"image": image, "mask": mask}, out={"masked": image, "blurred": (found := np.empty_like(blurred))})
    np.testing.assert_array_equal(image, masked)
    np.testing.assert_array_equal(found, blurred)


def whole() -> np.ndarray:
    return np.zeros((2, 3, 6, 5), np.float32)


def frozen() -> np.ndarray:
    array = whole()
    array.flags.writeable = False
    return array


BLURRED = np.zeros((2, 4, 6, 5), np.float32)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ({"masked": whole()}, "missing or unknown: blurred"),
        ({"masked": whole(), "blurred": BLURRED, "sharp": BLURRED}, "missing or unknown: sharp"),
        ({"masked": whole().astype(np.float64), "blurred": BLURRED}, r"expected an array f32\[2,3,6,5\], got float64"),
        ({"masked": whole().T, "blurred": BLURRED}, r"got float32 \(5, 6, 3, 2\)"),
        ({"masked": np.asfortranarray(whole()), "blurred": BLURRED}, "writeable C-contiguous"),
        ({"masked": frozen(), "blurred": BLURRED}, "writeable C-contiguous"),
        ({"masked": whole().tolist(), "blurred": BLURRED}, "got list"),
        ({"masked": BLURRED.reshape(-1)[:180].reshape(2, 3, 6, 5), "blurred": BLURRED}, "masked and blurred overlap"),
    ],
)
def test_out_that_does_not_fit(out: dict[str, np.ndarray], said: str, rng: np.random.Generator) -> None:
    with pytest.raises(tw.ModelError, match=said):
        pair().run({"image": picture(rng), "mask": picture(rng)}, out=out)


INPUTS: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "missing": (lambda a: {"image": a}, r"missing input mask; the model takes image: f32\[2,3,6,5\], mask: f32"),
    "surplus": (lambda a: {"image": a, "mask": a, "extra": a}, "no input named extra"),
    "rank": (lambda a: {"image": a[0], "mask": a}, r"expected rank 4, got f32\[3,6,5\]; is the batch dimension missing"),
    "dtype": (lambda a: {"image": a.astype(np.float64), "mask": a}, "expected dtype float32, got float64"),
    "byte order": (lambda a: {"image": a.astype(">f4"), "mask": a}, "expected dtype float32, got >f4"),
    "shape": (lambda a: {"image": a[:1], "mask": a}, r"input image: f32\[2,3,6,5\]: got f32\[1,3,6,5\]"),
    "NHWC order": (lambda a: {"image": a.transpose(0, 2, 3, 1), "mask": a}, r"NHWC order, turn it with array.transpose\(0, 3, 1, 2\)"),
    "no mapping": (lambda a: [a, a], r"expected arrays by the names of the inputs \(image, mask\), got list"),
    "no array": (lambda a: {"image": [[1, 2], [3]], "mask": a}, "input image.*expected an array, got list"),
    "text": (lambda a: {"image": WRONG, "mask": a}, "expected dtype float32, got <U"),
}  # fmt: skip


@each_backend
@pytest.mark.parametrize("case", INPUTS)
def test_inputs_that_do_not_fit(backend: str, case: str, rng: np.random.Generator) -> None:
    make, said = INPUTS[case]
    with pytest.raises(tw.ModelError, match=said):
        pair(backend).run(make(picture(rng)))


def test_a_wrong_number_of_positions() -> None:
    session = pair()
    for call in (session, session.profile):
        with pytest.raises(tw.ModelError, match=r"one array for each input \(image, mask\), got 1"):
            call(whole())


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"threads": 0}, "threads=0: expected at least 1"),
    ({"threads": 1 << 20}, "threads=1048576: expected 1 to"),
    ({"accuracy": "sloppy"}, "expected one of fast, strict, exact"),
    ({"precision": "bfloat16"}, "precision='bfloat16'"),
    ({"target": "z80"}, "target='z80': expected native"),
    ({"passes": "fold_pad"}, "expected a list of names or functions"),
    ({"passes": ["fold_laundry"]}, "no 'fold_laundry' among the passes"),
    ({"shapes": {"picture": (1, 3, 32, 32)}}, "no input named picture"),
    ({"shapes": {"image": (1, 3, 32)}}, "expected rank 4"),
    ({"shapes": {"image": (1, 4, 32, 32)}}, r"got f32\[1,4,32,32\]"),
    ({"shapes": {"image": (1, 3, -32, 32)}}, "expected a tuple of sizes"),
    ({"shapes": {"image": "1x3x32x32"}}, "expected a tuple of sizes, got '1x3x32x32'"),
]


@pytest.mark.parametrize(("options", "said"), OPTIONS, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_options_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(tw.ModelError, match=said):
        tw.compile(resnet18, **{"shapes": {"image": (1, 3, 32, 32)}, **options})


def open_graph() -> bytes:
    """x (n, 3) → exp(x) as an ONNX model that leaves n open."""
    from onnx import parser

    return parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[n,3] x) => (float[n,3] y) { y = Exp (x) }'
    ).SerializeToString()


@each_backend
def test_open_dimensions_are_compiled_when_they_are_seen(backend: str, rng: np.random.Generator) -> None:
    session = tw.compile(open_graph(), backend=backend)
    with pytest.raises(tw.ModelError, match=r"the shapes of this model are open \(x: f32\[n,3\]\); run it once or give compile"):
        session.plan  # noqa: B018 - asking is the test
    for n in (4, 1, 0, 4):
        x = rng.random((n, 3), np.float32)
        np.testing.assert_allclose(session(x), np.exp(x), rtol=1e-6)
    assert session.graph.inputs[0].type.shape == (4, 3)
    given = tw.compile(open_graph(), backend=backend, shapes={"x": (7, 3)})
    assert given.graph.outputs[0].type.shape == (7, 3)


def test_plans_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    session = tw.compile(open_graph(), backend="reference")
    built: list[int] = []
    build = session._build
    monkeypatch.setattr(session, "_build", lambda graph, report: (built.append(graph().inputs[0].type.shape[0]), build(graph, report))[1])
    for n in [*range(1, MAX_PLANS + 1), 1, MAX_PLANS, MAX_PLANS + 1, 1, 2]:
        session(np.ones((n, 3), np.float32))
    assert built == [*range(1, MAX_PLANS + 2), 2], "1 was used last when 2 had to go"


@each_backend
def test_plan_graph_and_explanation_are_text_to_read(backend: str) -> None:
    session = tw.compile(lenet5, backend=backend)
    assert "conv1, tanh1" in session.plan and "conv1, tanh1" in str(session.graph)
    assert session.explain().startswith("unroll_recurrent: 0 rewrites")
    assert "fuse_activation: 4 rewrites" in session.explain()
    assert str(tw.load(lenet5)).startswith("graph lenet5(image: f32[1,1,28,28]):")


def test_the_plan_of_the_cpu_backend_names_kernels_threads_and_memory() -> None:
    plan = tw.compile(lenet5, threads=1, target="avx2").plan
    assert "vector conv [directconv] conv1, tanh1 : f32[1,6/8,28,28]" in plan
    assert "0 numba steps, 0 numpy steps; 1 threads; avx2" in plan and "arena " in plan and "constants " in plan


@each_backend
def test_profile_names_every_step(backend: str, rng: np.random.Generator) -> None:
    session = tw.compile(lenet5, backend=backend)
    profile = session.profile(rng.random((1, 1, 28, 28), np.float32), repeats=3)
    names = [name for name, _ in profile]
    assert all(0 < seconds < 5 for _, seconds in profile)
    for layer in ("conv1, tanh1", "average_pool2", "linear1, tanh3", "softmax1"):
        assert sum(layer in name for name in names) >= 1, names
    assert not any("constant" in name for name in names)
    if backend == "cpu":
        assert len(names) == sum(line[:4].strip().isdigit() for line in session.plan.splitlines())


def test_load_says_which_shapes_are_open() -> None:
    with pytest.raises(tw.ModelError, match=r"input x: f32\[n,3\] leaves dimensions open: give shapes="):
        tw.load(open_graph())
    assert tw.load(open_graph(), {"x": (5, 3)}).outputs[0].type.shape == (5, 3)
