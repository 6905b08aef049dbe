"""Whose an image is: what must not stand on both sides of a split."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import TableError
from cxrzoo.evaluation.tables.columns import tell_column

#: How to take each image for a patient of its own.
_IMAGE_LEVEL = "`--image-level` (Python: image_level=True)"
PatientIds = Literal["global", "per-split"]
_SHOWN = 10


def group_images(
    patients: Sequence[str] | None,
    splits: NDArray[np.str_] | None,
    used: NDArray[np.bool_],
    *,
    image_level: bool,
    patient_ids: str,
) -> NDArray[np.str_]:
    """Return the patient of each row, or the row's number where each image is taken for a patient of its own.

    Args:
        used: Which rows need a patient.

    Raises:
        TableError: There is no column of patients, one of those rows has none, or what numbers them anew is missing.
    """
    if image_level:
        return np.arange(1, len(used) + 1).astype(str)
    if patients is None:
        raise TableError(
            "no column with patients was found. Images of a patient resemble each other, so that figures look too good "
            f"where a patient is in training and test. Say which column with {tell_column('patient')}, or take each "
            f"image for a patient of its own with {_IMAGE_LEVEL}."
        )
    empty = [row for row, (patient, needed) in enumerate(zip(patients, used, strict=True), 1) if needed and not patient]
    if empty:
        raise TableError(
            f"found {len(empty)} rows without a patient, the first is row {empty[0]}. Fill them in, delete the rows, "
            f"or take each image for a patient of its own with {_IMAGE_LEVEL}."
        )
    if patient_ids == "global":
        return np.array(patients)
    if splits is None:
        raise TableError(f"patients numbered anew in each part need a column with the parts: {tell_column('split')}.")
    return np.array([f"{part}/{patient}" for part, patient in zip(splits, patients, strict=True)])


def check_crossing(groups: NDArray[np.str_], parts: NDArray[np.str_], rows: NDArray[np.int64]) -> None:
    """Check that all images of a patient are in one part of a split.

    Raises:
        TableError: Some are not; the message names rows of theirs.
    """
    first: dict[str, int] = {}
    crossing: dict[str, int] = {}
    for position, (group, part) in enumerate(zip(groups.tolist(), parts.tolist(), strict=True)):
        if parts[first.setdefault(group, position)] != part:
            crossing.setdefault(group, position)
    if not crossing:
        return
    pairs = [(int(rows[first[group]]), int(rows[position])) for group, position in crossing.items()][: _SHOWN // 2]
    shown = ", ".join(f"{one} and {other}" for one, other in pairs)
    raise TableError(
        f"patients in more than one part of the split: {len(crossing)}, rows {shown}"
        f"{' and others' if len(crossing) > len(pairs) else ''}. Figures on such a test set look too good. Where each "
        "part numbers its patients anew, so that these are others, say `--patients-per-split` (Python: "
        "patient_ids='per-split'); else move their images to one part, or let a split be drawn with "
        f"{tell_column('split', '')}."
    )


def name_studies(studies: Sequence[str], patients: Sequence[str] | None) -> NDArray[np.str_]:
    """Return names of studies that are unique in the table; a row without one is a study of its own.

    Public sets number the studies of each patient anew (CheXpert has a "study1" of every patient).
    """
    owners = patients if patients is not None else [""] * len(studies)
    named = zip(owners, studies, strict=True)
    return np.array([f"{owner}/{study}" if study else f"row {row}" for row, (owner, study) in enumerate(named, 1)])
