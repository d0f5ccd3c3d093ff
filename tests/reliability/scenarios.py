"""The scenarios: each injects one kind of fault into the same traffic."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from reliability import limits, namespaces
from reliability.plan import Plan
from reliability.proxy import FaultProxy
from reliability.run import Injector, InThread, Prepare, Process, Scenario, in_thread
from reliability.script import Fault, marks, script
from reliability.servers import VerifyingServer

__all__ = ["SCENARIOS"]

# So that a peer that says nothing is found out within a run.
_KEEPALIVE: Mapping[str, Any] = MappingProxyType(
    {"ping_interval": 0.5, "ping_timeout": 0.5, "open_timeout": 2.0}
)
_STALL_SECONDS = (0.1, 2.5)  # shorter and longer than a keepalive takes to notice
_OUTAGE_SECONDS = (0.1, 0.5)
_DELAY_SECONDS = 0.02
_SLOW_SECONDS = (0.3, 0.8)
_SLOW_BYTES = 20_000  # a second
_WEATHER = ((0.05, 0.0), (0.0, 0.2), (0.3, 0.02), (0.1, 0.1))  # part of the packets lost, seconds of delay


# -- by proxy -----------------------------------------------------------------------------------------


class _ByProxy:
    notes: Sequence[str] = ()

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self.url = proxy.url

    @property
    def count(self) -> int:
        return sum(self._proxy.injected.values())

    def finish(self) -> None:
        self._proxy.heal()


def _through_proxy(*faults: Fault, lasting: tuple[float, float] = (0.0, 0.0), amount: float = 0.0) -> Prepare:
    @contextmanager
    def prepare(server: VerifyingServer, plan: Plan) -> Iterator[Injector]:
        server.start()
        steps = script(faults, plan.faults, plan.bytes, plan.seed, lasting=lasting, amount=amount)
        with FaultProxy(server.port, steps) as proxy:
            yield _ByProxy(proxy)

    return prepare


# -- by signal ----------------------------------------------------------------------------------------


@contextmanager
def _kills(server: VerifyingServer, plan: Plan) -> Iterator[Injector]:
    first, *places = marks(plan.messages, plan.faults, plan.seed)

    def work(injector: InThread) -> None:
        left = deque(places)
        while injector.next_fault():
            server.kill()
            # A server that is not held has received more than it was killed for: the next one has less to go.
            gap = [max(1, left.popleft() - server.progress)] if left else []
            server.start(gap, hold=plan.hold)

    server.start([first], hold=plan.hold)
    with in_thread(server, plan, work) as injector:
        yield injector


@contextmanager
def _stops(server: VerifyingServer, plan: Plan) -> Iterator[Injector]:
    steps = script([Fault.STALL], plan.faults, plan.messages, plan.seed, lasting=_STALL_SECONDS)

    def work(injector: InThread) -> None:
        for step in steps:
            if not injector.next_fault():
                return
            server.pause()
            injector.last(step.lasting)
            server.resume()
            server.go_on()

    server.start([step.after for step in steps], hold=plan.hold)
    with in_thread(server, plan, work) as injector:
        yield injector


# -- by namespace -------------------------------------------------------------------------------------


def _far_server(folder: Path) -> VerifyingServer:
    return VerifyingServer(folder, namespaces.wrapper(), namespaces.FAR_HOST)


@contextmanager
def _bad_weather(server: VerifyingServer, plan: Plan) -> Iterator[Injector]:
    steps = script([Fault.DELAY], plan.faults, plan.messages, plan.seed, lasting=_STALL_SECONDS)
    server.start([step.after for step in steps], hold=plan.hold)
    with namespaces.cable(server, plan.seed, lossy=True) as cable:

        def work(injector: InThread) -> None:
            for number, step in enumerate(steps):
                if not injector.next_fault():
                    return
                cable.worsen(*_WEATHER[number % len(_WEATHER)])
                server.go_on()
                injector.last(step.lasting)
                cable.worsen(0, 0)

        with in_thread(server, plan, work, [cable.text]) as injector:
            yield injector


@contextmanager
def _pulled_cable(server: VerifyingServer, plan: Plan) -> Iterator[Injector]:
    steps = script([Fault.STALL], plan.faults, plan.messages, plan.seed, lasting=_STALL_SECONDS)
    server.start([step.after for step in steps], hold=plan.hold)
    with namespaces.cable(server, plan.seed, lossy=False) as cable:

        def work(injector: InThread) -> None:
            for number, step in enumerate(steps):
                if not injector.next_fault():
                    return
                cable.pull(far=bool(number % 2))
                server.go_on()
                injector.last(step.lasting)
                cable.plug()

        with in_thread(server, plan, work) as injector:
            yield injector


# -- all of them --------------------------------------------------------------------------------------

_ALL = (
    Scenario("cut", "cut by FIN, by RST, in a frame", _through_proxy(Fault.FIN, Fault.RST, Fault.MID_FRAME)),
    Scenario(
        "stall",
        "nothing goes through, in one or both directions, for 0.1 to 2.5 s",
        _through_proxy(Fault.STALL, Fault.STALL_UP, Fault.STALL_DOWN, lasting=_STALL_SECONDS),
        _KEEPALIVE,
    ),
    Scenario(
        "delay",
        "20 ms for each chunk, for 0.3 to 0.8 s",
        _through_proxy(Fault.DELAY, lasting=_SLOW_SECONDS, amount=_DELAY_SECONDS),
    ),
    Scenario(
        "throttle",
        "20 KB/s for 0.3 to 0.8 s",
        _through_proxy(Fault.THROTTLE, lasting=_SLOW_SECONDS, amount=_SLOW_BYTES),
    ),
    Scenario(
        "refuse",
        "cut by RST, and connections refused for 0.1 to 0.5 s",
        _through_proxy(Fault.REFUSE, lasting=_OUTAGE_SECONDS),
    ),
    Scenario("kill", "server killed by SIGKILL, started again on its port", _kills),
    Scenario(
        "stop", "server stopped by SIGSTOP, continued by SIGCONT after 0.1 to 2.5 s", _stops, _KEEPALIVE
    ),
    Scenario(
        "loss",
        "5 to 30 % of the packets lost, or 20 to 200 ms of delay, or both, for 0.1 to 2.5 s",
        _bad_weather,
        _KEEPALIVE,
        process=lambda: Process(namespaces.wrapper()),
        server=_far_server,
    ),
    Scenario(
        "unplug",
        "`ip link set down`, at one end of the cable or the other, for 0.1 to 2.5 s",
        _pulled_cable,
        _KEEPALIVE,
        process=lambda: Process(namespaces.wrapper()),
        server=_far_server,
    ),
    *limits.SCENARIOS,
)
SCENARIOS: Mapping[str, Scenario] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
