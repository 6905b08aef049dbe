"""The first segment of JPEG 2000 (SIZ, ITU-T T.800 A.5.1): how large the picture is, and how it is cut."""

from dataclasses import dataclass

from cxrzoo.imaging.compressed.streams import check_picture, number, refusal

#: Decoders keep some kilobytes for each tile, however little is stored in it.
_MAX_TILES = 4_096
#: They take 6 bytes a sample for a whole tile: the largest grey radiograph fits, and 44 megapixels of colour.
_MAX_TILE_SAMPLES = 2**27


@dataclass(frozen=True)
class Grid:
    """Image and tiles on their common grid, and what a sample is."""

    right: int
    bottom: int
    left: int
    top: int
    tile_width: int
    tile_height: int
    tile_left: int
    tile_top: int
    components: int
    depth: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def bits(self) -> int:
        return (self.depth & 0x7F) + 1

    @property
    def signed(self) -> bool:
        return self.depth >> 7 == 1

    @property
    def tiles(self) -> int:
        across = -(-(self.right - self.tile_left) // self.tile_width)
        return across * -(-(self.bottom - self.tile_top) // self.tile_height)

    @property
    def halvings(self) -> int:
        """How often the corners of all tiles fall on the grid of the halved image; Pillow halves no shifted image."""
        if self.left or self.top:
            return 0
        corners = self.tile_width | self.tile_height
        return (corners & -corners).bit_length() - 1 if self.tiles > 1 else 32


def read_grid(segment: bytes) -> Grid:
    """Return the content of a SIZ segment.

    Raises:
        ImageError: It makes no sense, or is none of a grey or colour picture of at most 16 bits.
    """
    capabilities, count = number(segment, 0, 2), number(segment, 34, 2)
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top = (
        number(segment, at, 4) for at in range(2, 34, 4)
    )
    if len(segment) != 36 + 3 * count:
        raise refusal(f"have a size segment of {len(segment)} bytes, expected {36 + 3 * count}", "damaged")
    if not (left < right and top < bottom and tile_width and tile_height):
        raise refusal("have no pixels or empty tiles by their own header", "damaged")
    if not (tile_left <= left < tile_left + tile_width and tile_top <= top < tile_top + tile_height):
        raise refusal("have a first tile that holds no pixel", "damaged")
    check_picture(bottom - top, right - left, count)
    if max(right, bottom) >= 2**31:
        raise refusal("lie at an impossible place of their grid", "damaged")
    if capabilities & 0x8000:
        raise refusal("use extensions of JPEG 2000 Part 2", "unsupported")
    depths, steps = set(segment[36::3]), set(segment[37::3] + segment[38::3])
    if len(depths) > 1 or steps != {1}:
        raise refusal("store their components in several sizes or depths", "unsupported")
    grid = Grid(right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, count, depths.pop())
    if grid.bits > 16:
        raise refusal(f"have {grid.bits} bits a sample, expected 1 to 16", "unsupported")
    samples = min(tile_width, grid.width) * min(tile_height, grid.height) * count
    if samples > _MAX_TILE_SAMPLES:
        raise refusal(f"have {samples:,} samples in one tile, expected at most {_MAX_TILE_SAMPLES:,}", "too-large")
    if grid.tiles > _MAX_TILES:
        raise refusal(f"are cut in {grid.tiles:,} tiles, expected at most {_MAX_TILES:,}", "too-large")
    return grid
