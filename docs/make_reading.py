"""Makes docs/reading.md and its pictures: every tile and every figure is what a reader gave in this run."""

import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from cases import Case, encodings, padded, pictures, polarity, rescaled, windows
from PIL import Image, ImageDraw, ImageFont
from readers import DICOM, PICTURE, Reader, Shown, versions

DOCS = Path(__file__).resolve().parent
#: Of the tiles, in pixels; what is around them.
WIDTH, GAP, TITLE = 156, 6, 20
FONT = ImageFont.load_default(12)
#: A mean distance that the eye does not see, as a share of black to white; a correlation that is as good as 1.
SAME, ALIKE = 0.01, 0.98
#: A place in the page that is filled here, and what is in it.
PLACE = re.compile(r"(<!-- made by `make reading`: (\w+) -->\n).*?(\n<!-- end of \2 -->)", re.DOTALL)


def judge(shown: Shown | str, truth: Shown) -> str:
    """Return in a few words how a reader's image compares with what the file says."""
    if isinstance(shown, str):
        return shown
    if np.ptp(shown) == 0:
        return f"one grey everywhere: {shown.flat[0]:.0%}"
    distance = np.abs(shown - truth).mean()
    if distance < SAME:
        return "**right**"
    span = f"from {shown.min():.0%} to {shown.max():.0%}"
    if np.corrcoef(shown.ravel(), truth.ravel())[0, 1] < -ALIKE:
        return f"inverted, {span}"
    return f"off by {distance:.0%}, {span}"


def read(reader: Reader, path: Path) -> Shown | str:
    """Return what a reader gives, or what it says when it refuses."""
    try:
        return np.asarray(reader(path), np.float64)
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is what its users see
        return f"{type(error).__name__}: {error}"


def tile(shown: Shown | str, height: int) -> Image.Image:
    """Return a small picture of an image, or of the words in its place."""
    if isinstance(shown, str):
        picture = Image.new("L", (WIDTH, height), 225)
        words, lines = shown.split(), [""]
        for word in words:
            wider = f"{lines[-1]} {word}".strip()
            lines = [*lines[:-1], wider] if FONT.getlength(wider) < WIDTH - 16 else [*lines, word]
        ImageDraw.Draw(picture).multiline_text((8, 8), "\n".join(lines), fill=0, font=FONT)
        return picture
    grey = Image.fromarray((shown.clip(0, 1) * 255).astype(np.float32)).resize((WIDTH, height), Image.Resampling.BOX)
    # 64 grey levels: half the bytes, and no difference at this size
    return Image.fromarray((np.rint(np.asarray(grey) / 255 * 63) * (255 / 63)).astype(np.uint8))


def sheet(rows: Iterable[tuple[Case, dict[str, Shown | str]]], path: Path) -> None:
    """Draw a row of tiles for each case, under its title, and the readers' names on top."""
    rows = list(rows)
    height = round(WIDTH * rows[0][0].truth.shape[0] / rows[0][0].truth.shape[1])
    names = list(rows[0][1])
    page = Image.new("L", (len(names) * (WIDTH + GAP) + GAP, TITLE + len(rows) * (TITLE + height + GAP)), 255)
    draw = ImageDraw.Draw(page)
    for column, name in enumerate(names):
        draw.text((GAP + column * (WIDTH + GAP) + WIDTH / 2, 3), name, fill=0, font=FONT, anchor="ma")
    for number, (case, results) in enumerate(rows):
        top = TITLE + number * (TITLE + height + GAP)
        draw.text((GAP, top + 3), case.title, fill=0, font=FONT)
        for column, shown in enumerate(results.values()):
            left = GAP + column * (WIDTH + GAP)
            page.paste(tile(shown, height), (left, top + TITLE))
            draw.rectangle((left - 1, top + TITLE - 1, left + WIDTH, top + TITLE + height), outline=128)
    page.save(path, optimize=True)


def section(name: str, cases: Iterable[Case], readers: dict[str, Reader]) -> str:
    """Draw one sheet; return it with its table, in Markdown."""
    rows = [(case, {each: read(reader, case.path) for each, reader in readers.items()}) for case in cases]
    sheet(rows, DOCS / f"reading-{name}.png")
    lines = [f"| file | {' | '.join(readers)} |", "| --- " * (len(readers) + 1) + "|"]
    lines += [
        f"| {case.title} | {' | '.join(judge(shown, case.truth) for shown in results.values())} |"
        for case, results in rows
    ]
    return f"![{name}](reading-{name}.png)\n\n" + "\n".join(lines)


def sections(room: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each place in the page, and what belongs there."""
    yield "versions", f"All tiles and tables are what the readers gave in one run, with {versions()}."
    yield "encodings", section("encodings", encodings(), DICOM)
    yield "polarity", section("polarity", polarity(room), DICOM)
    yield "windows", section("windows", windows(room), DICOM)
    yield "rescaled", section("rescaled", rescaled(room), DICOM)
    yield "padded", section("padded", padded(room), DICOM)
    yield "pictures", section("pictures", pictures(room), PICTURE)


def main() -> None:
    """Fill the places in the page anew."""
    warnings.simplefilter("ignore")
    page = DOCS / "reading.md"
    with tempfile.TemporaryDirectory() as room:
        made = dict(sections(Path(room)))
    text = PLACE.sub(lambda place: place[1] + made[place[2]] + place[3], page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
