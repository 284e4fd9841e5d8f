"""Backbones: what turns pictures into vectors. Importing this package imports no torch."""
