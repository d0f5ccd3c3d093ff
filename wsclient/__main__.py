"""``python -m wsclient``: the same as ``wsclient``."""

from __future__ import annotations

import sys

from wsclient.cli import main

if __name__ == "__main__":
    sys.exit(main())
