"""Probes on frozen embeddings: linear ones, solved by the hundred, and nearest neighbours; scikit-learn estimators."""

from cxrzoo.evaluation.probes.linear import LinearProbe
from cxrzoo.evaluation.probes.neighbours import NeighbourProbe

__all__ = ["LinearProbe", "NeighbourProbe"]
