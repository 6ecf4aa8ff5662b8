"""A folder of compiled objects: checked when read, replaced atomically, bounded; without a usable folder work goes on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import warnings
from pathlib import Path

from ...engine import knobs
from ...engine.debug import report
from ...engine.errors import MachineWarning

MAGIC = b"TILEWRIGHT OBJECT 1\n"
LIMIT = 512 << 20
DAY = 86400.0


class ObjectCache:
    """key → bytes. A file is MAGIC, sha256(key and payload), payload; whatever does not match is treated as absent."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._unusable = False
        self._written: int | None = None

    def get(self, key: str) -> bytes | None:
        """The payload stored under a key; None when there is none, or when the file is damaged."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        head = len(MAGIC) + 32
        if content[:head] != MAGIC + digest(key, content[head:]):
            report(f"damaged cache file {path}: what it held is made again")
            return None
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                os.utime(path)
        return content[head:]

    def put(self, key: str, payload: bytes) -> None:
        """Store a payload; a folder that cannot be written costs one warning, never an error."""
        if self._unusable:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._replace(self.path(key), MAGIC + digest(key, payload) + payload)
            self._bound(len(payload))
        except OSError as error:
            self._unusable = True
            how = "set TILEWRIGHT_CACHE_DIR to another folder, or to 'off'"
            warnings.warn(f"cannot keep compiled kernels in {self.folder} ({error.strerror}); {how}", MachineWarning, stacklevel=2)

    def path(self, key: str) -> Path:
        """The file of a key."""
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.o"

    def _replace(self, path: Path, content: bytes) -> None:
        """Readers see the old file or the whole new one. A file that a power cut left torn does not match its digest."""
        handle, temporary = tempfile.mkstemp(dir=self.folder, suffix=".new")
        try:
            with open(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _bound(self, written: int) -> None:
        """Look at the folder's size at the first write and then after every sixteenth of the limit."""
        if self._written is None or self._written + written > self.limit // 16:
            self._written = 0
            self.prune()
        self._written += written

    def prune(self) -> None:
        """Delete the files that were used longest ago until three quarters of the limit remain, and what interrupted writers left."""
        entries = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if entry.name.endswith(".o"):
                    entries.append((status.st_mtime, status.st_size, entry.path))
                elif entry.name.endswith(".new") and time.time() - status.st_mtime > DAY:
                    os.unlink(entry.path)
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return
        for _, size, path in sorted(entries):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
            if total <= self.limit * 3 // 4:
                return


def digest(key: str, payload: bytes) -> bytes:
    """Covers the key too: a file renamed or copied under another key, say another processor's, does not match."""
    return hashlib.sha256(key.encode() + b"\0" + payload).digest()


_opened: dict[Path, ObjectCache] = {}


def open_cache() -> ObjectCache | None:
    """The cache in the folder that TILEWRIGHT_CACHE_DIR names, else in the user's cache folder; None when it is 'off'."""
    place = knobs.get("cache_dir")
    if place == "off":
        return None
    if not place:
        import platformdirs

        place = platformdirs.user_cache_dir("tilewright")
    folder = Path(place)
    return _opened.setdefault(folder, ObjectCache(folder))
