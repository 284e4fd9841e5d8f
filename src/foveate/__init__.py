"""foveate: learn from video by looking at the subject instead of the background."""

__version__ = "0.1.0"
