"""Large weights are read from the file straight into arrays, and neither the file nor these arrays are needed afterwards."""

from __future__ import annotations

import io
import pathlib
import weakref
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tilewright as tw
from tilewright.backends.cpu.executable import NativeExecutable
from tilewright.engine.graph import Constant
from tilewright.frontends.onnx import onnx as load_onnx
from tilewright.frontends.onnx import parse
from tilewright.frontends.onnx.skeleton import LARGE, skeleton

WIDTH = 48


def network(rng: np.random.Generator, batch: int | str = 3) -> onnx.ModelProto:
    """Three products: with raw data, with the same as floats, and with a Constant node; a small bias."""
    arrays = {name: rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) for name in ("raw", "floats", "node")}
    floats = helper.make_tensor("floats", TensorProto.FLOAT, (WIDTH, WIDTH), arrays["floats"].ravel())
    bias = numpy_helper.from_array(rng.standard_normal(WIDTH).astype(np.float32), "bias")
    nodes = [
        helper.make_node("MatMul", ["x", "raw"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "floats"], ["c"]),
        helper.make_node("Constant", [], ["node"], value=numpy_helper.from_array(arrays["node"])),
        helper.make_node("MatMul", ["c", "node"], ["d"]),
        helper.make_node("Add", ["d", "bias"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, WIDTH]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(arrays["raw"], "raw"), floats, bias])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def skeleton_of(content: bytes) -> bytes | None:
    return skeleton(io.BytesIO(content), len(content))


def test_only_large_raw_data_is_left_out(rng: np.random.Generator) -> None:
    model = network(rng)
    content = model.SerializeToString()
    found = onnx.ModelProto.FromString(skeleton_of(content) or b"")
    left_out, *others = found.graph.initializer
    places = {entry.key: int(entry.value) for entry in left_out.external_data}
    assert left_out.data_location == TensorProto.EXTERNAL and not left_out.raw_data
    assert content[places["offset"] :][: places["length"]] == model.graph.initializer[0].raw_data and places["length"] > LARGE
    assert others == list(model.graph.initializer[1:])
    for proto in (found, model):
        del proto.graph.initializer[0]
    assert found == model


def test_the_same_answers_as_from_bytes(rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    """Also through a symbolic link that leads out of its folder, as caches of downloads have them."""
    model = network(rng)
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "link.onnx").symlink_to(tmp_path / "model.onnx")
    x = rng.standard_normal((3, WIDTH)).astype(np.float32)
    expected = tw.compile(model.SerializeToString())(x)
    for path in (tmp_path / "model.onnx", tmp_path / "links" / "link.onnx"):
        np.testing.assert_array_equal(tw.compile(path)(x), expected)


def test_damaged_files_are_left_to_protobuf(rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    content = network(rng).SerializeToString()
    for size in rng.integers(1, len(content), 40).tolist():
        cut = content[:size]
        found = skeleton_of(cut)
        assert found is None or len(found) <= size
        (tmp_path / "cut.onnx").write_bytes(cut)
        with pytest.raises(tw.ModelError):
            tw.compile(tmp_path / "cut.onnx")
    assert skeleton_of(b"\x0f" + content) is None, "a wire type that does not exist"
    assert skeleton_of(b"\xff" * 12) is None, "a number without an end"
    tensor = network(rng).graph.initializer[0].SerializeToString()
    twice = helper.make_model(helper.make_graph([], "g", [], []))
    merged = twice.SerializeToString() + b"\x3a" + _sized(b"\x2a" + _sized(tensor + b"\x4a" + _sized(bytes(2 * LARGE))))
    assert skeleton_of(merged) is None, "raw data twice"


def _sized(content: bytes) -> bytes:
    size, written = len(content), bytearray()
    while size > 127:
        written.append(size & 127 | 128)
        size >>= 7
    return bytes([*written, size]) + content


def test_the_file_may_change_and_go(rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    for change in (lambda path: path.write_bytes(b""), lambda path: path.unlink()):
        path = tmp_path / "model.onnx"
        model = network(rng, "n")
        onnx.save(model, path)
        session, again = tw.compile(path), tw.compile(model)
        change(path)
        for batch in (2, 5):
            x = rng.standard_normal((batch, WIDTH)).astype(np.float32)
            np.testing.assert_array_equal(session(x), again(x))


def test_weights_go_when_they_are_packed(rng: np.random.Generator, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(network(rng), tmp_path / "model.onnx")
    read, lowered = parse.read_tensor, NativeExecutable._lowered
    alive: list[weakref.ref[np.ndarray]] = []
    counts: list[int] = []

    def watched(*arguments: Any) -> np.ndarray:
        array = read(*arguments)
        alive.extend([weakref.ref(array)] if array.nbytes > LARGE else [])
        return array

    def counted(self: NativeExecutable, node: Any) -> Any:
        counts.append(sum(reference() is not None for reference in alive))
        return lowered(self, node)

    monkeypatch.setattr(parse, "read_tensor", watched)
    monkeypatch.setattr(NativeExecutable, "_lowered", counted)
    session = tw.compile(tmp_path / "model.onnx", passes=[])
    assert len(alive) == 3 and counts[:3] == [3, 2, 1], "the products come first, and each gives up its weight"
    assert not any(reference() is not None for reference in alive)
    large = [node for node in session.graph if isinstance(node, Constant) and node.type.nbytes > LARGE]
    assert len(large) == 3 and "f32[48,48]" in str(session.graph)
    with pytest.raises(tw.ModelError, match=r"given up when it was packed; `tilewright.load` gives"):
        _ = large[0].data


def test_graphs_of_the_user_keep_their_weights(rng: np.random.Generator, tmp_path: pathlib.Path) -> None:
    onnx.save(network(rng), tmp_path / "model.onnx")
    source, graph = load_onnx(tmp_path / "model.onnx"), tw.load(tmp_path / "model.onnx")
    x = rng.standard_normal((3, WIDTH)).astype(np.float32)
    expected = tw.compile(network(np.random.default_rng(20240229)))(x)
    for model in (source, graph, graph, source):
        np.testing.assert_array_equal(tw.compile(model)(x), expected)
        np.testing.assert_allclose(tw.compile(model, backend="reference")(x), expected, rtol=1e-4, atol=1e-4)
