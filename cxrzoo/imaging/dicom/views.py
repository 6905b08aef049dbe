"""What the attributes of a DICOM image say it shows: anything but a frontal chest radiograph gives a notice."""

import re

from pydicom import Dataset
from pydicom.uid import DigitalXRayImageStorageForProcessing

from cxrzoo.imaging.elements import integers, list_items, name, value_of
from cxrzoo.imaging.report import Report

#: Computed, digital and film radiography, fluoroscopy, angiography, and what was scanned or photographed
#: (PS3.3 C.7.3.1.1.1). Files without the attribute pass.
_RADIOGRAPHS = ("CR", "DX", "RG", "RF", "XA", "OT", "SC", None)

#: Words of View Position for anything but PA and AP (PS3.3 C.8.1.4, C.8.11.5.1.1, and what devices write).
_NOT_FRONTAL = ("LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "SWIMMERS", "DECUB", "OBLIQUE")

#: How terms for Body Part Examined begin that a chest radiograph may bear (PS3.16 annex L).
_CHEST = ("CHEST", "PORTCHEST", "THORA", "LUNG", "RIB", "HEART")


def check_view(dataset: Dataset, report: Report) -> None:
    """Note what is no frontal view of a chest, or not meant to be looked at. Values are not repeated, but for codes."""
    modality = value_of(dataset, "Modality")
    if modality not in _RADIOGRAPHS:
        expected = ", ".join(filter(None, _RADIOGRAPHS))
        # a code of the standard is shown; anything else may be somebody's text
        code = modality if isinstance(modality, str) and modality.isalpha() and len(modality) <= 4 else "no such code"
        report.warn("modality", f"{name('Modality')} is {code}; a radiograph is expected ({expected}).")
    if not _is_frontal(dataset):
        report.warn("view", f"{name('ViewPosition')} says that this is no frontal view; PA or AP is expected.")
    part = value_of(dataset, "BodyPartExamined")
    if part is not None and not str(part).strip().upper().startswith(_CHEST):
        report.warn("body-part", f"{name('BodyPartExamined')} is not the chest; a chest X-ray is expected.")
    if (
        value_of(dataset, "PresentationIntentType") == "FOR PROCESSING"
        or value_of(dataset, "SOPClassUID") == DigitalXRayImageStorageForProcessing
    ):
        report.warn(
            "for-processing",
            f"{name('PresentationIntentType')} is FOR PROCESSING: raw detector values that no reader sees, nearly "
            "without contrast. Use the image FOR PRESENTATION of the same exposure.",
        )
    aspect = integers(dataset, "PixelAspectRatio")
    if aspect and len(set(aspect)) > 1:
        report.warn("aspect", f"{name('PixelAspectRatio')} is not 1:1; the pixels are read as if they were square.")


def _is_frontal(dataset: Dataset) -> bool:
    """Whether nothing says that the view is from the side, oblique, or of somebody who lies on the side."""
    words = re.findall("[A-Z]+", str(value_of(dataset, "ViewPosition") or "").upper())
    # PS3.16 CID 4010: the meanings of views from the side have one of these words, and those of frontal ones have none
    meanings = " ".join(str(item.get("CodeMeaning") or "") for item in list_items(dataset, "ViewCodeSequence"))
    coded = re.findall(r"\blateral|oblique|decubitus", meanings.lower())
    return not coded and not any(word in _NOT_FRONTAL or "LAT" in word for word in words)
