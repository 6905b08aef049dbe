"""Evidence as Markdown: what was found, and how to repeat it."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from cxrzoo.evaluation.cells import group, mark, show_auroc, show_lead, show_saved, show_signed
from cxrzoo.evaluation.comparison import Comparison, Difference
from cxrzoo.evaluation.proofs import FOUND, Evidence, Race, Shift, read_all, summarise
from cxrzoo.figures import make_table

_LEGEND = "▲ and ▼: above or below, where the 95 % interval of the paired difference excludes 0."


def render_evidence(docs: Path) -> str:
    """Return all evidence, a section each."""
    sections = [_render(entry) for entry in read_all(docs)]
    return "\n\n".join(sections) if sections else "Nothing has been measured yet."


def _render(evidence: Evidence) -> str:
    parts = [f"### {evidence.title}"]
    parts += [f"![{evidence.title}]({FOUND}/{name})" for name in list_pictures(evidence)]
    if evidence.comparisons:
        parts += _render_comparisons(evidence.comparisons)
    if evidence.races:
        parts += _render_races(evidence.races)
    if evidence.shifts:
        parts += _render_shifts(evidence.shifts)
    tables = ", ".join(f"{name} `{digest[:12]}`" for name, digest in evidence.data.items())
    weights = ", ".join(f"{model.name} `{model.weights_sha256[:12]}`" for model in evidence.models)
    parts += [" ".join(evidence.notes)] if evidence.notes else []
    parts.append(
        f"All figures: [{evidence.name}.json]({FOUND}/{evidence.name}.json). Repeat it with `{evidence.command}`. Seed "
        f"{evidence.seed}, cxrzoo {evidence.versions.get('cxrzoo', '')} at commit `{evidence.commit}`, "
        f"{evidence.created[:10]}. Tables: {tables}. Weights: {weights} (sha256)."
    )
    return "\n\n".join(parts)


def list_pictures(evidence: Evidence) -> list[str]:
    """Return the names of the curves of some evidence, as `draw_evidence` makes them."""
    several = [*(shift.kind for shift in evidence.shifts), *(race.baseline for race in evidence.races)]
    # of "untrained:NAME" the name: a file's name has no colon
    names = [name.rpartition(":")[2] for name in dict.fromkeys(several)]
    return [f"{evidence.name}-{name}.svg" for name in names] or [f"{evidence.name}.svg"]


def _render_comparisons(comparisons: Sequence[Comparison]) -> list[str]:
    whole = comparisons[0]
    finding = whole.findings[0]
    points = [point for point in whole.points if (point.finding, point.mode) == (finding, "linear")]
    header = ["AUROC (95 % interval)", *whole.fractions]
    rows = [
        [f"`{name}`", *(show_auroc(point.auroc) for point in of_model)]
        for name, of_model in group(points, lambda point: point.model)
    ]
    test = next(part for part in whole.setting.parts if part.name == "test")
    parts = [
        f"Linear probe, protocol `{whole.setting.protocol.get('name', '')}`, {test.images:,} test images of "
        f"{test.patients:,} patients, {test.positives[finding]:,} with the finding. {' '.join(whole.notes)}",
        make_table(header, rows),
    ]
    for comparison in comparisons:
        trained = {contender.name for contender in comparison.contenders if contender.kind != "untrained"}
        leads = [row for row in comparison.differences if (row.finding, row.mode) == (finding, "linear")]
        of_models = group(leads, lambda row: row.model)
        header = [f"less `{comparison.baseline}`", *comparison.fractions]
        cells = [[f"`{name}`", *(show_lead(row.difference) for row in of_model)] for name, of_model in of_models]
        parts += [make_table(header, cells)] if cells else []
        parts += [_tell_labels(name, of_model) for name, of_model in of_models if name in trained]
    return [*parts, _LEGEND]


def _tell_labels(name: str, rows: Sequence[Difference]) -> str:
    """Return in a sentence whether a model helps most where labels are few."""
    shown = [row for row in rows if row.significant]
    if not shown:
        return f"`{name}` is not told from `{rows[0].baseline}` with any number of labels."
    most, least = max(rows, key=lambda row: row.difference.value), min(rows, key=lambda row: row.difference.value)
    unclear = ", ".join(_labels(row) for row in rows if not row.significant)
    worse = ", ".join(_labels(row) for row in shown if row.difference.value < 0)
    return (
        f"`{name}`: the difference to `{rows[0].baseline}` is largest with {_labels(most)} "
        f"({show_signed(most.difference)}), smallest with {_labels(least)} ({show_signed(least.difference)})"
        + (f"; not told from 0 with {unclear}" if unclear else "")
        + (f"; worse with {worse}." if worse else ".")
    )


def _labels(row: Difference) -> str:
    return "all images" if row.fraction == "100 %" else row.fraction


def _render_races(races: Sequence[Race]) -> list[str]:
    header = ["model", "without pretraining", "level", "its steps", "steps without", "steps saved (lowest, highest)"]
    rows = []
    for (model, baseline), same in group(races, lambda race: (race.model, race.baseline)):
        taken = [race.steps for race in same if race.steps is not None]
        rows.append(
            [
                f"`{model}`",
                f"`{baseline}`",
                f"{median(race.level for race in same):.3f}",
                f"{median(taken):g}" if len(taken) == len(same) else f"{len(taken)} of {len(same)} runs got there",
                f"{median(race.baseline_steps for race in same):g}",
                show_saved(summarise(same)),
            ]
        )
    runs = max(len(same) for _, same in group(races, lambda race: (race.model, race.baseline)))
    return [
        f"Medians over {runs} seeds. The level is 95 % of the best validation AUROC that the same network reaches "
        "without pretraining; steps are counted until the first look at or above it.",
        make_table(header, rows),
    ]


def _render_shifts(shifts: Sequence[Shift]) -> list[str]:
    parts = []
    for kind, of_kind in group(shifts, lambda shift: shift.kind):
        amounts = [f"{shift.amount:g}" for shift in group(of_kind, lambda shift: shift.model)[0][1]]
        header = [f"AUROC, {kind}", "as they are", *amounts, "loses less than its baseline by"]
        rows = [
            [
                f"`{name}`",
                f"{of_model[0].clean:.3f}",
                *(f"{shift.auroc.value:.3f}{mark(shift.lead)}" for shift in of_model),
                _worst(of_model),
            ]
            for name, of_model in group(of_kind, lambda shift: shift.model)
        ]
        parts.append(make_table(header, rows))
    return [
        *parts,
        f"{_LEGEND} They are about the model's own network with random weights, under the same change. The last column "
        "is about the change that costs this model most: the drop that its network with random weights has there, less "
        "its own.",
    ]


def _worst(shifts: Sequence[Shift]) -> str:
    spared = [(shift.drop.value, shift) for shift in shifts if shift.spared is not None]
    if not spared:
        return "–"
    shift = min(spared, key=lambda pair: pair[0])[1]
    assert shift.spared is not None
    return f"{show_lead(shift.spared)} at {shift.amount:g}"
