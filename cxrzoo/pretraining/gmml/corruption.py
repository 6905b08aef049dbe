"""Corrupting images by blocks of noise, of nothing, or of other images, a whole batch at a time."""

from typing import NamedTuple

import torch

from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining.gmml.settings import GmmlSettings

#: Blocks drawn at a time. Images that lose half to three quarters take 60 of the paper's on average, 108 at the most of
#: 256 images. 4096 are enough of a twentieth of a side.
_BLOCKS = 128
_MOST_BLOCKS = 4096


class Corrupted(NamedTuple):
    """Corrupted images (B, C, H, W); where they were, bool (B, 1, H, W); and by pixels of another image, bool (B,)."""

    pixels: torch.Tensor
    mask: torch.Tensor
    alien: torch.Tensor


def corrupt(clean: torch.Tensor, settings: GmmlSettings, draws: torch.Generator) -> Corrupted:
    """Return normalised images with blocks of them replaced; all else is left exactly as it was.

    An image is corrupted in one way: where GMML's code puts blocks of other images, it starts from the clean one.

    Raises:
        PretrainingError: Blocks don't fit the image, or it is the only one where blocks of others are asked for.
    """
    images, _, height, width = clean.shape
    if "alien" in settings.types and images < 2:
        raise PretrainingError(
            "found a batch of one image, which leaves no other to take blocks from. Make batches larger, or leave "
            "'alien' out of gmml's types."
        )
    kinds = torch.randint(len(settings.types), (images,), generator=draws, device=clean.device)
    chosen = {kind: (kinds == number)[:, None, None, None] for number, kind in enumerate(settings.types)}
    alien = chosen.get("alien", torch.zeros_like(kinds, dtype=torch.bool)[:, None, None, None]).flatten()
    most = torch.where(alien, settings.replace, settings.drop_perc)
    least = most.clamp(max=0.5)
    shares = least + (most - least) * torch.rand(images, generator=draws, device=clean.device)
    mask = draw_mask(shares * height * width, height, width, settings, draws)
    pixels = clean
    for kind, here in chosen.items():
        pixels = torch.where(here & mask, _fill(clean, kind, draws), pixels)
    return Corrupted(pixels, mask, alien)


def _fill(clean: torch.Tensor, kind: str, draws: torch.Generator) -> torch.Tensor:
    if kind == "alien":
        own = torch.arange(len(clean), device=clean.device)
        others = torch.randint(1, len(clean), (len(clean),), generator=draws, device=clean.device)
        return clean[(own + others) % len(clean)]
    if kind == "noise":
        return torch.randn(clean.shape, generator=draws, device=clean.device).to(clean.dtype)
    return torch.zeros_like(clean)


def draw_mask(
    areas: torch.Tensor, height: int, width: int, settings: GmmlSettings, draws: torch.Generator
) -> torch.Tensor:
    """Return a mask (B, 1, H, W) of blocks for each image: as few, in the order drawn, as cover `areas` pixels or more.

    Raises:
        PretrainingError: Blocks of `settings` don't fit an image of this size, or can't cover so much of it.
    """
    rows, columns = (_draw_spans(len(areas), side, settings, draws) for side in (height, width))
    while bool((_unite(rows, columns).sum(dim=(1, 2)) < areas).any()):
        if rows.shape[1] == _MOST_BLOCKS:
            raise PretrainingError(
                f"found {_MOST_BLOCKS} blocks that cover too little of {height} x {width} pixels. Take a larger "
                "max_block, or a smaller drop_perc, replace or align."
            )
        more = (_draw_spans(len(areas), side, settings, draws) for side in (height, width))
        rows, columns = (torch.cat(pair, dim=1) for pair in zip((rows, columns), more, strict=True))
    # Areas grow with the number of blocks: bisection finds the first that is large enough, for all images at once.
    fewest, enough = torch.zeros_like(areas, dtype=torch.long), torch.full_like(areas, rows.shape[1], dtype=torch.long)
    for _ in range(rows.shape[1].bit_length()):
        middle = (fewest + enough) // 2
        reached = _unite(rows, columns, middle).sum(dim=(1, 2)) >= areas
        fewest, enough = torch.where(reached, fewest, middle + 1), torch.where(reached, middle, enough)
    return _unite(rows, columns, enough)[:, None]


def _draw_spans(images: int, length: int, settings: GmmlSettings, draws: torch.Generator) -> torch.Tensor:
    """Return which of `length` rows, or columns, blocks cover: (images, blocks, length) of 0 and 1."""
    align, longest = settings.align, int(settings.max_block * length)
    if not align < longest:
        raise PretrainingError(
            f"found sides of {length} pixels, of which blocks are {align} long at least and less than {longest}. "
            "Take larger views, a larger max_block or a smaller align."
        )
    shape = (images, _BLOCKS)
    sizes = torch.randint(align, longest, shape, generator=draws, device=draws.device)
    if settings.rule == "paper":
        starts = torch.randint(0, length - align, shape, generator=draws, device=draws.device) // align * align
        sizes = _round(torch.minimum(sizes, length - starts), align)
    else:
        sizes = _round(sizes, align)
        places = -(-length // align) + sizes // align - 1
        places = (torch.rand(shape, generator=draws, device=draws.device) * places).long().clamp(max=places - 1)
        starts = places * align - sizes + align
    pixels = torch.arange(length, device=draws.device)
    starts, ends = starts[:, :, None], (starts + sizes)[:, :, None]
    return ((pixels >= starts) & (pixels < ends)).float()


def _round(sizes: torch.Tensor, align: int) -> torch.Tensor:
    return (sizes / align).round().long() * align


def _unite(rows: torch.Tensor, columns: torch.Tensor, count: torch.Tensor | None = None) -> torch.Tensor:
    """Return the union of blocks, bool (images, height, width); of the first `count` of each image if given."""
    if count is not None:
        rows = rows * (torch.arange(rows.shape[1], device=rows.device) < count[:, None])[:, :, None]
    # How many blocks cover each pixel is a product of matrices.
    return rows.transpose(1, 2) @ columns > 0
