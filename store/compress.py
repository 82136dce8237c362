"""Vectors to codes and back: float32, float16, int8 and int4 with one scale for the vector, binary (signs).

A code is a header of three bytes (precision, dimensions) and the numbers, so each code says what it is, and codes of
several precisions can lie side by side while they are rewritten. Only the direction is kept: what answers is a cosine,
so the scale by which a vector was brought to whole numbers is not. Ten int8 codes of 384 dimensions fill a page of the
store. Measured on 3,000 functions (mean reciprocal rank from 0.677): int8 0.677, int4 0.676; binary is a first pass.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]

PRECISIONS: Final = ("float32", "float16", "int8", "int4", "binary")
HEADER: Final = struct.Struct("<BH")  # precision, dimensions
_CODE = {name: index for index, name in enumerate(PRECISIONS)}


def encode(vector: Vector, precision: str = "int8") -> bytes:
    """The code of a float32[dim] vector, 1 <= dim <= 65,535. Raises ValueError where a number is not finite."""
    dim = len(vector)
    peak = float(np.abs(vector).max()) if dim else 0.0
    if not np.isfinite(peak):
        raise ValueError("a vector holds a number that is not finite")
    match precision:
        case "float32":
            body = vector.astype("<f4").tobytes()
        case "float16":
            body = vector.astype("<f2").tobytes()
        case "int8":
            scale = peak / 127.0 or 1.0
            body = np.rint(vector / np.float32(scale)).astype(np.int8).tobytes()
        case "int4":
            scale = peak / 7.0 or 1.0
            nibbles = (np.rint(vector / np.float32(scale)).astype(np.int8) + 8).astype(np.uint8)
            if dim % 2:
                nibbles = np.append(nibbles, np.uint8(8))
            body = (nibbles[0::2] << 4 | nibbles[1::2]).tobytes()
        case "binary":
            body = np.packbits(vector > 0).tobytes()
        case _:
            raise ValueError(f"precision '{precision}' is not one of {', '.join(PRECISIONS)}")
    return HEADER.pack(_CODE[precision], dim) + body


def decode(code: bytes) -> Vector:
    """float32[dim] of unit length (zeros stay zeros). Raises ValueError for what is not a code."""
    precision, dim = _header(code)
    body = memoryview(code)[HEADER.size :]
    vector: Vector
    match PRECISIONS[precision]:
        case "float32":
            vector = np.frombuffer(body, "<f4").astype(np.float32)
        case "float16":
            vector = np.frombuffer(body, "<f2").astype(np.float32)
        case "int8":
            vector = np.frombuffer(body, np.int8).astype(np.float32)
        case "int4":
            packed = np.frombuffer(body, np.uint8)
            vector = np.empty(2 * len(packed), np.float32)
            vector[0::2] = (packed >> 4).astype(np.float32) - 8
            vector[1::2] = (packed & 15).astype(np.float32) - 8
            vector = vector[:dim]
        case _:
            vector = np.unpackbits(np.frombuffer(body, np.uint8))[:dim].astype(np.float32) * 2 - 1
    if len(vector) != dim:
        raise ValueError(f"a vector code of {len(code)} bytes does not hold {dim} numbers")
    norm = float(np.sqrt(vector @ vector))
    return vector / np.float32(norm) if norm > 0 else vector


def dimensions(code: bytes) -> int:
    return _header(code)[1]


def precision_of(code: bytes) -> str:
    return PRECISIONS[_header(code)[0]]


def size(dim: int, precision: str) -> int:
    """Bytes of a code."""
    bits = {"float32": 32, "float16": 16, "int8": 8, "int4": 4, "binary": 1}[precision]
    return HEADER.size + (dim * bits + 7) // 8


def int8_bytes(code: bytes) -> bytes:
    """The int8 numbers of a code of any precision: what the vector index keeps in memory."""
    return code[HEADER.size :] if code[0] == _CODE["int8"] else encode(decode(code), "int8")[HEADER.size :]


def int8_row(code: bytes) -> npt.NDArray[np.int8]:
    """The same as int8[dim], read-only."""
    return np.frombuffer(int8_bytes(code), np.int8)


def _header(code: bytes) -> tuple[int, int]:
    if len(code) < HEADER.size or code[0] >= len(PRECISIONS):
        raise ValueError("not the code of a vector")
    precision, dim = HEADER.unpack_from(code)
    return precision, dim
