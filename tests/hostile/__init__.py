"""Hostile files, generated and deterministic; none of them holds a working payload."""
