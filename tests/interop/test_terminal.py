"""The progress bar on terminals of several widths: one line, of what went out, that leaves nothing behind."""

from __future__ import annotations

import re
import socket
import threading

import pytest

from endpoint import bound_endpoint
from terminal import Screen, on_a_terminal
from test_tcp import listening


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_nothing_is_left_of_the_bar(doorbell, columns: int) -> None:
    closed = bound_endpoint()
    closed.socket.close()
    flags = ("--to", closed.destination, "--heaps", 20_000, "--rate", "1Gb/s")
    written, code = on_a_terminal(doorbell, columns, "send", *flags)
    assert code == 0
    draws = drawn(written)
    assert len(draws) > 3, written
    assert max(map(len, draws)) <= columns
    assert ("█" in draws[-1]) == (columns >= 60)
    screen = Screen(columns).write(written).text
    # A single block may be of the histogram.
    assert not [row for row in screen if "██" in row or "░" in row or " left" in row], screen
    # Lines of the log are whole, and start at the left.
    text = "\n".join(screen)
    starts = [row for row in screen if re.match(r"20\d\d-\d\d", row)]
    assert len(starts) == text.count("WARN") > 0, screen
    assert "sent      20,000 heaps"[:columns] in [row[: len("sent      20,000 heaps")] for row in screen], screen


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_recv_leaves_nothing_either(doorbell, columns: int) -> None:
    endpoint = bound_endpoint()
    endpoint.socket.close()
    flags = ("--from", endpoint.destination, "--heaps", 5000)
    result: list[tuple[str, int]] = []
    receiver = threading.Thread(target=lambda: result.append(on_a_terminal(doorbell, columns, "recv", *flags, seconds=4)))
    receiver.start()
    doorbell.run("send", "-q", "--to", endpoint.destination, "--heaps", 30_000, "--rate", "1Gb/s")
    receiver.join()
    [(written, _)] = result
    draws = drawn(written)
    assert draws and max(map(len, draws)) <= columns, written
    screen = Screen(columns).write(written).text
    assert not [row for row in screen if "█" in row or "░" in row], screen


def test_the_bar_counts_what_went_out(doorbell) -> None:
    """Most of it is submitted, and nobody takes it."""
    with listening(buffer=4096) as acceptor:
        to = f"127.0.0.1:{acceptor.getsockname()[1]}"
        flags = ("--to", to, "--backend", "tcp", "--heap-size", "64MiB", "--heaps", 3, "--zerocopy", "off")
        written, code = on_a_terminal(doorbell, 100, "send", *flags, seconds=1.5)
    assert code == 130
    draws = drawn(written)
    assert len(draws) > 3 and all("0 heaps" in line for line in draws), draws
    assert all(re.search(r"\b0 B\b", line) for line in draws), draws


def test_figures_have_one_unit_and_no_zeros(doorbell) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        to = f"127.0.0.1:{deaf.getsockname()[1]}"
        for heaps, rate in [(1, None), (20, "1Mb/s"), (20_000, "1Gb/s")]:
            paced = ["--rate", rate] if rate else []
            out = doorbell.run("send", "--to", to, "--heaps", heaps, *paced).stdout
            sent = next(line for line in out.splitlines() if line.startswith("sent"))
            assert not re.search(r" 0\.0+ m?s", out) and " 0.00 Gb/s" not in out, out
            # What goes in less than a millisecond has no rate.
            assert ("Gb/s of payload" in sent) == (" us" not in sent), out
            assert not re.search(r"[0-9] [kM]b/s|iB/s", out), out


def test_plan_and_send_agree(doorbell) -> None:
    import json

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        for flags in ([], ["--packet-size", 1472], ["--heap-size", 100_000], ["--items", "a:i8[9],b:<f4[800]"]):
            flags = ["--to", f"127.0.0.1:{deaf.getsockname()[1]}", "--heaps", 10, *flags]
            plan = json.loads(doorbell.run("plan", "--json", *flags).stdout)
            assert plan["packet_size"] == doorbell.send(*flags)["packet_size"]


def drawn(written: str) -> list[str]:
    """The lines that were drawn and erased again."""
    pieces = re.split(r"\r?\x1b\[2K", written)
    return [piece for piece in pieces if "\n" not in piece and ("heap" in piece or "B" in piece)]
