"""The skeleton of an ONNX file: everything but the data of large weights, which is read later, straight into arrays.

A ModelProto is a sequence of fields, each a key (number * 8 + wire type) and a value; so is the GraphProto in it, and each of the
TensorProtos in that. Parsing the whole file would hold its weights three times: as bytes, in the messages, and as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO

from onnx import TensorProto

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
VARINT, FIXED_64, LENGTH, FIXED_32 = 0, 1, 2, 5
LARGE = 4096
"""Bytes of data that are worth leaving out."""


class NotUnderstood(Exception):  # noqa: N818 - an answer, not an error
    """The file is damaged, or written in a way that nobody writes; protobuf itself shall say what it makes of it."""


def skeleton(file: BinaryIO, size: int) -> bytes | None:
    """The bytes of the model with large raw data of initialisers left out; None where protobuf must read the file as it is.

    An initialiser without its data is marked as external, with offset and length in this very file and no location.
    """
    parts: list[bytes] = []
    try:
        for number, head, length in _fields(file, size):
            if number == GRAPH and length is not None:
                content = _graph(file, file.tell() + length)
                head = _key(GRAPH, LENGTH) + _varint(len(content))
            else:
                content = _read(file, length or 0)
            parts += [head, content]
    except NotUnderstood:
        return None
    return b"".join(parts)


def _graph(file: BinaryIO, end: int) -> bytes:
    return _rewritten(file, end, lambda number, length: number == INITIALIZER and length >= LARGE, _tensor, INITIALIZER)


def _tensor(file: BinaryIO, end: int) -> bytes:
    left_out: list[tuple[int, int]] = []

    def skip(file: BinaryIO, stop: int) -> bytes:
        left_out.append((file.tell(), stop - file.tell()))
        file.seek(stop)
        return b""

    rest = _rewritten(file, end, lambda number, length: number == RAW_DATA and length >= LARGE, skip, None)
    if not left_out:
        return rest
    if len(left_out) > 1 or TensorProto.FromString(rest).external_data:
        raise NotUnderstood
    mark = TensorProto(data_location=TensorProto.EXTERNAL)
    for key, value in zip(("offset", "length"), left_out[0], strict=True):
        mark.external_data.add(key=key, value=str(value))
    return rest + mark.SerializeToString()


def _rewritten(
    file: BinaryIO, end: int, wanted: Callable[[int, int], bool], rewrite: Callable[[BinaryIO, int], bytes], number: int | None
) -> bytes:
    """The message up to `end` with `rewrite` applied to the fields that are wanted; under no number their keys go too."""
    parts: list[bytes] = []
    for found, head, length in _fields(file, end):
        if length is not None and wanted(found, length):
            content = rewrite(file, file.tell() + length)
            parts += [] if number is None else [_key(number, LENGTH), _varint(len(content)), content]
        else:
            parts += [head, _read(file, length or 0)]
    return b"".join(parts)


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, bytes, int | None]]:
    """(number, bytes in front of the content, length of the content or None) of each field; the caller reads the content."""
    while (start := file.tell()) < end:
        key = _read_varint(file)
        wire, length = key & 7, None
        if wire == LENGTH:
            length = _read_varint(file)
        elif wire == VARINT:
            _read_varint(file)
        elif wire in (FIXED_64, FIXED_32):
            _read(file, 8 if wire == FIXED_64 else 4)
        else:
            raise NotUnderstood
        here = file.tell()
        if here + (length or 0) > end:
            raise NotUnderstood
        file.seek(start)
        yield key >> 3, _read(file, here - start), length


def _read(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise NotUnderstood
    return content


def _read_varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _read(file, 1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise NotUnderstood


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)
