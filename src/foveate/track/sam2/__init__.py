"""Tracker ``sam2``: SAM 2's video model with a memory that does not grow."""
