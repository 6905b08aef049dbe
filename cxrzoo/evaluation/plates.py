"""Evidence as curves: one SVG file each."""

from collections.abc import Sequence
from statistics import median

from cxrzoo.evaluation.exhibits import list_pictures
from cxrzoo.evaluation.perturbations import NEUTRAL
from cxrzoo.evaluation.proofs import Evidence, Race, Shift, Trace
from cxrzoo.evaluation.report import draw_curves
from cxrzoo.evaluation.report.lines import draw_lines
from cxrzoo.evaluation.report.palette import Look, list_looks

_SCALES = {
    "gamma": "exponent of the grey levels",
    "gain": "factor of the grey levels",
    "rotation": "degrees, counter-clockwise",
    "scale": "magnification",
}


def draw_evidence(evidence: Evidence) -> dict[str, str]:
    """Return the curves of some evidence as SVG, by the name of the file."""
    names = list_pictures(evidence)
    if evidence.comparisons:
        comparison = evidence.comparisons[0]
        return {names[0]: draw_curves(comparison, comparison.findings[0], "linear", standalone=True)}
    looks = list_looks(evidence.models)
    if evidence.races:
        baselines = dict.fromkeys(race.baseline for race in evidence.races)
        races = [[race for race in evidence.races if race.baseline == baseline] for baseline in baselines]
        return {name: _draw_races(same, evidence.traces, looks) for name, same in zip(names, races, strict=True)}
    kinds = dict.fromkeys(shift.kind for shift in evidence.shifts)
    return {
        name: _draw_shifts([shift for shift in evidence.shifts if shift.kind == kind], looks)
        for name, kind in zip(names, kinds, strict=True)
    }


def _draw_races(races: Sequence[Race], traces: Sequence[Trace], looks: dict[str, Look]) -> str:
    """Return the median validation AUROC over the seeds, and the median of the levels that were to be reached."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for model in dict.fromkeys([*(race.model for race in races), races[0].baseline]):
        of_model = [trace for trace in traces if trace.model == model]
        lines[model] = [
            (step, median(trace.aurocs[look] for trace in of_model)) for look, step in enumerate(of_model[0].steps)
        ]
    heading = "Validation AUROC while fine-tuning, median over the seeds"
    return draw_lines(
        heading,
        "steps",
        lines,
        looks,
        level=median(race.level for race in races),
        ticks=(1, 2, 5, 10, 20, 50, 100, 200),
    )


def _draw_shifts(shifts: Sequence[Shift], looks: dict[str, Look]) -> str:
    kind = shifts[0].kind
    lines: dict[str, list[tuple[float, float]]] = {}
    for model in dict.fromkeys(shift.model for shift in shifts):
        of_model = [shift for shift in shifts if shift.model == model]
        points = {shift.amount: shift.auroc.value for shift in of_model} | {NEUTRAL[kind]: of_model[0].clean}
        lines[model] = sorted(points.items())
    heading = f"AUROC on changed images, of probes that learnt from images as they are: {kind}"
    return draw_lines(heading, _SCALES[kind], lines, looks, ticks=(0.5, 0.7, 1, 1.4, 2) if kind == "gamma" else ())
