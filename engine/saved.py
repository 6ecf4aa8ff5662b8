"""A compiled model as one file, checked before anything of it is used.

    bytes 0..16   MAGIC
    16..48        u64 each: FORMAT, bytes of the header, bytes of the code, bytes of the file
    48..80        sha256 of bytes 16..48, header and code
    80..          header (JSON), code; from the next page on the constants, those of each plan from a page on

Opening checks the digest and the length of the file; with `verify` also the digests of the constants, which the header holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Mapping, Sequence
from typing import IO, Any, BinaryIO

import numpy as np

from .backend import Stored
from .errors import MachineError, ModelError

MAGIC = b"TILEWRIGHT MODEL"
FORMAT = 1
NUMBERS = struct.Struct("<4Q")
HEAD = len(MAGIC) + NUMBERS.size + hashlib.sha256().digest_size
PAGE = 4096


def save(path: str | os.PathLike[str], header: Mapping[str, Any], plans: Sequence[Stored]) -> None:
    """Write the file as a whole, or raise MachineError and leave what was there."""
    from .files import write  # here, because opening a model does not need it

    sizes = [sum(piece.nbytes for piece in plan.constants) for plan in plans]
    code = b"".join(plan.code for plan in plans)
    entries = [
        {"opener": p.opener, "plan": p.plan, "code": len(p.code), "constants": size, "sha256": _digest(p.constants)}
        for p, size in zip(plans, sizes, strict=True)
    ]
    text = json.dumps({**header, "plans": entries}).encode()
    total = _aligned(HEAD + len(text) + len(code)) + sum(map(_aligned, sizes))
    numbers = NUMBERS.pack(FORMAT, len(text), len(code), total)

    def fill(file: IO[bytes]) -> None:
        file.write(MAGIC + numbers + hashlib.sha256(numbers + text + code).digest() + text + code)
        for plan in plans:
            file.seek(_aligned(file.tell()))
            for piece in plan.constants:
                file.write(piece.data)
        file.truncate(total)

    write(pathlib.Path(path), fill)


def _aligned(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _digest(pieces: Sequence[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece.data)
    return digest.hexdigest()


def is_saved(path: Any) -> bool:
    """Whether there is a file that begins like a compiled model. Nothing is taken out of a pipe."""
    try:
        if not pathlib.Path(path).is_file():
            return False
        with pathlib.Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except (OSError, TypeError, ValueError):
        return False


class SavedFile:
    """An open file whose header and code have been checked."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises ModelError for anything but a whole file of this format."""
        self.path = path
        self._file = _open(pathlib.Path(path))
        try:
            self.header, self._code = self._checked()
        except OSError as error:
            raise self.damaged(f"it cannot be read: {error.strerror}") from error
        self.plans: list[dict[str, Any]] = self.header["plans"]

    def __enter__(self) -> SavedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def damaged(self, how: str) -> ModelError:
        """The error that says what is wrong with the file."""
        return ModelError(f"{os.fspath(self.path)!r} cannot be opened: {how}")

    def _checked(self) -> tuple[dict[str, Any], bytes]:
        head = self._file.read(HEAD)
        if not head:
            raise self.damaged("the file is empty")
        if not head.startswith(MAGIC):
            raise self.damaged("it is no compiled model; `tilewright compile` and Session.save make one")
        if len(head) < HEAD:
            raise self.damaged("it is cut off")
        numbers, digest = head[len(MAGIC) : -32], head[-32:]
        version, *sizes, total = NUMBERS.unpack(numbers)
        if version != FORMAT:
            raise self.damaged(f"expected format {FORMAT}, got {version}; compile the model again with this version of Tilewright")
        actual = self._file.seek(0, os.SEEK_END)
        if actual != total or HEAD + sum(sizes) > total:
            raise self.damaged(f"expected {total} bytes, got {actual}; it is cut off or damaged")
        self._file.seek(HEAD)
        text, code = self._file.read(sizes[0]), self._file.read(sizes[1])
        if hashlib.sha256(numbers + text + code).digest() != digest:
            raise self.damaged("its checksum does not match; the file is damaged")
        return json.loads(text), code

    def code(self, index: int) -> bytes:
        """The machine code of a plan."""
        start = sum(plan["code"] for plan in self.plans[:index])
        return self._code[start : start + self.plans[index]["code"]]

    def read_constants(self, index: int, target: np.ndarray, verify: bool = False) -> None:
        """Fill the bytes with the constants of a plan; with `verify` their digest is checked."""
        start = _aligned(self._file.seek(0, os.SEEK_END)) - sum(_aligned(plan["constants"]) for plan in self.plans[index:])
        self._file.seek(start)
        try:
            count = self._file.readinto(target) if target.size else 0  # type: ignore[attr-defined]
        except OSError as error:
            raise self.damaged(f"it cannot be read: {error.strerror}") from error
        if count != self.plans[index]["constants"] or count != target.size:
            raise self.damaged(f"expected {self.plans[index]['constants']} bytes of constants, got {count}; it is cut off")
        if verify and _digest([target]) != self.plans[index]["sha256"]:
            raise self.damaged("the checksum of its constants does not match; the file is damaged")


def _open(path: pathlib.Path) -> BinaryIO:
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{str(path)!r} is {'a folder' if path.is_dir() else 'no regular file'}; expected a compiled model")
        return path.open("rb", buffering=0)  # type: ignore[return-value]
    except FileNotFoundError:
        raise ModelError(f"there is no file {str(path)!r}") from None
    except PermissionError as error:
        raise MachineError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {str(path)!r}: {error}") from error
