"""Images that were changed: what each change does to the pixels, and to the AUROC of a probe that never saw one."""

from pathlib import Path

import numpy as np
import pytest
from phantoms import radiograph
from sklearn.metrics import roc_auc_score

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.perturbations import NEUTRAL, Kind, Perturbation, perturb
from cxrzoo.evaluation.proofs import Shift
from cxrzoo.evaluation.robustness import Embeddings, embed_perturbed, measure_robustness
from cxrzoo.evaluation.sampling.protocols import load_protocol
from cxrzoo.evaluation.sampling.splits import make_split
from cxrzoo.evaluation.tables import LabelTable, table_of_arrays
from cxrzoo.evaluation.untrained import make_untrained

PLAN = load_protocol("default")
DARK, TURNED = Perturbation("gamma", 2.0), Perturbation("rotation", 30.0)


@pytest.mark.parametrize("kind", list(NEUTRAL))
def test_neutral_amounts_change_nothing(kind: Kind) -> None:
    """Gamma, gain and scale of 1 and a turn of 0 give the very pixels back."""
    pixels = radiograph(60, 50)

    assert perturb(pixels, Perturbation(kind, NEUTRAL[kind])).tobytes() == pixels.tobytes()


@pytest.mark.parametrize(
    ("perturbation", "grey", "expected"),
    [
        (Perturbation("gamma", 2.0), 128, 64),  # 255 (128 / 255)²
        (Perturbation("gamma", 0.5), 64, 128),
        (Perturbation("gain", 0.6), 100, 60),
        (Perturbation("gain", 1.4), 100, 140),
        (Perturbation("gain", 1.4), 200, 255),  # beyond white is white
    ],
)
def test_intensities(perturbation: Perturbation, grey: int, expected: int) -> None:
    """Gamma is an exponent on the grey levels in [0, 1], gain a factor."""
    assert {expected} == set(perturb(np.full((4, 4), grey, np.uint8), perturbation).ravel().tolist())


def test_a_quarter_turn_is_counter_clockwise() -> None:
    """Ninety degrees are what NumPy turns counter-clockwise."""
    pixels = radiograph(41, 41)

    np.testing.assert_allclose(perturb(pixels, Perturbation("rotation", 90.0)), np.rot90(pixels), atol=1)


def test_scale_is_about_the_middle() -> None:
    """A square in the middle grows by the factor and stays in the middle; around a smaller image it is black."""
    pixels = np.full((101, 101), 40, np.uint8)
    pixels[40:61, 40:61] = 240

    larger, smaller = (perturb(pixels, Perturbation("scale", factor)) for factor in (2.0, 0.5))

    assert (np.flatnonzero(larger[50] > 140)[[0, -1]] == [30, 70]).all()
    assert (np.flatnonzero(smaller[:, 50] > 140)[[0, -1]] == [45, 55]).all()
    assert (0, 40) == (smaller[10, 10], smaller[50, 30])


@pytest.mark.parametrize(("kind", "amount"), [("gamma", 0.0), ("scale", -1.0), ("rotation", float("nan")), ("hue", 1)])
def test_what_no_image_can_undergo(kind: Kind, amount: float) -> None:
    """Amounts and kinds that make no sense are refused."""
    with pytest.raises(EvaluationError, match="expected"):
        Perturbation(kind, amount)


def make_trial() -> tuple[LabelTable, np.ndarray]:
    """Return a table of 300 images, two a patient, and embeddings whose first entry shows the finding."""
    random = np.random.default_rng(2)
    labels = np.repeat(random.random(150) < 0.5, 2).astype(float)
    table = table_of_arrays(labels, findings=["pneumonia"], patients=np.repeat(np.arange(150), 2).tolist())
    embeddings = random.normal(size=(300, 4)).astype(np.float32)
    embeddings[:, 0] += 3 * labels
    return table, embeddings


@pytest.fixture(scope="module")
def shifts() -> list[Shift]:
    """Two models: "steady" sees the same whatever is done, "shaky" nothing any more once images are turned."""
    table, embeddings = make_trial()
    split = make_split(table, PLAN, 0)
    noise = np.random.default_rng(3).normal(size=(len(split.test), 4)).astype(np.float32)
    seen = embeddings[split.test]
    changed = {"steady": {DARK: seen, TURNED: seen}, "shaky": {DARK: seen, TURNED: noise}}
    clean = {"steady": embeddings, "shaky": embeddings}
    return measure_robustness(table, split, PLAN, clean, changed, {"steady": "shaky"})


def find(shifts: list[Shift], model: str, kind: Kind) -> Shift:
    """Return the only row of a model and a kind of change."""
    (found,) = [shift for shift in shifts if (shift.model, shift.kind) == (model, kind)]
    return found


def test_what_changes_nothing_drops_by_nothing(shifts: list[Shift]) -> None:
    """Equal embeddings have the AUROC of the clean images, and a drop of exactly 0 with an interval of no width."""
    dark = find(shifts, "steady", "gamma")

    assert (0, 0, 0) == (dark.drop.value, dark.drop.lower, dark.drop.upper)
    assert dark.lead is not None and (0, 0, 0) == (dark.lead.value, dark.lead.lower, dark.lead.upper)


def test_what_is_lost_is_the_drop(shifts: list[Shift]) -> None:
    """A model that sees nothing any more falls to chance, and the other's lead is what it was spared."""
    shaky, steady = (find(shifts, name, "rotation") for name in ("shaky", "steady"))
    assert steady.lead is not None and steady.spared is not None

    assert shaky.drop.upper < -0.2 and shaky.auroc.lower < 0.5 < shaky.auroc.upper
    assert steady.lead.lower > 0.2 and ("shaky", "") == (steady.baseline, shaky.baseline)
    assert steady.lead == steady.spared  # both stood alike on clean images
    assert shaky.drop.value == pytest.approx(-steady.spared.value)


def test_figures_are_those_of_the_probe(shifts: list[Shift]) -> None:
    """The AUROC under a change is that of the one probe fitted on clean images, by scikit-learn's formula."""
    from cxrzoo.evaluation.probes import LinearProbe

    table, embeddings = make_trial()
    split = make_split(table, PLAN, 0)
    # one that is as good as any of the grid, on a finding that a single entry shows
    probe = LinearProbe(C=0.1).fit(embeddings[split.train], table.labels[split.train, 0])
    expected = roc_auc_score(table.labels[split.test, 0], probe.decision_function(embeddings[split.test]))

    assert expected == pytest.approx(find(shifts, "steady", "gamma").auroc.value, abs=0.01)


def test_embeddings_of_other_images_are_refused() -> None:
    """One image too few under a perturbation is an error that names the model."""
    table, embeddings = make_trial()
    split = make_split(table, PLAN, 0)

    with pytest.raises(EvaluationError, match="ours: found embeddings of 300 images"):
        measure_robustness(table, split, PLAN, {"ours": embeddings}, {"ours": {DARK: embeddings[split.test][1:]}}, {})


def test_embeddings_are_kept(tmp_path: Path) -> None:
    """What was embedded is read the next time; what was damaged or is of another change is embedded anew."""
    backbone = make_untrained("test_resnet", size=32)
    pictures = [radiograph(40, 40, seed=number) for number in range(3)]
    seen: list[int] = []
    backbone.register_forward_hook(lambda *_: seen.append(1))

    def embed(perturbation: Perturbation) -> Embeddings:
        return embed_perturbed({"net": backbone}, pictures, perturbation, tmp_path)["net"]

    first, again = embed(DARK), embed(DARK)
    assert (1, first.tobytes()) == (len(seen), again.tobytes())

    assert not np.array_equal(first, embed(TURNED))
    for file in tmp_path.glob("*.npy"):
        file.write_bytes(file.read_bytes()[:-1])
    assert first.tobytes() == embed(DARK).tobytes()
    assert 3 == len(seen)
