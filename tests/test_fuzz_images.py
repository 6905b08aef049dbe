"""Hundreds of hostile DICOM files and pictures, drawn once and for all from those of `make fuzz`, and all crafted."""

import dataclasses
import itertools
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile import image_campaign, image_mutants, radiographs, viewer
from hostile.campaign import replay
from hostile.generator import generate, list_ids
from hostile.image_campaign import Isolated, list_keys, read_isolated, tabulate, tabulate_isolated
from hostile.verdicts import ANY_IMAGE, Result, judge, refused, shown
from hostile.workers import Finding, Pool

from cxrzoo.errors import ImageError
from cxrzoo.imaging import read_image

#: How much of each section of the campaign is run here.
SHARES = {
    "crafted DICOM": 1,
    "crafted pictures": 1,
    "honest images": 1,
    "mutated headers": 0.03,
    "mutated codestreams": 0.03,
    "mutated pictures": 0.03,
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """A process that reads images under an audit hook."""
    with Pool(1, images=True) as opened:
        yield opened


@pytest.mark.parametrize("section", SHARES)
def test_images_meet_their_verdict(pool: Pool, section: str) -> None:
    """Each file is read, or refused by an ImageError, as it must; with its code, in time and memory, and no more."""
    found = list(pool.run(list_keys(section, SHARES[section])))
    assert found
    assert {} == {finding.key: (finding.wrong, finding.result.summary) for finding in found if finding.wrong}
    largest = max(found, key=lambda finding: finding.result.grown)
    assert largest.result.grown <= image_campaign.MEMORY, largest


def test_there_are_as_many_as_promised() -> None:
    """At least 178 DICOM files and 70 pictures are crafted, and every kind of fault is among them."""
    groups = Counter(case.split("/")[0] for case in list_ids("dicoms"))
    promised = {"attributes": 45, "texts": 28, "tables": 12, "encodings": 18, "fragments": 30, "polyglots": 7}
    assert {} == {group: count for group, count in promised.items() if groups[group] < count}
    assert sum(groups.values()) >= 178
    assert len(list_ids("pictures")) >= 70
    for section in ("mutated headers", "mutated codestreams", "mutated pictures"):
        assert 10_000 == len(list_keys(section))


@pytest.mark.parametrize("name", radiographs.encodings())
def test_encodings_show_the_same_radiograph(name: str) -> None:
    """One radiograph is read from every encoding to the last bit, or as near as a lossy one comes."""
    encoding = radiographs.encodings()[name]
    image = read_image(encoding.data)
    assert encoding.shown.shape == image.shape
    # float32 holds the quotient to 2**-24
    assert encoding.tolerance + 2**-23 >= np.abs(image - encoding.shown).max()


def test_a_map_over_files_never_comes_back_short() -> None:
    """`map` ends early where a StopIteration gets out, as it does of pydicom for frames without fragments."""
    short = [("dicoms", case, 0) for case in list_ids("dicoms") if "frames" in case or "fragments" in case]
    mutants = itertools.chain.from_iterable(
        zip(*(list_keys(section, 0.02) for section in SHARES if section.startswith("mutated")), strict=True)
    )
    files = [generate(*key).data for key in itertools.islice(itertools.chain(short, mutants), 500)]

    def read(data: bytes) -> str:
        try:
            return str(read_image(data).shape)
        except ImageError as error:
            return error.code

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert 500 == len(files) == len(list(map(read, files)))


def test_isolated_readers_answer_for_every_file() -> None:
    """An isolated reader gives one result a file, the same in two runs, and the one that this process comes to."""
    keys = [*list_keys("mutated headers", 0.005), *list_keys("mutated codestreams", 0.005)]
    keys += [("dicoms", f"deflated/{title}", 0) for title in ("2 GiB of zeros", "noise")]
    first, second = read_isolated(keys), read_isolated(keys)
    assert len(keys) == len(first.verdicts)
    assert first.verdicts == second.verdicts
    assert 0 < first.peak <= image_campaign.MEMORY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for key, verdict in list(zip(keys, first.verdicts, strict=True))[::10]:
            try:
                here = ("read", viewer.digest(read_image(generate(*key).data)))
            except ImageError as error:
                here = (error.code, "")
            assert here == verdict, key


def test_a_mutant_is_never_the_honest_file() -> None:
    """Every mutant changes something, also where the sums of its chunks are mended."""
    for name, seed in itertools.product(image_mutants.NAMES, range(20)):
        mutant = generate("image mutants", f"mutant/{name}", seed).data
        assert mutant != image_mutants.make_seed(name).data


@pytest.mark.parametrize(
    ("family", "case"), [("dicoms", "cuts/explicit, half"), ("pictures", "chunks/no IEND")], ids=["DICOM", "PNG"]
)
def test_a_case_can_be_replayed(capsys: pytest.CaptureFixture[str], family: str, case: str) -> None:
    """An image by its family, id and seed is read anew, and says what it does."""
    assert 0 == replay(generate(family, case))
    assert "as expected" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (Result("read"), refused("header")),
        (Result("ImageError", code="damaged"), refused("header")),
        (Result("ImageError", code="damaged"), shown()),
        (Result("read", notices=("bits",)), shown()),
        (Result("read"), shown("bits")),
        (Result("read", seconds=10.5), ANY_IMAGE),
        (Result("escaped", "StopIteration"), ANY_IMAGE),
        (Result("crashed"), ANY_IMAGE),
        (Result("hung"), ANY_IMAGE),
        (Result("read", strays=("import x",)), ANY_IMAGE),
        (Result("read", faults=("pixels that are no numbers",)), ANY_IMAGE),
    ],
    ids=str,
)
def test_verdicts_can_fail(result: Result, expected: object) -> None:
    """Whatever differs from what is expected is a finding."""
    assert judge(expected, result)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "image",
    [
        np.array([[np.nan]], np.float32),
        np.array([[np.inf]], np.float32),
        np.array([[1.01]], np.float32),
        np.array([[-0.01]], np.float32),
        np.array([[0.5]]),
        np.zeros((2, 2, 3), np.float32),
        np.zeros((0, 2), np.float32),
    ],
    ids=lambda image: f"{image.dtype} {image.ravel()[:1]} {image.shape}",
)
def test_wrong_pixels_are_noticed(image: "np.ndarray") -> None:  # type: ignore[type-arg]
    """The proof that pixels are what they must be is able to fail."""
    assert 1 == len(viewer.check(image))


def test_the_viewer_notices_what_gets_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another exception, a foreign warning, and a patient's name in a text are findings."""

    def stop(path: Path, **options: object) -> object:
        raise StopIteration

    def warn(path: Path, **options: object) -> object:
        warnings.warn("of pydicom", UserWarning, stacklevel=1)
        raise ImageError("the patient is CANARY^NAME", "header", "header")

    monkeypatch.setattr(viewer, "read_image", stop)
    assert "escaped" == viewer.view(tmp_path)["outcome"]
    monkeypatch.setattr(viewer, "read_image", warn)
    assert ["warning: UserWarning", "it repeats what may identify a patient"] == viewer.view(tmp_path)["faults"]


GOOD = (
    Finding(("image mutants", "mutant/header/rle", 0), ANY_IMAGE, Result("read", sha256="a"), ()),
    Finding(("image mutants", "mutant/header/rle", 1), ANY_IMAGE, Result("ImageError", code="header"), ()),
)
SECTIONS = {section: list(GOOD) for section in SHARES}
VERDICTS = [("read", "a"), ("header", "")] * len(SHARES)


def test_the_tables_are_met_where_all_is_well() -> None:
    """Every line of both tables is met if every finding is as expected."""
    runs = Isolated(VERDICTS, 100), Isolated(VERDICTS, 100)
    assert [] == [row for row in (*tabulate(SECTIONS), *tabulate_isolated(SECTIONS, *runs)) if not row.met]


@pytest.mark.parametrize(
    ("bad", "missed"),
    [
        (Result("crashed"), "deaths"),
        (Result("hung"), "processor time"),
        (Result("read", seconds=11), "processor time"),
        (Result("escaped"), "exceptions"),
        (Result("read", grown=1600), "memory"),
        (Result("read", strays=("import x",)), "imports"),
        (Result("read", faults=("nan",)), "finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_table_misses_what_went_wrong(bad: Result, missed: str) -> None:
    """A single finding that differs is enough to miss a goal."""
    finding = dataclasses.replace(GOOD[0], result=bad)
    rows = tabulate({section: [*findings, finding] for section, findings in SECTIONS.items()})
    assert any(missed in row.property for row in rows if not row.met)


@pytest.mark.parametrize("section", SHARES)
def test_wrong_verdicts_miss_their_line(section: str) -> None:
    """What is wrong with a finding is counted in the line of its section."""
    bad = [*GOOD, dataclasses.replace(GOOD[1], wrong=("expected read",))]
    assert 1 == sum(not row.met for row in tabulate(SECTIONS | {section: bad}))


@pytest.mark.parametrize(
    ("second", "missed"),
    [
        (Isolated(VERDICTS[:-1], 100), "one result a file"),
        (Isolated([("read", "b"), *VERDICTS[1:]], 100), "two runs"),
        (Isolated(VERDICTS, 1600), "memory"),
    ],
    ids=["short", "another digest", "memory"],
)
def test_the_table_misses_what_isolated_readers_got_wrong(second: Isolated, missed: str) -> None:
    """Results that are missing or differ, and a worker that takes too much, miss their line."""
    rows = tabulate_isolated(SECTIONS, Isolated(VERDICTS, 100), second)
    assert any(missed in row.property for row in rows if not row.met)


@pytest.mark.parametrize(("verdict", "missed"), [(("timeout", ""), "hangs"), (("read", "b"), "as in process")])
def test_the_table_misses_what_is_other_than_in_process(verdict: tuple[str, str], missed: str) -> None:
    """A hang, and pixels that this process reads in another way, miss their line."""
    run = Isolated([verdict, *VERDICTS[1:]], 100)
    assert any(missed in row.property for row in tabulate_isolated(SECTIONS, run, run) if not row.met)
