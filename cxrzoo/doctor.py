"""What this installation can read, and what would add the rest."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from cxrzoo import __version__
from cxrzoo.imaging.compressed.codecs import usable_decoders
from cxrzoo.imaging.compressed.syntaxes import SYNTAXES

#: In the order in which one asks for them when something goes wrong.
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "pydicom", "imagecodecs")


@dataclass(frozen=True)
class Row:
    """A transfer syntax of DICOM; `decoder` reads it, and where there is none, the command `remedy` adds one."""

    name: str
    uid: str
    decoder: str
    remedy: str


def examine() -> list[Row]:
    """Return a row for every transfer syntax that cxrzoo knows; no decoder is loaded for it."""
    return [
        Row(syntax.name, syntax.uid, next(iter(usable_decoders(syntax)), ""), syntax.remedy)
        for syntax in SYNTAXES.values()
    ]


def list_versions() -> dict[str, str]:
    """Return the versions of Python, cxrzoo and the packages that matter, without importing any of them."""
    return {"Python": platform.python_version(), "cxrzoo": __version__} | {name: _version(name) for name in _PACKAGES}


def render_examination() -> str:
    """Return versions, transfer syntaxes and the command that adds what is missing, as text of several lines."""
    return "\n".join(_lines())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _lines() -> Iterator[str]:
    for name, number in list_versions().items():
        yield f"{name:12} {number}"
    rows = examine()
    width = max(len(row.name) for row in rows)
    yield "\nDICOM transfer syntaxes, and what reads them here:"
    for row in rows:
        yield f"  {row.name:{width}}  {row.uid:24}  {row.decoder or 'not readable'}"
    remedies = dict.fromkeys(row.remedy for row in rows if not row.decoder)
    yield "\nTo read the rest: " + "; ".join(remedies) if remedies else "\nAll of them can be read."
