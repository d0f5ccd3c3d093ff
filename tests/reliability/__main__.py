"""``python -m tests.reliability SCENARIO``: run a scenario, print its account, say whether it is balanced.
``python -m tests.reliability all``: run what docs/reliability.md shows, and write it.

Exit status: 0 when nothing is lost and all is in order, 1 when not, 2 for wrong arguments, 3 when this
machine cannot run the scenario.
"""

from __future__ import annotations

import sys
from pathlib import Path


def _main() -> int:
    # The packages of the tests are top-level packages for each other, as under pytest.
    sys.path[:0] = [str(path) for path in Path(__file__).resolve().parents[1:3]]
    from reliability.command import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_main())
