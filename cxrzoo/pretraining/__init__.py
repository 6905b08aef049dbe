"""Training backbones without labels: MoCo, online clustering and group-masked modelling."""
