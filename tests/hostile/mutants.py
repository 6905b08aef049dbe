"""Family "mutants": honest files with some of their bytes changed, cut off, moved or flipped."""

import random
import struct

from hostile.seeds import NAMES, Seed, make_seed
from hostile.verdicts import EITHER, READ, REFUSED, Verdict

#: The share of edits that hit structure, not data.
_IN_HEADERS = 0.7
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1)


def list_ids() -> list[str]:
    """Return the id of every kind of mutant; its seed says which one."""
    return [f"{kind}/{name}" for name in NAMES for kind in ("honest", "mutant", "prefix", "flip")]


def make(case: str, seed: int) -> tuple[bytes, Verdict]:
    """Return a file and the verdict on it: `seed` draws a mutant or a bit, and is the length of a prefix."""
    kind, name = case.split("/")
    honest = make_seed(name)
    if kind == "honest":
        return honest.data, READ
    if kind == "prefix":
        return honest.data[:seed], REFUSED
    generator = random.Random(f"{case}/{seed}")
    if kind == "flip":
        first, last = generator.choices(honest.spans, [last - first for first, last in honest.spans])[0]
        flipped = bytearray(honest.data)
        flipped[generator.randrange(first, last)] ^= 1 << generator.randrange(8)
        return bytes(flipped), EITHER
    return mutate(honest, generator), EITHER


def mutate(honest: Seed, generator: random.Random) -> bytes:
    """Return the file with one edit or several, most of them in its structure."""
    mutant = bytearray(honest.data)
    while mutant == honest.data:
        for _ in range(generator.choice((1, 1, 1, 2, 4, 8))):
            mutant = _edit(mutant or bytearray(1), honest, generator)
    return bytes(mutant)


def _edit(data: bytearray, honest: Seed, generator: random.Random) -> bytearray:
    """Return the bytes with one edit; positions are those of the honest file."""
    position = min(_position(honest, generator), len(data) - 1)
    length = generator.choice((1, 2, 4, 8, 64))
    end = position + length
    match generator.randrange(9):
        case 0:
            del data[position:]
        case 1:
            data[position] ^= 1 << generator.randrange(8)
        case 2:
            data[position] = generator.randrange(256)
        case 3:
            data[position:end] = generator.randbytes(length)
        case 4:
            data[position:position] = generator.randbytes(length)
        case 5:
            del data[position:end]
        case 6:
            other = min(_position(honest, generator), len(data) - 1)
            data[position:end], data[other : other + length] = data[other : other + length], data[position:end]
        case 7:
            size, letter = generator.choice(((2, "H"), (4, "I")))
            value = generator.choice(_INTERESTING) % 256**size
            data[position : position + size] = struct.pack(generator.choice("<>") + letter, value)
        case 8:
            data[position:position] = data[position:end] * generator.choice((1, 1, 100))
    return data


def _position(honest: Seed, generator: random.Random) -> int:
    """Return a position in the structure, or sometimes anywhere."""
    if generator.random() >= _IN_HEADERS:
        return generator.randrange(len(honest.data))
    starts = [0, *(last for _, last in honest.spans)]
    ends = [*(first for first, _ in honest.spans), len(honest.data)]
    gaps = [(start, end) for start, end in zip(starts, ends, strict=True) if end > start]
    start, end = generator.choices(gaps, [end - start for start, end in gaps])[0]
    return generator.randrange(start, end)
