"""Operations on tensors: each gives what torch or timm gives, in every dtype, and reads nothing before it is asked."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from cxrzoo.computing import compute_all
from cxrzoo.errors import ConversionError, RecordError
from cxrzoo.numbers import as_bytes, as_floats
from cxrzoo.operations import OPERATIONS, Readable
from cxrzoo.recipe import Compute
from cxrzoo.weights import as_tensor

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass
class Stored:
    """A tensor of torch as a checkpoint holds it, which knows how often it was read."""

    tensor: Tensor
    reads: int = field(default=0)

    @property
    def dtype(self) -> str:
        names = {dtype: name for name, dtype in DTYPES.items()} | {torch.int64: "I64"}
        return names[self.tensor.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    def read(self) -> bytes:
        self.reads += 1
        return bytes(self.tensor.contiguous().view(-1).view(torch.uint8).numpy())


def draw(*shape: int, dtype: str = "F32", seed: int = 0) -> Stored:
    """Return a tensor of seeded noise."""
    generator = torch.Generator().manual_seed(seed)
    return Stored(torch.randn(shape, generator=generator, dtype=torch.float64).to(DTYPES[dtype]))


def load(tensor: Readable) -> Tensor:
    """Return what was computed, in its own dtype, and insist that dtype, shape and bytes go together."""
    data = tensor.read()
    assert len(data) == tensor.nbytes
    return torch.frombuffer(bytearray(data), dtype=DTYPES[tensor.dtype]).reshape(tensor.shape)


def apply(operation: str, *operands: Stored, size: int | None = None, **arguments: int) -> Readable:
    """Apply an operation by its name."""
    return OPERATIONS[operation](*operands, size=size, **arguments)


@pytest.mark.parametrize("dtype", DTYPES)
def test_concatenate(dtype: str) -> None:
    """Query, key and value one after the other are what torch.cat makes of them, to the bit."""
    parts = [draw(rows, 3, dtype=dtype, seed=rows) for rows in (2, 4, 1)]

    found = load(apply("concatenate", *parts))

    assert torch.equal(torch.cat([part.tensor for part in parts]), found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6,), (6, 4), (9, 2, 2)])
def test_chunk(dtype: str, shape: tuple[int, ...]) -> None:
    """A part of three is the one that torch.chunk gives, to the bit."""
    whole = draw(*shape, dtype=dtype)

    parts = [load(apply("chunk", whole, index=index, parts=3)) for index in range(3)]

    assert all(torch.equal(one, other) for one, other in zip(torch.chunk(whole.tensor, 3), parts, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_as_convolution(dtype: str) -> None:
    """A linear layer and the convolution made of it are one function."""
    linear = draw(5, 3, dtype=dtype)
    pixels = torch.randn(2, 3, 4, 4)

    weight = load(apply("as_convolution", linear)).float()

    expected = torch.einsum("oi,bihw->bohw", linear.tensor.float(), pixels)
    assert torch.allclose(expected, torch.nn.functional.conv2d(pixels, weight), atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [0, 1, 2])
def test_add_first_axes(dtype: str, axes: int) -> None:
    """A tensor gets axes of length 1 before its own, with the same numbers."""
    tensor = draw(3, 2, dtype=dtype)

    assert torch.equal(tensor.tensor.reshape([1] * axes + [3, 2]), load(apply("add_first_axes", tensor, axes=axes)))


@pytest.mark.parametrize("token_dtype", DTYPES)
@pytest.mark.parametrize("table_dtype", DTYPES)
def test_add_class_position(token_dtype: str, table_dtype: str) -> None:
    """The class token gets the first row of the table, in float32 or better, as a network in float32 would add them."""
    token, table = draw(1, 1, 64, dtype=token_dtype), draw(1, 5, 64, dtype=table_dtype, seed=1)

    found = load(apply("add_class_position", token, table))

    wide = torch.float64 if "F64" in (token_dtype, table_dtype) else torch.float32
    assert torch.equal(token.tensor.to(wide) + table.tensor[:, :1].to(wide), found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_drop_class_position(dtype: str) -> None:
    """The table is left without its first row, to the bit."""
    table = draw(1, 10, 7, dtype=dtype)

    assert torch.equal(table.tensor[:, 1:], load(apply("drop_class_position", table)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize(("old", "size"), [(14, 320), (16, 224), (37, 224), (4, 512), (14, 16)])
def test_resample_positions(dtype: str, prefix: int, old: int, size: int) -> None:
    """A table for another grid is timm's to 1e-5, and the rows of tokens outside the image are the same to the bit."""
    table, patches = draw(1, prefix + old * old, 6, dtype=dtype), draw(6, 3, 16, 16)

    found = load(apply("resample_positions", table, patches, size=size, prefix=prefix))

    new = [size // 16] * 2
    expected = resample_abs_pos_embed(table.tensor.float(), new_size=new, num_prefix_tokens=prefix)
    assert (torch.float64 if dtype == "F64" else torch.float32) == found.dtype
    assert torch.allclose(expected, found.float(), atol=1e-5, rtol=0)
    assert torch.equal(table.tensor[:, :prefix].double(), found[:, :prefix].double())


@pytest.mark.parametrize("size", [None, 224])
def test_same_grid(size: int | None) -> None:
    """For the grid it has, and where no size is known, the table stays the very one, and is counted as kept."""
    tensors = {"pos": draw(1, 197, 6), "patches": draw(6, 3, 16, 16)}
    compute = Compute("pos", "resample_positions", ("pos",), ("patches",))

    result, counts = compute_all([compute], tensors, size)

    assert result["pos"] is tensors["pos"]
    assert {} == counts


REFUSED: dict[str, tuple[str, list[tuple[int, ...]], dict[str, int], list[str]]] = {
    "rows of other widths": ("concatenate", [(2, 3), (2, 4)], {}, ["F32 (2, 3)", "F32 (2, 4)"]),
    "scalars in a row": ("concatenate", [(), ()], {}, ["F32 ()"]),
    "a rest": ("chunk", [(7, 2)], {"index": 0, "parts": 3}, ["(7, 2)", "part 0 of 3"]),
    "a part too far": ("chunk", [(6, 2)], {"index": 3, "parts": 3}, ["(6, 2)", "part 3 of 3"]),
    "a part before": ("chunk", [(6, 2)], {"index": -1, "parts": 3}, ["part -1 of 3"]),
    "no parts": ("chunk", [(6, 2)], {"index": 0, "parts": 0}, ["part 0 of 0"]),
    "a part of a scalar": ("chunk", [()], {"index": 0, "parts": 1}, ["()"]),
    "a convolution already": ("as_convolution", [(2, 3, 1, 1)], {}, ["two axes", "(2, 3, 1, 1)"]),
    "a token of another width": ("add_class_position", [(1, 1, 4), (1, 5, 6)], {}, ["(1, 1, 4)", "(1, 5, 6)"]),
    "a token with two rows": ("add_class_position", [(1, 2, 4), (1, 5, 4)], {}, ["(1, 2, 4)", "(1, 5, 4)"]),
    "a table of two axes": ("drop_class_position", [(5, 4)], {}, ["(1, tokens, width)", "(5, 4)"]),
    "an empty table": ("drop_class_position", [(1, 0, 4)], {}, ["(1, tokens, width)", "(1, 0, 4)"]),
    "tables in a batch": ("resample_positions", [(2, 5, 4), (4, 3, 8, 8)], {}, ["(2, 5, 4)"]),
    "no square": ("resample_positions", [(1, 7, 4), (4, 3, 8, 8)], {}, ["(1, 7, 4)", "for 64 px", "by 8"]),
    "no whole patches": ("resample_positions", [(1, 5, 4), (4, 3, 7, 7)], {}, ["for 64 px", "divisible by 7"]),
    "a linear embedding": ("resample_positions", [(1, 5, 4), (4, 192)], {}, ["(1, 5, 4)", "(4, 192)"]),
    "only a prefix": ("resample_positions", [(1, 4, 4), (4, 3, 8, 8)], {"prefix": 4}, ["(1, 4, 4)", "(4, 3, 8, 8)"]),
}


@pytest.mark.parametrize(("operation", "shapes", "arguments", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_shapes(
    operation: str, shapes: list[tuple[int, ...]], arguments: dict[str, int], words: list[str]
) -> None:
    """Operands that don't go together are refused at once, with what was found and what was expected."""
    operands = [draw(*shape, seed=seed) for seed, shape in enumerate(shapes)]

    with pytest.raises(ConversionError) as caught:
        apply(operation, *operands, size=64, **arguments)

    assert [] == [word for word in words if word not in str(caught.value)]
    assert 0 == sum(operand.reads for operand in operands)


@pytest.mark.parametrize("operation", ["drop_class_position", "add_class_position", "resample_positions"])
def test_positions_are_floats(operation: str) -> None:
    """A table of whole numbers is no position table."""
    table = Stored(torch.zeros(1, 5, 4, dtype=torch.int64))
    operands = {
        "drop_class_position": [table],
        "add_class_position": [draw(1, 1, 4), table],
        "resample_positions": [table, draw(4, 3, 8, 8)],
    }[operation]

    with pytest.raises(ConversionError, match="floating point numbers, found one of I64"):
        apply(operation, *operands, size=64)


def test_mixed_dtypes() -> None:
    """Parts of two dtypes are refused, since neither is right for both."""
    with pytest.raises(ConversionError, match=r"F32 \(2, 3\) and F16 \(2, 3\)"):
        apply("concatenate", draw(2, 3), draw(2, 3, dtype="F16"))


COMPUTES: dict[str, tuple[Compute, dict[str, tuple[int, ...]]]] = {
    "concatenate": (Compute("qkv", "concatenate", ("q", "k", "v")), {"q": (2, 3), "k": (2, 3), "v": (2, 3)}),
    "chunk": (Compute("k", "chunk", ("qkv",), arguments={"index": 1, "parts": 3}), {"qkv": (6,)}),
    "as_convolution": (Compute("conv", "as_convolution", ("linear",)), {"linear": (3, 2)}),
    "add_first_axes": (Compute("pos", "add_first_axes", ("table",), arguments={"axes": 1}), {"table": (5, 4)}),
    "add_class_position": (
        Compute("cls", "add_class_position", ("cls",), ("pos",)),
        {"cls": (1, 1, 4), "pos": (1, 5, 4)},
    ),
    "drop_class_position": (Compute("pos", "drop_class_position", ("pos",)), {"pos": (1, 5, 4)}),
    "resample_positions": (
        Compute("pos", "resample_positions", ("pos",), ("patches",), {"prefix": 1}),
        {"pos": (1, 5, 4), "patches": (4, 3, 8, 8)},
    ),
}


def test_every_operation_is_tested_in_a_recipe() -> None:
    """The tests below go through all operations there are."""
    assert set(OPERATIONS) == set(COMPUTES)


@pytest.mark.parametrize(("compute", "shapes"), COMPUTES.values(), ids=COMPUTES.keys())
def test_nothing_is_read_early(compute: Compute, shapes: dict[str, tuple[int, ...]]) -> None:
    """Placing a computation reads no tensor; reading its result reads each operand that it needs once."""
    tensors = {name: draw(*shape) for name, shape in shapes.items()}

    result, counts = compute_all([compute], tensors, 64)

    assert {compute.apply: 1} == counts
    assert 0 == sum(tensor.reads for tensor in tensors.values())
    assert math.prod(result[compute.output].shape) * 4 == len(result[compute.output].read())
    assert {1} == {tensors[name].reads for name in compute.inputs}


@pytest.mark.parametrize(("compute", "shapes"), COMPUTES.values(), ids=COMPUTES.keys())
def test_missing_operand(compute: Compute, shapes: dict[str, tuple[int, ...]]) -> None:
    """An operand that the checkpoint lacks is named, together with what was to be made of it."""
    last = list(shapes)[-1]
    first = compute.inputs[0]
    tensors = {name: draw(*shape) for name, shape in shapes.items() if name != last or name == first}

    if last == first:
        assert tensors == compute_all([Compute("x", compute.apply, ("none",))], tensors, 64)[0]
        return
    with pytest.raises(ConversionError, match=f"{compute.output!r} is to be computed from .*has no {last!r}"):
        compute_all([compute], tensors, 64)


def test_in_order() -> None:
    """A computation sees what those before it changed: registers take the class token's position out, then resample."""
    table, token, patches = draw(1, 17, 4), draw(1, 1, 4, seed=1), draw(4, 3, 8, 8)
    computes = [
        Compute("cls", "add_class_position", ("cls",), ("pos",)),
        Compute("pos", "drop_class_position", ("pos",)),
        Compute("pos", "resample_positions", ("pos",), ("patches",), {"prefix": 0}),
    ]

    result, counts = compute_all(computes, {"pos": table, "cls": token, "patches": patches}, 64)

    expected = resample_abs_pos_embed(table.tensor[:, 1:], new_size=[8, 8], num_prefix_tokens=0)
    assert torch.allclose(expected, load(result["pos"]), atol=1e-5)
    assert torch.equal(token.tensor + table.tensor[:, :1], load(result["cls"]))
    assert {"add_class_position": 1, "drop_class_position": 1, "resample_positions": 1} == counts


def test_parts_of_one_tensor() -> None:
    """Several computations may use up one tensor, once for each block."""
    tensors = {f"blocks.{i}.qkv.bias": draw(6, seed=i) for i in range(3)} | {"norm.bias": draw(2)}
    computes = [
        Compute(f"blocks.{{i}}.{name}_bias", "chunk", ("blocks.{i}.qkv.bias",), arguments={"index": index, "parts": 3})
        for index, name in ((0, "q"), (2, "v"))
    ]

    result, counts = compute_all(computes, tensors, None)

    assert {"norm.bias", *(f"blocks.{i}.{name}_bias" for i in range(3) for name in "qv")} == set(result)
    assert {"chunk": 6} == counts
    assert torch.equal(tensors["blocks.2.qkv.bias"].tensor[4:], load(result["blocks.2.v_bias"]))


BROKEN: dict[str, tuple[list[Compute], type[Exception], str]] = {
    "an unknown operation": ([Compute("y", "transpose", ("x",))], RecordError, "no operation is named 'transpose'"),
    "an unknown argument": (
        [Compute("y", "chunk", ("x",), arguments={"part": 1})],
        RecordError,
        "compute 'y': chunk can't be applied so: .*index",
    ),
    "an operand too many": ([Compute("y", "as_convolution", ("x", "z"))], RecordError, "too many positional"),
    "two of one name": (
        [Compute("y", "as_convolution", ("x",)), Compute("y", "concatenate", ("z",))],
        ConversionError,
        "two computations of the recipe make 'y'",
    ),
    "a name that is there": (
        [Compute("z", "as_convolution", ("x",))],
        ConversionError,
        "'z' is in the checkpoint, and computed by the recipe as well",
    ),
}


@pytest.mark.parametrize(("computes", "error", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_recipe(computes: list[Compute], error: type[Exception], message: str) -> None:
    """A recipe whose computations can't be done says which one and why."""
    with pytest.raises(error, match=message):
        compute_all(computes, {"x": draw(4, 2), "z": draw(4, 2)}, None)


def test_rounding_to_bfloat16() -> None:
    """Every float32 becomes the bfloat16 that torch makes of it: ties to even, infinities, subnormals, NaN as NaN."""
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    edges = [0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x7FFFFFFF, 0x7F800001, 0xFFFFFFFF, 0x3F808000, 0x3F818000, 1, 0x8000]
    values = np.concatenate([bits, np.array(edges, np.uint32)]).view(np.float32)

    found = torch.frombuffer(bytearray(as_bytes("BF16", values)), dtype=torch.bfloat16)

    expected = torch.from_numpy(values).bfloat16()
    assert torch.equal(expected.isnan(), found.isnan())
    assert torch.equal(expected.nan_to_num(), found.nan_to_num())


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_come_back(dtype: str) -> None:
    """Bytes of every dtype are read as the numbers they are, and written as the same bytes."""
    stored = draw(1000, dtype=dtype)
    data = stored.read()

    assert data == as_bytes(dtype, as_floats(dtype, data))
    assert np.array_equal(stored.tensor.double().numpy(), as_floats(dtype, data).astype(np.float64))
    assert torch.equal(stored.tensor.float(), as_tensor(stored))


def test_too_large_for_half() -> None:
    """A sum that half precision could not hold is right."""
    token, table = (Stored(torch.full((1, rows, 2), 60000.0, dtype=torch.float16)) for rows in (1, 3))

    assert [120000.0] * 2 == load(apply("add_class_position", token, table)).flatten().tolist()


def test_too_large_to_write(recwarn: pytest.WarningsRecorder) -> None:
    """A number that half precision can't hold is written as infinity, which the check of health refuses, unwarned."""
    assert b"\x00\x7c" == as_bytes("F16", np.array([1e6]))
    assert [] == list(recwarn)
