"""What users of Locust do in the tests, in one process of their own: ``python -m locustfiles.cases``.

Standard input has JSON: URLs by name. Standard output gets JSON: for each case the events that Locust was
told of, and what else the case returns.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import gevent
import locust
from gevent.pool import Group
from locust import task
from locust.env import Environment
from locust.event import Events
from locust.exception import StopUser

from wsclient import Connection, ConnectionClosed, Timeout
from wsclient.locust import RequestFailed, WebSocketUser

SECONDS = 10.0  # bounds waits that take milliseconds

Urls: TypeAlias = Mapping[str, str]


@dataclass
class Stage:
    """An environment of Locust's, and all that it is told."""

    urls: Urls
    events: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.environment = Environment(events=Events())  # type: ignore[no-untyped-call]
        hooks = self.environment.events
        hooks.request.add_listener(self._note)  # type: ignore[no-untyped-call]
        hooks.user_error.add_listener(self._note_error)  # type: ignore[no-untyped-call]

    def _note(
        self,
        request_type: str,
        name: str,
        response_time: float | None,
        response_length: int,
        exception: Exception | None,
        context: dict[str, Any],
        **_: object,
    ) -> None:
        error = None if exception is None else repr(exception)
        self.events.append(
            {
                "what": f"{request_type} {name}",
                "timed": response_time is not None and response_time >= 0,
                "length": response_length,
                "error": error,
                "context": context,
            }
        )

    def _note_error(self, exception: Exception, **_: object) -> None:
        self.errors.append(repr(exception))

    def user(self, kind: type[WebSocketUser], server: str, **options: Any) -> WebSocketUser:
        """A user that nobody runs, connected."""
        user = kind(self.environment)
        user.host = self.urls[server]
        user.options = options
        user.on_start()
        return user


class Visitor(WebSocketUser):
    """Named events for unasked messages; its context is told with each event."""

    abstract = True

    def context(self) -> dict[str, Any]:
        return {"visitor": 1}

    def message_name(self, message: str | bytes) -> str | None:
        return None if message == "secret" else f"got {message!s}"

    def message_time(self, message: str | bytes) -> float | None:
        return 5.0 if message == "timed" else None


class Forgetful(Visitor):
    """Keeps two messages."""

    abstract = True
    keep = 2


class Listener(Visitor):
    """Answers what comes unasked, once."""

    abstract = True

    def on_message(self, message: str | bytes) -> None:
        if message == "bug":
            raise LookupError("a bug in on_message")
        if message == "wait":
            self.client.request("never sent")
        if not str(message).startswith("answer"):
            self.client.send(f"answer {message!s}")


def every_method(stage: Stage) -> object:
    user = stage.user(Visitor, "echo")
    client = user.client
    found = [client.request("ask"), client.request(b"\x00\x01", name="bytes")]
    client.send("früh")
    found.append(client.receive())
    client.send_confirmed("sure")
    found.append(client.receive(name="awaited", match=lambda message: message == "sure"))
    user.on_stop()
    return [str(message) for message in found]


def unasked(stage: Stage) -> object:
    user = stage.user(Visitor, "echo")
    for message in ("one", "timed", "secret"):
        user.client.send(message)
    # Claims of their own messages leave the others alone.
    reply = user.client.request("ask", reply=lambda message: message == "ask")
    user.on_stop()
    return reply


def too_many_unasked(stage: Stage) -> object:
    user = stage.user(Forgetful, "echo")
    for number in range(5):
        user.client.send(str(number))
    user.client.request("last", reply=lambda message: message == "last")
    before = len([event for event in stage.events if event["what"].startswith("WSR")])
    kept = [user.client.receive(), user.client.receive()]
    user.on_stop()
    return [before, kept]


def pushed(stage: Stage) -> object:
    user = stage.user(Listener, "echo")
    user.client.send("one")
    got = user.client.receive(match=lambda message: message == "answer one", timeout=SECONDS)
    user.on_stop()
    return got


def a_bug_in_on_message(stage: Stage) -> object:
    user = stage.user(Listener, "echo")
    user.client.send("bug")
    found = user.client.request("still there", reply=lambda message: message == "still there")
    user.on_stop()
    return found


def a_wait_in_on_message(stage: Stage) -> object:
    user = stage.user(Listener, "echo")
    user.client.send("wait")
    found = user.client.request("still there", reply=lambda message: message == "still there")
    user.on_stop()
    return found


def _failure(action: Callable[[], object]) -> str:
    try:
        action()
    except RequestFailed as error:
        return repr(error.__cause__)
    return "nothing failed"


def no_reply(stage: Stage) -> object:
    user = stage.user(Visitor, "silent")
    failure = _failure(lambda: user.client.request("ask", timeout=0.05))
    user.on_stop()
    return failure


def a_broken_match(stage: Stage) -> object:
    user = stage.user(Visitor, "echo")
    failure = _failure(lambda: user.client.request("ask", reply=lambda _: 1 / 0))
    found = user.client.request("again")
    user.on_stop()
    return [failure, found]


def refused(stage: Stage) -> object:
    user = stage.user(Visitor, "refusing")  # on_start does not fail
    failure = _failure(lambda: user.client.send("once more"))
    user.on_stop()
    return failure


def closed_by_the_server(stage: Stage) -> object:
    user = stage.user(Visitor, "closing")
    failure = _failure(lambda: user.client.request("ask"))
    again = _failure(lambda: user.client.request("ask"))  # connects first
    user.on_stop()
    return [failure, again]


def opened_again(stage: Stage) -> object:
    user = stage.user(Visitor, "losing", reconnect=True)
    failure = _failure(lambda: user.client.request("ask", timeout=0.5))
    found = user.client.request("again", timeout=SECONDS)
    user.on_stop()
    return [failure, found]


def no_answer_to_the_close(stage: Stage) -> object:
    user = stage.user(Visitor, "endless", close_timeout=0.05)
    user.on_stop()
    return None


def wrong_options(stage: Stage) -> object:
    found = []
    for options in ({"open_timout": 1}, {"on_message": print}, {"open_timeout": -1}):
        try:
            stage.user(Visitor, "echo", **options)
        except gevent.GreenletExit:
            found.append(stage.errors[-1])
    nobody = Visitor(stage.environment)
    try:
        nobody.on_start()
    except gevent.GreenletExit:
        found.append(stage.errors[-1])
    return found


def stopped_while_waiting(stage: Stage) -> object:
    class Waiter(Visitor):
        host = stage.urls["silent"]

        @task
        def wait_for_ever(self) -> None:
            self.client.receive(timeout=1000)

    group = Group()
    user = Waiter(stage.environment)
    user.start(group)
    gevent.sleep(0)
    while not user.client.is_open:
        gevent.sleep(0.001)
    user.stop(force=True)
    return [user.client.is_open, user.greenlet.dead]


def interrupted(stage: Stage) -> object:
    class Interrupter(Visitor):
        def on_message(self, message: str | bytes) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    locust.events.init.fire(  # type: ignore[no-untyped-call]
        environment=stage.environment, runner=None, web_ui=None
    )
    user = stage.user(Interrupter, "echo")
    user.client.send("now")
    try:
        gevent.sleep(SECONDS)
    except KeyboardInterrupt:
        found = user.client.is_open
        user.on_stop()
        return found
    return "no interrupt"


def without_on_stop(stage: Stage) -> object:
    class Careless(Visitor):
        host = stage.urls["echo"]

        def on_stop(self) -> None:
            """Do not call that of the base class."""

        @task
        def leave(self) -> None:
            self.client.request("bye")
            raise StopUser

    group = Group()
    user = Careless(stage.environment)
    user.start(group)
    group.join(SECONDS)
    with gevent.Timeout(SECONDS):
        while user.client.is_open or stage.events[-1]["what"] != "WS close":
            gevent.sleep(0.001)
    return None


def twenty_users(stage: Stage) -> object:
    class Asker(Visitor):
        host = stage.urls["echo"]
        asked = 0

        @task
        def ask(self) -> None:
            assert self.client.request(f"{self.asked}") == f"{self.asked}"
            self.asked += 1
            if self.asked == 25:
                raise StopUser

    before = _greenlets()
    stage.environment.user_classes = [Asker]
    stage.environment.reset_stats = False
    runner = stage.environment.create_local_runner()
    runner.start(20, spawn_rate=100)
    with gevent.Timeout(SECONDS):
        while stage.environment.stats.get("close", "WS").num_requests < 20:
            gevent.sleep(0.01)
    runner.quit()
    total = stage.environment.stats.get("request", "WSC")
    stage.events.clear()
    return {
        "requests": total.num_requests,
        "failures": total.num_failures,
        "threads": [thread.name for thread in threading.enumerate() if thread.name.startswith("wsclient-")],
        "greenlets": [repr(greenlet) for greenlet in _greenlets() - before],
    }


def _greenlets() -> set[gevent.Greenlet[Any, Any]]:
    gc.collect()
    found = (thing for thing in gc.get_objects() if isinstance(thing, gevent.Greenlet))
    return {greenlet for greenlet in found if not greenlet.dead}


# -- the connection itself ------------------------------------------------------------------------------


def many_senders(stage: Stage, server: str = "echo", **options: Any) -> object:
    with Connection(stage.urls[server], **options) as connection:

        def send(sender: int) -> None:
            for number in range(200):
                connection.send(f"{sender} {number}")

        senders = [gevent.spawn(send, sender) for sender in range(10)]
        found = [str(connection.recv(SECONDS)) for _ in range(10 * 200)]
        gevent.joinall(senders, raise_error=True)
        connection.confirm(SECONDS)
    by_sender = {sender: [line for line in found if line.split()[0] == str(sender)] for sender in range(10)}
    return all(
        lines == [f"{sender} {number}" for number in range(200)] for sender, lines in by_sender.items()
    )


def many_senders_with_tls(stage: Stage) -> object:
    return many_senders(stage, "tls echo", ssl_context=_context(stage))


def _context(stage: Stage) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=stage.urls["authority"])


def stalled(stage: Stage, server: str = "stalled", **options: Any) -> object:
    # A write that no deadline ends would end the wait for a message by Timeout.
    connection = Connection(stage.urls[server], write_timeout=0.2, ping_interval=None, **options)
    with connection:
        for _ in range(64):
            connection.send(bytes(256 * 1024))
        try:
            connection.recv(SECONDS)
        except (ConnectionClosed, Timeout) as error:
            return [type(error).__name__, type(error.__cause__).__name__]
        return "a message"


def stalled_with_tls(stage: Stage) -> object:
    return stalled(stage, "tls stalled", ssl_context=_context(stage))


def a_silent_peer_that_reads_is_alive(stage: Stage) -> object:
    # The verdict on a peer looks whether there is input, without waiting.
    with Connection(stage.urls["echo"], ping_interval=0.05, ping_timeout=0.05) as connection:
        for _ in range(20):
            gevent.sleep(0.02)
        connection.send("still there")
        return connection.recv(SECONDS)


def killed_while_it_waits(stage: Stage) -> object:
    with Connection(stage.urls["echo"]) as connection:
        waiting = gevent.spawn(connection.recv)
        gevent.sleep(0.01)
        waiting.kill(timeout=SECONDS)
        connection.send("next")
        return [waiting.dead, connection.recv(SECONDS)]


CASES: Mapping[str, Callable[[Stage], object]] = MappingProxyType(
    {
        case.__name__: case
        for case in (
            every_method,
            unasked,
            too_many_unasked,
            pushed,
            a_bug_in_on_message,
            a_wait_in_on_message,
            no_reply,
            a_broken_match,
            refused,
            closed_by_the_server,
            opened_again,
            no_answer_to_the_close,
            wrong_options,
            stopped_while_waiting,
            interrupted,
            without_on_stop,
            twenty_users,
            many_senders,
            many_senders_with_tls,
            stalled,
            stalled_with_tls,
            a_silent_peer_that_reads_is_alive,
            killed_while_it_waits,
        )
    }
)


def _run(name: str, urls: Urls) -> dict[str, Any]:
    stage = Stage(urls)
    with gevent.Timeout(3 * SECONDS):
        found = CASES[name](stage)
    return {"found": found, "events": stage.events, "errors": stage.errors}


if __name__ == "__main__":
    urls = json.load(sys.stdin)
    json.dump({name: _run(name, urls) for name in CASES}, sys.stdout)
