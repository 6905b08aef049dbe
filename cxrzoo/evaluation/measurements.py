"""The figures of one model in a comparison as rows of its manifest."""

import shlex
from pathlib import PurePosixPath, PureWindowsPath

from cxrzoo.errors import EvaluationError, RecordError
from cxrzoo.evaluation.comparison import MACRO, Comparison, Contender, Interval, Point
from cxrzoo.results import Figure, Measurement

#: Far below the width of any interval, and short enough to be read.
_DIGITS = 4


def list_measurements(
    comparison: Comparison, contender: Contender, dataset: str, dataset_url: str = ""
) -> list[Measurement]:
    """Return the rows of one model: one for each finding and mode.

    Raises:
        EvaluationError: No commit is known.
        RecordError: A figure or text is none that a manifest may hold.
    """
    setting = comparison.setting
    if not setting.commit:
        raise EvaluationError(
            "found no commit of the code that measured this, expected one: it is part of a figure. Run the comparison "
            "in a git checkout."
        )
    rows = []
    for finding, mode in dict.fromkeys((p.finding, p.mode) for p in comparison.points if p.model == contender.name):
        points = _points(comparison, contender.name, finding, mode)
        difference = _differences(comparison, contender.name, finding, mode, list(points))
        floor_name, floor = _floor(comparison, finding, mode, list(points))
        rows.append(
            Measurement(
                dataset=dataset,
                dataset_url=dataset_url,
                finding=finding,
                findings=comparison.findings if finding == MACRO else (),
                against=setting.against or "",
                protocol=str(setting.protocol.get("name", "")),
                mode=mode,
                metric="AUROC",
                label_fractions=tuple(points),
                images=tuple(round(float(point.images), 1) for point in points.values()),
                value=tuple(_figure(point.auroc) for point in points.values()),
                baseline_name=comparison.baseline if difference else "",
                difference=difference,
                floor_name=floor_name,
                floor=floor,
                test_images=_count_test_images(comparison, finding),
                grouped_by=setting.grouped_by,
                seed=setting.seed,
                preprocessing=contender.preprocessing,
                preprocessing_sha256=contender.preprocessing_sha256,
                weights_sha256=contender.weights_sha256,
                table_sha256=setting.table_sha256,
                split_sha256=setting.split_sha256,
                command=_without_folders(setting.command),
                version=setting.versions.get("cxrzoo", ""),
                commit=setting.commit,
                date=setting.created[:10],
            )
        )
    return rows


def _points(comparison: Comparison, model: str, finding: str, mode: str) -> dict[str, Point]:
    """Return the points of one model by label fraction, in the order of the comparison."""
    found = {p.fraction: p for p in comparison.points if (p.model, p.finding, p.mode) == (model, finding, mode)}
    return {fraction: found[fraction] for fraction in comparison.fractions if fraction in found}


def _differences(
    comparison: Comparison, model: str, finding: str, mode: str, fractions: list[str]
) -> tuple[Figure, ...]:
    """Return the differences to the baseline at each label fraction; none where one of them is missing."""
    found = {
        d.fraction: _figure(d.difference)
        for d in comparison.differences
        if (d.model, d.finding, d.mode) == (model, finding, mode)
    }
    return tuple(found[fraction] for fraction in fractions) if found.keys() >= set(fractions) else ()


def _floor(comparison: Comparison, finding: str, mode: str, fractions: list[str]) -> tuple[str, tuple[Figure, ...]]:
    """Return the first untrained network and what it reaches at each label fraction, if there is one for all."""
    for contender in comparison.contenders:
        found = _points(comparison, contender.name, finding, mode)
        if contender.kind == "untrained" and found.keys() >= set(fractions):
            return contender.name, tuple(_figure(found[fraction].auroc) for fraction in fractions)
    return "", ()


def _count_test_images(comparison: Comparison, finding: str) -> int:
    """Return how many test images have a label of the finding; for the mean of all findings, how many there are."""
    (test,) = (part for part in comparison.setting.parts if part.name == "test")
    return test.images if finding == MACRO else test.positives[finding] + test.negatives[finding]


def _figure(interval: Interval) -> Figure:
    value, lower, upper = (round(v, _DIGITS) + 0.0 for v in (interval.value, interval.lower, interval.upper))
    return value, lower, upper


def _without_folders(command: str) -> str:
    """Return the command without the folders above its files: a manifest is published, this machine is not."""

    def shorten(word: str) -> str:
        option, equals, path = word.rpartition("=")
        absolute = PurePosixPath(path).is_absolute() or path.startswith("~") or PureWindowsPath(path).is_absolute()
        return option + equals + PureWindowsPath(path).name if absolute else word

    try:
        words = shlex.split(command)
    except ValueError as error:
        raise RecordError(f"command: found {command!r}, which no shell reads: {error}. Compare again.") from error
    shortened = [shorten(word) for word in words]
    return command if shortened == words else shlex.join(shortened)
