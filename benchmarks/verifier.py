"""The judge of the main job: every message whole, exactly once, each thread's own order kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from benchmarks.messages import Garbled, parse

__all__ = ["Summary", "Verifier", "Violation"]


@dataclass(frozen=True)
class Violation:
    """The first thing that went wrong, and how soon.

    Attributes:
        kind: ``garbled``, ``duplicated``, ``out_of_order`` or ``lost``.
        after: messages that had arrived whole before it.
        detail: what was seen.
    """

    kind: str
    after: int
    detail: str


@dataclass(frozen=True)
class Summary:
    """What arrived: ``whole`` counts different messages; ``lost`` is what is missing of ``expected``."""

    expected: int
    whole: int
    lost: int
    garbled: int
    duplicated: int
    out_of_order: int
    first_violation: Violation | None

    @property
    def perfect(self) -> bool:
        """Everything that was expected, and nothing else, in order."""
        return self.first_violation is None and self.whole == self.expected

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "perfect": self.perfect}


class Verifier:
    """Checks one stream of messages of ``threads`` senders, ``messages`` each. For one thread."""

    def __init__(self, threads: int, messages: int) -> None:
        self._messages = messages
        # All fields belong to the thread that calls it.
        self._next = [0] * threads
        self._skipped: set[tuple[int, int]] = set()
        self._whole = 0
        self._garbled = 0
        self._duplicated = 0
        self._out_of_order = 0
        self._first: Violation | None = None

    def check_all(self, payloads: Iterable[bytes]) -> None:
        """Account for messages in the order in which they came off the wire."""
        due = self._next
        for payload in payloads:
            try:
                thread, number = parse(payload)
                if due[thread] == number < self._messages:
                    due[thread] = number + 1
                    self._whole += 1
                else:
                    self._unexpected(thread, number)
            except Garbled as error:
                self.garbled(str(error))
            except IndexError:
                self.garbled(f"thread {thread}: there is none")

    def garbled(self, detail: str) -> None:
        """Account for something that is not a message."""
        self._garbled += 1
        self._violation("garbled", detail)

    def end(self) -> None:
        """The stream has ended: what has not come by now is lost."""
        lost = self.summary().lost
        if lost:
            self._violation("lost", f"the connection ended, {lost} messages never came")

    @property
    def violated(self) -> bool:
        """Whether anything went wrong so far."""
        return self._first is not None

    def summary(self) -> Summary:
        """The account so far."""
        expected = len(self._next) * self._messages
        return Summary(
            expected=expected,
            whole=self._whole,
            lost=expected - self._whole,
            garbled=self._garbled,
            duplicated=self._duplicated,
            out_of_order=self._out_of_order,
            first_violation=self._first,
        )

    def _unexpected(self, thread: int, number: int) -> None:
        if number >= self._messages:
            self.garbled(f"thread {thread}, message {number}: there is none")
        elif number > self._next[thread]:
            self._skip(thread, number)
        elif (thread, number) in self._skipped:
            self._skipped.remove((thread, number))
            self._whole += 1
        else:
            self._duplicated += 1
            self._violation("duplicated", f"thread {thread}, message {number} came again")

    def _skip(self, thread: int, number: int) -> None:
        expected = self._next[thread]
        self._skipped.update((thread, missing) for missing in range(expected, number))
        self._next[thread] = number + 1
        self._out_of_order += 1
        self._violation("out_of_order", f"thread {thread}: message {number} came when {expected} was due")
        self._whole += 1

    def _violation(self, kind: str, detail: str) -> None:
        if self._first is None:
            self._first = Violation(kind, self._whole, detail)
