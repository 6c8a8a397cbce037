"""The masks of Label Studio: red, green, blue and alpha as run lengths in a stream of bits (thi.ng's rle-pack).

The layout: 32 bits with the number of values, 5 bits with the bits of a value minus 1, four times 4 bits with the bits
of a run's length minus 1. Then runs: one bit (1: one value repeated, 0: different values), two bits that choose one of
the four sizes, the length minus 1, the value or values.
"""

import numpy as np

from fetalflow.errors import InputError

CHANNELS = 4
WORD = 8
SIZES = (3, 4, 8, 16)


def encode(mask: np.ndarray) -> list[int]:
    """bool [H, W] -> the list of bytes; painted pixels have 255 in all channels."""
    values = np.repeat(np.asarray(mask, np.uint8).ravel() * 255, CHANNELS)
    edges = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [values.size]])
    bits = [f"{values.size:032b}{WORD - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        for begin in range(first, last, 1 << SIZES[-1]):
            length = min(last - begin, 1 << SIZES[-1]) - 1
            choice = next(i for i, size in enumerate(SIZES) if length < 1 << size)
            bits.append(f"1{choice:02b}{length:0{SIZES[choice]}b}{values[first]:0{WORD}b}")
    stream = "".join(bits)
    stream += "0" * (-len(stream) % 8)
    return np.packbits(np.frombuffer(stream.encode(), np.uint8) - ord("0")).tolist()


def decode(encoded: list[int], height: int, width: int, where: str) -> np.ndarray:
    """The list of bytes -> bool [H, W]: where alpha is above 0. Raises InputError if the bytes are no such mask."""
    try:
        stream = "".join(map(str, np.unpackbits(np.array(encoded, np.uint8)).tolist()))
        values = _values(stream)
    except (ValueError, OverflowError, TypeError, IndexError):
        raise InputError(f"{where}: its rle is damaged: the bits end in the middle of a run.") from None
    if values.size != height * width * CHANNELS:
        raise InputError(
            f"{where}: its rle holds {values.size} values; {height} x {width} px of {CHANNELS} channels were expected."
        )
    return values.reshape(height, width, CHANNELS)[..., -1] > 0


def _values(stream: str) -> np.ndarray:
    place = 0

    def number(bits: int) -> int:
        nonlocal place
        place += bits
        if place > len(stream):
            raise ValueError
        return int(stream[place - bits : place], 2)

    count, word = number(32), number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    parts, done = [], 0
    while done < count:
        repeated = number(1)
        length = number(sizes[number(2)]) + 1
        parts.append(np.full(length, number(word)) if repeated else np.array([number(word) for _ in range(length)]))
        done += length
    return np.concatenate(parts)[:count] if parts else np.zeros(0, int)
