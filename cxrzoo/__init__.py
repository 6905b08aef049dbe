"""Chest X-ray backbones learned without labels, with the preprocessing they were trained with."""

__version__ = "0.1.0"
