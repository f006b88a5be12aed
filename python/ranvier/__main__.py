"""``python -m ranvier``."""

import sys

from ranvier.cli import main

if __name__ == "__main__":
    sys.exit(main())
