"""``wsclient`` against real servers, in this process: what goes in, what comes out, the exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest
import trustme
from command_line import CommandLine, Ran

from wsclient.testing import (
    FaultServer,
    ServerConnection,
    Step,
    accept_upgrade,
    cut,
    echo,
    http_response,
    read_messages,
    read_until_close,
    recorder,
    repeat,
    send_binary,
    send_close,
    send_text,
    serve,
    stop_reading,
    wait,
)

pytestmark = pytest.mark.timeout(40)


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for name in ("WSCLIENT_HEADER", "WSCLIENT_USER_ID", "WSCLIENT_PROXY", "WSCLIENT_CACERT"):
        monkeypatch.delenv(name, raising=False)
    return CommandLine(capfdbinary, monkeypatch)


def speaking(*steps: Step) -> FaultServer:
    return FaultServer(accept_upgrade(), *steps)


class TestSend:
    @pytest.mark.parametrize(
        ("arguments", "stdin", "messages"),
        [
            ([], b"one\ntwo\r\n\nthree", ["one", "two", "", "three"]),
            (["--null"], b"one\ntwo\0three\0", ["one\ntwo", "three"]),
            (["--whole"], b"one\ntwo\n", ["one\ntwo\n"]),
            (["--binary"], b"\xff\n\x00", [b"\xff", b"\x00"]),
            (["--whole", "-b"], b"\xff\n", [b"\xff\n"]),
            (["--compression"], b"x\n" * 3, ["x", "x", "x"]),
            ([], b"", []),
        ],
    )
    def test_standard_input_becomes_messages(
        self, cli: CommandLine, arguments: list[str], stdin: bytes, messages: list[str | bytes]
    ) -> None:
        with serve(recorder) as server:
            assert cli("send", *arguments, server.url, stdin=stdin) == Ran(0, "", "")
            assert server.received == messages  # confirmed: they have come

    @pytest.mark.parametrize("binary", [True, False])
    def test_a_large_message_goes_out_in_fragments(self, cli: CommandLine, binary: bool) -> None:
        data = "aé\N{EURO SIGN}".encode() * 600_000
        with serve(recorder) as server:
            ran = cli(
                "send", "--whole", *(["--binary"] if binary else []), server.url, stdin=data[:-3] + b"end"
            )
            assert ran == Ran(0, "", "")
            (message,) = server.wait_for_messages(1)
            assert (message if isinstance(message, bytes) else message.encode()) == data[:-3] + b"end"

    def test_many_more_than_the_queue_holds(self, cli: CommandLine) -> None:
        lines = [str(number) for number in range(20_000)]
        with serve(recorder) as server:
            assert cli("send", server.url, stdin="\n".join(lines).encode()) == Ran(0, "", "")
            assert server.received == lines

    def test_text_that_is_none(self, cli: CommandLine) -> None:
        with serve(recorder) as server:
            ran = cli("send", server.url, stdin=b"one\ncaf\xe9\n")
            assert ran.status == 1
            assert ran.err == "wsclient: standard input: message 2 is not UTF-8 at byte 3; sent before: 1\n"
            server.assert_received(["one"])

    @pytest.mark.parametrize("size", [100, 2_000_000])
    def test_whole_text_that_is_none(self, cli: CommandLine, size: int) -> None:
        with serve(recorder) as server:
            ran = cli("send", "--whole", server.url, stdin=b"a" * size + b"\xff")
        assert (ran.status, ran.out) == (1, "")
        assert re.fullmatch(r"wsclient: standard input: .*message.* is not UTF-8.*\n", ran.err)

    def test_a_message_that_is_too_large(self, cli: CommandLine) -> None:
        with serve(recorder) as server:
            ran = cli("send", "--max-message-size", "1KB", server.url, stdin=b"a" * 1001)
        assert ran == Ran(1, "", "wsclient: standard input: a message is over 1000 bytes; sent before: 0\n")

    @pytest.mark.parametrize(
        ("end", "status", "told"),
        [
            (
                send_close(1000, "enough"),
                1,
                r"connection closed with code 1000 \(enough\): 1 message accepted",
            ),
            (send_close(1011, "oh no"), 4, r"connection closed with code 1011 \(oh no\): 1 message accepted"),
            (cut(), 4, "connection closed with code 1006 .*: 1 message accepted, 0 of them not sent"),
        ],
    )
    def test_a_server_that_ends_it(self, cli: CommandLine, end: Step, status: int, told: str) -> None:
        # Standard input stays open: the command must notice by itself.
        with speaking(read_messages(1), end) as server:
            ran = cli("send", server.url, stdin=b"one\n", keep_open=True)
        assert ran.status == status
        assert re.match(f"wsclient: {told}", ran.err)
        assert ran.err.count("\n") == 1

    def test_a_server_that_confirms_nothing(self, cli: CommandLine) -> None:
        # It reads, and answers no ping.
        with speaking(read_messages(1), wait(0.5)) as server:
            ran = cli("send", "--timeout", "100ms", "--ping-interval", "0", server.url, stdin=b"one\n")
            server.take_errors()
        assert ran.status == 1
        assert "confirm was not done within 0.1 s: 1 message accepted, 0 of them not sent" in ran.err

    def test_a_server_that_takes_nothing(self, cli: CommandLine) -> None:
        lines = b"x" * 99_999 + b"\n"
        with FaultServer(accept_upgrade(), stop_reading(), receive_buffer=4096) as server:
            ran = cli("send", "--timeout", "200ms", server.url, stdin=lines * 100)
        assert ran.status == 1
        assert re.fullmatch(
            r"wsclient: .* 0\.2 s.*: \d+ messages accepted, [1-9]\d* of them not sent.*\n", ran.err
        )

    def test_a_server_that_is_slow_is_waited_for(self, cli: CommandLine) -> None:
        # Every message takes longer than the time-out, but some are taken all the time.
        def slow(connection: ServerConnection) -> None:
            for _ in connection:
                pause.wait(0.02)

        pause, lines = threading.Event(), b"x" * 999_999 + b"\n"
        with serve(slow) as server:
            ran = cli("send", "--timeout", "300ms", server.url, stdin=lines * 20)
            assert ran == Ran(0, "", "")
            server.wait_for_messages(20)

    def test_what_a_lost_link_leaves_in_doubt(self, cli: CommandLine) -> None:
        scripts = [(accept_upgrade(), read_messages(1), cut()), (accept_upgrade(), read_until_close())]
        with FaultServer(scripts=scripts) as server:
            ran = cli("send", "--reconnect", server.url, stdin=b"one\n")
        assert ran.status == 1
        assert "connection lost (lost" in ran.err
        assert "1 of 1 message may not have arrived" in ran.err

    def test_what_is_sent_again(self, cli: CommandLine) -> None:
        scripts = [(accept_upgrade(), read_messages(1), cut()), (accept_upgrade(), read_until_close())]
        with FaultServer(scripts=scripts) as server:
            options = ["--reconnect", "--delivery", "at-least-once", "--reconnect-attempts", "5"]
            ran = cli("send", *options, server.url, stdin=b"one\n")
            assert server.connections[-1].received == ("one",)
        assert ran.status == 0


class TestListen:
    def listen(self, cli: CommandLine, *arguments: str) -> Ran:
        steps = (send_text("one"), send_text('{"a":\r\n 1}'), send_binary(b"\x00\xff"), send_close())
        with speaking(*steps, read_until_close()) as server:
            return cli("listen", *arguments, server.url)

    def test_a_message_a_line(self, cli: CommandLine) -> None:
        assert self.listen(cli) == Ran(0, 'one\n{"a":\\r\\n 1}\n0x00ff\n', "")

    def test_exactly(self, cli: CommandLine) -> None:
        assert self.listen(cli, "--null").raw == b'one\0{"a":\r\n 1}\0\x00\xff\0'

    def test_as_json(self, cli: CommandLine) -> None:
        records = [json.loads(line) for line in self.listen(cli, "--json").out.splitlines()]
        assert [record["number"] for record in records] == [1, 2, 3]
        assert [records[0]["data"], records[1]["json"], records[2]["base64"]] == ["one", {"a": 1}, "AP8="]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", records[0]["time"])

    def test_so_many(self, cli: CommandLine) -> None:
        assert self.listen(cli, "--count", "1") == Ran(0, "one\n", "")

    def test_too_few(self, cli: CommandLine) -> None:
        ran = self.listen(cli, "-n", "5")
        assert (ran.status, ran.err) == (1, "wsclient: 3 of 5 messages came\n")
        assert ran.out.count("\n") == 3

    @pytest.mark.parametrize(("count", "status"), [([], 0), (["--count", "2"], 1)])
    def test_so_long(self, cli: CommandLine, count: list[str], status: int) -> None:
        with serve(recorder) as server:
            assert cli("listen", "--timeout", "50ms", *count, server.url).status == status

    def test_an_abnormal_end(self, cli: CommandLine) -> None:
        with speaking(send_text("one"), cut()) as server:
            ran = cli("listen", server.url)
        assert (ran.status, ran.out) == (4, "one\n")
        assert re.fullmatch(r"wsclient: connection closed with code 1006 .*\n", ran.err)


class TestConnect:
    """Without a terminal."""

    def test_lines_in_messages_out(self, cli: CommandLine, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("of a file\n")
        (tmp_path / "bytes").write_bytes(b"\xff")
        lines = ["hello", "//slash", "/binary 00 ff", f"/send-file {tmp_path}/file"]
        lines += [f"/send-file --binary {tmp_path}/bytes", "/ping", "/help"]
        with serve(echo) as server:
            ran = cli("connect", server.url, stdin="\n".join(lines).encode())
        assert ran.status == 0
        assert ran.out == "hello\n/slash\n0x00ff\nof a file\\n\n0xff\n"
        assert re.search(r"^wsclient: pong after [\d.]+ ms$", ran.err, re.MULTILINE)
        assert f"sent {tmp_path}/bytes: binary, 1 byte" in ran.err

    def test_close(self, cli: CommandLine) -> None:
        with serve(recorder) as server:
            assert cli("connect", server.url, stdin=b"one\n/close 4001 that is all\nnever\n").status == 0
            server.wait_closed()
            assert (server.received, server.connections[0].close_code) == (["one"], 4001)

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            ("/nope", "no command /nope"),
            ("/close 5", "code"),
            ("/send-file /nowhere", "/nowhere"),
            ("/send-file {bytes}", "is no UTF-8 text; /send-file --binary sends anything"),
        ],
    )
    def test_a_wrong_line(self, cli: CommandLine, tmp_path: Path, line: str, fault: str) -> None:
        (tmp_path / "bytes").write_bytes(b"\xff")
        typed = line.format(bytes=tmp_path / "bytes")
        with serve(recorder) as server:
            ran = cli("connect", server.url, stdin=f"one\n{typed}\ntwo\n".encode())
            assert ran.status == 1
            server.assert_received(["one"])
        assert ran.err.startswith("wsclient: standard input, line 2: ")
        assert fault in ran.err

    @pytest.mark.parametrize(("end", "status"), [(send_close(1000), 0), (send_close(4000), 4), (cut(), 4)])
    def test_a_server_that_ends_it(self, cli: CommandLine, end: Step, status: int) -> None:
        with speaking(send_text("hi"), read_messages(1), end) as server:
            ran = cli("connect", server.url, stdin=b"go\n", keep_open=True)
            server.take_errors()
        assert (ran.status, ran.out) == (status, "hi\n")

    def test_it_waits_for_answers(self, cli: CommandLine) -> None:
        def slow(connection: ServerConnection) -> None:
            for message in connection:
                connection.send("first")
                connection.send(f"answer to {message!s}")

        with serve(slow) as server:
            assert cli("connect", "--wait", "300ms", server.url, stdin=b"q\n").out == "first\nanswer to q\n"


FAULTS = [
    (["nothing"], "No such command 'nothing'"),
    (["send"], "Missing argument 'URL'"),
    (["send", "--null", "--whole", "ws://localhost"], "exclude each other"),
    (["listen", "--null", "--json", "ws://localhost"], "exclude each other"),
    (["listen", "http://localhost"], "URL: scheme is http; use ws"),
    (["listen", "localhost:1"], "URL: must begin with ws:// or wss://"),
    (["listen", "--timeout", "5x", "ws://localhost"], "'--timeout': '5x' is no duration"),
    (["listen", "--max-message-size", "1q", "ws://localhost"], "'1q' is no size"),
    (["listen", "--max-message-size", "0", "ws://localhost"], "--max-message-size: must be at least 1"),
    (["listen", "--open-timeout", "0", "ws://localhost"], "--open-timeout: must be over 0"),
    (["listen", "--count", "0", "ws://localhost"], "'--count'"),
    (["listen", "-H", "s3cret", "ws://localhost"], "a header is written 'Name: value'"),
    (["listen", "-H", "A: s3cret\nB: c", "ws://localhost"], "--header: value of A"),
    (["listen", "-H", "@/nowhere", "ws://localhost"], "/nowhere: No such file"),
    (["listen", "-s", "a b", "ws://localhost"], "--subprotocol: not a token"),
    (["listen", "--user-id", "ada", "ws://localhost"], "--role: is missing"),
    (
        ["listen", "--user-id", "", "--role", "r", "--session-id", "s3cret", "ws://localhost"],
        "must not be empty",
    ),
    (["listen", "--delivery", "at-most-once", "ws://localhost"], "--delivery: needs --reconnect"),
    (["listen", "--reconnect-attempts", "3", "ws://localhost"], "--reconnect-attempts: needs --reconnect"),
    (["listen", "--proxy", "ftp://u:s3cret@x", "ws://localhost"], "--proxy: must begin with"),
    (["listen", "--insecure", "ws://localhost"], "--insecure: ws:// URLs have no TLS"),
    (["listen", "--key", "k", "wss://localhost"], "--key: needs --cert"),
    (["listen", "--cacert", "/nowhere", "wss://localhost"], "--cacert: /nowhere: No such file"),
    (["listen", "--cacert", __file__, "wss://localhost"], "no usable PEM in it"),
    (["listen", "--cert", __file__, "wss://localhost"], "--cert, --key: "),
    (["listen", "--cacert", "/x", "--insecure", "wss://localhost"], "--insecure: can't be combined"),
]


class TestFaults:
    @pytest.mark.parametrize(("arguments", "told"), FAULTS)
    def test_wrong_usage(self, cli: CommandLine, arguments: list[str], told: str) -> None:
        ran = cli(*arguments)
        assert (ran.status, ran.out) == (2, "")
        assert told in ran.err
        assert "Traceback" not in ran.err
        assert "s3cret" not in ran.err

    def test_a_server_that_refuses(self, cli: CommandLine) -> None:
        with FaultServer(http_response(403, body=b"members only")) as server:
            ran = cli("listen", "-v", server.url)
        assert ran.status == 3
        assert "* the answer: members only\n" in ran.err
        assert re.search("^wsclient: could not connect: .*403", ran.err, re.MULTILINE)

    def test_nobody_there(self, cli: CommandLine) -> None:
        with FaultServer(accept_upgrade()) as server:
            url = server.url
        ran = cli("send", url, stdin=b"x")
        assert (ran.status, ran.out) == (3, "")
        assert "refused" in ran.err


class TestHelp:
    @pytest.mark.parametrize("command", ["connect", "send", "listen", "load"])
    def test_it_has_groups_and_examples(self, cli: CommandLine, command: str) -> None:
        ran = cli(command, "--help")
        assert (ran.status, ran.err) == (0, "")
        for part in (
            f"Usage: wsclient {command} [OPTIONS] URL\n",
            "\nOptions:\n",
            "\nConnection:\n",
            "\nTLS (",
        ):
            assert part in ran.out
        assert "Examples:\n    " in ran.out
        assert ran.out.index("\nOptions:\n") < ran.out.index("\nConnection:\n")

    @pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 2)])
    def test_the_commands_are_listed_in_order(
        self, cli: CommandLine, arguments: list[str], status: int
    ) -> None:
        ran = cli(*arguments)
        assert ran.status == status
        listed = re.findall(r"^  (connect|send|listen|load|check) ", ran.out + ran.err, re.MULTILINE)
        assert listed == ["connect", "send", "listen", "load", "check"]


class TestEnds:
    """How a command is ended from outside; as processes in test_cli_process."""

    @pytest.mark.parametrize("command", ["listen", "connect", "send"])
    def test_ctrl_c(self, cli: CommandLine, command: str) -> None:
        def interrupting(connection: ServerConnection) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in connection:
                pass

        with serve(interrupting) as server:
            ran = cli(command, server.url, keep_open=True)
        assert (ran.status, ran.out, ran.err.strip()) == (130, "", "wsclient: interrupted")

    @pytest.mark.parametrize("command", ["listen", "connect"])
    @pytest.mark.parametrize("pause", [True, False])
    def test_nobody_reads(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, command: str, pause: bool
    ) -> None:
        read, write = os.pipe()
        os.close(read)
        steps = [send_text("one"), read_until_close()] if pause else [repeat(send_text("one"))]
        with speaking(*steps) as server, os.fdopen(write, "w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            ran = cli(command, server.url, keep_open=True)
            server.take_errors()
        assert (ran.status, ran.err) == (0, "")


class TestVerbose:
    def test_it_shows_the_handshake_and_messages_without_secrets(
        self, cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "headers").write_text("X-Token: s3cret-file\n")
        monkeypatch.setenv("WSCLIENT_HEADER", "X-Env: s3cret-env and more\nX-Two: s3cret-two")
        options = ["-v", "-H", f"@{tmp_path}/headers", "--user-id", "s3cret-id", "--role", "r"]
        options += [
            "--session-id",
            "s3cret-session",
            "--origin",
            "http://here",
            "-s",
            "chat",
            "--compression",
        ]
        with serve(echo, subprotocols=["chat"]) as server:
            ran = cli("send", *options, f"{server.url}/?t=s3cret-query", stdin=b"hello\n")
            record = server.connections[0]
            assert record.query["user_id"] == "s3cret-id"
        assert (ran.status, ran.out) == (0, "")
        assert "s3cret" not in ran.err
        for shown in ("* opening ws://", "> X-Token: ...", "> origin: http://here", "> text, 5 bytes\n"):
            assert shown in ran.err
        for shown in (
            "< sec-websocket-protocol: chat",
            "* closed with 1000 by local",
            "* sent 1 message, 3 fr",
        ):
            assert shown in ran.err

    def test_the_environment_gives_headers_unless_the_command_line_does(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WSCLIENT_HEADER", "X-Env: a b\nX-Two: c")
        with FaultServer(accept_upgrade(), send_close(), read_until_close()) as server:
            assert cli("listen", server.url).status == 0
            assert cli("listen", "-H", "X-Mine: d", server.url).status == 0
            first, second = (record.headers for record in server.connections)
        assert (first["x-env"], first["x-two"]) == ("a b", "c")
        assert ("x-env" in second, second["x-mine"]) == (False, "d")

    def test_contents_on_demand(self, cli: CommandLine) -> None:
        with serve(echo) as server:
            ran = cli("send", "-vv", "--binary", server.url, stdin=b"he\x1b\n")
        assert "> binary, 3 bytes: 68 65 1b\n" in ran.err


class TestTLS:
    def test_an_authority_of_ones_own(self, cli: CommandLine, tmp_path: Path) -> None:
        with serve(recorder, tls=True) as server:
            assert server.ca_pem is not None
            (tmp_path / "ca.pem").write_bytes(server.ca_pem)
            assert cli("send", "--cacert", f"{tmp_path}/ca.pem", server.url, stdin=b"x") == Ran(0, "", "")

    def test_without_it_nothing_is_sent(self, cli: CommandLine) -> None:
        with serve(recorder, tls=True) as server:
            ran = cli("send", server.url, stdin=b"x")
            assert (ran.status, server.received) == (3, [])
        assert "certificate is from an unknown CA" in ran.err
        assert ran.err.endswith("; --cacert FILE names whom to trust, --insecure checks nothing\n")

    def test_insecure_says_so(self, cli: CommandLine) -> None:
        with serve(recorder, tls=True) as server:
            ran = cli("send", "--insecure", server.url, stdin=b"x")
            loaded = cli("load", "-q", "-n", "1", "--expect", "none", "--insecure", server.url)
        said = "wsclient: warning: --insecure: the server's certificate is not checked\n"
        assert ran == Ran(0, "", said)
        assert (loaded.status, loaded.err) == (0, said)

    def test_a_client_certificate(self, cli: CommandLine, tmp_path: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("client")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        files = ["--cert", f"{tmp_path}/cert.pem", "--key", f"{tmp_path}/key.pem"]
        with serve(recorder, tls=True) as server:
            assert cli("send", "--insecure", *files, server.url, stdin=b"x").status == 0
        wrong = cli("send", "--cert", f"{tmp_path}/key.pem", "wss://localhost:1/", stdin=b"x")
        assert (wrong.status, "key.pem: no usable PEM in it" in wrong.err) == (2, True)


class TestCheck:
    def test_it_passes_on(self, cli: CommandLine, tmp_path: Path) -> None:
        (tmp_path / "good.py").write_text("import wsclient\n")
        (tmp_path / "bad.py").write_text("import websocket\n")
        assert cli("check", f"{tmp_path}/good.py").status == 0
        ran = cli("check", "--rule", "raw-import", str(tmp_path))
        assert (ran.status, "bad.py:1: raw-import" in ran.out) == (1, True)

    @pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 2), (["--nope"], 2)])
    def test_its_help_calls_it_by_its_name(self, cli: CommandLine, arguments: list[str], status: int) -> None:
        ran = cli("check", *arguments)
        assert ran.status == status
        assert "usage: wsclient check" in ran.out + ran.err
