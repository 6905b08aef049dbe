"""The report: one HTML file that asks nobody for anything, from the records of a comparison alone."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import MACRO, Comparison
from cxrzoo.evaluation.report import words
from cxrzoo.evaluation.report.charts import draw_curves
from cxrzoo.evaluation.report.gallery import hang_pictures
from cxrzoo.evaluation.report.palette import list_variables
from cxrzoo.evaluation.report.reliability import draw_reliability
from cxrzoo.evaluation.report.view import View, span_images

_FOLDER = Path(__file__).parent
# All that needs a script: a button that copies the command, and what is folded unfolds on paper.
_SCRIPT = """
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.onclick = () => navigator.clipboard
    .writeText(document.getElementById(button.dataset.copy).textContent)
    .then(() => { button.textContent = "copied"; });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
"""


def render_report(comparison: Comparison, pictures: Mapping[int, bytes]) -> str:
    """Return the report as HTML, self-contained: styles, charts and pictures are in it.

    Args:
        pictures: JPEG or PNG files for the failure gallery, by row of the table.

    Raises:
        EvaluationError: The comparison has no figures or contradicts itself, or a picture is of another kind.
    """
    _check(comparison)
    view = View(comparison)
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = (name for name in vars(words) if name.startswith(("show_", "name_")))
    environment.filters |= {name: getattr(words, name) for name in shown} | {"capitalise": words.capitalise}
    return environment.get_template("page.html").render(
        view=view,
        comparison=comparison,
        setting=comparison.setting,
        walls=hang_pictures(comparison, pictures),
        span=span_images(comparison.points),
        macro=MACRO,
        curves=lambda finding, mode, wide: Markup(draw_curves(comparison, finding, mode, wide=wide)),
        reliability=lambda finding, mode, scaled: Markup(draw_reliability(comparison, finding, mode, scaled=scaled)),
        style=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        light=Markup(list_variables(dark=False)),
        dark=Markup(list_variables(dark=True)),
        script=Markup(_SCRIPT),
        script_digest=base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
    )


def _check(comparison: Comparison) -> None:
    if not comparison.points:
        raise EvaluationError("the comparison has no figures, expected at least one point. Run `cxrzoo compare` again.")
    names = {contender.name for contender in comparison.contenders}
    for point in comparison.points:
        if point.model not in names:
            raise EvaluationError(
                f"found figures of {point.model}, expected only contenders: {', '.join(sorted(names))}. "
                "Run `cxrzoo compare` again."
            )
    for row in comparison.differences:
        excludes = row.difference.lower > 0 or row.difference.upper < 0
        if row.significant != excludes:
            raise EvaluationError(
                f"{row.model}, {row.finding}, {row.fraction}: found significant = {row.significant} with an interval "
                f"from {row.difference.lower:.6f} to {row.difference.upper:.6f}, expected true exactly where it "
                "excludes 0. Run `cxrzoo compare` again."
            )
