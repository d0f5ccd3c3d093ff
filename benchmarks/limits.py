"""What the operating system allows and reports of a process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["allow_many_files", "resident_bytes"]


def allow_many_files() -> int:
    """Raise the limit of open files as far as this user may, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def resident_bytes() -> int:
    """Resident memory of this process now; where there is no ``/proc``, its peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
