"""Where choices that were found by measuring are kept: one small file a machine, in the folder of the object cache."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from .object_cache import open_cache

LOCK = "choices.lock"
_remembered: dict[tuple[Path | None, str], dict[str, str]] = {}
"""What this process has read or found, by folder and stamp: it stays valid where nothing can be written."""


class ChoiceStore:
    """Texts of choices by the keys of their questions, for one stamp: everything else that they depend on.

    What was kept first stays: processes that measure the same problem at once end up with the same choice.
    """

    def __init__(self, stamp: str) -> None:
        self._key = f"choices\n{stamp}"
        self._cache = open_cache()
        self._remembered = _remembered.setdefault((self._cache.folder if self._cache else None, stamp), {})

    def read(self) -> dict[str, str]:
        """Everything kept so far; a file that is damaged is as good as none."""
        self._remembered.update(self._stored())
        return dict(self._remembered)

    def add(self, found: Mapping[str, str]) -> dict[str, str]:
        """Keep these too; everything kept so far."""
        with self._alone():
            kept = {**found, **self.read()}
            self._remembered.update(kept)
            if self._cache and kept != self._stored():
                self._cache.put(self._key, json.dumps(kept, indent=0, sort_keys=True).encode())
        return kept

    def _stored(self) -> dict[str, str]:
        payload = self._cache.get(self._key) if self._cache else None
        return json.loads(payload) if payload is not None else {}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Between reading and writing no other process writes, where the system and the folder allow it."""
        with contextlib.ExitStack() as stack:
            if self._cache:
                with contextlib.suppress(ImportError, OSError):
                    import fcntl

                    self._cache.folder.mkdir(parents=True, exist_ok=True)
                    lock = stack.enter_context(open(self._cache.folder / LOCK, "w"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    stack.callback(fcntl.flock, lock, fcntl.LOCK_UN)  # a child forked meanwhile has the file open, too
            yield
