"""The messages of a connection that plays a scenario, counted: what they are is the file's affair."""

from __future__ import annotations

from wsclient import Connection, Disconnect
from wsclient.load.plan import Plan
from wsclient.load.recorder import Recorder
from wsclient.load.result import Account

__all__ = ["ScenarioTraffic"]


class ScenarioTraffic:
    """The account of such a connection, from the connection's own counters."""

    def __init__(self, plan: Plan, recorder: Recorder) -> None:
        self._recorder = recorder
        self._calls = [0] * plan.workers  # each worker its own place
        self._doubtful = 0  # the reader thread
        self._proven = 0  # the thread that confirms: see Line.look_after

    def begin_call(self, worker: int) -> None:
        """A worker is about to call the scenario."""
        self._calls[worker] += 1

    def attempted_by(self, worker: int) -> int:
        """Calls of a worker so far."""
        return self._calls[worker]

    def on_disconnect(self, _: Connection, reason: Disconnect) -> None:
        """Callback of the connection, with ``reconnect``."""
        self._recorder.error("Disconnected", f"{reason.kind.value}: {reason.text}")
        self._doubtful += len(reason.in_doubt)

    def confirmed(self, messages: int) -> None:
        """The server has processed so many."""
        self._proven = messages

    def account(self, connection: Connection) -> Account:
        """How it stands."""
        stats, unsent = connection.stats(), len(connection.unsent)
        in_doubt = self._doubtful + len(connection.in_doubt) + stats.forgotten_messages
        doubtful = min(in_doubt, stats.messages_sent)
        confirmed = min(self._proven, stats.messages_sent - doubtful)
        return Account(
            attempted=stats.messages_sent + unsent,
            accepted=stats.messages_sent + unsent,
            unsent=unsent,
            written=stats.messages_sent,
            confirmed=confirmed,
            in_doubt=stats.messages_sent - confirmed,
            received=stats.messages_received,
        )
