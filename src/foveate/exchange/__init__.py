"""Tracks of other programs: reading their files into one form (``sheet.Sheet``), and writing ours in theirs.

One module per program holds its reader, its writer, and what it means by frame, box and individual. None of them knows the
project: which individual is which subject, and what happens between the frames of a file, is decided in ``track``.
"""

VERSION = 3
"""Raised when the same file would be read as something else, or give other rows."""
