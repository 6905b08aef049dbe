"""Compressed pixels: what their own headers say, checked before any decoder sees them, and the decoders."""
