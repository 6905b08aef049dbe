"""Reads the markers of JPEG 2000 and HTJ2K (ITU-T T.800 Annex A, T.814 Annex A) and trusts none of them."""

from cxrzoo.imaging.compressed.jpeg2000_grid import Grid, read_grid
from cxrzoo.imaging.compressed.streams import Codestream, check_end, halvings, number, refusal, segment_at

_SOC, _SIZ, _COD, _COC, _QCD, _PPM, _PPT = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF5C, 0xFF60, 0xFF61
_SOT, _SOD, _EOC = 0xFF90, 0xFF93, 0xFFD9
#: CAP, COD, COC, TLM, PRF, PLM, PLT, CPF, QCD, QCC, RGN, POC, CRG, COM
_SEGMENTS = (0xFF50, _COD, _COC, 0xFF55, 0xFF56, 0xFF57, 0xFF58, 0xFF59, _QCD, 0xFF5D, 0xFF5E, 0xFF5F, 0xFF63, 0xFF64)
_JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"

_MAX_SEGMENTS = 20_000
_MAX_BOXES = 1_000
#: Decoders keep some hundred bytes for each code block, however little is stored in it.
_MAX_TILE_PARTS = 2**15
_MAX_PACKETS = 2**20
_MAX_BLOCKS = 2**19


def inspect_jpeg2000(data: bytes) -> Codestream:
    """Return what a JPEG 2000 codestream says of itself; one in a JP2 file is looked up there.

    Raises:
        ImageError: It is damaged, cut off, a bomb, or of a kind that no decoder here reads.
    """
    start, stop = _find_codestream(data) if data.startswith(_JP2) else (0, len(data))
    data = data[:stop]
    if number(data, start, 2) != _SOC or number(data, start + 2, 2) != _SIZ:
        raise refusal("don't start as JPEG 2000 does", "damaged")
    segment = segment_at(data, start + 4)
    grid = read_grid(segment)
    headers = _Headers(data, grid)
    at = headers.read(start + 6 + len(segment), _SOT)
    if not headers.described:
        raise refusal("lack a coding style or a quantization (COD, QCD)", "damaged")
    end = headers.walk_tiles(at)
    check_end(data, end)
    return Codestream(
        "jpeg2000",
        grid.height,
        grid.width,
        grid.components,
        grid.bits,
        grid.signed,
        reductions=halvings(grid.height, grid.width, min(headers.levels, grid.halvings)),
        start=start,
        stop=end,
        reversible=headers.reversible,
    )


def _find_codestream(data: bytes) -> tuple[int, int]:
    """Return where the codestream of a JP2 file lies (T.800 I.4). DICOM knows it bare only."""
    at = 0
    for _ in range(_MAX_BOXES):
        length, kind, body = number(data, at, 4), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, body = number(data, at + 8, 8), at + 16
        end = at + length if length else len(data)
        if end < body:
            raise refusal("are a JP2 file with a box of impossible length", "damaged")
        if kind == b"jp2c":
            if end > len(data):
                raise refusal("end within a box of a JP2 file", "truncated")
            return body, end
        at = end
    raise refusal(f"are a JP2 file with more than {_MAX_BOXES:,} boxes", "too-large")


class _Headers:
    """The segments of the main header and of the tile-parts, and the worst of what they ask for."""

    def __init__(self, data: bytes, grid: Grid) -> None:
        self.data, self.grid = data, grid
        self.levels, self.reversible = 32, True
        self._layers, self._found, self._segments = 1, set[int](), 0

    @property
    def described(self) -> bool:
        return {_COD, _QCD} <= self._found

    def read(self, at: int, last: int) -> int:
        """Read segments up to the marker `last`, and return where that stands."""
        while (marker := number(self.data, at, 2)) != last:
            if marker in (_PPM, _PPT):
                raise refusal("keep their packet headers apart", "unsupported")
            if marker not in _SEGMENTS:
                raise refusal(f"have a marker {marker:04X} out of place", "damaged")
            self._segments += 1
            if self._segments > _MAX_SEGMENTS:
                raise refusal(f"have more than {_MAX_SEGMENTS:,} segments", "too-large")
            segment = segment_at(self.data, at + 2)
            self._found.add(marker)
            if marker == _COD:
                self._read_style(segment)
            elif marker == _COC:  # component, then flags as in COD (A.6.2)
                self._read_coding(number(segment, 1, 1), segment[2:])
            at += 4 + len(segment)
        return at

    def _read_style(self, segment: bytes) -> None:
        flags, order, layers, transform = (number(segment, *place) for place in ((0, 1), (1, 1), (2, 2), (4, 1)))
        if order > 4 or not layers or transform > 1 or (transform and self.grid.components != 3):
            raise refusal("have an impossible coding style", "damaged")
        self._layers = layers
        self._read_coding(flags, segment[5:])

    def _read_coding(self, flags: int, segment: bytes) -> None:
        """Check levels, code blocks and precincts (T.800 A.6.1, tables A.15 to A.21), and what they cost."""
        levels, block_width, block_height, style, wavelet = (number(segment, at, 1) for at in range(5))
        block_width, block_height = block_width + 2, block_height + 2
        sides = [divmod(byte, 16) for byte in segment[5:]] if flags & 1 else [(15, 15)] * (levels + 1)
        if (
            levels > 32
            or max(block_width, block_height) > 10
            or block_width + block_height > 12
            or style > 0x7F
            or wavelet > 1
            or len(sides) != levels + 1
            or len(segment) != 5 + (levels + 1) * (flags & 1)
            or any(0 in side for side in sides[1:])
        ):
            raise refusal("have impossible code blocks, precincts or levels", "damaged")
        self.levels = min(self.levels, levels)
        self.reversible &= wavelet == 1
        packets, blocks = 0, 0
        tile_height = min(self.grid.tile_height, self.grid.height)
        tile_width = min(self.grid.tile_width, self.grid.width)
        for resolution, (high, wide) in enumerate(sides):
            height, width = (-(-side >> (levels - resolution)) for side in (tile_height, tile_width))
            packets += -(-height >> high) * -(-width >> wide)
            inner = int(resolution > 0)  # a precinct of a higher resolution is split among three bands
            blocks += -(-height >> min(block_height, high - inner)) * -(-width >> min(block_width, wide - inner))
        every = self.grid.tiles * self.grid.components
        if every * packets * self._layers > _MAX_PACKETS or every * blocks > _MAX_BLOCKS:
            raise refusal(
                f"are cut in {every * packets * self._layers:,} packets and {every * blocks:,} blocks, expected at "
                f"most {_MAX_PACKETS:,} and {_MAX_BLOCKS:,}",
                "too-large",
            )

    def walk_tiles(self, at: int) -> int:
        """Follow the tile-parts (T.800 A.4.2) to the end of the codestream, and return where that is."""
        parts: dict[int, int] = {}
        for _ in range(_MAX_TILE_PARTS):
            length, tile, extent, part, count = (
                number(self.data, at + offset, bytes_) for offset, bytes_ in ((2, 2), (4, 2), (6, 4), (10, 1), (11, 1))
            )
            if length != 10 or tile >= self.grid.tiles or part != parts.get(tile, 0) or 0 < count <= part:
                raise refusal("have a tile that their header lacks", "damaged")
            parts[tile] = part + 1
            body = self.read(at + 12, _SOD) + 2
            # 0 is allowed for the last one: it goes on to the end
            end = at + extent if extent else self.data.find(b"\xff\xd9", body)
            if end < 0 or end + 2 > len(self.data):
                raise refusal("end within a tile, or have no end marker (EOC)", "truncated")
            if end < body:
                raise refusal("have a tile of impossible length", "damaged")
            at, marker = end, number(self.data, end, 2)
            if marker == _EOC:
                break
            if marker != _SOT:
                raise refusal("hold garbage where a tile or the end is expected", "damaged")
        else:
            raise refusal(f"are cut in more than {_MAX_TILE_PARTS:,} parts of tiles", "too-large")
        if len(parts) != self.grid.tiles:
            raise refusal(f"have {len(parts)} of {self.grid.tiles} tiles", "truncated")
        return at + 2
