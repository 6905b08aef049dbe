"""The figures in manifests, published and measured, as Markdown and as the Hub's evaluation metadata."""

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from cxrzoo.manifest import Manifest
from cxrzoo.results import Measurement, Result

T = TypeVar("T")

#: What the Hub calls a metric: huggingface.co/metrics.
_METRICS = {"AUROC": "roc_auc"}

_HOW = (
    "AUROC with its 95 % interval, a mean over the draws of the labelled images. Intervals are not widened for the "
    "number of comparisons."
)
_FLOOR = " What an untrained network reaches, with random weights, is no merit of any training."


def render_results(manifest: Manifest) -> str:
    """Return a section with the figures that the authors of a model published."""
    header = ["data", "finding", "mode", "label fraction", "metric", manifest.name, "baseline", "difference"]
    # a row may stand in two tables of a paper; once is enough here
    rows = list(dict.fromkeys(tuple(row) for result in manifest.results for row in _result_rows(result)))
    return (
        f"### {manifest.name}: what its authors published\n\nValue (95 % interval), not measured by this project. "
        f"Paper: {manifest.paper}\n\n{make_table(header, rows)}\n"
    )


def _result_rows(result: Result) -> list[list[str]]:
    def cell(values: tuple[tuple[float, ...], ...], index: int, name: str = "") -> str:
        return f"{name} {_figure(values[index])}".strip() if values else "–"

    return [
        [
            result.dataset,
            result.finding,
            result.mode,
            f"{fraction * 100:g} %",
            result.metric,
            cell(result.value, i),
            cell(result.baseline, i, result.baseline_name),
            cell(result.difference, i),
        ]
        for i, fraction in enumerate(result.label_fractions)
    ]


def render_measured(name: str, rows: Sequence[Measurement]) -> str:
    """Return a section with what this project measured of one model, and how to repeat it."""
    parts = [f"### {name}: measured by this project", _HOW + (_FLOOR if any(row.floor for row in rows) else "")]
    for same in _group(rows, _run):
        first = same[0]
        parts += [
            f"**{_link(first)}**, protocol `{first.protocol}`, split by {first.grouped_by}, preprocessing "
            f"`{first.preprocessing}`:",
            make_table(
                ["finding", "mode", "labels", "images", "test images", "AUROC", "difference", "untrained network"],
                [cells for row in same for cells in _measured_rows(row)],
            ),
            f"Seed {first.seed}, cxrzoo {first.version} at commit `{first.commit}`, {first.date}. Weights "
            f"`{first.weights_sha256[:16]}`, table of labels `{first.table_sha256[:16]}`, split "
            f"`{first.split_sha256[:16]}` (sha256). Repeat it with:",
            f"```sh\n{first.command}\n```",
        ]
    return "\n\n".join(parts) + "\n"


def _measured_rows(row: Measurement) -> list[list[str]]:
    return [
        [
            row.task,
            row.mode,
            fraction,
            f"{row.images[i]:,.0f}",
            f"{row.test_images:,}",
            _figure(row.value[i]),
            f"{_figure(row.difference[i])} to {row.baseline_name}" if row.difference else "–",
            _figure(row.floor[i]) if row.floor else "–",
        ]
        for i, fraction in enumerate(row.label_fractions)
    ]


def render_overview(manifests: Iterable[Manifest]) -> str:
    """Return what this project measured of all models: a table for each comparison, a row a model."""
    measured = [(_name(manifest, row), row) for manifest in manifests for row in manifest.measured]
    if not measured:
        return "Nothing has been measured yet.\n"
    floor = _FLOOR if any(row.floor for _, row in measured) else ""
    legend = (
        f"{_HOW}{floor} All models of a table were tested on the same images. ▲ and ▼: better or worse than the "
        "baseline, where the interval of the paired difference excludes 0."
    )
    return "\n\n".join([legend, *(_render_comparison(same) for same in _group(measured, _comparison))]) + "\n"


def _name(manifest: Manifest, row: Measurement) -> str:
    return manifest.name + (f":{row.preprocessing}" if row.preprocessing != manifest.default_variant else "")


def _render_comparison(models: Sequence[tuple[str, Measurement]]) -> str:
    first = models[0][1]
    baselines = {row.baseline_name for _, row in models if row.baseline_name}
    beside = f", baseline {' or '.join(sorted(baselines))}" if baselines else ""
    header = ["model", *(f"{f} ({n:,.0f} images)" for f, n in zip(first.label_fractions, first.images, strict=True))]
    rows = [[f"`{name}`", *_marked(row)] for name, row in models]
    floors = {(row.floor_name, row.floor) for _, row in models if row.floor}
    rows += [[f"*{name}, random weights*", *map(_figure, floor)] for name, floor in sorted(floors)]
    title = (
        f"**{_link(first)}: {first.task}**, {first.mode}, protocol `{first.protocol}`, split by {first.grouped_by}, "
        f"{first.test_images:,} test images{beside}:"
    )
    return f"{title}\n\n{make_table(header, rows)}"


def _marked(row: Measurement) -> list[str]:
    marks = [" ▲" if lower > 0 else " ▼" if upper < 0 else "" for _, lower, upper in row.difference]
    return [_figure(value) + mark for value, mark in zip(row.value, marks or [""] * len(row.value), strict=True)]


def make_model_index(name: str, rows: Sequence[Measurement]) -> str:
    """Return the Hub's evaluation metadata of a model as lines of YAML that begin with a new one; empty if none.

    This is `model-index`: the newer `.eval_results/` takes only data sets that the Hub lists as benchmarks, one number
    each, and no interval.
    """
    if not rows:
        return ""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=_dataset_id(row),
            dataset_name=row.dataset,
            dataset_config=row.task,  # the Hub keeps apart what differs in this
            dataset_split="test",
            metric_type=_METRICS[row.metric],
            metric_value=row.value[i][0],
            metric_name=f"{row.metric} ({row.mode}, labels: {fraction}, protocol {row.protocol})",
            metric_args={
                "interval": list(row.value[i][1:]),
                "images": row.images[i],
                "preprocessing": row.preprocessing,
                "split_sha256": row.split_sha256,
                "commit": row.commit,
            },
        )
        for row in rows
        for i, fraction in enumerate(row.label_fractions)
    ]
    return "\n" + ModelCardData(model_name=name, eval_results=results).to_yaml().rstrip()


def _dataset_id(row: Measurement) -> str:
    on_hub = row.dataset_url.partition("https://huggingface.co/datasets/")[2]
    return on_hub.strip("/") or re.sub(r"[^a-z0-9]+", "-", row.dataset.lower()).strip("-")


def _run(row: Measurement) -> Hashable:
    """Return what the rows of one run of `compare` share."""
    what = (row.dataset, row.dataset_url, row.protocol, row.seed, row.grouped_by, row.table_sha256, row.split_sha256)
    return (*what, row.preprocessing, row.command, row.version, row.commit, row.date)


def _comparison(model: tuple[str, Measurement]) -> Hashable:
    """Return what rows must share to stand in one table: the same images, drawn alike, for the same task."""
    row = model[1]
    what = (row.dataset, row.task, row.findings, row.protocol, row.mode, row.seed, row.grouped_by)
    return (*what, row.table_sha256, row.split_sha256, row.label_fractions, row.images, row.test_images)


def _group(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _link(row: Measurement) -> str:
    return f"[{row.dataset}]({row.dataset_url})" if row.dataset_url else row.dataset


def _figure(values: Sequence[float]) -> str:
    middle, *interval = (f"{round(value, 3) + 0.0:.3f}" for value in values)  # + 0.0: no -0.000
    return middle + (f" ({', '.join(interval)})" if interval else "")


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
