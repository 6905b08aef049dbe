"""A comparison as one self-contained HTML file."""

from cxrzoo.evaluation.report.charts import draw_curves
from cxrzoo.evaluation.report.page import render_report

__all__ = ["draw_curves", "render_report"]
