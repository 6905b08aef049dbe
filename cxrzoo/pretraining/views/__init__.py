"""Random views of radiographs, drawn a batch at a time on the device that trains."""

from cxrzoo.pretraining.views.drawing import draw_views, normalise
from cxrzoo.pretraining.views.settings import Views

__all__ = ["Views", "draw_views", "normalise"]
