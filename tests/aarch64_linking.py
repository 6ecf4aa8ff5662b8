"""A static executable for Linux on aarch64, from LLVM's objects and blocks of memory: all that test kernels need of a linker."""

from __future__ import annotations

import dataclasses as dc
import struct
from collections.abc import Iterator, Sequence

PAGE = 1 << 16
"""The largest page that an aarch64 kernel may use."""
READ, WRITE, EXECUTE = 4, 2, 1
SECTION_IN_MEMORY = 2
SYMBOLS, RELOCATIONS, WITHOUT_CONTENT = 2, 4, 8
CALLS = (282, 283)
"""R_AARCH64_JUMP26 and R_AARCH64_CALL26: the distance in words."""
PAGE_DISTANCE = 275
"""R_AARCH64_ADR_PREL_PG_HI21: the distance in pages of 4096 bytes."""
WITHIN_PAGE = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}
"""R_AARCH64_ADD_ABS_LO12_NC and R_AARCH64_LDST*_ABS_LO12_NC: the low 12 bits of the address, in units of 2**n bytes."""


@dc.dataclass(frozen=True)
class Section:
    """One section header of an object, with what it describes."""

    kind: int
    flags: int
    content: bytes
    link: int
    info: int
    alignment: int


@dc.dataclass(frozen=True)
class Block:
    """Bytes at a fixed address; an access outside the pages that it touches ends the program."""

    address: int
    content: bytes
    rights: int


class Linker:
    """Places the objects' sections one after the other from an address on."""

    def __init__(self, address: int) -> None:
        self._first, self._code = address, bytearray()

    def add(self, content: bytes) -> dict[str, int]:
        """The address of each function that the object exports. Objects may refer to themselves only."""
        sections = list(sections_of(content))
        places = [self.place(s.content, s.alignment) if s.flags & SECTION_IN_MEMORY else 0 for s in sections]
        for table in (s for s in sections if s.kind == RELOCATIONS):
            symbols = list(symbols_of(sections[table.link], sections, places))
            for offset, info, addend in struct.iter_unpack("<QQq", table.content):
                self._relocate(places[table.info] + offset, info & 0xFFFFFFFF, symbols[info >> 32][1] + addend)
        tables = [s for s in sections if s.kind == SYMBOLS]
        return {name: address for table in tables for name, address, exported in symbols_of(table, sections, places) if exported}

    def block(self) -> Block:
        """Everything that was added."""
        return Block(self._first, bytes(self._code), READ | EXECUTE)

    def place(self, content: bytes, alignment: int) -> int:
        """The address of bytes that go to the end."""
        self._code += bytes(-len(self._code) % max(1, alignment)) + content
        return self._first + len(self._code) - len(content)

    def _relocate(self, place: int, kind: int, target: int) -> None:
        at = place - self._first
        (word,) = struct.unpack_from("<I", self._code, at)
        if kind in CALLS:
            word |= ((target - place) >> 2) & 0x3FFFFFF
        elif kind == PAGE_DISTANCE:
            pages = (target >> 12) - (place >> 12)
            word |= (pages & 3) << 29 | ((pages >> 2) & 0x7FFFF) << 5
        elif kind in WITHIN_PAGE:
            word |= ((target & 0xFFF) >> WITHIN_PAGE[kind]) << 10
        else:
            raise NotImplementedError(f"relocation {kind} of aarch64: expected one of {CALLS}, {PAGE_DISTANCE}, {[*WITHIN_PAGE]}")
        struct.pack_into("<I", self._code, at, word)


def sections_of(content: bytes) -> Iterator[Section]:
    """The sections of an ELF object, the first one empty."""
    (start,) = struct.unpack_from("<Q", content, 40)
    (count,) = struct.unpack_from("<H", content, 60)
    for index in range(count):
        _, kind, flags, _, offset, size, link, info, alignment, _ = struct.unpack_from("<IIQQQQIIQQ", content, start + 64 * index)
        inside = bytes(size) if kind == WITHOUT_CONTENT else content[offset : offset + size]
        yield Section(kind, flags, inside, link, info, alignment)


def symbols_of(table: Section, sections: Sequence[Section], places: Sequence[int]) -> Iterator[tuple[str, int, bool]]:
    """(name, address, whether it is exported) of each symbol in a table, those that are defined elsewhere at 0."""
    names = sections[table.link].content
    for name, info, _, section, value, _ in struct.iter_unpack("<IBBHQQ", table.content):
        text = names[name : names.index(b"\0", name)].decode()
        inside = 0 < section < len(sections)
        if text and not section:
            raise NotImplementedError(f"an object needs {text!r}: expected objects that refer to themselves only")
        yield text, value + (places[section] if inside else 0), inside and info >> 4 == 1


def executable(entry: int, blocks: Sequence[Block]) -> bytes:
    """An ELF file that Linux loads at the addresses of the blocks and starts at `entry`."""
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 183, 1, entry, 64, 0, 0, 64, 56, len(blocks), 64, 0, 0)
    position, headers, contents = PAGE, b"", bytearray()
    for block in blocks:
        lead, size = block.address % PAGE, len(block.content)
        headers += struct.pack("<IIQQQQQQ", 1, block.rights, position + lead, block.address, block.address, size, size, PAGE)
        contents += bytes(lead) + block.content
        contents += bytes(-len(contents) % PAGE)
        position = PAGE + len(contents)
    return (head + headers).ljust(PAGE, b"\0") + contents
