"""Tracker ``propagate``: labels travel from frame to frame along the similarity of ViT patch tokens."""
