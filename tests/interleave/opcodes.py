"""A call before each bytecode instruction of the code under test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

__all__ = ["each_opcode", "each_opcode_here"]

OnOpcode = Callable[[], None]

_TOOL = (
    4  # of six; 0 to 3 are for debuggers, coverage tools, profilers and optimizers, by convention 3 is free
)


@contextmanager
def each_opcode(codes: Iterable[CodeType], on_opcode: OnOpcode) -> Iterator[None]:
    """Call ``on_opcode`` on whichever thread runs ``codes``. Does nothing before Python 3.12."""
    if sys.version_info >= (3, 12):
        events = sys.monitoring.events
        sys.monitoring.use_tool_id(_TOOL, "interleave")
        sys.monitoring.register_callback(_TOOL, events.INSTRUCTION, lambda code, offset: on_opcode())
        try:
            for code in codes:
                sys.monitoring.set_local_events(_TOOL, code, events.INSTRUCTION)
            yield
        finally:
            for code in codes:
                sys.monitoring.set_local_events(_TOOL, code, events.NO_EVENTS)
            sys.monitoring.register_callback(_TOOL, events.INSTRUCTION, None)
            sys.monitoring.free_tool_id(_TOOL)
    else:
        yield


@contextmanager
def each_opcode_here(codes: Iterable[CodeType], on_opcode: OnOpcode) -> Iterator[None]:
    """The same for the calling thread, up to Python 3.11. What traced it before gets it back at the end.

    Not later, for Python 3.12.1 dies of opcode events from ``sys.settrace`` on several threads.
    """
    if sys.version_info >= (3, 12):
        yield
    else:
        before = sys.gettrace()
        sys.settrace(_trace(frozenset(map(id, codes)), on_opcode))
        try:
            yield
        finally:
            sys.settrace(before)


def _trace(known: frozenset[int], on_opcode: OnOpcode) -> Callable[[FrameType, str, Any], Any]:
    def on_call(frame: FrameType, event: str, arg: Any) -> Any:
        if id(frame.f_code) not in known:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return on_event

    def on_event(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            on_opcode()
        return on_event

    return on_call
