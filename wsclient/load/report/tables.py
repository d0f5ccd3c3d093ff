"""The result for programs: JSON with everything, CSV with the seconds. Pure.

The JSON has these names at its top, and nothing secret:

=================  ==========================================================================================
``version``        1. It grows when a name disappears or changes its meaning; new names may come at any time
``wsclient``       version of the package that wrote it
``passed``         whether every threshold held; ``null`` without thresholds
``thresholds``     a list of ``text``, ``limit``, ``value``, ``unit`` (time, count, rate, share), ``passed``
the others         as ``Result`` and the types it is made of have them (``wsclient.load.result``)
=================  ==========================================================================================

Times are seconds, sizes bytes, shares 1.0 for one whole core. What can't be a number (infinity) is ``null``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from wsclient import __version__
from wsclient.load.report.masking import masked
from wsclient.load.result import Result, Second
from wsclient.load.thresholds import Verdict

__all__ = ["JSON_VERSION", "to_csv", "to_json"]

JSON_VERSION = 1


def to_json(result: Result, verdicts: Sequence[Verdict] = ()) -> str:
    """Everything, as one JSON object that ends with a line end.

    Args:
        result: of the run.
        verdicts: of its thresholds, in their order.
    """
    result, verdicts = masked(result), masked(tuple(verdicts))
    document = {
        "version": JSON_VERSION,
        "wsclient": __version__,
        "passed": all(verdict.passed for verdict in verdicts) if verdicts else None,
        "thresholds": [_judged(verdict) for verdict in verdicts],
        **result.as_dict(),
    }
    return json.dumps(_plain(document), indent=2, allow_nan=False) + "\n"


def to_csv(result: Result) -> str:
    """The run by second: a line of names (those of ``Second``), then a line for each second.

    A time that was not measured is an empty field; ``error_kinds`` is ``kind=count``, joined with semicolons.
    """
    result, out = masked(result), io.StringIO()
    names = [field.name for field in fields(Second)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_field(getattr(second, name)) for name in names] for second in result.seconds)
    return out.getvalue()


def _field(value: float | tuple[tuple[str, int], ...] | None) -> float | str | None:
    if isinstance(value, tuple):
        # Before Python 3.11, csv refuses NUL.
        return ";".join(f"{kind}={count}" for kind, count in value).replace("\0", "\\x00")
    return value


def _judged(verdict: Verdict) -> Mapping[str, Any]:
    return {
        "text": verdict.text,
        "limit": verdict.limit,
        "value": verdict.value,
        "unit": verdict.unit.name.lower(),
        "passed": verdict.passed,
    }


def _plain(value: object) -> Any:
    """The same for ``json.dumps``, without infinities: JSON has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
