"""The fuzz targets without a fuzzer: they hold for all seeds and former crashes, and can complain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from deflating import Server
from fuzz.__main__ import UNAVAILABLE, main
from fuzz.seeds import crashes, seeds, write
from fuzz.targets import TARGETS, decoder_input

from wsclient import deflate, protocol
from wsclient.deflate import Inflater
from wsclient.exceptions import ProtocolError
from wsclient.protocol import Protocol

by_target = pytest.mark.parametrize("target", TARGETS)


@by_target
def test_targets_hold_for_seeds_and_crashes(target: str) -> None:
    for data in seeds(target) + crashes(target):
        TARGETS[target](data)


@by_target
def test_targets_take_any_input(target: str) -> None:
    for data in (b"", b"\x00", b"\xff" * 5, b"\xff" * 2000, bytes(2000), bytes(range(256))):
        for length in range(0, len(data) + 1, 1 + len(data) // 9):
            TARGETS[target](data[:length])


def _raise(error: Exception) -> Callable[..., object]:
    def broken(*arguments: object) -> object:
        raise error

    return broken


def _nothing(*arguments: object) -> None:
    pass


BROKEN: tuple[tuple[str, object, str, object, type[Exception]], ...] = (
    # a limit that is forgotten
    ("decoder", protocol._Inflation, "_add", _nothing, AssertionError),
    # the rest of what a frame inflates to
    (
        "decoder",
        protocol._FlowingFrame,
        "is_whole",
        property(lambda frame: not frame._remaining),
        AssertionError,
    ),
    # an exception where an event should be
    ("decoder", Protocol, "_receive_control", _raise(KeyError("x")), KeyError),
    ("decoder", protocol, "_not_utf8", lambda: ValueError("x"), ValueError),
    # messages that end too early, and nobody notices
    ("inflater", Inflater, "_check_end", _nothing, AssertionError),
    # a message that is lost when it comes in pieces
    ("inflater", Inflater, "finish", _raise(ProtocolError(1007, "x")), AssertionError),
    # an exception that says nothing
    ("negotiation", deflate, "_parsed_value", _raise(IndexError("x")), IndexError),
)


@pytest.mark.parametrize(("target", "owner", "name", "broken", "complaint"), BROKEN)
def test_a_target_notices_what_is_broken(
    target: str,
    owner: object,
    name: str,
    broken: object,
    complaint: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(complaint):
        test_targets_hold_for_seeds_and_crashes(target)


def test_too_much_at_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    bombs = Server(keeps_context=False).frame(2, bytes(1 << 20)) * 4
    data = decoder_input(bombs, agreement=2, limit=4)
    TARGETS["decoder"](data)
    monkeypatch.setattr(protocol, "_INFLATED_AT_ONCE", 1 << 40)
    with pytest.raises(AssertionError, match="too much at once"):
        TARGETS["decoder"](data)


def test_seeds_are_written(tmp_path: Path) -> None:
    write("decoder", tmp_path / "corpus", tmp_path / "words")
    files = sorted((tmp_path / "corpus").iterdir())
    assert [path.read_bytes() for path in files] == seeds("decoder") + crashes("decoder")
    assert (tmp_path / "words").read_text(encoding="ascii").startswith('"\\x')


def test_without_atheris_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fuzz.__main__.find_spec", lambda name: None)
    assert main(["--seconds", "1"]) == UNAVAILABLE
    assert "atheris is not installed: pip install 'wsclient[fuzz]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(["nothing"], "unknown target 'nothing'"), (["--seconds", "0"], "must be 1 or more")],
)
def test_wrong_arguments(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert problem in capsys.readouterr().err
