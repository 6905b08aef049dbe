"""What the page shows of a comparison, in the order it is shown: the template holds no arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

from cxrzoo.evaluation.comparison import (
    MACRO,
    Calibration,
    Comparison,
    Contender,
    Difference,
    Mode,
    Part,
    Point,
)
from cxrzoo.evaluation.report.charts import FEW
from cxrzoo.evaluation.report.palette import Look, assign_looks

_EXTENTS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)


@dataclass(frozen=True)
class Tally:
    """How many differences were looked at, and how many exclude 0: found, expected by chance, after correction."""

    differences: int
    significant: int
    by_chance: float
    corrected: int
    replicates_needed: int


@dataclass(frozen=True)
class Floor:
    """The untrained network at the most labels, and the best model there."""

    mode: Mode
    point: Point
    best: Point | None


@dataclass(frozen=True)
class View:
    """A comparison, and what the template asks of it."""

    comparison: Comparison

    @property
    def looks(self) -> dict[str, Look]:
        """The look of each contender."""
        return assign_looks(self.comparison)

    @property
    def findings(self) -> list[str]:
        """The single findings that have figures."""
        found = {point.finding for point in self.comparison.points}
        return [finding for finding in self.comparison.findings if finding in found]

    @property
    def headline(self) -> str:
        """What the report is about: the mean over the findings, or the finding if there is one."""
        found = {point.finding for point in self.comparison.points}
        return MACRO if MACRO in found else next(iter(self.findings), MACRO)

    @property
    def floors(self) -> list[Floor]:
        """For each mode the best untrained network, at the headline's largest label fraction."""
        kinds = {contender.name: contender.kind for contender in self.comparison.contenders}
        found = []
        for mode in self.list_modes(self.headline):
            last = self.list_steps(self.headline, mode)[-1][1]
            order = sorted(last, key=lambda point: -point.auroc.value)
            untrained = [point for point in order if kinds.get(point.model) == "untrained"]
            trained = [point for point in order if kinds.get(point.model) != "untrained"]
            if untrained:
                found.append(Floor(mode, untrained[0], trained[0] if trained else None))
        return found

    @property
    def tally(self) -> Tally:
        """The count of all differences of the report."""
        rows = self.comparison.differences
        return Tally(
            differences=len(rows),
            significant=sum(row.significant for row in rows),
            by_chance=0.05 * len(rows),
            corrected=sum(row.significant and row.bonferroni for row in rows),
            # An interval at 1 - .05 / n has .025 R / n replicates in each tail, of which there must be one.
            replicates_needed=40 * len(rows),
        )

    @property
    def crowded(self) -> bool:
        """Whether the charts hold too many models for a band each."""
        return sum(not look.floor for look in self.looks.values()) > FEW

    @property
    def correctable(self) -> bool:
        """Whether there are enough replicates for an interval that is widened for all differences."""
        return self.comparison.setting.replicates >= self.tally.replicates_needed

    def list_modes(self, finding: str) -> list[Mode]:
        """Return the modes in which a finding has figures."""
        found = {point.mode for point in self.comparison.points if point.finding == finding}
        return [mode for mode in self.comparison.modes if mode in found]

    def list_steps(self, finding: str, mode: Mode) -> list[tuple[str, list[Point]]]:
        """Return the points of a finding by label fraction, the smallest first, best model first."""
        chosen = [point for point in self.comparison.points if (point.finding, point.mode) == (finding, mode)]
        steps = []
        for fraction in self.comparison.fractions:
            points = [point for point in chosen if point.fraction == fraction]
            if points:
                steps.append((fraction, sorted(points, key=lambda point: -point.auroc.value)))
        return steps

    def list_differences(self, finding: str, mode: Mode) -> list[tuple[str, list[Difference]]]:
        """Return the differences of a finding by label fraction, the greatest first."""
        chosen = [row for row in self.comparison.differences if (row.finding, row.mode) == (finding, mode)]
        steps = []
        for fraction in self.comparison.fractions:
            rows = [row for row in chosen if row.fraction == fraction]
            if rows:
                steps.append((fraction, sorted(rows, key=lambda row: -row.difference.value)))
        return steps

    def find_extent(self, finding: str, mode: Mode) -> float:
        """Return a round number that no bound of these differences exceeds, for the axis of the table.

        Untrained networks lie far off, and don't count where there are others: an arrow shows on which side they are.
        """
        looks = self.looks
        rows = [row for _, rows in self.list_differences(finding, mode) for row in rows]
        rows = [row for row in rows if not looks[row.model].floor] or rows
        bounds = [abs(bound) for row in rows for bound in (row.difference.lower, row.difference.upper)]
        return next(extent for extent in _EXTENTS if extent >= min(max(bounds, default=0.0), 1.0))

    def list_calibrations(self, finding: str, mode: Mode) -> list[Calibration]:
        """Return the calibration of each model for a finding."""
        return [row for row in self.comparison.calibration if (row.finding, row.mode) == (finding, mode)]

    def calibrated(self) -> list[tuple[str, list[Mode]]]:
        """Return the findings that have calibrations, and their modes."""
        found = [(finding, self._calibrated_modes(finding)) for finding in self.comparison.findings]
        return [(finding, modes) for finding, modes in found if modes]

    def list_models(self, mode: Mode) -> list[Contender]:
        """Return the contenders that have figures in a mode."""
        found = {point.model for point in self.comparison.points if point.mode == mode}
        return [contender for contender in self.comparison.contenders if contender.name in found]

    def last_point(self, model: str, finding: str, mode: Mode) -> Point | None:
        """Return a model's figures at the finding's largest label fraction."""
        steps = self.list_steps(finding, mode)
        return next((point for point in steps[-1][1] if point.model == model), None) if steps else None

    def find_best(self, finding: str) -> Point:
        """Return the highest AUROC of a finding at its largest label fraction, over all modes."""
        last = [point for mode in self.list_modes(finding) for point in self.list_steps(finding, mode)[-1][1]]
        return max(last, key=lambda point: point.auroc.value)

    def find_difference(self, point: Point) -> Difference | None:
        """Return the difference to the baseline of the same model, finding, mode and label fraction."""
        wanted = (point.model, point.mode, point.finding, point.fraction)
        rows = self.comparison.differences
        return next((row for row in rows if (row.model, row.mode, row.finding, row.fraction) == wanted), None)

    def find_part(self, name: str) -> Part | None:
        """Return a part of the split."""
        return next((part for part in self.comparison.setting.parts if part.name == name), None)

    def find_prevalence(self, finding: str) -> float | None:
        """Return the share of positives among the test images of a finding; None for the mean over findings."""
        part = self.find_part("test")
        if part is None or finding not in part.positives:
            return None
        return part.positives[finding] / max(part.positives[finding] + part.negatives.get(finding, 0), 1)

    def _calibrated_modes(self, finding: str) -> list[Mode]:
        return [mode for mode in self.comparison.modes if self.list_calibrations(finding, mode)]


def span_images(points: Sequence[Point]) -> tuple[float, float]:
    """Return the smallest and the largest number of labelled images."""
    images = [point.images for point in points]
    return min(images), max(images)
