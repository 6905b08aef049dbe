"""Online clustering: each view predicts which prototypes another view of its radiograph belongs to."""

from cxrzoo.pretraining.cluster.clustering import Cluster
from cxrzoo.pretraining.cluster.larc import Larc
from cxrzoo.pretraining.cluster.settings import ClusterSettings

__all__ = ["Cluster", "ClusterSettings", "Larc"]
