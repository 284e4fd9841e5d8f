"""``python -m foveate`` is the command line."""

import sys

from foveate.cli import main

if __name__ == "__main__":  # worker processes import this module again
    sys.exit(main())
