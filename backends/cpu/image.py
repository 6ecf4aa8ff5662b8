"""Kernels as one piece of machine code that any process can map: linked when a model is saved, so that opening it needs no linker.

Objects come from codegen.compile_ir: ELF for x86-64, position independent. Whatever in them this module does not know is refused.
"""

from __future__ import annotations

import ctypes
import dataclasses as dc
import mmap
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...engine.errors import CompilerBug, MachineError
from .codegen import keep

ELF_X86_64 = b"\x7fELF\x02\x01\x01"
X86_64 = 62
SYMBOLS, RELOCATIONS, NO_CONTENT = 2, 4, 8
LOADED = 2
COMMON = 0xFFF2
PC32, PLT32 = 2, 4
JUMP = b"\xff\x25\x02\x00\x00\x00\x0f\x0b"
"""jmp [the eight bytes that follow]"""
ALIGNMENT = 64


class Section(NamedTuple):
    """An entry of the section table of an object, in the order in which it is written there."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


class Symbol(NamedTuple):
    """An entry of an object's symbol table."""

    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


@dc.dataclass(frozen=True)
class Image:
    """Linked code: where its functions start, and where it expects the addresses of functions of the system."""

    code: bytes
    exports: Mapping[str, int]
    imports: Mapping[str, int]


def link(objects: Sequence[bytes], names: Sequence[str]) -> Image:
    """One image of all objects in which the functions `names` can be found. Raises CompilerBug for what it does not know."""
    linker = _Linker()
    for content in objects:
        linker.place(_Object(content))
    return linker.image(names)


class _Object:
    """The tables of one ELF file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        if not content.startswith(ELF_X86_64) or struct.unpack_from("<H", content, 18)[0] != X86_64:
            raise MachineError("a model can be saved where its code is ELF for x86-64; this machine makes another kind")
        (table,), (count,) = struct.unpack_from("<Q", content, 40), struct.unpack_from("<H", content, 60)
        self.sections = [Section(*struct.unpack_from("<IIQQQQIIQQ", content, table + 64 * i)) for i in range(count)]
        found = [s for s in self.sections if s.kind == SYMBOLS]
        self.symbols = [Symbol(*entry) for s in found for entry in struct.iter_unpack("<IBBHQQ", self.bytes(s))]
        self.strings = self.bytes(self.sections[found[0].link]) if found else b""

    def bytes(self, section: Section) -> bytes:
        return bytes(section.size) if section.kind == NO_CONTENT else self.content[section.offset : section.offset + section.size]

    def name(self, symbol: Symbol) -> str:
        return self.strings[symbol.name : self.strings.index(b"\0", symbol.name)].decode()


class _Linker:
    def __init__(self) -> None:
        self.code = bytearray()
        self.objects: list[tuple[_Object, dict[int, int]]] = []
        """Each object with the place of its sections in the code."""
        self.exports: dict[str, int] = {}
        self.stubs: dict[str, int] = {}

    def place(self, content: _Object) -> None:
        """Take in the sections that are needed at run time, and the names that others may ask for."""
        places: dict[int, int] = {}
        for index, section in enumerate(content.sections):
            if section.flags & LOADED and section.size:
                places[index] = self._append(content.bytes(section), section.alignment)
        for symbol in content.symbols:
            if symbol.section in places and symbol.info >> 4:  # not a local one
                self.exports[content.name(symbol)] = places[symbol.section] + symbol.value
        self.objects.append((content, places))

    def _append(self, piece: bytes, alignment: int) -> int:
        alignment = max(alignment, ALIGNMENT)
        self.code += bytes(-len(self.code) % alignment)
        self.code += piece
        return len(self.code) - len(piece)

    def image(self, names: Sequence[str]) -> Image:
        """Every reference resolved."""
        for content, places in self.objects:
            for section in content.sections:
                if section.kind == RELOCATIONS and section.info in places:
                    for offset, info, addend in struct.iter_unpack("<QQq", content.bytes(section)):
                        self._relocate(content, places, places[section.info] + offset, info, addend)
        if missing := [name for name in names if name not in self.exports]:
            raise CompilerBug(f"expected the functions {', '.join(missing)} in the objects to link")
        imports = {name: stub + len(JUMP) for name, stub in self.stubs.items()}
        return Image(bytes(self.code), {name: self.exports[name] for name in names}, imports)

    def _relocate(self, content: _Object, places: Mapping[int, int], at: int, info: int, addend: int) -> None:
        symbol, kind = content.symbols[info >> 32], info & 0xFFFFFFFF
        if kind not in (PC32, PLT32) or symbol.section >= COMMON:
            raise CompilerBug(f"relocation of kind {kind} to {content.name(symbol)!r}: expected a distance of 32 bits inside the image")
        distance = self._target(content, places, symbol) + addend - at
        struct.pack_into("<i", self.code, at, distance)

    def _target(self, content: _Object, places: Mapping[int, int], symbol: Symbol) -> int:
        if symbol.section:
            return places[symbol.section] + symbol.value
        name = content.name(symbol)
        if name in self.exports:
            return self.exports[name]
        if name not in self.stubs:
            self.stubs[name] = self._append(JUMP + bytes(8), ALIGNMENT)
        return self.stubs[name]


def load(image: Image) -> dict[str, int]:
    """The addresses of the functions of an image that becomes part of this process, for its whole life."""
    memory = mmap.mmap(-1, len(image.code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(image.code)
    system = ctypes.CDLL(None, use_errno=True)
    for name, slot in image.imports.items():
        struct.pack_into("<Q", memory, slot, ctypes.cast(system[name], ctypes.c_void_p).value or 0)
    start = ctypes.addressof(keep(ctypes.c_char.from_buffer(memory)))
    readable, executable = 1, 4
    if system.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(image.code)), readable | executable):
        raise MachineError(f"this system does not let a process run code that it has loaded (mprotect: error {ctypes.get_errno()})")
    return {name: start + offset for name, offset in image.exports.items()}
