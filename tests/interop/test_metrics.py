"""Figures for Prometheus: whatever is asked of them, and however, costs a stream nothing."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from endpoint import bound_endpoint
from packets import parse_packet
from program import plain_environment

OPEN_METRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


class Sender:
    """A stream that goes on for ever, and serves its figures."""

    def __init__(self, doorbell, where: str = "127.0.0.1", descriptors: int | None = None) -> None:
        self._sink = bound_endpoint()
        self.port = free_port()
        self.address = (where, self.port)
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors,) * 2)) if descriptors else None
        arguments = ("send", *self._sink.to, "--heaps", HEAPS, "--rate", "10Mb/s", "--batch-heaps", 8, "--json")
        self.process = subprocess.Popen(
            doorbell.command(*arguments, "--metrics", f"{where}:{self.port}"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=plain_environment(),
            preexec_fn=limit,
        )
        deadline = time.monotonic() + TIME_LIMIT
        while not self.ask():
            assert self.process.poll() is None and time.monotonic() < deadline, self.process.communicate()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=5)
        return connection

    def ask(self, request: bytes = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n") -> str:
        """What is answered until the other side closes, or nothing."""
        answer = b""
        try:
            with self.connect() as connection:
                connection.sendall(request)
                while piece := connection.recv(65536):
                    answer += piece
        except OSError:
            pass
        return answer.decode()

    def status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(name)))

    def finish(self) -> None:
        """Ends it by SIGTERM, which takes seconds at most, and counts."""
        self.process.send_signal(signal.SIGTERM)
        try:
            out, err = self.process.communicate(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            self.close()
            raise
        report = json.loads(out)
        assert self.process.returncode == 130 and "panicked" not in err, err
        assert (report["heaps"] + report["heaps_unsubmitted"], report["heaps_failed"]) == (HEAPS, 0)
        self._sink.socket.settimeout(1)
        cnts = []
        while not (packet := parse_packet(self._sink.socket.recv(1 << 16))).is_stop:
            cnts.append(packet.cnt)
        assert cnts == list(range(1, report["heaps"] + 1)), "a heap was lost, or came twice"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._sink.socket.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def start(doorbell) -> Iterator[Callable[..., Sender]]:
    with ExitStack() as stack:

        def start_sender(**options: object) -> Sender:
            sender = Sender(doorbell, **options)
            stack.callback(sender.close)
            return sender

        yield start_sender


def hold_half_a_request(sender: Sender, stack: ExitStack) -> None:
    for _ in range(300):
        connection = stack.enter_context(sender.connect())
        connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")


def hold_nothing_at_all(sender: Sender, stack: ExitStack) -> None:
    for _ in range(300):
        stack.enter_context(sender.connect())


def send_without_end(piece: bytes) -> Callable[[Sender, ExitStack], None]:
    def send(sender: Sender, stack: ExitStack) -> None:
        connection = stack.enter_context(sender.connect())
        connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        with pytest.raises(OSError):
            for _ in range(400):
                connection.sendall(piece)

    return send


def send_a_body(length: int) -> Callable[[Sender, ExitStack], None]:
    def send(sender: Sender, stack: ExitStack) -> None:
        connection = stack.enter_context(sender.connect())
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length)
        assert connection.recv(12) == b"HTTP/1.1 200"

    return send


def ask_and_never_read(sender: Sender, stack: ExitStack) -> None:
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(sender.address)
    connection.settimeout(3)
    with pytest.raises(OSError):
        for _ in range(2000):
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 100)


def come_one_byte_at_a_time(sender: Sender, stack: ExitStack) -> None:
    connection = stack.enter_context(sender.connect())
    with pytest.raises(OSError):
        for byte in b"GET /metrics HTTP/1.1\r\n" + b"X: a\r\n" * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.02)


def reset(sender: Sender, stack: ExitStack) -> None:
    for _ in range(100):
        with sender.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    "abuse",
    [
        pytest.param(hold_half_a_request, id="300 halves of a request"),
        pytest.param(hold_nothing_at_all, id="300 connections"),
        pytest.param(send_without_end(b"a" * (1 << 20)), id="a line without end"),
        pytest.param(send_without_end(b"X: a\r\n" * 100_000), id="lines without end"),
        pytest.param(send_without_end(b"\0" * (1 << 20)), id="zeros without end"),
        pytest.param(send_a_body(100_000_000_000_000), id="a body of 100 TB"),
        pytest.param(send_a_body(10), id="a body that never comes"),
        pytest.param(ask_and_never_read, id="answers that nobody reads"),
        pytest.param(come_one_byte_at_a_time, id="a request byte by byte"),
        pytest.param(reset, id="resets"),
    ],
)
def test_no_request_costs_the_stream_anything(start, abuse) -> None:
    sender = start()
    before = sender.status("VmRSS")
    with ExitStack() as stack:
        abuse(sender, stack)
        assert sender.ask().startswith("HTTP/1.1 200"), "whoever asks meanwhile is answered"
        assert sender.status("VmRSS") - before < 32 << 10
        # With connections that are still open.
        sender.finish()


def test_descriptors_that_are_used_up_come_back(start) -> None:
    sender = start(descriptors=32)
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(sender.connect())
        time.sleep(0.3)
        assert len(os.listdir(f"/proc/{sender.process.pid}/fd")) <= 32
    assert sender.ask().startswith("HTTP/1.1 200")
    sender.finish()


@contextmanager
def beside(sender: Sender) -> Iterator[None]:
    """Asks that are well formed are answered, before and after."""
    assert sender.ask().startswith("HTTP/1.1 200")
    yield
    assert sender.ask().startswith("HTTP/1.1 200")


def test_requests_are_answered_as_they_should_be(start) -> None:
    sender = start()
    for request, status in (
        (b"GET /metrics HTTP/1.0\r\n\r\n", "200"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", "200"),
        (b"GET /metrics?x=1 HTTP/1.1\r\nConnection: upgrade\r\n\r\n", "200"),
        (b"GET /metrics HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", "200"),
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "405"),
        (b"\x00\xff\r\n\r\n", "400"),
        (b"GET\r\n\r\n", "400"),
        (b"GET /metrics HTTP/9.9\r\n\r\n", "505"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 5000 + b"\r\n\r\n", "431"),
    ):
        with beside(sender):
            answer = sender.ask(request)
            assert answer.startswith(f"HTTP/1.1 {status} "), (request, answer)
            assert not request.startswith(b"HEAD") or answer.endswith("\r\n\r\n")
    sender.finish()


def test_a_scraper_gets_the_format_that_it_reads(start) -> None:
    sender = start()
    plain = sender.ask()
    head, body = plain.split("\r\n\r\n", 1)
    assert "Content-Type: text/plain; version=0.0.4" in head and "# EOF" not in body
    assert "# TYPE doorbell_heaps_total counter\ndoorbell_heaps_total " in body
    assert f"Content-Length: {len(body)}" in head
    head, body = sender.ask(f"GET /metrics HTTP/1.1\r\nAccept: {OPEN_METRICS}\r\n\r\n".encode()).split("\r\n\r\n", 1)
    assert "Content-Type: application/openmetrics-text; version=1.0.0" in head and body.endswith("# EOF\n")
    assert "# TYPE doorbell_heaps counter\ndoorbell_heaps_total " in body


def test_localhost_is_every_family_that_there_is(start) -> None:
    sender = start(where="localhost")
    families = {family for family, *_ in socket.getaddrinfo("localhost", sender.port, type=socket.SOCK_STREAM)}
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if family in families:
            sender.address = (address, sender.port)
            assert sender.ask().startswith("HTTP/1.1 200"), address


def test_a_receiver_says_what_has_come(doorbell) -> None:
    port, metrics = free_port(), free_port()
    flags = ("--from", f"127.0.0.1:{port}", "--metrics", f"localhost:{metrics}", "--json")
    process = subprocess.Popen(doorbell.command("recv", *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr.readline().startswith("listening")
        with bound_endpoint().socket as sender:
            doorbell.send("--to", f"127.0.0.1:{port}", "--heaps", 50, "--stop-heap=false")
            sender.sendto(b"no SPEAD", ("127.0.0.1", port))
        found, deadline = None, time.monotonic() + TIME_LIMIT
        while found is None or found["heaps"] < 50 or found["not_spead"] < 1:
            assert time.monotonic() < deadline, found
            found = recv_figures(metrics)
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIME_LIMIT)
    report = json.loads(out)
    assert process.returncode == 130, err
    assert (found["heaps"], found["not_spead"]) == (50, 1)
    for name, key in (
        *(("heaps", "heaps"), ("heaps_incomplete", "incomplete"), ("heaps_missing", "missing")),
        *(("packets", "packets"), ("packets_ignored", "ignored"), ("packets_dropped", "dropped")),
        *(("packets_refused", "refused"), ("payload_bytes", "payload_bytes"), ("not_spead", "not_spead")),
    ):
        assert found.pop(name) == report[key], name
    assert not found, "each is compared"


def recv_figures(port: int) -> dict[str, int] | None:
    """The figures of a receiver, once there are any."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    samples = [line.split() for line in answer.decode().splitlines() if line.startswith("doorbell_recv_")]
    return {name.removeprefix("doorbell_recv_").removesuffix("_total"): int(value) for name, value in samples} or None


HEAPS = 100_000_000
TIME_LIMIT = 20
