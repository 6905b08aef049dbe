"""Draws: nested by patient in the default, and exactly as odd as the papers' own in their protocols."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.sampling.draws import Draw, draw_subsets
from cxrzoo.evaluation.sampling.protocols import Protocol, Step, load_protocol
from cxrzoo.evaluation.sampling.splits import Split
from cxrzoo.evaluation.tables import LabelTable, table_of_arrays

MEANT, MOCO, SHENZHEN, DVME = map(load_protocol, ("default", "moco-cxr", "moco-cxr-shenzhen", "dvme"))
#: Of small tables, too, all steps.
DEFAULT = replace(MEANT, subsets=replace(MEANT.subsets, fewest=0))


def make_table(images: int, patients: int, prevalences: tuple[float, ...], seed: int = 0) -> LabelTable:
    """Return a table of random labels, a tenth of them missing, of patients with various numbers of images."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, len(prevalences))) < prevalences).astype(float)
    labels[rng.random(labels.shape) < 0.1] = np.nan
    labels[:2] = [[1.0], [0.0]]
    return table_of_arrays(labels, patients=rng.integers(0, patients, images).tolist())


def split_at(table: LabelTable, train: int) -> Split:
    """Return a split whose first images are for training, the next ten for validation, the rest for testing."""
    positions = np.arange(len(table))
    return Split(positions[:train], positions[train : train + 10], positions[train + 10 :], "given", "")


def draw(table: LabelTable, protocol: Protocol, seed: int = 0, train: int | None = None) -> list[Draw]:
    """Return the draws from most of a table."""
    return draw_subsets(table, split_at(table, train if train is not None else len(table) - 20), protocol, seed)


@settings(deadline=None, max_examples=40)
@given(
    images=st.integers(120, 400),
    patients=st.integers(30, 300),
    findings=st.integers(1, 4),
    seed=st.integers(0, 10**9),
)
def test_default_draws(images: int, patients: int, findings: int, seed: int) -> None:
    """Whatever the table, draws are nested, hold whole patients of the training part, and have about their size."""
    table = make_table(images, patients, (0.3,) * findings, seed=seed % 1000)
    split = split_at(table, len(table) - 20)
    train_groups = table.groups[split.train]
    largest = int(np.unique(train_groups, return_counts=True)[1].max())

    draws = draw_subsets(table, split, DEFAULT, seed)

    rows = {(found.step, found.number): set(found.rows.tolist()) for found in draws}
    assert [*[(step, n) for step in ("1 %", "5 %", "20 %") for n in range(1, 6)], ("100 %", 1)] == list(rows)
    for number in range(1, 6):
        assert rows["1 %", number] <= rows["5 %", number] <= rows["20 %", number] <= rows["100 %", 1]
    for found in draws:
        drawn = set(table.groups[found.rows].tolist())
        assert np.flatnonzero(np.isin(train_groups, sorted(drawn))).tolist() == found.rows.tolist()
        assert split.valid.tolist() == found.valid.tolist()
    for step in DEFAULT.steps[:-1]:
        for number in range(1, 6):
            assert abs(len(rows[step.label, number]) - (step.fraction or 1) * len(split.train)) <= largest


@settings(deadline=None, max_examples=40)
@given(prevalence=st.floats(0.02, 0.98), seed=st.integers(0, 10**6))
def test_default_draws_are_stratified(prevalence: float, seed: int) -> None:
    """With one image a patient, each draw has its share of the positives to within three."""
    table = make_table(1000, 10**9, (prevalence,), seed=seed)
    split = split_at(table, len(table) - 20)
    positives = (table.labels[split.train, 0] == 1).sum()

    for found in draw_subsets(table, split, DEFAULT, seed):
        share = len(found.rows) / len(split.train)
        assert abs((table.labels[found.rows, 0] == 1).sum() - share * positives) <= 3


def test_draws_differ_and_repeat() -> None:
    """Five draws are five subsets, the same ones for the same seed, others for another."""
    table = make_table(400, 200, (0.3,))

    first, again, other = ([tuple(found.rows.tolist()) for found in draw(table, DEFAULT, seed)] for seed in (1, 1, 2))

    assert len(first) == len(set(first))
    assert (first, []) == (again, sorted(set(first) & set(other) - {first[-1]}))


@pytest.mark.parametrize("prevalences", [(0.02,), (0.02, 0.03, 0.98)])
def test_small_fractions_have_both_classes(prevalences: tuple[float, ...]) -> None:
    """The smallest fraction shows each finding present and absent where it has patients enough for that."""
    table = make_table(1000, 10**9, prevalences)

    assert {()} == {found.lacking for seed in range(20) for found in draw(table, DEFAULT, seed)}


def test_draws_say_what_they_lack() -> None:
    """A draw that is too small to show a finding present and absent says so."""
    table = make_table(130, 10**9, (0.3,))

    smallest = [found for found in draw(table, DEFAULT) if found.step == "1 %"]

    assert {(1, ("finding 1",))} == {(len(found.rows), found.lacking) for found in smallest}


def test_rare_classes_do_not_change_large_draws() -> None:
    """Making sure of rare classes adds no positives where a draw has its share already."""
    table = make_table(2000, 10**9, (0.10,))
    positives = (table.labels[: len(table) - 20, 0] == 1).sum()

    found = [d for seed in range(40) for d in draw(table, DEFAULT, seed) if d.step == "5 %"]

    mean = np.mean([(table.labels[d.rows, 0] == 1).sum() for d in found])
    assert mean == pytest.approx(0.05 * positives, abs=0.25)


def test_every_patient_may_be_drawn() -> None:
    """Each patient is in a draw about as often as the fraction says."""
    table = make_table(220, 10**9, (0.4,))
    often = np.zeros(len(table))
    for seed in range(100):
        for found in draw(table, DEFAULT, seed):
            if found.step == "20 %":
                often[found.rows] += 1

    # 500 x .2 = 100, standard deviation 9
    drawn = often[: len(table) - 20]
    assert (100, True) == (pytest.approx(drawn.mean(), abs=3), bool((np.abs(drawn - 100) < 5 * 9).all()))


def test_coins_are_independent() -> None:
    """MoCo-CXR's draws have binomial sizes, are not nested, and divide patients."""
    table = make_table(1020, 300, (0.3,))
    n = len(table) - 20
    draws = [found for seed in range(60) for found in draw(table, MOCO, seed)]
    sizes = np.array([len(found.rows) for found in draws if found.step == "10 %"])
    ones = [set(found.rows.tolist()) for found in draws if found.step == "1 %"]
    tens = [set(found.rows.tolist()) for found in draws if found.step == "10 %"]

    # 300 draws: mean within 4 standard errors; variance of a variance is about 2 / 300
    assert sizes.mean() == pytest.approx(0.1 * n, abs=4 * np.sqrt(0.09 * n / 300))
    assert sizes.var() == pytest.approx(0.09 * n, rel=0.4)
    inside = sum(len(one & ten) for one, ten in zip(ones, tens, strict=True)) / sum(map(len, ones))
    assert inside == pytest.approx(0.1, abs=0.03)
    groups = table.groups[:n]
    divided = [np.isin(groups[sorted(ten)], np.delete(groups, sorted(ten))).any() for ten in tens]
    assert all(divided)


def test_nested_coins() -> None:
    """Coins of a nested protocol are tossed once a draw."""
    nested = replace(MOCO, subsets=replace(MOCO.subsets, nested=True))

    rows = {(d.step, d.number): set(d.rows.tolist()) for d in draw(make_table(600, 200, (0.3,)), nested)}

    assert all(rows["0.1 %", n] <= rows["1 %", n] <= rows["10 %", n] for n in range(1, 6))


def test_coins_may_lack_classes() -> None:
    """A coin that falls badly is reported, not tossed again."""
    table = make_table(520, 10**9, (0.3,))

    tiny = [found for seed in range(5) for found in draw(table, MOCO, seed) if found.step == "0.1 %"]

    for found in tiny:
        labels = set(table.labels[found.rows, 0].tolist())
        assert (() if {0.0, 1.0} <= labels else ("finding 1",)) == found.lacking
    assert any(found.lacking for found in tiny)


def test_shenzhens_ratio() -> None:
    """Shenzhen's fractions are drawn until the classes are about even."""
    labels = np.random.default_rng(0).permutation(np.repeat([1.0, 0.0], [336, 326]))
    table = table_of_arrays(labels, image_level=True)

    draws = draw_subsets(table, split_at(table, 430), SHENZHEN, 0)

    assert [8, 4, 1] == [sum(d.step == label for d in draws) for label in ("6.25 %", "25 %", "100 %")]
    for found in draws[:-1]:
        assert 0.9 < (labels[found.rows] == 0).sum() / (labels[found.rows] == 1).sum() < 1.2


def test_shenzhens_ratio_out_of_reach() -> None:
    """Uneven classes are refused, with the bounds and another way."""
    with pytest.raises(EvaluationError, match="6.25 % of .* in 10000 tries .* between 0.9 and 1.2 .* use another"):
        draw(make_table(400, 10**9, (0.05,)), SHENZHEN)


def test_dvmes_draws() -> None:
    """DVME's draws are balanced, of exact size, and divide themselves four to one, patients apart."""
    table = make_table(1500, 700, (0.3,))
    split = split_at(table, len(table) - 20)

    draws = draw_subsets(table, split, DVME, 0)

    assert [5, 5, 5] == [sum(d.step == label for d in draws) for label in ("50 images", "500 images", "100 %")]
    for found in draws:
        whole = np.union1d(found.rows, found.valid)
        size = len(split.train) if found.step == "100 %" else int(found.step.removesuffix(" images"))
        assert (size, size) == (len(whole), len(found.rows) + len(found.valid))
        assert abs(len(found.valid) - size / 5) <= 5
        assert set() == set(table.groups[found.rows]) & set(table.groups[found.valid])
        if found.step != "100 %":
            assert size / 2 == (table.labels[whole, 0] == 1).sum()
    assert 15 == len({tuple(found.rows.tolist()) for found in draws})


def test_balance_as_far_as_it_goes() -> None:
    """A class that runs out leaves its place to the others, and no image is taken twice."""
    labels = np.zeros((620, 3))
    labels[:100] = [1, 0, 0]
    labels[100:120] = [0, 1, 0]
    labels[120:140] = [1, 1, 0]
    labels[140:440] = [0, 0, 1]
    order = np.random.default_rng(0).permutation(len(labels))
    table = table_of_arrays(labels[order], image_level=True)

    found = draw_subsets(table, split_at(table, 600), DVME, 0)

    for each in (d for d in found if d.step == "500 images"):
        whole = np.union1d(each.rows, each.valid)
        positives = (table.labels[whole] == 1).sum(axis=0)
        assert 500 == len(whole)
        assert ((table.labels[:600] == 1).sum(axis=0)[:2] == positives[:2]).all()
        rest = (table.labels[whole] != 1).all(axis=1).sum()
        assert (table.labels[:600] != 1).all(axis=1).sum() == rest


def test_balance_of_overlapping_findings() -> None:
    """An image with two findings counts for the one whose turn it was."""
    labels = np.zeros((420, 2))
    labels[:200, 0] = labels[:100, 1] = 1
    order = np.random.default_rng(0).permutation(len(labels))
    table = table_of_arrays(labels[order], image_level=True)

    for found in draw(table, DVME)[:5]:
        # the turns are finding 1, finding 2, none; 50 images are 16 rounds and two more
        assert 16 == (table.labels[np.union1d(found.rows, found.valid)] == 0).all(axis=1).sum()


def test_steps_larger_than_the_table() -> None:
    """A step of more images than there are is left out, where another takes all."""
    assert ["50 images"] * 5 + ["100 %"] * 5 == [found.step for found in draw(make_table(300, 200, (0.4,)), DVME)]


def test_no_step_is_small_enough() -> None:
    """Without such a step, too small a table is an error."""
    protocol = replace(DVME, steps=(Step(5, images=500),))

    with pytest.raises(EvaluationError, match="expected more than the 500 of a step"):
        draw(make_table(300, 200, (0.4,)), protocol)


def test_draws_of_one_patient() -> None:
    """A draw of one patient's images can't be divided."""
    table = table_of_arrays([1, 0] * 60, patients=["one"] * 120)

    with pytest.raises(EvaluationError, match="are of one patient"):
        draw(table, DVME)


@pytest.mark.parametrize("protocol", [DEFAULT, DVME], ids=lambda p: p.name)
def test_the_order_of_findings_draws_nothing_else(protocol: Protocol) -> None:
    """Findings that are equally rare are drawn alike, in whatever order they are named."""
    rng = np.random.default_rng(2)
    labels = np.stack([rng.permutation(np.repeat([1.0, 0.0], [90, 510])) for _ in range(4)], axis=1)
    names, order = ["a", "b", "c", "d"], [3, 1, 0, 2]
    table = table_of_arrays(labels, findings=names, image_level=True)
    other = table_of_arrays(labels[:, order], findings=[names[i] for i in order], image_level=True)

    drawn, again = ([d.rows.tolist() for d in draw(one, protocol, train=600)] for one in (table, other))

    assert drawn == again


def test_the_smallest_step_comes_first() -> None:
    """Steps are drawn from the smallest on, and as they would be drawn in any other place of the protocol."""
    table = make_table(400, 200, (0.3,))
    falling = replace(MOCO, steps=(Step(1), Step(2, fraction=0.5), Step(2, images=20)))

    assert ["20 images", "20 images", "50 %", "50 %", "100 %"] == [d.step for d in draw(table, falling)]


def test_steps_of_few_images_are_left_out() -> None:
    """The default leaves out steps of fewer than eight images, but never the whole."""
    steps = {train: sorted({found.step for found in draw(make_table(300, 200, (0.5,)), MEANT, train=train)})
             for train in (200, 100, 20)}  # fmt: skip

    assert {200: ["100 %", "20 %", "5 %"], 100: ["100 %", "20 %"], 20: ["100 %"]} == steps
