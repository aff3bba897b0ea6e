"""Descriptors that are sent again, heaps that warm a network up, and a stop heap on every way out."""

from __future__ import annotations

import signal

import pytest

from endpoint import bound_endpoint
from receiver import Receiver
from splitmix import heap_payload


def test_descriptors_again_after_so_many_heaps(doorbell, listen) -> None:
    """In the first heap with its data, then in heaps of their own, which may be due while no data is there."""
    receiver = listen()
    report = doorbell.send_to(
        receiver,
        *("--descriptors-every", 10, "--batch-heaps", 4, "--source", "random:41"),
        *("--heap-size", 3000, "--heaps", 45),
    )
    heaps = receiver.until_stop()[:-1]
    data = [heap for heap in heaps if heap.items]
    assert report["heaps"] == len(data) == 45
    # Those that were due while the last ones were still in flight came a batch later.
    before = [sum(1 for other in heaps[:place] if other.items) for place, heap in enumerate(heaps) if heap.descriptors]
    assert before[0] == 0 and len(before) >= 3
    assert all(later - sooner >= 10 for sooner, later in zip(before, before[1:]))
    assert [bool(heap.items) for heap in heaps if heap.descriptors] == [True] + [False] * (len(before) - 1)
    assert [heap.cnt for heap in heaps] == list(range(1, len(heaps) + 1))
    for index, heap in enumerate(data):
        assert heap.content(ITEM, 3000) == heap_payload(41, index, 3000), f"heap {index}"


@pytest.mark.parametrize("substreams", [1, 3])
def test_descriptors_again_in_heaps_of_their_own(doorbell, listen, substreams: int) -> None:
    """Each substream gets them, and its turn is not broken off: heap i still goes to i mod n."""
    receivers = [listen() for _ in range(substreams)]
    doorbell.send_to(
        receivers,
        *("--descriptors", "own", "--descriptors-every", 10, "--source", "random:42"),
        *("--heap-size", 2000, "--heaps", 60, "--batch-heaps", 6),
    )
    for number, receiver in enumerate(receivers):
        heaps = receiver.until_stop()[:-1]
        assert sum(1 for heap in heaps if heap.descriptors) >= 4
        data = [heap for heap in heaps if heap.items]
        mine = range(number, 60, substreams)
        assert len(data) == len(mine)
        for index, heap in zip(mine, data):
            assert heap.content(ITEM, 2000) == heap_payload(42, index, 2000), f"heap {index}"


def test_who_joins_late_learns_what_items_mean(doorbell) -> None:
    """A receiver that opens in mid-stream decodes items by name; by time, not by heaps."""
    with bound_endpoint().socket as sock:
        port = sock.getsockname()[1]
    process = doorbell.start(
        *("send", "-q", "--to", f"127.0.0.1:{port}", "--rate", "20Mb/s", "--descriptors-every", "100ms"),
        *("--heap-size", 4096, "--heaps", 10_000_000, "--batch-heaps", 4),
    )
    try:
        with Receiver(bound_endpoint("ipv4", port)) as early:
            while early.next_heap().cnt < 50:
                pass
        with Receiver(bound_endpoint("ipv4", port)) as late:
            first = late.next_heap()
            assert first.cnt > 50
            heap = first
            while not heap.descriptors:
                heap = late.next_heap()
            assert {"timestamp", "adc_samples"} <= set(late.group.keys())
            index = late.next_heap().values[TIMESTAMP] // 4096
            samples = late.group["adc_samples"].value
            assert samples.shape == (4096,) and set(samples.view("u1")) == {index % 256}
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("substreams", [1, 2])
def test_a_warm_up_says_nothing(doorbell, listen, substreams: int) -> None:
    """spead2 finds no item in its heaps, and the stream after it as always, whatever the warm-up took."""
    receivers = [listen() for _ in range(substreams)]
    report = doorbell.send_to(
        receivers, "--warm-up", "350ms", "--heaps", 20, "--heap-size", 1000, "--source", "random:43"
    )
    assert report["heaps"] == 20
    for number, receiver in enumerate(receivers):
        heaps = receiver.until_stop()[:-1]
        warm_up = [heap for heap in heaps if not heap.items and not heap.descriptors]
        assert warm_up and heaps[: len(warm_up)] == warm_up
        assert {heap.cnt for heap in warm_up} == {1 + number}
        data = [heap for heap in heaps if heap.items]
        assert [heap.content(ITEM, 1000) for heap in data] == [
            heap_payload(43, index, 1000) for index in range(number, 20, substreams)
        ]


def test_a_warm_up_is_nothing_to_our_own_receiver(doorbell) -> None:
    report = doorbell.send("--warm-up", "250ms", "--heaps", 300, "--heap-size", 4096)
    assert (report["received"]["heaps"], report["received"]["mismatched"]) == (300, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("flags", [[], ["--warm-up", "1h"]], ids=["in the stream", "in the warm-up"])
def test_a_stop_heap_on_every_signal(doorbell, listen, number: signal.Signals, flags: list[str]) -> None:
    receiver = listen()
    process = doorbell.start(
        *("send", "-q", *receiver.to, "--rate", "20Mb/s", *flags),
        *("--heap-size", 8192, "--heaps", 1_000_000, "--batch-heaps", 4),
    )
    try:
        receiver.next_heap()
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, err.decode()
    assert receiver.until_stop()[-1].is_stop


def test_a_stop_heap_where_the_source_fails(doorbell, listen, tmp_path) -> None:
    """A file that shrinks under the stream is an error, and receivers learn that this is the end."""
    path = tmp_path / "samples"
    path.write_bytes(bytes(64 << 20))
    receiver = listen()
    process = doorbell.start(
        *("send", "-q", *receiver.to, "--rate", "50Mb/s", "--source", path),
        *("--layout", "packed", "--heap-size", 8192, "--batch-heaps", 4),
    )
    try:
        receiver.next_heap()
        with path.open("r+b") as file:
            file.truncate(0)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode > 0, f"{process.returncode}: {err.decode()}"
    assert receiver.until_stop()[-1].is_stop


def test_a_stop_heap_where_the_source_ends_in_mid_heap(doorbell, listen) -> None:
    receiver = listen()
    doorbell.run("send", "-q", *receiver.to, "--source", "-", "--heap-size", 1000, stdin=bytes(2500))
    assert len(receiver.data_heaps()) == 2


def test_each_destination_is_accounted_for(doorbell, listen) -> None:
    receivers = [listen() for _ in range(3)]
    report = doorbell.send_to(
        receivers, "--heaps", 40, "--heap-size", 5000, "--packet-size", 1472, "--batch-heaps", 12
    )
    counts = report["destinations"]
    assert [it["to"] for it in counts] == [receiver.endpoint.destination for receiver in receivers]
    for it, receiver in zip(counts, receivers):
        heaps = [heap for heap in receiver.until_stop() if heap.items]
        assert (it["heaps"], it["heaps_failed"]) == (len(heaps), 0)
        assert (it["payload_bytes"], it["payload_bytes_failed"]) == (5000 * len(heaps), 0)
        assert it["packets"] == 4 * len(heaps) and it["packets_failed"] == 0
    assert sum(it["heaps"] for it in counts) == report["heaps"]


ITEM = 0x3300
TIMESTAMP = 0x1600
