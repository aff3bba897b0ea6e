"""The contract of the command line that scripts rely on."""

from __future__ import annotations

import json

from endpoint import bound_endpoint

REPORT_KEYS = {
    *("backend", "reason", "heaps", "heaps_failed", "payload_bytes", "wire_bytes", "packets", "packet_size"),
    *("doorbells", "seconds", "payload_gbit_per_s", "user_seconds", "system_seconds", "pinned_bytes"),
    "gso_segments_per_message",
}


def test_the_report_is_one_json_object(doorbell, listen) -> None:
    receiver = listen()
    report = doorbell.send_to(receiver, "--backend", "udp", "--heaps", 10, "--heap-size", 4096, "--packet-size", 1472)
    receiver.whole_stream()
    assert REPORT_KEYS <= report.keys()
    assert (report["backend"], report["packet_size"]) == ("udp", 1472)
    assert report["heaps"] in (10, 11)  # The stop heap may be counted.
    assert report["payload_bytes"] >= 10 * 4096
    assert report["wire_bytes"] > report["payload_bytes"]
    assert "received" not in report


def test_no_progress_bar_without_a_terminal(doorbell, listen) -> None:
    receiver = listen()
    done = doorbell.run("send", *receiver.to, "--heaps", 10)
    assert done.returncode == 0
    assert "\r" not in done.stderr + done.stdout
    assert "\x1b" not in done.stderr + done.stdout
    receiver.whole_stream()


def test_flags_and_their_toml_mean_the_same(doorbell, listen, tmp_path) -> None:
    with bound_endpoint().socket as sock:
        flags = ["--to", f"127.0.0.1:{sock.getsockname()[1]}", "--heaps", 3, "--heap-size", "4KiB"]
        flags += ["--flavour", "64-48", "--packet-size", 1472, "--rate", "1Gb/s", "--batch-heaps", 5]
        printed = doorbell.run("send", *flags, "--print-config")
        assert printed.returncode == 0, printed.stderr
        (tmp_path / "send.toml").write_text(printed.stdout)
        again = doorbell.run("send", tmp_path / "send.toml", "--print-config")
        assert again.returncode == 0, again.stderr
        assert again.stdout == printed.stdout
        # Flags override the file.
        changed = doorbell.run("send", tmp_path / "send.toml", "--packet-size", 8972, "--print-config")
        assert changed.stdout == printed.stdout.replace("1472", "8972")


def test_plan_sends_nothing(doorbell) -> None:
    with bound_endpoint().socket as sock:
        to = f"127.0.0.1:{sock.getsockname()[1]}"
        done = doorbell.run("plan", "--to", to, "--heap-size", 8192, "--packet-size", 1472, "--json")
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict)
        sock.setblocking(False)
        try:
            sock.recv(65536)
        except BlockingIOError:
            pass
        else:
            raise AssertionError("plan sent a packet")
