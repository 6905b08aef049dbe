"""From logits to curves, differences and ranking: against scikit-learn, replicate by replicate."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import MACRO, Contender, Interval, Rank
from cxrzoo.evaluation.report.recommendation import recommend
from cxrzoo.evaluation.sampling.draws import Draw
from cxrzoo.evaluation.sampling.protocols import Bootstrap, load_protocol
from cxrzoo.evaluation.statistics.bootstrap import draw_counts
from cxrzoo.evaluation.statistics.curves import Curves, Targets, _redraw, combine_studies, measure

IMAGES, FINDINGS = 160, ("effusion", "oedema")
PLAIN = Bootstrap(200, "row", "percentile", "plain")


def make_draws() -> list[Draw]:
    """Return two draws of one fraction and one of all images."""
    empty = np.array([], np.int64)
    steps = [("10 %", 1, 16), ("10 %", 2, 20), ("100 %", 1, 160)]
    return [Draw(step, number, np.arange(size), empty, ()) for step, number, size in steps]


def make_targets(seed: int = 0, *, missing: float = 0.0, per_patient: int = 1) -> Targets:
    """Return test images with labels, some of them missing."""
    random = np.random.default_rng(seed)
    labels = (random.random((IMAGES, 2)) < [0.3, 0.5]).astype(float)
    labels[random.random(labels.shape) < missing] = np.nan
    patients = np.array([f"p{i // per_patient}" for i in range(IMAGES)])
    return Targets(FINDINGS, labels, patients)


def make_logits(targets: Targets, strength: float, seed: int) -> np.ndarray:
    """Return logits (draws, images, findings) that know something of the labels."""
    noise = np.random.default_rng(seed).normal(size=(3, IMAGES, 2))
    return noise + strength * np.nan_to_num(targets.labels)


def measured(targets: Targets, bootstrap: Bootstrap = PLAIN, **strengths: float) -> tuple[Curves, dict]:
    """Return the curves of models of these strengths, the first being the baseline, and their logits."""
    logits = {(name, "linear"): make_logits(targets, s, i) for i, (name, s) in enumerate(strengths.items())}
    positives = np.full((3, 2), 5)
    return measure(logits, targets, make_draws(), positives, next(iter(strengths)), bootstrap, seed=3), logits


def resampled(labels: np.ndarray, scores: np.ndarray, counts: np.ndarray, score: object) -> list[float]:
    """Return a metric in each replicate, rows written out as often as they were drawn."""
    return [score(np.repeat(labels, column), np.repeat(scores, column)) for column in counts.T]  # type: ignore[operator]


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize(("metric", "score"), [("auroc", roc_auc_score), ("auprc", average_precision_score)])
def test_point_is_the_mean_over_draws(metric: str, score: object, missing: float) -> None:
    """A point is the mean over its draws of scikit-learn's figure, its interval the percentiles of that mean."""
    targets = make_targets(missing=missing)
    curves, logits = measured(targets, ours=1.0)
    counts = draw_counts(IMAGES, replicates=200, seed=[3, 4])
    used = ~np.isnan(targets.labels[:, 1])
    labels, of_model = targets.labels[used, 1], logits["ours", "linear"][:2, used, 1]
    point = next(p for p in curves.points if (p.finding, p.fraction) == ("oedema", "10 %"))

    values = np.mean([resampled(labels, scores, counts[used], score) for scores in of_model], axis=0)
    expected = [np.mean([score(labels, s) for s in of_model]), *np.quantile(values, (0.025, 0.975))]  # type: ignore[operator]

    found = getattr(point, metric)
    np.testing.assert_allclose([found.value, found.lower, found.upper], expected, rtol=0, atol=1e-12)
    assert (point.images, point.positives, point.draws) == (18, 5, 2)


def test_spread_is_that_of_the_draws() -> None:
    """The spread is the standard deviation of the AUROC over the draws; a single draw has none."""
    targets = make_targets()
    curves, logits = measured(targets, ours=1.0)
    aurocs = [roc_auc_score(targets.labels[:, 0], logits["ours", "linear"][draw, :, 0]) for draw in (0, 1)]
    spread = {p.fraction: p.spread for p in curves.points if p.finding == "effusion"}

    assert spread["10 %"] == pytest.approx(np.std(aurocs, ddof=1), abs=1e-12)
    assert spread["100 %"] is None


def test_macro_is_the_mean_over_findings() -> None:
    """The mean over the findings stands beside them, with the interval of that mean."""
    curves, _ = measured(make_targets(), ours=1.0)
    values = {p.finding: p.auroc.value for p in curves.points if p.fraction == "100 %"}

    assert values[MACRO] == pytest.approx((values["effusion"] + values["oedema"]) / 2, abs=1e-12)


def test_difference_is_paired() -> None:
    """A difference is taken replicate by replicate, on the same rows, before the percentiles are."""
    targets = make_targets()
    curves, logits = measured(targets, base=0.2, ours=2.0)
    counts = draw_counts(IMAGES, replicates=200, seed=[3, 4])
    base, ours = (
        np.mean([resampled(targets.labels[:, 0], s, counts, roc_auc_score) for s in logits[n, "linear"][:2, :, 0]], 0)
        for n in ("base", "ours")
    )
    found = next(d for d in curves.differences if (d.finding, d.fraction) == ("effusion", "10 %"))

    expected = np.quantile(ours - base, (0.025, 0.975))
    np.testing.assert_allclose([found.difference.lower, found.difference.upper], expected, rtol=0, atol=1e-12)
    assert (found.model, found.baseline, found.significant) == ("ours", "base", True)


def test_equal_predictions_differ_by_nothing() -> None:
    """Two models with the same logits differ by exactly 0, in an interval of [0, 0], which is not significant."""
    targets = make_targets()
    logits = {(name, "linear"): make_logits(targets, 1.0, 0) for name in ("one", "two")}
    curves = measure(logits, targets, make_draws(), np.full((3, 2), 5), "one", PLAIN)

    assert {dataclasses.astuple(d.difference) for d in curves.differences} == {(0.0, 0.0, 0.0)}
    assert not any(d.significant or d.bonferroni for d in curves.differences)
    assert [rank.best_share for rank in curves.ranking] == [0.5, 0.5]


def test_positions_rule_is_the_papers() -> None:
    """The protocol of the paper gives the mean of 500 replicates, and their sorted values 11 and 486, from 0."""
    targets = make_targets(per_patient=4)
    bootstrap = load_protocol("moco-cxr").bootstrap
    curves, logits = measured(targets, bootstrap, ours=1.0)
    counts = draw_counts(IMAGES, replicates=500, seed=[3, 4])
    single = resampled(targets.labels[:, 0], logits["ours", "linear"][2, :, 0], counts, roc_auc_score)
    found = next(p.auroc for p in curves.points if (p.finding, p.fraction) == ("effusion", "100 %"))

    ordered = np.sort(single)
    np.testing.assert_allclose(
        dataclasses.astuple(found), [np.mean(single), ordered[11], ordered[486]], rtol=0, atol=1e-12
    )


def test_patients_are_drawn_whole() -> None:
    """With clusters of patients, intervals are wider where the images of a patient are alike."""
    targets = make_targets(per_patient=4)
    alike = np.repeat(make_logits(targets, 0.0, 1)[:, ::4], 4, axis=1) + np.repeat(targets.labels[::4], 4, axis=0)
    same = dataclasses.replace(targets, labels=np.repeat(targets.labels[::4], 4, axis=0))
    widths = {}
    for clusters in ("row", "patient"):
        bootstrap = Bootstrap(400, clusters, "percentile", "plain")  # type: ignore[arg-type]
        curves = measure({("ours", "linear"): alike}, same, make_draws(), np.full((3, 2), 5), "ours", bootstrap)
        interval = next(p.auroc for p in curves.points if p.finding == "effusion")
        widths[clusters] = interval.upper - interval.lower

    assert 1.5 * widths["row"] < widths["patient"]


def test_study_takes_its_greatest_logit() -> None:
    """A study counts once: the greatest logit of its images; positive if one image is, unused if none is used."""
    labels = np.array([[1.0], [0.0], [0.0], [np.nan], [np.nan]])
    targets = Targets(("effusion",), labels, np.array(list("aabbc")), np.array(["s1", "s1", "s2", "s2", "s3"]))
    logits = np.array([[[1.0], [3.0], [-1.0], [-2.0], [0.5]]])

    combined, of_model = combine_studies(targets, {("ours", "linear"): logits})

    np.testing.assert_array_equal(combined.labels, [[1], [0], [np.nan]])
    np.testing.assert_array_equal(of_model["ours", "linear"], [[[3], [-1], [0.5]]])
    assert combined.patients.tolist() == ["a", "b", "c"]


def test_a_fraction_with_one_class_is_left_out() -> None:
    """A fraction of which a draw had one class only has no figure, for that finding and the mean, and says so."""
    targets = make_targets()
    logits = make_logits(targets, 1.0, 0)
    logits[1, :, 0] = np.nan
    curves = measure({("ours", "linear"): logits}, targets, make_draws(), np.full((3, 2), 5), "ours", PLAIN)

    assert {(p.finding, p.fraction) for p in curves.points} == {
        ("oedema", "10 %"),
        *((finding, "100 %") for finding in (*FINDINGS, MACRO)),
    }
    assert len(curves.left_out) == 1
    assert "effusion at 10 %" in curves.left_out[0]


def test_bonferroni_is_stricter() -> None:
    """What survives the correction is significant without it; with many comparisons less survives."""
    targets = make_targets()
    curves, _ = measured(targets, base=0.5, **{f"m{i}": 0.5 + 0.08 * i for i in range(8)})

    assert all(d.significant for d in curves.differences if d.bonferroni)
    assert sum(d.bonferroni for d in curves.differences) < sum(d.significant for d in curves.differences)


def ranks(**behind: tuple[float, float] | None) -> list[Rank]:
    """Return a ranking, each model behind the best by an interval."""
    return [
        Rank(name, "linear", Interval(0.9, 0.88, 0.92), 0.97, gap and Interval(sum(gap) / 2, *gap))  # type: ignore[arg-type]
        for name, gap in behind.items()
    ]


def contenders(*names: str) -> list[Contender]:
    """Return contenders; those that begin with "floor" are untrained."""
    return [Contender(n, "untrained" if n.startswith("floor") else "model", "", "", "", 8) for n in names]


@pytest.mark.parametrize(
    ("ranking", "says", "never"),
    [
        (ranks(a=None, b=(0.01, 0.03)), "Take a: its AUROC for effusion", "can't tell"),
        (ranks(a=None, b=(-0.01, 0.03), c=(0.01, 0.02)), "tell it from b (.010 (−.010 to .030) behind)", "Take"),
        (ranks(a=None, floor=(0.05, 0.1)), "no other model was compared", "isn't shown"),
        (ranks(a=None, floor=(-0.01, 0.1)), "isn't shown to be better than an untrained network", "The floor"),
        (
            ranks(a=None, b=(0.01, 0.03), floor=(-0.01, 0.1)),
            "a has the highest AUROC for effusion, averaged over 1 % and 100 % of the labels, of .900 (.880 to .920), "
            "but isn't shown to be better than an untrained network",
            "Take",
        ),
        (ranks(floor=None, a=(-0.01, 0.02)), "a reaches an AUROC", "Take"),
        (ranks(floor=None, a=(0.01, 0.02)), "Take none of these yet", "Take a"),
        (ranks(floor=None), "Only untrained networks", "Take"),
    ],
)
def test_recommendation(ranking: list[Rank], says: str, never: str) -> None:
    """The sentence names a winner only where the interval of its lead excludes 0, and says where the floor is."""
    names = [rank.model for rank in ranking]
    text = recommend(ranking, contenders(*names), ["effusion"], 200, 1)

    assert says in text
    assert never not in text


def test_a_rival_in_another_mode_is_named() -> None:
    """A model that is as good when it is probed in another way is no less a rival."""
    first, second = Interval(0.9, 0.88, 0.92), Interval(0.899, 0.88, 0.92)
    near, far = Interval(0.001, -0.02, 0.02), Interval(0.05, 0.02, 0.08)
    ranking = [
        Rank("a", "linear", first, 1.0),
        Rank("b", "linear", Interval(0.85, 0.8, 0.9), 0.0, far, far),
        Rank("b", "end-to-end", second, 1.0, None, near),
        Rank("a", "end-to-end", Interval(0.8, 0.7, 0.9), 0.0, Interval(0.099, 0.05, 0.15), Interval(0.1, 0.05, 0.15)),
    ]
    text = recommend(ranking, contenders("a", "b"), ["effusion"], 200, 2)

    assert "200 test images can't tell it from b (fine-tuning) (.001 (−.020 to .020) behind)" in text
    assert "Take" not in text


def test_one_fraction_is_no_average() -> None:
    """With one label fraction nothing was averaged, and with studies no images were tested."""
    text = recommend(
        ranks(a=None, b=(-0.01, 0.03)), contenders("a", "b"), ["effusion"], 200, 1, fractions=["100 %"], unit="studies"
    )

    assert "averaged" not in text
    assert "200 test studies can't tell" in text


def test_models_are_ranked_over_modes() -> None:
    """Each rank says how far it is behind the first of its mode, and behind the first of all."""
    targets = make_targets()
    logits = {
        (name, mode): make_logits(targets, strength, seed)
        for seed, (name, mode, strength) in enumerate(
            [("a", "linear", 1.0), ("b", "linear", 0.5), ("a", "knn", 0.8), ("b", "knn", 0.2)]
        )
    }
    curves = measure(logits, targets, make_draws(), np.full((3, 2), 5), "a", PLAIN)  # type: ignore[arg-type]
    values = {(rank.model, rank.mode): rank.average.value for rank in curves.ranking}

    assert [("a", "linear"), ("b", "linear"), ("a", "knn"), ("b", "knn")] == list(values)
    for rank in curves.ranking:
        for found, leader in ((rank.behind, ("a", rank.mode)), (rank.behind_first, ("a", "linear"))):
            gap = None if (rank.model, rank.mode) == leader else values[leader] - values[rank.model, rank.mode]
            assert gap == (found if found is None else pytest.approx(found.value, abs=1e-12))


def test_ranks_fall_as_they_are_shown() -> None:
    """The order is that of the figures shown, which may be means of replicates, and no model is ahead of the first."""
    targets = make_targets()
    logits = {(f"m{seed}", "linear"): make_logits(targets, 0.5, seed) for seed in range(30)}
    bootstrap = Bootstrap(40, "row", "positions", "bootstrap mean")
    curves = measure(logits, targets, make_draws(), np.full((3, 2), 5), "m0", bootstrap)  # type: ignore[arg-type]
    shown = [rank.average.value for rank in curves.ranking]

    assert shown == sorted(shown, reverse=True)
    assert all(rank.behind is None or rank.behind.value >= 0 for rank in curves.ranking)


def test_nothing_to_rank_is_refused() -> None:
    """Without a figure at any fraction there is nothing to rank, and the error says why."""
    targets = make_targets()
    logits = np.full((3, IMAGES, 2), np.nan)

    with pytest.raises(EvaluationError, match="no finding has a figure at any label fraction"):
        measure({("a", "linear"): logits}, targets, make_draws(), np.full((3, 2), 5), "a", PLAIN)


@pytest.mark.parametrize(
    ("gap", "says"),
    [
        ((0.01, 0.02), None),
        ((-0.01, 0.02), "At 100 % of the labels the two can't be told"),
        ((-0.03, -0.01), "b is ahead by .020 (.010 to .030)"),
    ],
)
def test_a_lead_that_ends_with_more_labels(gap: tuple[float, float], says: str | None) -> None:
    """The sentence says where the average is led by small fractions, and the largest tells another story."""
    from cxrzoo.evaluation.comparison import Interval

    best, rival = ranks(a=None, b=(0.01, 0.03))
    rival = dataclasses.replace(rival, behind_last=Interval(sum(gap) / 2, *gap))
    text = recommend([best, rival], contenders("a", "b"), ["effusion"], 200, 1)

    assert text.startswith("Take a")
    assert ("At 100 %" not in text and "But" not in text) if says is None else says in text


def test_draws_are_drawn_anew() -> None:
    """Two models that differ by the luck of the draws differ by an interval that holds 0, once draws are drawn anew."""
    targets, random = make_targets(), np.random.default_rng(8)
    empty = np.array([], np.int64)
    draws = [Draw("10 %", number, np.arange(16), empty, ()) for number in range(1, 6)]
    luck = {name: random.normal(0, 1.5, 5) for name in ("one", "two")}
    logits = {
        (name, "linear"): np.stack([make_logits(targets, 1.5 + of_draw, 4)[0] for of_draw in lucky])
        for name, lucky in luck.items()
    }
    widths = {}
    for anew in (False, True):
        bootstrap = Bootstrap(400, "row", "percentile", "plain", draws=anew)
        (found, *_) = measure(logits, targets, draws, np.full((5, 2), 5), "one", bootstrap).differences
        widths[anew] = found.difference.upper - found.difference.lower

    assert 2 * widths[False] < widths[True]


def test_weights_of_redrawn_draws_have_the_variance_of_a_mean() -> None:
    """The replicates of the mean of D draws have the variance s²/D, with s² the unbiased variance of the draws."""
    weights = _redraw(5, Bootstrap(20_000, "row", "percentile", "plain", draws=True), 0)
    values = np.array([0.7, 0.8, 0.85, 0.75, 0.95])

    np.testing.assert_allclose(weights.sum(axis=0), 1)
    assert (values @ weights).mean() == pytest.approx(values.mean(), abs=1e-3)
    assert (values @ weights).var() == pytest.approx(values.var(ddof=1) / 5, rel=0.03)
    assert set(_redraw(1, Bootstrap(50, "row", "percentile", "plain", draws=True), 0).ravel()) == {1.0}
