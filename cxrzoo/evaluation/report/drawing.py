"""A matplotlib figure into a small SVG: text stays text, colours follow the page, ids are its own."""

import hashlib
import io
import re
from typing import Any, cast
from xml.etree import ElementTree

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cxrzoo.evaluation.report.palette import ROLES, list_variables, name_colours

SVG = "http://www.w3.org/2000/svg"
LINK = "http://www.w3.org/1999/xlink"
# One unit of the picture is one pixel of the page, as long as the page shows it at its own size.
_POINTS_PER_INCH = 72
_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}.quiet{opacity:0}"
)
_CLASS = "class:"
_COLOURS = name_colours()


def make_axes(width: float, height: float, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Return the axes of a new figure, with margins in pixels, a light grid, and no frame."""
    figure = Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH)
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    axes = figure.add_axes(box)
    axes.set_facecolor("none")
    figure.patch.set_visible(False)
    axes.grid(True, color=ROLES["grid"][0], linewidth=1)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(ROLES["rule"][0])
    axes.tick_params(length=0, labelsize=12, labelcolor=ROLES["soft"][0], pad=6)
    axes.minorticks_off()
    return axes


def classify(artist: Artist, *classes: str) -> None:
    """Give an artist CSS classes in the SVG."""
    artist.set_gid(_CLASS + " ".join(classes))


def write(axes: Axes, text: str, place: tuple[float, float], *classes: str, **style: Any) -> None:
    """Write text at a place in pixels of the figure, inside the axes or outside."""
    # Without `parse_math` a name with two dollar signs would be read as a formula.
    style |= {"xycoords": "figure pixels", "fontsize": 12, "annotation_clip": False, "parse_math": False}
    written = axes.annotate(text, place, **style)
    if classes:
        classify(written, *classes)


def write_svg(axes: Axes, label: str, *, titles: dict[str, list[str]] | None = None, standalone: bool = False) -> str:
    """Return the axes' figure as SVG.

    Args:
        label: What the picture shows, for those who don't see it.
        titles: For a class of `classify`, what pointing at each marker of that line shows.
        standalone: A file of its own, with its background and style, rather than a part of a page.
    """
    buffer = io.StringIO()
    # Equal pictures have equal ids: `hashsalt` replaces matplotlib's random one.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        FigureCanvasSVG(cast(Figure, axes.figure)).print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    root = ElementTree.fromstring(buffer.getvalue())
    for name in ("metadata", "defs"):
        child = root.find(f"{{{SVG}}}{name}")
        if child is not None:
            root.remove(child)
    key = "c" + hashlib.sha256(f"{label} {root.attrib['viewBox']}".encode()).hexdigest()[:8]
    _clean(root, key, titles or {})
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    if standalone:
        _stand_alone(root)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", LINK)
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode")).strip()


def _clean(root: ElementTree.Element, key: str, titles: dict[str, list[str]]) -> None:
    """Give ids to what is referred to and classes to what was classified, and make the rest small."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in root.iter():
        name = element.attrib.pop("id", "")
        if name.startswith(_CLASS):
            element.set("class", name.removeprefix(_CLASS))
            if name.removeprefix(_CLASS) in titles:
                _add_titles(element, titles[name.removeprefix(_CLASS)])
        elif name in used:
            element.set("id", key + name)
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        for attribute, value in element.attrib.items():
            element.set(attribute, _clean_value(attribute, value, key))
    _flatten(root)


def _clean_value(attribute: str, value: str, key: str) -> str:
    value = value.replace("url(#", f"url(#{key}")
    if attribute.endswith("href"):
        return re.sub("^#", f"#{key}", value)
    if attribute == "style":
        # The font is the page's; text is placed by its anchor, so another font's width moves nothing.
        value = re.sub(r"(?<![-\w])font: (?:(\d+) )?([\d.]+px) [^;]+", _set_font, value)
        value = re.sub(r"font-family: [^;]+(?:; )?", "", value)
        return re.sub("#[0-9a-f]{6}", lambda match: _COLOURS.get(match.group(), match.group()), value)
    if attribute in ("d", "x", "y", "transform"):
        return re.sub(r"\s+", " ", re.sub(r"(\.\d)\d+", r"\1", value)).strip()
    return value


def _flatten(element: ElementTree.Element) -> None:
    """Replace groups that say nothing by what is in them."""
    for child in list(element):
        _flatten(child)
        if child.tag == f"{{{SVG}}}g" and not child.attrib:
            place = list(element).index(child)
            element.remove(child)
            for number, grandchild in enumerate(child):
                element.insert(place + number, grandchild)


def _set_font(match: "re.Match[str]") -> str:
    weight, size = match.groups()
    return f"font-size: {size}" + (f"; font-weight: {weight}" if weight else "")


def _add_titles(line: ElementTree.Element, titles: list[str]) -> None:
    markers = line.findall(f".//{{{SVG}}}use")
    if not markers:  # the floor is a dashed line without
        return
    for marker, title in zip(markers, titles, strict=True):
        ElementTree.SubElement(marker, f"{{{SVG}}}title").text = title


def _stand_alone(root: ElementTree.Element) -> None:
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib |= {"width": width, "height": height}
    style = ElementTree.Element(f"{{{SVG}}}style")
    dark = f"@media (prefers-color-scheme:dark){{svg{{{list_variables(dark=True)}}}}}"
    style.text = f"svg{{{list_variables(dark=False)}}}{dark}{_STYLE}"
    fill = f"fill: var(--paper,{ROLES['paper'][0]})"
    page = ElementTree.Element(f"{{{SVG}}}rect", {"width": width, "height": height, "style": fill})
    root.insert(0, page)
    root.insert(0, style)
