"""Splits: patients stay together, shares and findings are kept, and a split can be drawn again or read back."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrzoo.errors import TableError
from cxrzoo.evaluation.sampling.protocols import load_protocol
from cxrzoo.evaluation.sampling.splits import Split, make_split, replay_split, write_split
from cxrzoo.evaluation.tables import LabelTable, read_table, table_of_arrays

DEFAULT = load_protocol("default")
SHENZHEN = load_protocol("moco-cxr-shenzhen")


def make_table(
    images: int = 400, patients: int = 150, prevalences: tuple[float, ...] = (0.3,), seed: int = 0, **options: object
) -> LabelTable:
    """Return a table of random labels, a tenth of them missing, of patients with various numbers of images."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, len(prevalences))) < prevalences).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    labels[:2] = [[1.0], [0.0]]
    return table_of_arrays(labels, patients=rng.integers(0, patients, images).tolist(), **options)  # type: ignore[arg-type]


def parts_of(split: Split) -> dict[str, list[int]]:
    """Return the positions of each part."""
    return {"train": split.train.tolist(), "valid": split.valid.tolist(), "test": split.test.tolist()}


def crossing(table: LabelTable, split: Split) -> set[str]:
    """Return the patients that are in several parts."""
    sets = [set(table.groups[positions].tolist()) for positions in (split.train, split.valid, split.test)]
    return (sets[0] & sets[1]) | (sets[0] & sets[2]) | (sets[1] & sets[2])


@settings(deadline=None, max_examples=60)
@given(
    images=st.integers(60, 300),
    patients=st.integers(25, 200),
    findings=st.integers(1, 5),
    seed=st.integers(0, 2**64),
)
def test_drawn_splits(images: int, patients: int, findings: int, seed: int) -> None:
    """Whatever the table and the seed, parts have no patient in common, and together they are the table."""
    table = make_table(images, patients, (0.3,) * findings, seed=seed % 1000)

    split = make_split(table, DEFAULT, seed)

    assert set() == crossing(table, split)
    assert list(range(len(table))) == sorted([*split.train, *split.valid, *split.test])
    largest = int(np.unique(table.groups, return_counts=True)[1].max())
    assert abs(len(split.test) - 0.20 * len(table)) <= largest
    assert abs(len(split.valid) - 0.15 * len(table)) <= 2 * largest
    assert "drawn" == split.origin


@settings(deadline=None, max_examples=40)
@given(prevalence=st.floats(0.02, 0.98), seed=st.integers(0, 10**6))
def test_drawn_splits_are_stratified(prevalence: float, seed: int) -> None:
    """With one image a patient, each part has its share of the positives to within three."""
    table = make_table(1000, 10**9, (prevalence,), seed=seed)
    positive = table.labels[:, 0] == 1

    split = make_split(table, DEFAULT, seed)

    for part, share in ((split.test, 0.20), (split.valid, 0.15), (split.train, 0.65)):
        assert abs(positive[part].sum() - share * positive.sum()) <= 3


def test_rare_findings_are_stratified() -> None:
    """Of several findings, the rarest are spread over the parts nearly exactly, the others better than by chance."""
    table = make_table(3000, 10**9, (0.01, 0.05, 0.2, 0.5))
    positive = (table.labels == 1).sum(axis=0)
    deviations = np.array(
        [(table.labels[make_split(table, DEFAULT, seed).test] == 1).sum(axis=0) - 0.20 * positive for seed in range(50)]
    )
    by_chance = np.sqrt(0.2 * 0.8 * positive)

    assert (np.abs(deviations[:, 0]) <= 3).all()
    assert (deviations.std(axis=0) < 0.6 * by_chance).all()


def test_seeds() -> None:
    """A seed gives its split again, and another seed another one."""
    table = make_table()

    splits = [make_split(table, DEFAULT, seed) for seed in (3, 3, 4)]

    assert parts_of(splits[0]) == parts_of(splits[1])
    assert splits[0].sha256 == splits[1].sha256 != splits[2].sha256


def test_every_patient_may_be_tested() -> None:
    """Each patient is a test patient about as often as the share says."""
    table = make_table(200, 10**9)

    often = np.zeros(len(table))
    for seed in range(400):
        often[make_split(table, DEFAULT, seed).test] += 1

    # 400 x .2 = 80, standard deviation 8
    assert (80, True) == (pytest.approx(often.mean(), abs=2), bool((np.abs(often - 80) < 5 * 8).all()))


def test_given_splits() -> None:
    """A table's own split is used as it is."""
    words = ["train"] * 200 + ["valid"] * 100 + ["test"] * 100
    table = make_table(patients=10**9, splits=words)
    names = np.array(words)[table.rows - 1]

    split = make_split(table, DEFAULT, 0)

    assert {part: np.flatnonzero(names == part).tolist() for part in ("train", "valid", "test")} == parts_of(split)
    assert "given" == split.origin


def test_validation_out_of_given_training() -> None:
    """Where a given split has no validation images, they are drawn out of training by patient, in proportion."""
    words = ["train"] * 320 + ["test"] * 80
    table = make_table(patients=100, splits=words, patient_ids="per-split")
    given = table.splits
    assert given is not None

    split = make_split(table, DEFAULT, 0)

    assert np.flatnonzero(given == "test").tolist() == split.test.tolist()
    assert abs(len(split.valid) - 0.15 / 0.80 * (given == "train").sum()) <= 4
    assert sorted([*split.train, *split.valid]) == np.flatnonzero(given == "train").tolist()
    assert set() == crossing(table, split)


def test_no_validation_where_draws_have_their_own() -> None:
    """A protocol whose draws divide themselves gets no validation images."""
    assert 0 == len(make_split(make_table(), load_protocol("dvme"), 0).valid)


@pytest.mark.parametrize("seed", range(5))
def test_shenzhens_bounds(seed: int) -> None:
    """Coins are tossed until test and validation have even classes and sizes within 5 percent, as for the paper."""
    labels = np.repeat([1.0, 0.0], [336, 326])
    table = table_of_arrays(labels, image_level=True)

    split = make_split(table, SHENZHEN, seed)

    for part, share in ((split.test, 0.20), (split.valid, 0.15)):
        assert 0.9 < (labels[part] == 0).sum() / (labels[part] == 1).sum() < 1.2
        assert abs(len(part) - share * 662) <= 0.05 * share * 662


def test_shenzhens_coin_keeps_patients_together() -> None:
    """The coin is tossed for a patient, where patients are known."""
    table = make_table(660, 300, (0.5,))

    assert set() == crossing(table, make_split(table, SHENZHEN, 0))


def test_shenzhens_bounds_out_of_reach() -> None:
    """A table whose classes are not even is refused, with the bounds and another way."""
    with pytest.raises(TableError, match=r"between 0.9 and 1.2 images without .* within 5 %.* use another"):
        make_split(make_table(prevalences=(0.05,)), SHENZHEN, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "train", "valid", "valid"], "the given split has no test images: 2 train, 2 valid, 0 test"),
        (["test", "valid", "test", "test"], "the given split has no train images"),
        (["train", "test", "test", "test"], "the given split has no train images: 0 train, 1 valid"),
    ],
)
def test_parts_without_images(words: list[str], message: str) -> None:
    """A split without images in a part is refused, with the counts."""
    table = table_of_arrays([1, 0, 1, 0], patients=[1, 2, 3, 4], splits=words)

    with pytest.raises(TableError, match=message):
        make_split(table, DEFAULT, 0)


def test_too_few_patients() -> None:
    """Two patients can't be split in three."""
    table = table_of_arrays([1, 0, 1, 0], patients=[1, 1, 2, 2])

    with pytest.raises(TableError, match="the drawn split has no .* images: .* of 2 patients. Give a larger table"):
        make_split(table, DEFAULT, 0)


def test_replay(tmp_path: Path) -> None:
    """A split that was written is read back as it was, for a table whose rows moved, too."""
    table = make_table(paths=[f"Jürgen, {i}.png" for i in range(400)])
    split = make_split(table, DEFAULT, 0)
    write_split(tmp_path / "split.csv", table, split)
    moved = table.keep(np.arange(len(table))[::-1])

    replayed = replay_split(tmp_path / "split.csv", table)
    of_moved = replay_split(tmp_path / "split.csv", moved)

    assert (parts_of(split), "replayed", split.sha256) == (parts_of(replayed), replayed.origin, replayed.sha256)
    assert (split.sha256, (len(table) - 1 - split.test[::-1]).tolist()) == (of_moved.sha256, of_moved.test.tolist())


def test_split_file(tmp_path: Path) -> None:
    """The file names each image as the table does, beside its part, and is a column of splits for a table."""
    table = table_of_arrays([1, 0, 1], patients=[1, 2, 3], splits=["train", "test", "valid"], paths=["a", "b", "c"])
    write_split(tmp_path / "split.csv", table, make_split(table, DEFAULT, 0))

    assert "path,split\na,train\nb,test\nc,valid\n" == (tmp_path / "split.csv").read_text(encoding="utf-8")
    assert ("a", "b", "c") == read_table(tmp_path / "split.csv", [], image_level=True).paths


def test_replay_of_other_images(tmp_path: Path) -> None:
    """A split that lacks images of the table is refused with their number and the first row."""
    table = make_table()
    fewer = table.keep(np.arange(7, len(table)))
    write_split(tmp_path / "fewer.csv", fewer, make_split(fewer, DEFAULT, 0))

    with pytest.raises(TableError, match=f"7 of the table's {len(table)} are not in it, row {table.rows[0]} the first"):
        replay_split(tmp_path / "fewer.csv", table)


def test_replay_for_fewer_images(tmp_path: Path) -> None:
    """Images that another policy doesn't use are no matter: the others stay in the parts they were in."""
    labels = np.tile([1.0, 0.0, -1.0], 60)
    tables = [table_of_arrays(labels, image_level=True, uncertain=policy) for policy in ("positive", "ignore")]
    split = make_split(tables[0], DEFAULT, 0)
    write_split(tmp_path / "split.csv", tables[0], split)

    replayed = replay_split(tmp_path / "split.csv", tables[1])

    certain = labels[tables[0].rows - 1] != -1
    for before, after in zip(parts_of(split).values(), parts_of(replayed).values(), strict=True):
        expected = tables[0].rows[[position for position in before if certain[position]]]
        assert expected.tolist() == tables[1].rows[after].tolist()
    assert split.sha256 != replayed.sha256


def test_no_split_file(tmp_path: Path) -> None:
    """A split file that is not there is refused by its option and the last part of its path."""
    with pytest.raises(TableError, match=r"`--split` .*can't be read: split\.csv: No such file"):
        replay_split(tmp_path / "split.csv", make_table())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,split\n1,train\n2,test\n3,valid\n3,test\n", "names 1 images again"),
        ("path,part\n1,train\n2,test\n3,valid\n", "the split has the columns path, part, expected path and split"),
        ("path,split\n1,train\n2,test\n3,train\n", "patients in more than one part of the split: 1, rows 2 and 3"),
        ("path,split\n1,train\n2,train\n3,train\n", "the replayed split has no test images"),
        ("path,split\n1,train\n2,exam\n3,train\n", "row 2: its part of the split is 'exam'"),
    ],
)
def test_malformed_split_files(tmp_path: Path, text: str, message: str) -> None:
    """A file that is no split of this table, or one through a patient, is refused."""
    table = table_of_arrays([1, 0, 1], patients=[1, 2, 2])
    (tmp_path / "split.csv").write_text(text, encoding="utf-8")

    with pytest.raises(TableError, match=message):
        replay_split(tmp_path / "split.csv", table)


def test_unreadable_images_leave() -> None:
    """A split follows its table when rows leave: the others stay where they were, under the digest of the whole."""
    table = make_table()
    split = make_split(table, DEFAULT, 0)
    kept = np.delete(np.arange(len(table)), [0, 5, 9])

    left = split.keep(kept)

    for before, after in zip(parts_of(split).values(), parts_of(left).values(), strict=True):
        assert sorted(set(before) - {0, 5, 9}) == kept[after].tolist()
    assert split.sha256 == left.sha256


def test_nothing_left() -> None:
    """A part of which no image is left is an error that names the part."""
    split = make_split(make_table(), DEFAULT, 0)

    with pytest.raises(TableError, match="no image of the test part"):
        split.keep(np.union1d(split.train, split.valid))


def test_the_order_of_findings_splits_nothing_else() -> None:
    """Findings that are equally rare are split alike, in whatever order they are named."""
    rng = np.random.default_rng(2)
    labels = np.stack([rng.permutation(np.repeat([1.0, 0.0], [90, 510])) for _ in range(4)], axis=1)
    tables = [table_of_arrays(labels[:, order], image_level=True) for order in ([0, 1, 2, 3], [3, 1, 0, 2])]

    first, second = (parts_of(make_split(table, DEFAULT, 0)) for table in tables)

    assert first == second
