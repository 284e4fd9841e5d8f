"""Tracks of other programs in the place of foveate's own, and foveate's own for other programs."""
