"""Tables of labels: what is read, what it means, and what is refused with the row and the way out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED

from cxrzoo.errors import TableError
from cxrzoo.evaluation.tables import LabelTable, read_table, table_of_arrays

ROWS = "path,patient,pneumonia\na.png,p1,1\nb.png,p1,0\nc.png,p2,\nd.png,p3,-1\n"


def write(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    """Return a file with this content."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes, findings: tuple[str, ...] = ("pneumonia",), **options: object) -> LabelTable:
    """Return the table that a CSV file with this content holds."""
    return read_table(write(folder, text), findings, **options)  # type: ignore[arg-type]


def test_a_table_is_read(tmp_path: Path) -> None:
    """Rows without a label to use are left out, and the others keep the numbers they have in the file."""
    table = read(tmp_path, ROWS)

    assert (("a.png", "b.png"), [1, 2]) == (table.paths, table.rows.tolist())
    assert ([[1.0], [0.0]], ["p1", "p1"]) == (table.labels.tolist(), table.groups.tolist())
    assert {"pneumonia": {"positive": 1, "negative": 1, "missing": 1, "uncertain": 1}} == table.counts
    assert (2, "patient", "ignore") == (table.unlabelled, table.grouped_by, table.uncertain)
    assert [tmp_path / "a.png", tmp_path / "b.png"] == table.files


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        ROWS.replace("\n", "\r\n"),
        "\ufeff" + ROWS,
        ROWS.encode("utf-16"),
        ROWS.replace("a.png", '"a.png"'),
        ROWS.replace("\nb", "\n\nb"),
        ROWS.replace("p1,1", "p1,1.0").replace("p1,0", "p1,FALSE"),
        ROWS.replace(",", ";").replace("p1;1", "p1;1,0"),
        ROWS.replace("p2,", "p2,NaN"),
        ROWS.replace("path,patient", "Image Index,Patient ID"),
        ROWS.replace("path,patient,pneumonia", "filepath, subject_id ,Pneumonia"),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_dialects_say_the_same(tmp_path: Path, text: str | bytes) -> None:
    """Delimiters, line ends, encodings, quotes, spellings of labels and of columns make no difference."""
    table = read(tmp_path, text)

    assert (("a.png", "b.png"), [[1.0], [0.0]]) == (table.paths, table.labels.tolist())
    assert ["p1", "p1"] == table.groups.tolist()


def test_other_sources_say_the_same(tmp_path: Path) -> None:
    """A Parquet file and a data frame give the table, and the digest, that the CSV file gives."""
    csv = read(tmp_path, ROWS)
    frame = pd.read_csv(write(tmp_path, ROWS))
    frame.to_parquet(tmp_path / "table.parquet")

    assert csv.sha256 == read_table(tmp_path / "table.parquet", ["pneumonia"]).sha256
    assert csv.sha256 == read_table(frame, ["pneumonia"]).sha256


def test_latin_1(tmp_path: Path) -> None:
    """A file that is not UTF-8 is taken for Latin-1."""
    assert "Jürgen.png" == read(tmp_path, ROWS.replace("a.png", "Jürgen.png").encode("latin-1")).paths[0]


@pytest.mark.parametrize(("policy", "expected"), [("ignore", [1, 0]), ("positive", [1, 0, 1]), ("negative", [1, 0, 0])])
def test_uncertain_labels(tmp_path: Path, policy: str, expected: list[int]) -> None:
    """An uncertain label is not used, or taken as 1 or 0, as the policy says, and is counted all the same."""
    table = read(tmp_path, ROWS, uncertain=policy)

    assert (expected, policy) == (table.labels[:, 0].tolist(), table.uncertain)
    assert 1 == table.counts["pneumonia"]["uncertain"]


def test_against_a_control(tmp_path: Path) -> None:
    """With a control column, an image without the finding counts only where that column is 1."""
    text = "path,patient,pneumonia,no_finding\na,1,1,0\nb,2,0,1\nc,3,0,0\nd,4,0,\n"

    table = read(tmp_path, text, against="no_finding")

    assert (("a", "b"), [[1.0], [0.0]]) == (table.paths, table.labels.tolist())
    assert {"positive": 1, "negative": 1, "missing": 2, "uncertain": 0} == table.counts["pneumonia"]
    assert "no_finding" == table.against


def test_an_uncertain_negative_needs_its_control(tmp_path: Path) -> None:
    """With a control column, an uncertain label that is taken for negative counts only where that column is 1."""
    text = "path,patient,pneumonia,no_finding\na,1,1,0\nb,2,0,1\nc,3,-1,0\nd,4,-1,1\n"

    table = read(tmp_path, text, against="no_finding", uncertain="negative")

    assert ("a", "b", "d") == table.paths
    assert {"positive": 1, "negative": 2, "missing": 0, "uncertain": 2} == table.counts["pneumonia"]


def test_several_findings(tmp_path: Path) -> None:
    """A row stays as long as one of its labels can be used."""
    table = read(tmp_path, "path,patient,x,y\na,1,1,\nb,2,0,1\nc,3,,0\nd,4,,\n", ("x", "y"))

    np.testing.assert_array_equal([[1, np.nan], [0, 1], [np.nan, 0]], table.labels)
    assert (("x", "y"), 1) == (table.findings, table.unlabelled)


def test_image_level(tmp_path: Path) -> None:
    """When asked, each image is its own patient, and a table needs no column of patients."""
    table = read(tmp_path, "path,pneumonia\na,\nb,1\nc,0\n", image_level=True)

    assert (["2", "3"], "image") == (table.groups.tolist(), table.grouped_by)


def test_patients_are_needed_where_labels_are(tmp_path: Path) -> None:
    """A row that is left out needs no patient."""
    assert ("a.png", "b.png") == read(tmp_path, ROWS.replace("p2", "")).paths


def test_studies_are_those_of_a_patient(tmp_path: Path) -> None:
    """Equal numbers of studies of two patients are two studies, and an image without one is a study of its own."""
    table = read(tmp_path, "path,patient,study,pneumonia\na,1,s1,1\nb,1,s1,0\nc,2,s1,0\nd,2,,0\n")

    assert table.studies is not None
    assert ["1/s1", "1/s1", "2/s1", "row 4"] == table.studies.tolist()


def test_words_of_splits(tmp_path: Path) -> None:
    """The usual words for the parts of a split are understood."""
    table = read(tmp_path, "path,patient,Split,pneumonia\na,1,Training,1\nb,2,val,0\nc,3,TEST,0\nd,4,dev,1\n")

    assert table.splits is not None
    assert ["train", "valid", "test", "valid"] == table.splits.tolist()


CROSSING = "path,patient,split,pneumonia\na,1,train,1\nb,1,test,0\nc,2,test,0\nd,3,train,\ne,3,test,1\n"


def test_crossing_patients(tmp_path: Path) -> None:
    """Patients in several parts are refused, naming rows, not patients; rows without labels don't count."""
    with pytest.raises(
        TableError,
        match=r"more than one part of the split: 1, rows 1 and 2\..*`--patients-per-split` .*`--column split=`",
    ):
        read(tmp_path, CROSSING)


def test_many_crossing_patients(tmp_path: Path) -> None:
    """Of many crossing patients, at most ten rows are named."""
    lines = [f"{part}{i},{i},{part},{i % 2}" for part in ("train", "test") for i in range(30)]

    with pytest.raises(TableError, match="split: 30, rows 1 and 31, .* 5 and 35 and others"):
        read(tmp_path, "\n".join(["path,patient,split,pneumonia", *lines]))


def test_patients_numbered_anew(tmp_path: Path) -> None:
    """Where each part numbers its patients anew, equal numbers are different patients."""
    table = read(tmp_path, CROSSING, patient_ids="per-split")

    assert ["train/1", "test/1", "test/2", "test/3"] == table.groups.tolist()


def test_columns_that_are_not_used(tmp_path: Path) -> None:
    """An empty name says that a column is not to be used."""
    assert read(tmp_path, CROSSING, columns={"split": ""}).splits is None


def test_named_columns(tmp_path: Path) -> None:
    """Columns with other names, or of several candidates, are used when they are named."""
    text = "Datei,image,pid,pneumonia\na.png,1,x,1\nb.png,2,y,0\n"

    table = read(tmp_path, text, columns={"path": "Datei", "patient": "pid"})

    assert (("a.png", "b.png"), ["x", "y"]) == (table.paths, table.groups.tolist())


def test_root(tmp_path: Path) -> None:
    """Paths start from the folder that is given, and the digest does not depend on it."""
    table = read(tmp_path, ROWS, root=tmp_path / "images")

    assert tmp_path / "images" / "a.png" == table.files[0]
    assert read(tmp_path, ROWS).sha256 == table.sha256


@pytest.mark.parametrize(
    "changed",
    [
        ROWS.replace("p1,0", "p9,0"),
        ROWS.replace("p3,-1", "p3,1"),
        ROWS.replace("a.png", "z.png"),
        ROWS.replace("path,patient,pneumonia", "path,patient,PNEUMONIA"),
    ],
)
def test_digest_tells_tables_apart(tmp_path: Path, changed: str) -> None:
    """Another patient, label, path or finding gives another digest."""
    assert read(tmp_path, ROWS).sha256 != read(tmp_path, changed).sha256


def test_keep(tmp_path: Path) -> None:
    """Rows can be dropped: everything of the others stays, but for the digest."""
    table = read(tmp_path, "path,patient,study,view,pneumonia\na,1,s,PA,1\nb,2,t,AP,0\nc,3,u,PA,1\n")

    kept = table.keep([2, 0])

    assert (("c", "a"), [3, 1], ["3", "1"]) == (kept.paths, kept.rows.tolist(), kept.groups.tolist())
    assert kept.views is not None and kept.studies is not None
    assert (["PA", "PA"], ["3/u", "1/s"]) == (kept.views.tolist(), kept.studies.tolist())
    assert table.sha256 != kept.sha256


def test_no_findings(tmp_path: Path) -> None:
    """Without findings, a table is its images: all rows stay."""
    assert ("a.png", "b.png", "c.png", "d.png") == read(tmp_path, ROWS, ()).paths


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the table is empty"),
        ("path,patient,pneumonia\n", {}, "has no rows"),
        (b"PK\x03\x04", {}, "Excel workbook or a zip file. Save it as CSV"),
        (b"\x89PNG\0\0", {}, "no text. Give a CSV or Parquet"),
        (b"PAR1 no more", {}, "no readable Parquet file"),
        (ROWS.replace("b.png,p1,0", "b.png,p1,0,7"), {}, "row 2 of the table has 4 cells, expected 3"),
        (ROWS.replace("b.png", '"b.png'), {}, "row 2 of the table is no CSV"),
        (
            ROWS.replace("path", "where"),
            {},
            "no column with the paths .* where, patient, pneumonia.*--column path=NAME",
        ),
        (
            ROWS.replace("path", "image").replace("patient", "file"),
            {},
            "several columns could be the path: 'image', 'f",
        ),
        (ROWS.replace("patient", "who"), {}, "no column with patients.*--column patient=NAME.*--image-level"),
        (ROWS.replace("pneumonia", "pneumona"), {}, "no column is named 'pneumonia'. Did you mean 'pneumona'"),
        (ROWS.replace("patient", "pneumonia"), {}, "2 columns are named 'pneumonia'"),
        (
            ROWS.replace("p1,0", "p1,maybe"),
            {},
            "row 2, column 'pneumonia': found 'maybe', expected 1, 0, -1 .uncertain.",
        ),
        (ROWS.replace("p1,0", "p1,2"), {}, "row 2, column 'pneumonia': found '2'"),
        (ROWS.replace("p1,0", "p1,inf"), {}, "row 2, column 'pneumonia': found 'inf'"),
        (ROWS.replace("p1,1", "p1,0"), {}, "'pneumonia': found 0 positive, 2 negative, 1 missing, 1 uncertain"),
        (ROWS.replace("p1,0", "p1,1"), {}, "'pneumonia': found 2 positive, 0 negative"),
        (ROWS.replace("b.png", "a.png"), {}, "rows 1 and 2 have the same path"),
        (ROWS.replace("b.png", "./a.png"), {}, "rows 1 and 2 have the same path"),
        (ROWS.replace("b.png", ""), {}, "row 2 has no path"),
        (ROWS.replace("b.png,p1", "b.png,"), {}, "found 1 rows without a patient, the first is row 2"),
        (
            CROSSING.replace("a,1,train", "a,1,fold1"),
            {},
            "row 1: its part of the split is 'fold1'.*--column split=NAME",
        ),
        (CROSSING.replace("a,1,train", "a,1,"), {}, "row 1: its part of the split is ''"),
        (ROWS, {"uncertain": "drop"}, "uncertain='drop', expected one of ignore, positive, negative"),
        (ROWS, {"patient_ids": "mine"}, "patient_ids='mine', expected one of global, per-split"),
        (ROWS, {"patient_ids": "per-split"}, "numbered anew .*--column split=NAME"),
        (ROWS, {"against": "pneumonia"}, "its own control"),
        (ROWS, {"against": "no_finding"}, "no column is named 'no_finding'.*--against NAME"),
        (
            ROWS,
            {"columns": {"patients": "patient"}},
            "'patients' is no role of a column, expected one of path, patient",
        ),
        (ROWS, {"columns": {"path": "paht"}}, "no column is named 'paht'. Did you mean 'path'"),
        (ROWS, {"findings": ("pneumonia", "Pneumonia")}, "a finding is named twice"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_refused(tmp_path: Path, text: str | bytes, options: dict[str, object], message: str) -> None:
    """What can't be used is refused with row, column and the way out."""
    with pytest.raises(TableError, match=message):
        read(tmp_path, text, **options)  # type: ignore[arg-type]


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is a TableError, which says the option and the last part of the path."""
    with pytest.raises(TableError, match=r"`--data` .*can't be read: labels\.csv: No such file") as caught:
        read_table(tmp_path / "labels.csv", ["x"])

    assert str(tmp_path) not in str(caught.value)


def test_labels_in_words(tmp_path: Path) -> None:
    """With a positive word, cells that say it are 1 in whatever case, empty ones missing, and all others 0."""
    text = "path,patient,diagnosis\na,1,Pneumonia\nb,2,normal\nc,3,\nd,4,PNEUMONIA\ne,5,tuberculosis\n"

    table = read(tmp_path, text, ("diagnosis",), positive="pneumonia")

    assert (("a", "b", "d", "e"), [1, 0, 1, 0]) == (table.paths, table.labels[:, 0].tolist())
    assert {"positive": 2, "negative": 2, "missing": 1, "uncertain": 0} == table.counts["diagnosis"]
    with pytest.raises(TableError, match=r"no cell says 'flu'; the first says 'Pneumonia'.*--positive VALUE"):
        read(tmp_path, text, ("diagnosis",), positive="flu")
    with pytest.raises(TableError, match=r"row 1, column 'diagnosis': found 'Pneumonia'.*`--positive VALUE`"):
        read(tmp_path, text, ("diagnosis",))


def test_a_positive_word_is_not_looked_for_in_controls(tmp_path: Path) -> None:
    """The control column keeps its 1 and 0 where the finding is told by a word."""
    text = "path,patient,diagnosis,healthy\na,1,flu,0\nb,2,none,1\nc,3,none,0\n"

    table = read(tmp_path, text, ("diagnosis",), positive="flu", against="healthy")

    assert (("a", "b"), [1, 0]) == (table.paths, table.labels[:, 0].tolist())


def test_messages_name_no_images(tmp_path: Path) -> None:
    """Names of images and patients stay out of the messages."""
    with pytest.raises(TableError) as caught:
        read(tmp_path, CROSSING.replace("a,1,", "secret.png,mueller,").replace("b,1,", "hidden.png,mueller,"))

    assert not {"secret", "hidden", "mueller"} & set(str(caught.value).replace(".", " ").split())


def test_arrays() -> None:
    """Arrays give the same table as a file: labels 1, 0, -1 and NaN, patients, and numbers of rows for paths."""
    table = table_of_arrays([1, 0, np.nan, -1], findings=["path"], patients=[7, 7, 8, 9])

    assert (("1", "2"), ("path",), ["7", "7"]) == (table.paths, table.findings, table.groups.tolist())
    assert {"positive": 1, "negative": 1, "missing": 1, "uncertain": 1} == table.counts["path"]


def test_arrays_with_all_columns() -> None:
    """Studies, views, splits and paths of arrays are kept, and findings without names are numbered."""
    table = table_of_arrays(
        np.array([[1, 0], [0, 1]]),
        patients=np.array([1, 2]),
        studies=["s", "s"],
        views=["PA", "AP"],
        splits=["train", "test"],
        paths=[Path("x.png"), "y.png"],
    )

    assert (("finding 1", "finding 2"), ("x.png", "y.png")) == (table.findings, table.paths)
    assert table.studies is not None and table.views is not None and table.splits is not None
    assert (["1/s", "2/s"], ["PA", "AP"]) == (table.studies.tolist(), table.views.tolist())
    assert ["train", "test"] == table.splits.tolist()


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([[1, 0]], {"findings": ["x"], "image_level": True}, r"shape \(1, 2\) and 1 findings"),
        ([[[1]]], {"image_level": True}, "shape"),
        (["a", "b"], {"image_level": True}, "no array of numbers"),
        ([1, 0], {"patients": [1]}, "found 1 values of patient, expected 2"),
        ([1, 0], {}, "no column with patients"),
        ([1, 2], {"image_level": True}, "row 2, column 'finding 1': found '2.0'"),
    ],
)
def test_refused_arrays(labels: list[object], options: dict[str, object], message: str) -> None:
    """Arrays of other lengths, shapes or values are refused."""
    with pytest.raises(TableError, match=message):
        table_of_arrays(labels, **options)  # type: ignore[arg-type]


@pytest.mark.data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared radiographs are not here")
def test_shared_tables() -> None:
    """The shared tables hold what their description says; Kermany numbers its patients anew in each part."""
    kermany = read_table(SHARED / "kermany.csv", ["label"], patient_ids="per-split")
    nih = read_table(SHARED / "nih.csv", ["pneumonia"], against="no_finding")

    assert kermany.splits is not None
    assert (5808, 618) == (len(kermany), int((kermany.splits == "test").sum()))
    assert {"positive": 265, "negative": 305, "missing": 233, "uncertain": 0} == nih.counts["pneumonia"]
    with pytest.raises(TableError, match="more than one part of the split: 170, rows"):
        read_table(SHARED / "kermany.csv", ["label"])


def test_a_finding_may_be_named() -> None:
    """NAME=COLUMN calls the labels of a column by another name; a column with that very name is taken as it is."""
    table = pd.DataFrame({"path": ["a", "b"], "patient": ["1", "2"], "label": ["1", "0"], "x=label": ["0", "1"]})

    named, plain = (read_table(table, [finding]) for finding in ("pneumonia=label", "x=label"))

    assert (("pneumonia",), [1, 0]) == (named.findings, named.labels[:, 0].tolist())
    assert (("x=label",), [0, 1]) == (plain.findings, plain.labels[:, 0].tolist())
    with pytest.raises(TableError, match="no column is named 'lable'"):
        read_table(table, ["pneumonia=lable"])
