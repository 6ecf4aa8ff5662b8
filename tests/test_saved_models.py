"""Compiled models as files: an opened session answers as the one that was saved, and whatever is wrong with a file is said in one line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.parser
import pytest
from command_line import Command, assert_wrong_input

import tilewright as tw
from tilewright.backends.cpu import image, pool, stored
from tilewright.engine import saved
from tilewright.engine.errors import MachineError, ModelError, UnsupportedError
from tilewright.engine.graph import Constant, Graph, Input
from tilewright.engine.ops import Conv, Gather, Reshape, pointwise
from tilewright.frontends.dsl import conv, flatten, linear, max_pool, model, relu, softmax

pytestmark = pytest.mark.skipif(not pool.HAS_WORKERS or sys.platform != "linux", reason="compiled models are for Linux")


@model(image=("batch=1", 3, 26, 22))
def small(image: Any) -> Any:
    """Direct and Winograd convolutions, a pool, a matrix product, softmax."""
    x = max_pool(relu(conv(image, 24, 3, pad=1)), 2)
    x = relu(conv(relu(conv(x, 32, 3, pad=1)), 40, 1))
    return softmax(linear(flatten(x), 10))


def picture(rng: np.random.Generator, batch: int = 1) -> np.ndarray:
    return rng.standard_normal((batch, 3, 26, 22)).astype(np.float32)


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    """`small`, saved."""
    path = tmp_path / "small.tw"
    tw.compile(small, threads=2).save(path)
    return path


def refused(path: Any, **options: Any) -> str:
    with pytest.raises((ModelError, MachineError)) as caught:
        tw.open(path, **options)
    message = str(caught.value)
    assert os.path.basename(str(path)) in message and "\n" not in message
    return message


def rewritten(path: pathlib.Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of a file and set everything else right, as another version of Tilewright would have written it."""
    content = path.read_bytes()
    _, header_size, code_size, total = saved.NUMBERS.unpack_from(content, len(saved.MAGIC))
    header = json.loads(content[saved.HEAD : saved.HEAD + header_size])
    change(header)
    text = json.dumps(header).encode()
    code = content[saved.HEAD + header_size :][:code_size]
    sizes = [-(-plan["constants"] // saved.PAGE) * saved.PAGE for plan in header["plans"]]
    constants = content[total - sum(sizes) :]
    front = -(-(saved.HEAD + len(text) + code_size) // saved.PAGE) * saved.PAGE
    numbers = saved.NUMBERS.pack(saved.FORMAT, len(text), code_size, front + len(constants))
    digest = hashlib.sha256(numbers + text + code).digest()
    path.write_bytes((saved.MAGIC + numbers + digest + text + code).ljust(front, b"\0") + constants)


def test_an_opened_session_is_like_the_one_saved(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    session = tw.compile(small, threads=2)
    session.save(tmp_path / "small.tw")
    again = tw.open(tmp_path / "small.tw", verify=True)
    x = picture(rng)
    np.testing.assert_array_equal(again(x), session(x))
    assert again.plan == session.plan and again.explain() == session.explain()
    out = {"output": np.full((1, 10), np.nan, np.float32)}
    assert again.run({"image": x}, out=out)["output"] is out["output"]
    np.testing.assert_array_equal(out["output"], session(x))
    assert [label for label, _ in again.profile(x, repeats=2)] == [label for label, _ in session.profile(x, repeats=2)]
    for wrong in (x[0], x.astype(np.float64), x.transpose(0, 2, 3, 1)):
        messages = set()
        for either in (session, again):
            with pytest.raises(ModelError) as caught:
                either(wrong)
            messages.add(str(caught.value))
        assert len(messages) == 1
    with pytest.raises(ModelError, match="has no graph"):
        _ = again.graph


def test_nothing_heavy_is_imported_to_open_and_run(file: pathlib.Path, rng: np.random.Generator) -> None:
    x = picture(rng)
    np.save(file.parent / "x.npy", x)
    code = """
import sys, numpy as np, tilewright as tw
y = tw.open(sys.argv[1])(np.load(sys.argv[2]))
np.save(sys.argv[3], y)
print(*sys.modules)
"""
    paths = [str(file), str(file.parent / "x.npy"), str(file.parent / "y.npy")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TILEWRIGHT_CACHE_DIR": "off"}
    done = subprocess.run([sys.executable, "-c", code, *paths], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not {"onnx", "numba", "llvmlite"} & set(done.stdout.split())
    np.testing.assert_array_equal(np.load(paths[2]), tw.compile(small, threads=2)(x))


def test_several_threads_at_once(file: pathlib.Path, rng: np.random.Generator) -> None:
    session = tw.open(file)
    inputs = [picture(rng) for _ in range(4)]
    expected = [session(x) for x in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(30):
            if not np.array_equal(session(inputs[index]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_all_shapes_compiled_so_far_and_no_others(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    session = tw.compile(small)
    session(picture(rng, 3))
    session.save(tmp_path / "small.tw")
    again = tw.open(tmp_path / "small.tw")
    for batch in (3, 1):
        x = picture(rng, batch)
        np.testing.assert_array_equal(again(x), session(x))
    with pytest.raises(ModelError, match=r"saved for image=\(1,3,26,22\); image=\(3,3,26,22\), got image=\(2,3,26,22\)"):
        again(picture(rng, 2))


def test_outputs_that_are_inputs_constants_and_parts(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    x = Input(name="x", shape=(1, 32, 6, 5))
    weight, constant = (Constant(rng.standard_normal(shape).astype(np.float32)) for shape in ((48, 32, 1, 1), (20_000, 3)))
    y = Conv(x, weight, None)
    outputs = (x, constant, y, pointwise("tanh", y), Reshape(y, shape=(48, 30)), Reshape(constant, shape=(60_000,)))
    session = tw.compile(Graph((x,), outputs, tuple("abcdef")), passes=[])
    session.save(tmp_path / "parts.tw")
    given = {"x": rng.standard_normal((1, 32, 6, 5)).astype(np.float32)}
    expected, actual = session.run(given), tw.open(tmp_path / "parts.tw", verify=True).run(given)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value)


def test_nothing_to_save(tmp_path: pathlib.Path) -> None:
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[n,3] x) => (float[n,3] y) { y = Exp (x) }'
    open_shapes = onnx.parser.parse_model(text)
    with pytest.raises(ModelError, match=r"nothing to save yet.*run it once or give compile\(shapes"):
        tw.compile(open_shapes).save(tmp_path / "open.tw")
    with pytest.raises(UnsupportedError, match="cpu backend"):
        tw.compile(small, backend="reference").save(tmp_path / "reference.tw")
    assert not list(tmp_path.iterdir())


def test_a_plan_that_falls_back(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tilewright.backends.cpu import kernel

    x = Input(name="x", shape=(4, 3))
    graph = Graph((x,), (pointwise("tanh", Gather(x, Constant(np.array([2, 0])), axis=0)),), ("y",))
    monkeypatch.setitem(kernel.LOWERINGS, Gather, [])
    with pytest.raises(UnsupportedError, match=r"NumPy cannot be saved:\n.*gather"):
        tw.compile(graph, passes=[]).save(tmp_path / "gather.tw")
    assert not list(tmp_path.iterdir())


def test_not_a_compiled_model(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello " * 50)
    assert "empty" in refused(tmp_path / "empty")
    assert "no compiled model" in refused(tmp_path / "text")
    assert "there is no file" in refused(tmp_path / "gone")
    assert "is a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe") and not saved.is_saved(tmp_path / "pipe")


def test_cut_off(file: pathlib.Path) -> None:
    content = file.read_bytes()
    for size in (5, 16, 40, 79, 80, 200, 5000, len(content) // 2, len(content) - 4096, len(content) - 1):
        file.write_bytes(content[:size])
        assert "cut off" in refused(file) or size < len(saved.MAGIC)
    file.write_bytes(content + b"\0")
    assert "expected" in refused(file)


def test_flipped_bits(file: pathlib.Path, rng: np.random.Generator) -> None:
    """Everywhere before the constants they are found before anything is run, in the constants when asked for."""
    content = file.read_bytes()
    _, header, code, _ = saved.NUMBERS.unpack_from(content, len(saved.MAGIC))
    checked = saved.HEAD + header + code
    for position in [*range(0, saved.HEAD, 7), *rng.integers(saved.HEAD, checked, 60).tolist(), checked - 1]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        refused(file)
    damaged = bytearray(content)
    damaged[-4096] ^= 4
    file.write_bytes(damaged)
    tw.open(file)
    assert "checksum of its constants" in refused(file, verify=True)


def test_other_versions_and_processors(file: pathlib.Path) -> None:
    content = file.read_bytes()
    rewritten(file, lambda header: None)
    tw.open(file)
    rewritten(file, lambda header: header.update(tilewright="0.0.7"))
    assert "Tilewright 0.0.7 made it" in refused(file)
    numbers = list(saved.NUMBERS.unpack_from(content, len(saved.MAGIC)))
    numbers[0] += 1
    file.write_bytes(saved.MAGIC + saved.NUMBERS.pack(*numbers) + content[48:])
    assert "expected format 1, got 2" in refused(file)
    file.write_bytes(content)
    rewritten(file, lambda header: header["plans"][0]["plan"].update(abi=-1))
    with pytest.raises(ModelError, match="of the run-time, got -1"):
        tw.open(file)
    file.write_bytes(content)
    rewritten(file, lambda header: header["plans"][0]["plan"]["needs"].append("avx8192"))
    with pytest.raises(MachineError, match="another processor: this one lacks avx8192"):
        tw.open(file)


def test_what_the_processor_can_do(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name\t: X\nflags\t\t: fpu hypervisor avx2 avx512_bf16 pni\nbugs\t: y\n")
    assert stored.instructions(tmp_path / "cpuinfo") == {"avx2", "avx512_bf16", "pni"}
    assert "fma" in stored.instructions()
    for text in ("", "Features : asimd\n"):
        (tmp_path / "cpuinfo").write_text(text)
        with pytest.raises(MachineError, match="for Linux on x86-64"):
            stored.instructions(tmp_path / "cpuinfo")


def test_a_model_for_an_older_processor_needs_no_more(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    session = tw.compile(small, target="avx2", threads=1)
    session.save(tmp_path / "small.tw")
    with saved.SavedFile(tmp_path / "small.tw") as opened:
        needs = opened.plans[0]["plan"]["needs"]
    assert "avx2" in needs and not any(flag.startswith(("avx512", "amx")) for flag in needs)
    x = picture(rng)
    np.testing.assert_array_equal(tw.open(tmp_path / "small.tw")(x), session(x))


def test_a_file_that_cannot_be_written_leaves_what_was_there(file: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, before = tw.compile(small, threads=1), file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(MachineError, match="No space left"):
            session.save(file)
    with pytest.raises(MachineError, match="cannot write"):
        session.save(file.parent / "gone" / "small.tw")
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]
    session.save(file)
    assert file.read_bytes() != before and tw.open(file).plan == session.plan


def test_linking_refuses_what_it_does_not_know() -> None:
    with pytest.raises(MachineError, match="ELF for x86-64"):
        image.link([b"\x7fELF\x02\x01\x01" + bytes(80)], [])
    with pytest.raises(tw.CompilerBug, match="expected the functions nobody"):
        image.link([], ["nobody"])


def test_commands_take_compiled_models(cli: Command, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "lenet5.tw"
    assert cli("compile", "lenet5", "-o", path, "--threads", 2, "--accuracy", "exact") == (0, "", "")
    fresh = cli("run", "lenet5", "--random", "--threads", 2, "--accuracy", "exact")
    assert cli("run", path, "--random", "--verify") == fresh and fresh.code == 0
    assert "2 threads" in cli("show", path).out and "fuse_activation" in cli("show", path, "--explain").out
    assert "conv" in cli("profile", path, "--repeat", 1).out
    assert_wrong_input(cli("run", path, "--random", "--threads", 1), "--threads can be given to `tilewright compile` only")
    assert_wrong_input(cli("compile", path, "-o", path), "is compiled already")
    assert_wrong_input(cli("export", path, tmp_path / "y.onnx"), "is compiled already")
    assert_wrong_input(cli("compile", "lenet5", "-o", "lenet5"), "ends in .tw")
