"""See ``command``."""

from __future__ import annotations

import sys

from reliability.soak.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
