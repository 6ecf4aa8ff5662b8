"""What the ONNX frontend refuses: damaged files, data outside the model's folder, contradictions, and what we do not have yet."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import compiled, model_of, parsed

from tilewright import ModelError, TilewrightError, UnsupportedError
from tilewright.frontends.onnx import onnx as load_onnx

Random = np.random.Generator
Change = Callable[[onnx.ModelProto], Any]


def valid() -> onnx.ModelProto:
    """x (2,3) → y = relu(x @ w + b), fit to be damaged."""
    weights = {"w": np.arange(12, dtype="f4").reshape(3, 4), "b": np.ones(4, "f4")}
    return parsed("main (float[2,3] x) => (float[2,4] y) { p = MatMul (x, w) s = Add (p, b) y = Relu (s) }", weights)


def refused(model: Any, kind: type[TilewrightError] = ModelError) -> str:
    """The message of the error that importing the model for its declared shapes gives: one line."""
    with pytest.raises(kind) as caught:
        source = load_onnx(model)
        source.graph({s.name: tuple(d if isinstance(d, int) else 2 for d in s.shape) for s in source.inputs}, {})
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    assert str(tmp_path / "nothing.onnx") in refused(tmp_path / "nothing.onnx")
    assert "is a folder" in refused(tmp_path)
    assert "NoneType" in refused(None)
    assert "NUL" in refused("a\0b") or "null" in refused("a\0b")


FILES = {"empty": b"", "text": b"# A model\nIt is a good one.\n", "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
         "picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "zeros": bytes(100)}  # fmt: skip


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_files_of_another_kind(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    message = refused(path)
    assert str(path) in message
    assert ("git lfs pull" in message) == content.startswith(b"version")
    assert ("empty" in message) == (not content)


def test_a_file_cut_off_anywhere() -> None:
    data = valid().SerializeToString()
    load_onnx(data)
    for length in range(len(data)):
        refused(data[:length])


def test_random_bytes(rng: Random) -> None:
    for length in rng.integers(1, 400, 300):
        refused(rng.bytes(int(length)))


def test_damaged_bytes_never_crash(rng: Random) -> None:
    data = valid().SerializeToString()
    for _ in range(400):
        damaged = bytearray(data)
        damaged[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            compiled(bytes(damaged))
        except TilewrightError as error:
            assert "\n" not in str(error)


def drop_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


CONTRADICTIONS: dict[str, tuple[Change, str]] = {
    "no opset": (drop_opset, "opset"),
    "no outputs": (lambda m: m.graph.ClearField("output"), "no graph with outputs"),
    "an output from nowhere": (lambda m: setattr(m.graph.output[0], "name", "other"), "output 'other'"),
    "a value from nowhere": (lambda m: m.graph.node[2].input.__setitem__(0, "lost"), "node 'y' (Relu): it reads 'lost'"),
    "two producers": (lambda m: m.graph.node[0].output.__setitem__(0, "s"), "both produce 's'"),
    "a cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "y"), "depends on itself"),
    "two outputs of one name": (lambda m: m.graph.output.append(m.graph.output[0]), "two outputs of the model are named y"),
    "a missing operand": (lambda m: m.graph.node[1].input.pop(), "node 's' (Add): expected at least 2 inputs"),
    "shapes that do not fit": (lambda m: m.graph.node[0].input.reverse(), "node 'p' (MatMul)"),
    "a weight with too few bytes": (lambda m: setattr(m.graph.initializer[0], "raw_data", b"123"), "tensor 'w': expected 48 bytes"),
    "a weight of negative extent": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -3), "tensor 'w' has the shape (-3, 4)"),
    "an attribute of another type": (lambda m: retype(m, "LeakyRelu", alpha="much"), "expected attribute alpha to be of type"),
    "an axis out of range": (lambda m: retype(m, "Softmax", axis=2), "expected an axis from -2 to 1, got 2"),
}


def retype(model: onnx.ModelProto, op: str, **attributes: Any) -> None:
    """The last node as another operator."""
    model.graph.node[2].CopyFrom(helper.make_node(op, ["s"], ["y"], name="last", **attributes))


@pytest.mark.parametrize(("change", "expected"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_models_that_contradict_themselves(change: Change, expected: str) -> None:
    model = valid()
    change(model)
    assert expected in refused(model)


def test_all_unsupported_operators_are_told_at_once() -> None:
    model = parsed(
        """main (float[1,4,6] x) => (float[1,4,6] a, float[1,4,6] b, float[1,4,6] e) {
        [grid_1] a = GridSample (x, x)
        [grid_2] b = GridSample (x, x)
        [custom] c = com.example.FancyOp (x)
        d = Relu (c)
        e = Loop (d) <body = g () => () {}>
        }"""
    )
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    message = refused(model, UnsupportedError)
    for part in ("GridSample (nodes 'grid_1', 'grid_2')", "com.example.FancyOp (node 'custom')", "Loop (node 'e': it repeats a subgraph)"):
        assert part in message
    assert "frontends/onnx/ops_*.py" in message
    assert "Relu" not in message


UNSUPPORTED: dict[str, tuple[Change, str]] = {
    "shape from data": (lambda m: retype(m, "NonZero"), "NonZero (node 'last': the shape of its result depends on data)"),
    "attribute value": (lambda m: retype(m, "Gelu", approximate="sine"), "Gelu (node 'last': approximate='sine')"),
    "cast to text": (lambda m: retype(m, "Cast", to=TensorProto.STRING), "Cast (node 'last': the result has elements of type string)"),
    "text constant": (lambda m: retype_constant(m, value_string="hello"), "Constant (node 'last'"),
    "sparse constant": (lambda m: retype_constant(m, sparse_value=sparse()), "has sparse_value"),
    "text weight": (lambda m: m.graph.initializer[1].CopyFrom(text_tensor()), "tensor 'b' has elements of type string"),
    "bfloat16 weight": (lambda m: setattr(m.graph.initializer[1], "data_type", TensorProto.BFLOAT16), "elements of type bfloat16"),
    "sparse weight": (lambda m: sparse_weight(m), "'b' is sparse"),
    "text input": (lambda m: set_input_type(m, TensorProto.STRING), "input 'x' has elements of type string"),
    "input without rank": (lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"), "input 'x' declares no rank"),
    "sequence input": (lambda m: m.graph.input[0].type.sequence_type.elem_type.SetInParent(), "input 'x' is a sequence_type"),
    "old opset": (lambda m: setattr(m.opset_import[0], "version", 6), "opset 6"),
    "opset from the future": (lambda m: setattr(m.opset_import[0], "version", 999), "opset 999"),
}  # fmt: skip


def retype_constant(model: onnx.ModelProto, **attributes: Any) -> None:
    model.graph.node[2].CopyFrom(helper.make_node("Constant", [], ["y"], name="last", **attributes))


def sparse() -> onnx.SparseTensorProto:
    values = helper.make_tensor("b", TensorProto.FLOAT, [1], [5.0])
    return helper.make_sparse_tensor(values, helper.make_tensor("indices", TensorProto.INT64, [1], [2]), [4])


def text_tensor() -> TensorProto:
    return TensorProto(name="b", data_type=TensorProto.STRING, dims=[1], string_data=[b"text"])


def sparse_weight(model: onnx.ModelProto) -> None:
    del model.graph.initializer[1]
    model.graph.sparse_initializer.append(sparse())


def set_input_type(model: onnx.ModelProto, code: int) -> None:
    model.graph.input[0].type.tensor_type.elem_type = code


@pytest.mark.parametrize(("change", "expected"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_what_we_do_not_have(change: Change, expected: str) -> None:
    model = valid()
    change(model)
    assert expected in refused(model, UnsupportedError)


def test_problems_of_several_nodes_are_told_together() -> None:
    model = parsed(
        """main (float[2,3] x) => (float[2,3] a, float[2,3] b, int64[2,n] c) {
        [wavy] a = Gelu <approximate="sine"> (x)
        [later] b = Relu (a)
        [where] c = NonZero (x)
        }""",
        opset=20,
    )
    message = refused(model, UnsupportedError)
    assert "'wavy'" in message and "'where'" in message
    assert "'later'" not in message


def test_if_whose_condition_depends_on_data() -> None:
    model = parsed(
        """main (float[2,3] x) => (float[2,3] y) {
        m = ReduceMax <keepdims=0> (x)
        c = Cast <to=9> (m)
        [choice] y = If (c) <then_branch = yes () => (float[2,3] a) { a = Relu (x) }, else_branch = no () => (float[2,3] b) { b = Neg (x) }>
        }"""
    )
    message = refused(model, UnsupportedError)
    assert "'choice'" in message and "input x" in message


def test_a_function_that_calls_itself() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 17, "mine" : 1]>\nmain (float[2] x) => (float[2] y) { y = mine.f (x) }\n'
        '<domain: "mine", opset_import: ["" : 17, "mine" : 1]>\nf (v) => (out) { out = mine.f (v) }'
    )
    assert "does one call itself" in refused(model)


def external(location: str, **entries: Any) -> onnx.ModelProto:
    """The valid model with `w` kept in a file."""
    model = valid()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def refused_external(folder: Path, location: str, **entries: Any) -> str:
    onnx.save(external(location, **entries), folder / "model.onnx")
    return refused(folder / "model.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with data in it, and a secret beside it."""
    data = np.arange(12, dtype="f4").tobytes()
    (tmp_path / "secret.bin").write_bytes(data)
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "w.bin").write_bytes(data)
    return folder


def test_external_data_is_read(folder: Path) -> None:
    onnx.save(external("w.bin"), folder / "model.onnx")
    x = np.ones((2, 3), "f4")
    np.testing.assert_array_equal(compiled(folder / "model.onnx")(x), compiled(valid())(x))


def test_missing_external_data(folder: Path) -> None:
    message = refused_external(folder, "gone.bin")
    assert "tensor 'w'" in message and "gone.bin" in message


def test_external_data_outside_the_folder(folder: Path) -> None:
    os.symlink(folder.parent / "secret.bin", folder / "link.bin")
    os.symlink(folder.parent, folder / "up")
    os.symlink("loop.bin", folder / "loop.bin")
    secret = folder.parent / "secret.bin"
    escapes = [str(secret), "../secret.bin", "inner/../../secret.bin", "link.bin", "up/secret.bin", "..\\secret.bin", "C:\\w.bin", "", "."]
    for location in escapes:
        message = refused_external(folder, location)
        assert "tensor 'w'" in message and "refused" in message, location
    for location in ("loop.bin", "w.bin\0", "inner"):
        assert "tensor 'w'" in refused_external(folder, location)


def test_external_data_that_does_not_fit(folder: Path) -> None:
    numbers = [("offset", 4), ("length", 44), ("length", 52), ("offset", -4), ("offset", "x"), ("length", 1 << 40), ("offset", 1 << 70)]
    for key, number in numbers:
        assert "tensor 'w'" in refused_external(folder, "w.bin", **{key: number}), (key, number)


def test_external_data_without_a_folder(folder: Path) -> None:
    for model in (external("w.bin"), external("w.bin").SerializeToString()):
        assert "give the model as a path" in refused(model)


def test_input_shapes_that_the_model_does_not_have() -> None:
    source = load_onnx(valid())
    for shape in ((2, 4), (2, 3, 1), (2,)):
        with pytest.raises(ModelError, match=r"input x: f32\[2,3\] cannot have the shape"):
            source.graph({"x": shape}, {})


def test_names_cannot_break_the_line() -> None:
    model = model_of(
        helper.make_graph(
            [helper.make_node("No\x1b[31msuch\nOp", ["x"], ["y"], name="evil\r\nname")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        )
    )
    assert refused(model, UnsupportedError).isprintable()
