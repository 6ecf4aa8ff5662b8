"""The cache of objects: nothing is compiled twice, and nothing damaged, foreign or outdated is ever loaded."""

from __future__ import annotations

import errno
import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from runtime_kernels import AGAIN, NEIGHBOURS, ROOT, TextKernel, again_works, empty_cache, forget, run_script

from tilewright.backends.common import object_cache
from tilewright.backends.common.object_cache import MAGIC, ObjectCache
from tilewright.backends.cpu import codegen
from tilewright.backends.cpu.target import Target
from tilewright.engine.errors import MachineWarning
from tilewright.engine.knobs import knobs


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty cache folder, and no kernel known to this process."""
    return empty_cache(tmp_path, monkeypatch)


def test_a_second_process_does_not_compile(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again_works()
    assert {p.suffix for p in folder.iterdir()} == {".o"}
    forget(monkeypatch)
    monkeypatch.setattr(codegen, "compile_module", None)
    again_works()


DAMAGES = {
    "empty": lambda content, _: b"",
    "half": lambda content, _: content[: len(content) // 2],
    "last byte": lambda content, _: content[:-1],
    "head only": lambda content, _: content[: len(MAGIC) + 32],
    "longer": lambda content, _: content + b"\0",
    "zeroed": lambda content, _: content[:64] + bytes(len(content) - 64),
    "garbage": lambda content, rng: rng.bytes(len(content)),
    "garbage with magic": lambda content, rng: MAGIC + rng.bytes(3000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_compiled_again(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    AGAIN.address()
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.write_bytes(DAMAGES[damage](content, rng))
    forget(monkeypatch)
    with knobs(debug=1), warnings.catch_warnings():
        warnings.simplefilter("error")
        again_works()
    assert path.read_bytes() == content, "the damaged file is replaced"
    assert f"damaged cache file {path}" in capsys.readouterr().out


def test_any_flipped_bit_is_noticed(folder: pathlib.Path, rng: np.random.Generator) -> None:
    AGAIN.address()
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    cache = ObjectCache(folder)
    key = key_of(AGAIN)
    assert cache.get(key) is not None
    for position in rng.integers(0, 8 * len(content), 300):
        content[position // 8] ^= 1 << position % 8
        path.write_bytes(content)
        assert cache.get(key) is None, position
        content[position // 8] ^= 1 << position % 8


def key_of(kernel: TextKernel) -> str:
    """The key that a kernel's object is stored under."""
    keys: list[str] = []

    class Spy(ObjectCache):
        def get(self, key: str) -> bytes | None:
            keys.append(key)
            return b"found"

    spy = Spy(pathlib.Path("nowhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codegen, "open_cache", lambda: spy)
        assert codegen.object_code(kernel, Target.native()) == b"found"
    return keys[0]


def test_the_key_covers_kernel_target_sources_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key_of(AGAIN), key_of(NEIGHBOURS)}
    monkeypatch.setattr(codegen, "ABI_VERSION", 99)
    keys.add(key_of(AGAIN))
    monkeypatch.setattr(codegen, "source_stamp", lambda: "other sources")
    keys.add(key_of(AGAIN))
    assert len(keys) == 4
    assert Target.native().key in key_of(AGAIN)


def test_the_stamp_changes_with_any_emitter(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("backends/cpu/codegen.py", "backends/cpu/deep/extra.py", "backends/common/shared.py", "engine/expression.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(codegen, "__file__", str(tmp_path / "backends/cpu/codegen.py"))
    stamps = {codegen.source_stamp.__wrapped__()}
    for i, path in enumerate(sorted(tmp_path.rglob("*.py"))):
        path.write_text("two")
        stamps.add(codegen.source_stamp.__wrapped__())
        assert len(stamps) == i + 2, path


def test_an_object_under_another_key_is_not_taken(tmp_path: pathlib.Path) -> None:
    """Say one for another processor, in a file that was renamed."""
    cache = ObjectCache(tmp_path)
    cache.put("kernel on znver4", b"code")
    os.rename(cache.path("kernel on znver4"), cache.path("kernel on haswell"))
    assert cache.get("kernel on haswell") is None


def test_a_folder_that_cannot_be_made_costs_one_warning(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TILEWRIGHT_CACHE_DIR", str(tmp_path / "file" / "cache"))
    forget(monkeypatch)
    with pytest.warns(MachineWarning, match="cannot keep compiled kernels in .*cache.*TILEWRIGHT_CACHE_DIR") as said:
        again_works()
        NEIGHBOURS.address()
    assert len(said) == 1


@pytest.mark.parametrize("call", ["write", "replace", "mkdir"])
def test_a_disk_that_refuses_costs_one_warning(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    full = pathlib.Path("/dev/full").open("wb")  # noqa: SIM115 - closed by the cache

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "mkdir":
        monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    elif call == "replace":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        monkeypatch.setattr(object_cache, "open", lambda *_: full, raising=False)
    with pytest.warns(MachineWarning, match="No space left") as said:
        again_works()
        NEIGHBOURS.address()
    assert len(said) == 1
    assert not list(folder.glob("*")) or call == "mkdir", "nothing half written stays"


@pytest.mark.skipif(sys.platform != "linux", reason="gives up root")
def test_a_folder_without_permission_is_read_but_not_written() -> None:
    body = """
import os, pathlib, shutil, tempfile, warnings
place = pathlib.Path(tempfile.mkdtemp())
os.environ["TILEWRIGHT_CACHE_DIR"] = str(place)
from runtime_kernels import again_works, empty_cache, forget, AGAIN, NEIGHBOURS
from tilewright.backends.cpu import codegen
AGAIN.address()
for path in place.iterdir():
    path.chmod(0o444)
place.chmod(0o555)
user = os.geteuid()
if user == 0:
    os.seteuid(65534)
codegen._addresses.clear()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    AGAIN.address()
    assert not said, said[0].message
    NEIGHBOURS.address()
    codegen._addresses.clear()
    NEIGHBOURS.address()
assert [w.category.__name__ for w in said] == ["MachineWarning"] and "Permission denied" in str(said[0].message), said
os.seteuid(user)
place.chmod(0o755)
shutil.rmtree(place)
print("done")
"""
    assert run_script(body) == "done\n"


def test_off_keeps_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)
    with knobs(cache_dir="off"):
        again_works()
    assert list(tmp_path.iterdir()) == []


def test_several_processes_fill_one_folder(folder: pathlib.Path) -> None:
    body = """
import numpy as np
from runtime_kernels import again_works, empty_cache, forget, RandomProgram
rng = np.random.default_rng(4)
for _ in range(5):
    RandomProgram(rng, 2).check(rng)
"""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    command = [sys.executable, "-W", "error", "-c", body]
    running = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert {p.suffix for p in folder.iterdir()} == {".o"} and len(list(folder.iterdir())) == 3


def test_the_folder_stays_bounded(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    """What was used last stays; what an interrupted writer left goes."""
    left = tmp_path / "interrupted.new"
    left.write_bytes(b"half")
    os.utime(left, (1, 1))
    (tmp_path / "notes.txt").write_text("not ours")
    cache = ObjectCache(tmp_path, limit=100_000)
    payload = rng.bytes(1000)
    for i in range(300):
        cache.put(str(i), payload)
        os.utime(cache.path(str(i)), (10_000 + i, 10_000 + i))
        assert sum(p.stat().st_size for p in tmp_path.glob("*.o")) <= 115_000
    assert cache.get("299") == payload and cache.get("0") is None
    assert not left.exists() and (tmp_path / "notes.txt").exists()


def test_what_is_used_counts_as_new(tmp_path: pathlib.Path, rng: np.random.Generator) -> None:
    cache = ObjectCache(tmp_path, limit=10_000)
    for i in range(12):
        cache._replace(cache.path(str(i)), MAGIC + object_cache.digest(str(i), b"x" * 1000) + b"x" * 1000)
        os.utime(cache.path(str(i)), (1000 + i, 1000 + i))
    assert cache.get("0") is not None
    cache.prune()
    assert cache.get("0") is not None and cache.get("1") is None and cache.get("11") is not None
