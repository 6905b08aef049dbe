"""Group-masked modelling, which SPCXR (arXiv:2211.12944) names as its method."""

from cxrzoo.pretraining.gmml.modelling import Gmml
from cxrzoo.pretraining.gmml.settings import GmmlSettings

__all__ = ["Gmml", "GmmlSettings"]
