"""What the command line does with text, without a connection: values, splitting, showing, what is typed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsclient import ConnectFailed, ConnectionClosed, Timeout
from wsclient.cli.display import as_line, as_record, hex_dump, is_json, pretty, visible
from wsclient.cli.exits import ExitCode, failure_of, option_fault
from wsclient.cli.history import history_path, prepared
from wsclient.cli.splitting import Splitter, decode
from wsclient.cli.trace import response_lines
from wsclient.cli.typed import COMMANDS, HELP, Close, Help, Ping, Send, SendFile, parse_line
from wsclient.cli.values import parse_header, parse_headers, parse_hex, parse_rate, parse_seconds, parse_size


class TestValues:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("5", 5), ("0.5", 0.5), (".5", 0.5), ("500ms", 0.5), ("30s", 30), ("2m", 120), ("1.5 h", 5400)],
    )
    def test_durations(self, text: str, seconds: float) -> None:
        assert math.isclose(parse_seconds(text), seconds)

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("0", 0),
            ("64k", 65536),
            ("64KiB", 65536),
            ("1KB", 1000),
            ("1.5M", 1572864),
            ("2 gib", 2 * 1024**3),
        ],
    )
    def test_sizes(self, text: str, size: int) -> None:
        assert parse_size(text) == size

    @pytest.mark.parametrize(
        ("text", "rate"), [("100", 100), ("100/s", 100), ("1.5k/s", 1500), ("60/min", 1)]
    )
    def test_rates(self, text: str, rate: float) -> None:
        assert parse_rate(text) == rate

    @pytest.mark.parametrize("text", ["", "x", "-1", "1d", "5 5", "1e9", "nan", "1,5"])
    def test_what_is_none_is_named(self, text: str) -> None:
        for parse, kind in ((parse_seconds, "duration"), (parse_size, "size"), (parse_rate, "rate")):
            with pytest.raises(ValueError, match=f"is no {kind}") as caught:
                parse(text)
            assert repr(text) in str(caught.value)

    def test_half_a_byte_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no whole number of bytes"):
            parse_size("0.3")

    def test_headers(self) -> None:
        assert parse_header("A:b: c ") == ("A", "b: c")
        assert parse_headers("A: 1\n\n # no\nB: 2\r\n") == (("A", "1"), ("B", "2"))

    def test_a_bad_header_is_not_repeated(self) -> None:
        with pytest.raises(ValueError, match=r"line 2: a header is written 'Name: value'") as caught:
            parse_headers("A: 1\nBearer s3cret\n")
        assert "s3cret" not in str(caught.value)

    def test_hexadecimal_digits(self) -> None:
        assert parse_hex("0x48 65:6C") == b"Hel"
        for text in ("4", "zz", "48 6"):
            with pytest.raises(ValueError, match="in pairs"):
                parse_hex(text)


class TestSplitting:
    @settings(max_examples=30)
    @given(st.lists(st.binary().map(lambda data: data.replace(b"\0", b""))), st.integers(1, 9))
    def test_what_was_joined_comes_apart_however_it_arrives(self, messages: list[bytes], step: int) -> None:
        stream = b"".join(message + b"\0" for message in messages)
        splitter = Splitter(b"\0", limit=1000)
        chunks = [stream[start : start + step] for start in range(0, len(stream), step)]
        found = [message for chunk in chunks for message in splitter.feed(chunk)]
        assert found + splitter.end() == messages

    def test_a_last_line_without_end_is_a_message(self) -> None:
        splitter = Splitter(b"\n", limit=10)
        assert splitter.feed(b"one\r\n\ntw") == [b"one", b""]
        assert splitter.feed(b"o\r") == []
        assert splitter.end() == [b"two"]
        assert splitter.end() == []

    def test_the_limit_holds_for_what_has_not_ended(self) -> None:
        splitter = Splitter(b"\n", limit=4)
        assert splitter.feed(b"1234\n12") == [b"1234"]
        with pytest.raises(ValueError, match="over 4 bytes"):
            splitter.feed(b"345")

    def test_text_that_is_none_is_numbered(self) -> None:
        assert decode("é".encode(), 1) == "é"
        with pytest.raises(ValueError, match="message 7 is not UTF-8 at byte 3"):
            decode(b"caf\xe9", 7)


class TestDisplay:
    def test_one_line(self) -> None:
        assert as_line("a\r\nb") == "a\\r\\nb"
        assert as_line("plain \\n") == "plain \\n"
        assert as_line(b"\x00\xff") == "0x00ff"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
            ("\x9b31m", "\\x9b31m"),
            ("a\u202eb", "a\\u202eb"),
            ("tab\tline\nend", "tab\tline\nend"),
            ("naïve e\u0301 \U0001f469\u200d\U0001f680", "naïve e\u0301 \U0001f469\u200d\U0001f680"),
        ],
    )
    def test_nothing_steers_the_terminal(self, text: str, shown: str) -> None:
        assert visible(text) == shown

    def test_records(self) -> None:
        record = json.loads(as_record('{"a":\n 1.10}', 3, "now"))
        assert record == {"number": 3, "time": "now", "type": "text", "size": 12, "json": {"a": 1.1}}
        assert "1.10" in as_record('{"a": 1.10}', 1, "")
        assert json.loads(as_record("é\n", 1, ""))["data"] == "é\n"
        assert json.loads(as_record(b"\x00", 1, "")) | {"size": 1} == {
            **{"number": 1, "time": "", "type": "binary", "size": 1, "base64": "AA=="}
        }

    @settings(max_examples=30)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        )
    )
    def test_a_record_is_one_line_of_json(self, value: object) -> None:
        line = as_record(json.dumps(value, indent=1), 1, "now")
        assert "\n" not in line
        assert json.loads(line)["json"] == value

    @pytest.mark.parametrize("text", ["NaN", "[Infinity]", "{", "", "nothing", "[" * 100_000])
    def test_what_is_no_json(self, text: str) -> None:
        assert not is_json(text)
        assert pretty(text, True) == text

    @settings(max_examples=30)
    @given(
        st.recursive(
            st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
        )
    )
    def test_layout_changes_nothing(self, value: object) -> None:
        text = json.dumps([value])
        assert json.loads(pretty(text, False)) == [value]

    def test_layout(self) -> None:
        text = '{"a": 1.10, "a": [], "b": [true, {"c": "x\\"y"}], "d": {}}'
        assert pretty(text, False).splitlines() == [
            "{",
            '  "a": 1.10,',
            '  "a": [],',
            '  "b": [',
            "    true,",
            "    {",
            '      "c": "x\\"y"',
            "    }",
            "  ],",
            '  "d": {}',
            "}",
        ]

    def test_colours(self) -> None:
        assert pretty('{"a": 1}', True) == '{\n  \x1b[36m"a"\x1b[0m: \x1b[33m1\x1b[0m\n}'

    def test_what_is_very_deep_stays_as_it_is(self) -> None:
        deep = "[" * 200 + "]" * 200
        assert pretty(deep, True) == deep

    def test_hex_dump(self) -> None:
        assert hex_dump(b"Hello, world! 12\x00").splitlines() == [
            "00000000  48 65 6c 6c 6f 2c 20 77  6f 72 6c 64 21 20 31 32  |Hello, world! 12|",
            "00000010  00                                                |.|",
        ]
        assert hex_dump(bytes(100), limit=16).splitlines()[1:] == ["... 84 bytes more"]

    def test_response_headers_keep_their_secrets(self) -> None:
        headers = {
            "set-cookie": "s3cret",
            "x-auth-token": "s3cret",
            "server": "x",
            "sec-websocket-accept": "y",
        }
        lines = response_lines(headers.items())
        assert lines == ["set-cookie: ...", "x-auth-token: ...", "server: x", "sec-websocket-accept: y"]


class TestTyped:
    @pytest.mark.parametrize(
        ("line", "typed"),
        [
            ("hello", Send("hello")),
            ("//hello", Send("/hello")),
            ("/binary 48 65", Send(b"He")),
            ("/ping", Ping()),
            ("/help ", Help()),
            ("/close", Close()),
            ("/close 4000", Close(4000)),
            ("/close 4000 see you", Close(4000, "see you")),
            ("/send-file a.txt", SendFile("a.txt", False)),
            ("/send-file --binary 'a b'", SendFile("a b", True)),
        ],
    )
    def test_lines(self, line: str, typed: object) -> None:
        assert parse_line(line) == typed

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            ("/pong", "no command /pong: did you mean /ping?"),
            ("/x", "there are /binary, /close, /help, /ping, /send-file"),
            ("/ping now", "/ping: takes nothing behind it"),
            ("/close soon", "/close: the code is a number"),
            ("/send-file", "/send-file: needs one path"),
            ("/send-file a b", "/send-file: needs one path"),
            ("/send-file 'a", "/send-file: No closing quotation"),
            ("/binary xyz", "/binary: hexadecimal digits"),
        ],
    )
    def test_faults(self, line: str, fault: str) -> None:
        with pytest.raises(ValueError, match=fault.replace("?", r"\?")):
            parse_line(line)

    def test_the_help_names_every_command(self) -> None:
        assert all(name in HELP for name in COMMANDS)


class TestExits:
    def test_errors_become_exit_statuses(self) -> None:
        assert failure_of(ConnectFailed("no")).code is ExitCode.UNREACHABLE
        assert failure_of(ConnectionClosed(1006)).code is ExitCode.LOST
        assert failure_of(ConnectionClosed(1000)).code is ExitCode.FAILED
        assert failure_of(Timeout("late")).code is ExitCode.FAILED

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            ("headers: bad", "--header: bad"),
            ("open_timeout: bad", "--open-timeout: bad"),
            ("url: bad", "URL: bad"),
            ("something else", "something else"),
        ],
    )
    def test_options_are_named_as_they_are_typed(self, fault: str, told: str) -> None:
        assert str(option_fault(ValueError(fault))) == told


class TestHistory:
    def test_where_it_is(self) -> None:
        home = Path("/home/ada")
        assert history_path({}, home, "linux") == home / ".local/state/wsclient/history"
        assert history_path({"XDG_STATE_HOME": "/s"}, home, "linux") == Path("/s/wsclient/history")
        assert history_path({"WSCLIENT_HISTORY": "/h", "XDG_STATE_HOME": "/s"}, home) == Path("/h")
        assert history_path({"WSCLIENT_HISTORY": ""}, home) is None
        assert history_path({"LOCALAPPDATA": "/l"}, home, "win32") == Path("/l/wsclient/history")

    def test_it_is_for_its_owner(self, tmp_path: Path) -> None:
        path = tmp_path / "state" / "history"
        assert prepared(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o077 == 0

    def test_a_place_that_cannot_be_written_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert not prepared(tmp_path / "file" / "history")
