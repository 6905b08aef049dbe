"""Which images are for training, validation and testing, and the subsets of label fractions."""
