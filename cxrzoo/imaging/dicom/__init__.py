"""A DICOM file or dataset -> the grey image that a reader sees. Never reads an attribute about the patient."""

import itertools
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import Shrink, as_floats, from_channels
from cxrzoo.imaging.dicom.display import displayed
from cxrzoo.imaging.dicom.layout import GREY, PALETTE, Layout, read_layout
from cxrzoo.imaging.dicom.stored import Samples, read_samples
from cxrzoo.imaging.dicom.views import check_view
from cxrzoo.imaging.dicom.voi import list_windows
from cxrzoo.imaging.elements import get, integers, list_items, name
from cxrzoo.imaging.guard import guarded
from cxrzoo.imaging.report import Report

#: Which grey levels: those of interest, as a viewer shows them first, or all that the stored bits allow.
Intensity = Literal["window", "full_range"]

_SUBJECT = "The DICOM file"
#: Chroma that is this close to the middle comes from rounding, not from colour.
_CHROMA_TOLERANCE = 2

#: Explanations of windows are a word or two.
_SHOWN = 24

#: Functional groups, and the attributes of the whole image that each stands in for.
_MACROS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    "FrameVOILUTSequence": (
        "WindowCenter",
        "WindowWidth",
        "WindowCenterWidthExplanation",
        "VOILUTFunction",
        "VOILUTSequence",
    ),
}


def from_dataset(
    dataset: Dataset,
    report: Report,
    *,
    frame: int | None = None,
    window: str | int | None = None,
    intensity: Intensity = "window",
    shrink: Shrink | None = None,
) -> NDArray[np.float32]:
    """Return the image as (rows, columns) in [0, 1], air dark. The dataset is left as it was.

    Raises:
        ImageError: It holds no single image of 8 to 16 bits, or is damaged.
    """
    with guarded(_SUBJECT, "header"):
        layout = read_layout(dataset, frame)
        dataset = with_frame_attributes(dataset, layout.frame)
        check_view(dataset, report)
        report.kind = f"DICOM, {layout.syntax.name}, {layout.interpretation}, {layout.stored} bits"
        report.size = layout.rows, layout.columns
        report.windows = [_plain(each) for each in itertools.chain.from_iterable(list_windows(dataset))]
        if layout.frames > 1:
            report.step(f"frame {layout.frame} of {layout.frames}, counted from 0")
    with guarded(_SUBJECT, "decode"):
        if "PixelPaddingValue" in dataset or layout.interpretation == PALETTE:
            shrink = None  # an average with padding is neither, and one of a palette's numbers is any colour
        samples = read_samples(dataset, layout, report, shrink)
    with guarded(_SUBJECT, "display"):
        if layout.interpretation in GREY:
            return displayed(samples, dataset, layout, report, window, intensity)
        return _grey_of_colour(samples, dataset, layout, report)


def _plain(text: str) -> str:
    """Return what can be shown of a free text of a file: no control characters, and not a long text."""
    return "".join(letter for letter in text if letter.isprintable())[:_SHOWN]


def with_frame_attributes(dataset: Dataset, frame: int) -> Dataset:
    """Return the dataset with what the functional groups say of one frame (PS3.3 C.7.6.16), itself if nothing."""
    groups = []
    for keyword, position in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        items = list_items(dataset, keyword)
        groups += [items[position]] if position < len(items) else []
    flat = Dataset()
    for macro, replaced in _MACROS.items():
        items = [item for group in groups for item in list_items(group, macro)[:1]]
        if items and not flat:
            flat.update(dataset)
        for item in items:
            for keyword in replaced:
                flat.pop(keyword, None)
            flat.update(item)
    return flat or dataset


def _check_palette(dataset: Dataset) -> None:
    """Refuse a palette that contradicts itself (PS3.3 C.7.6.3.1.5); pydicom would read past it, or guess."""
    descriptors = []
    for colour in ("Red", "Green", "Blue"):
        keyword = f"{colour}PaletteColorLookupTable"
        descriptor = integers(dataset, f"{keyword}Descriptor")
        count, _, bits = descriptor if descriptor and len(descriptor) == 3 else (0, 0, 0)
        data = get(dataset, f"{keyword}Data") or b""
        # Entries of 8 bits may be packed two to a word, or have a word each.
        whole = f"Segmented{keyword}Data" in dataset or len(data) >= (count or 2**16) * (bits // 8)
        if bits not in (8, 16) or not whole:
            raise ImageError(
                f"{name(f'{keyword}Descriptor')} is missing, or does not fit its table, which gives PALETTE COLOR its "
                "colours. Export the image again.",
                "header",
                "display",
            )
        descriptors.append(descriptor)
    if len({tuple(each or ()) for each in descriptors}) > 1:
        raise ImageError(
            "The three tables of PALETTE COLOR have different descriptors. Export the image again.",
            "contradiction",
            "display",
        )


def _grey_of_colour(samples: Samples, dataset: Dataset, layout: Layout, report: Report) -> NDArray[np.float32]:
    """Return the luma of a secondary capture; windows don't apply to colour (PS3.3 C.7.6.3.1.2)."""
    cells = samples.cells
    if layout.interpretation == PALETTE:
        _check_palette(dataset)
        cells = apply_color_lut(samples.values[cells].astype(cells.dtype), dataset)
        report.step("palette applied")
    elif samples.luma_first:
        off = int(np.abs(cells[:, :, 1:].astype(np.int16) - 128).max())
        if off > _CHROMA_TOLERANCE:
            report.warn("colour", f"The picture is in colour (chroma up to {off} of 128); its luma is used.")
        report.step("luma taken")
        cells = cells[:, :, 0]
    return as_floats(from_channels(cells, report))
