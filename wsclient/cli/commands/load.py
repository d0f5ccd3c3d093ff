"""``wsclient load``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from wsclient.cli.exits import ExitCode, Failure, option_fault
from wsclient.cli.output import note
from wsclient.cli.params import RATE, REPORT, SECONDS, SIZE, Command, connection_options, examples, option
from wsclient.cli.settings import INSECURE, Settings

if TYPE_CHECKING:
    from wsclient.load.plan import Plan
    from wsclient.load.thresholds import Threshold

__all__ = ["load"]

_SECONDS = 10.0  # of a run that is given neither a duration nor a number of messages
_MESSAGES, _REPORTS = "Messages", "Reports"


@click.command(
    cls=Command,
    short_help="Load a server and measure it.",
    epilog=examples(
        "wsclient load --duration 2s ws://localhost:8765/",
        "wsclient load --connections 20 --workers 2 --duration 5s ws://localhost:8765/",
        "wsclient load --connections 20 --rate 500/s --ramp 2s --duration 5s ws://localhost:8765/",
        "wsclient load --messages 1000 --fail-if 'p99>500ms' --fail-if 'errors>0' ws://localhost:8765/",
        "wsclient load --duration 2s --report report.html --json result.json ws://localhost:8765/",
        "wsclient load --quiet --json - --messages 100 ws://localhost:8765/ | jq .account",
    )
    + "\n\nExit status 1: a threshold failed, or the account of messages does not balance. 3: no connection"
    " could be opened. 4: every connection was lost. 130: Ctrl-C ended it early; what was measured is"
    " reported. A second Ctrl-C leaves at once.",
)
@option(
    "-c",
    "--connections",
    type=int,
    metavar="N",
    default=1,
    show_default=True,
    help="How many, over all processes.",
)
@option(
    "-w",
    "--workers",
    type=int,
    metavar="N",
    default=1,
    show_default=True,
    help="Threads that send, for each connection.",
)
@option(
    "-r",
    "--rate",
    type=RATE,
    metavar="N[/s]",
    help="Messages a second over all connections, sent when due whatever the server does (open loop). By"
    " default each worker sends when it has its answer (closed loop), and a slow server is asked less.",
)
@option("--rate-per-connection", type=RATE, metavar="N[/s]", help="The same for each connection.")
@option(
    "-d", "--duration", type=SECONDS, help="Time of sending. By default 10 s, unless --messages is given."
)
@option("-n", "--messages", type=int, metavar="N", help="End after so many messages.")
@option(
    "--ramp",
    type=SECONDS,
    default="0",
    show_default=True,
    help="Open the connections one by one over this time; the rate grows with them.",
)
@option(
    "-p",
    "--processes",
    default="1",
    show_default=True,
    metavar="N|all",
    help="Processes that share the connections; all: one for each core.",
)
@option("--size", type=SIZE, group=_MESSAGES, help="Bytes of each message.  [default: 64]")
@option("-b", "--binary", is_flag=True, group=_MESSAGES, help="Send binary messages.")
@option(
    "--payload-file",
    type=click.Path(),
    group=_MESSAGES,
    help="Send the lines of this file in turn; {id} in a line becomes what its echo is known by.",
)
@option(
    "--scenario",
    type=click.Path(),
    group=_MESSAGES,
    help="Python file with def scenario(client), which every worker calls again and again.",
)
@option(
    "--expect",
    type=click.Choice(["echo", "reply", "none"]),
    default="echo",
    show_default=True,
    group=_MESSAGES,
    help="What the server does: sends the same back, answers each message, or nothing.",
)
@option(
    "--reply-timeout",
    type=SECONDS,
    default="10",
    show_default=True,
    group=_MESSAGES,
    help="Without an answer for so long, a message is lost.",
)
@option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    group=_REPORTS,
    help="Exit with 1 if this is so: 'p99>50ms', 'errors>0', 'lost>0', 'rate<1000/s'; again for more.",
)
@option("--json", type=REPORT, group=_REPORTS, help="Write everything as JSON; - for standard output.")
@option("--csv", type=REPORT, group=_REPORTS, help="Write the run second by second as CSV.")
@option("--junit", type=REPORT, group=_REPORTS, help="Write the thresholds as test cases, for CI servers.")
@option("--report", "html", type=REPORT, group=_REPORTS, help="Write a page with charts, of one file.")
@option("-q", "--quiet", is_flag=True, group=_REPORTS, help="Show no progress.")
@connection_options
def load(settings: Settings, conditions: tuple[str, ...], quiet: bool, **given: Any) -> ExitCode:
    """Load a server with many connections and measure it.

    Latency is measured from when a message was due, and every message is accounted for: sent, confirmed,
    received, unsent, lost. The server should send back what it gets; see --expect. {connection} in the URL
    becomes the number of the connection, from 0.
    """
    from wsclient.cli.loading import Reports, load_with

    reports = Reports(**{name: given.pop(name) for name in ("json", "csv", "junit", "html")})
    plan, thresholds = _plan(settings, given), _thresholds(conditions)
    reports.check()
    if settings.insecure:
        note(INSECURE)
    return load_with(plan, thresholds, reports, quiet)


def _plan(settings: Settings, given: dict[str, Any]) -> Plan:
    from wsclient.load.plan import TLS, Plan

    given["processes"] = _processes(given["processes"], given["connections"])
    if given["duration"] is None and given["messages"] is None:
        given["duration"] = _SECONDS
    try:
        options = settings.library_options()
        del options["ssl_context"]  # a plan describes it, for its processes
        tls = TLS(
            ca_file=settings.cacert,
            cert_file=settings.cert,
            key_file=settings.key,
            insecure=settings.insecure,
        )
        return Plan(url=settings.url, options=options, tls=tls if settings.secure else None, **given)
    except (TypeError, ValueError) as error:
        raise option_fault(error) from error


def _thresholds(conditions: tuple[str, ...]) -> list[Threshold]:
    from wsclient.load.thresholds import parse_threshold

    try:
        return [parse_threshold(condition) for condition in conditions]
    except ValueError as error:
        raise Failure(f"--fail-if: {error}", ExitCode.USAGE) from error


def _processes(text: str, connections: int) -> int:
    if text == "all":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(min(cores, connections), 1)
    if not (text.isascii() and text.isdigit()):
        raise Failure(f"--processes: must be a number or all, not {text!r}", ExitCode.USAGE)
    return int(text)
