"""A classifier trained on a copy of a backbone, with it or on top of it."""
