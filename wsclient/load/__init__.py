"""The load engine: real connections drive a server, and every message is accounted for.

``run(Plan(url=..., duration=10))`` returns a ``Result``. It needs the extra ``cli``, for ``hdrhistogram``.
"""

from __future__ import annotations

from wsclient.load.plan import TLS, Expect, Plan
from wsclient.load.result import Account, Progress, Result
from wsclient.load.run import run
from wsclient.load.thresholds import Threshold, Verdict, judge, parse_threshold

__all__ = [
    "TLS",
    "Account",
    "Expect",
    "Plan",
    "Progress",
    "Result",
    "Threshold",
    "Verdict",
    "judge",
    "parse_threshold",
    "run",
]
