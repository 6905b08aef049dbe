"""Reliability curves of a comparison, as SVG."""

from matplotlib.ticker import FuncFormatter, MaxNLocator

from cxrzoo.evaluation.comparison import Comparison, Mode
from cxrzoo.evaluation.report.drawing import classify, make_axes, write, write_svg
from cxrzoo.evaluation.report.palette import ROLES, assign_looks
from cxrzoo.evaluation.report.words import name_finding, name_mode, show_figure, show_number, show_tick

_SOFT = ROLES["soft"][0]


def draw_reliability(comparison: Comparison, finding: str, mode: Mode, *, scaled: bool) -> str:
    """Return the observed share of positives against the predicted probability of each model, as SVG.

    Args:
        scaled: After temperature scaling, rather than before.
    """
    looks = assign_looks(comparison)
    chosen = [row for row in comparison.calibration if (row.finding, row.mode) == (finding, mode)]
    ends = [max(bin.predicted, bin.observed) for row in chosen for bin in (*row.bins, *row.bins_scaled)]
    end = min(1.0, 1.08 * max(ends, default=1.0))  # a rare finding needs only a corner of the square
    axes = make_axes(380, 340, left=40, right=12, top=26, bottom=48)
    axes.plot([0, end], [0, end], color=_SOFT, linewidth=1, linestyle=(0, (2, 3)))
    titles = {}
    for row in chosen:
        look = looks[row.model]
        bins = row.bins_scaled if scaled else row.bins
        line = axes.plot(
            [bin.predicted for bin in bins],
            [bin.observed for bin in bins],
            color=look.colour,
            marker=look.marker,
            markersize=5,
            markeredgewidth=0,
            linewidth=1.6,
            linestyle=(0, (4, 2.5)) if look.floor else "-",
        )
        classify(line[0], look.key, "line")
        titles[f"{look.key} line"] = [
            f"{row.model}: predicted {show_figure(bin.predicted)}, observed {show_figure(bin.observed)}, "
            f"{show_number(bin.images)} images"
            for bin in bins
        ]
    axes.set_xlim(-0.02 * end, end * 1.02)
    axes.set_ylim(-0.02 * end, end * 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(show_tick))
    axes.set_xlabel("predicted probability", fontsize=12, color=_SOFT, labelpad=8)
    write(axes, "observed share", (axes.bbox.x0 - 34, axes.bbox.y1 + 12), color=_SOFT)
    when = "after" if scaled else "before"
    label = f"Reliability curves {when} temperature scaling: {name_finding(finding)}, {name_mode(mode)}"
    return write_svg(axes, label, titles=titles)
