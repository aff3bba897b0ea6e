"""Transports, flavours, packet sizes, batches and orders: every byte arrives, once, in its heap."""

from __future__ import annotations

import json
import signal
import socket

import pytest

from endpoint import bound_endpoint, multicast6_endpoint, multicast_endpoint
from namespace import VETH, VETH_SETUP, in_new_network
from receiver import Receiver
from splitmix import heap_payload

PACKET_SIZES = ["auto", 1472, 8972]


def assert_random_stream(heaps, seed: int, heap_size: int, count: int) -> None:
    """`heaps` are all of ``--source random:SEED``."""
    assert len(heaps) == count
    for index, heap in enumerate(heaps):
        assert heap.content(ITEM, heap_size) == heap_payload(seed, index, heap_size), f"heap {index}"


@pytest.mark.parametrize("packet_size", PACKET_SIZES)
@pytest.mark.parametrize("flavour", [40, 48])
@pytest.mark.parametrize("kind", ["ipv4", "ipv6", "multicast"])
def test_every_transport(doorbell, listen, kind: str, flavour: int, packet_size: str | int) -> None:
    """37 heaps in batches of 8: the last batch is partial."""
    receiver = listen(kind)
    doorbell.send_to(
        receiver,
        *("--flavour", f"64-{flavour}", "--packet-size", packet_size),
        *("--source", "random:11", "--heap-size", 10_000, "--heaps", 37, "--batch-heaps", 8),
    )
    heaps = receiver.data_heaps()
    assert {heap.address_bits for heap in heaps} == {flavour}
    assert_random_stream(heaps, 11, 10_000, 37)


@pytest.mark.parametrize("packet_size", PACKET_SIZES)
@pytest.mark.parametrize("heap_size", [1, 5, 6, 8, 9, 1400, 2048, 8192, 8193, 16384, 65536, (1 << 20) + 3, 4 << 20])
def test_every_heap_size(doorbell, listen, heap_size: int, packet_size: str | int) -> None:
    count = max(5, min(300, (16 << 20) // heap_size))
    receiver = listen()
    doorbell.send_to(
        receiver,
        *("--packet-size", packet_size, "--source", "random:12", "--heap-size", heap_size, "--heaps", count),
    )
    assert_random_stream(receiver.data_heaps(), 12, heap_size, count)


@pytest.mark.parametrize("layout", ["packed", "split"])
@pytest.mark.parametrize("gso", ["auto", "off"])
def test_a_packet_is_a_message_without_segmentation(doorbell, listen, gso: str, layout: str) -> None:
    """And `plan` says beforehand what a batch takes."""
    receiver = listen()
    flags = (
        *("--backend", "udp", "--gso", gso, "--packet-size", 1472, "--layout", layout, "--descriptors", "own"),
        *("--source", "random:19", "--heap-size", 20_000, "--heaps", 64, "--batch-heaps", 32),
    )
    planned = doorbell.run("plan", "--json", *receiver.to, *flags)
    plan = json.loads(planned.stdout)
    report = doorbell.send_to(receiver, *flags)
    assert_random_stream(receiver.data_heaps(), 19, 20_000, 64)
    if gso == "off":
        assert plan["longest_run"] == report["gso_segments_per_message"] == 1.0
        assert plan["messages_per_batch"] == plan["packets_per_batch"]
    # Descriptors and the stop heap are a message each.
    assert report["packets"] / report["gso_segments_per_message"] == pytest.approx(2 * plan["messages_per_batch"] + 2)


@pytest.mark.parametrize("group", ["serial", "round-robin"])
@pytest.mark.parametrize("packet_size", PACKET_SIZES)
def test_both_orders(doorbell, listen, group: str, packet_size: str | int) -> None:
    receiver = listen()
    doorbell.send_to(
        receiver,
        *("--group", group, "--packet-size", packet_size, "--repeat-pointers"),
        *("--source", "random:13", "--heap-size", 20_000, "--heaps", 50, "--batch-heaps", 16),
    )
    assert_random_stream(receiver.data_heaps(), 13, 20_000, 50)


@pytest.mark.parametrize("batch_heaps, in_flight", [(1, 1), (1, 4), (7, 3), (64, 2), (1000, 2)])
def test_batches_of_any_size(doorbell, listen, batch_heaps: int, in_flight: int) -> None:
    receiver = listen()
    doorbell.send_to(
        receiver,
        *("--batch-heaps", batch_heaps, "--in-flight", in_flight),
        *("--source", "random:14", "--heap-size", 3000, "--heaps", 100),
    )
    assert_random_stream(receiver.data_heaps(), 14, 3000, 100)


@pytest.mark.parametrize("flavour", [40, 48])
@pytest.mark.parametrize("start, step", [(1, 1), (0, 1), (1000, 7), (1 << 39, 1 << 20)])
def test_heap_cnts(doorbell, listen, flavour: int, start: int, step: int) -> None:
    receiver = listen()
    doorbell.send_to(
        receiver,
        *("--cnt-start", start, "--cnt-step", step, "--flavour", f"64-{flavour}"),
        *("--source", "random:15", "--heap-size", 900, "--heaps", 40, "--batch-heaps", 16),
    )
    assert_random_stream(receiver.data_heaps(start, step), 15, 900, 40)


@pytest.mark.parametrize("group", ["serial", "round-robin"])
@pytest.mark.parametrize("substreams", [2, 3])
@pytest.mark.parametrize("kind", ["ipv4", "ipv6"])
def test_substreams(doorbell, listen, kind: str, substreams: int, group: str) -> None:
    """Heap i goes to destination i mod n; descriptors and the stop heap go to each."""
    receivers = [listen(kind) for _ in range(substreams)]
    doorbell.send_to(
        receivers,
        *("--group", group, "--source", "random:16", "--heap-size", 10_000, "--heaps", 40, "--batch-heaps", 12),
    )
    assert_dealt_out(receivers, 16, 10_000, 40)


def test_a_range_of_groups(doorbell, listen) -> None:
    """``239.255.78.0+2`` is three groups, each a substream."""
    first = multicast_endpoint("239.255.78.0")
    rest = [multicast_endpoint(f"239.255.78.{i}", first.port) for i in (1, 2)]
    receivers = [listen(endpoint) for endpoint in (first, *rest)]
    doorbell.send(
        *("--to", f"239.255.78.0+2:{first.port}", "--interface", "lo"),
        *("--source", "random:17", "--heap-size", 5000, "--heaps", 30, "--rate", "400Mb/s"),
    )
    assert_dealt_out(receivers, 17, 5000, 30)


def assert_dealt_out(receivers: list[Receiver], seed: int, heap_size: int, count: int) -> None:
    """The heaps of ``--source random:SEED`` lie with `receivers` as a dealer deals cards."""
    cnts: dict[int, int] = {}
    for number, receiver in enumerate(receivers):
        heaps = receiver.until_stop()[:-1]
        assert any(heap.descriptors for heap in heaps), f"no descriptors at substream {number}"
        data = [heap for heap in heaps if heap.items]
        mine = range(number, count, len(receivers))
        assert len(data) == len(mine)
        for index, heap in zip(mine, data):
            assert heap.content(ITEM, heap_size) == heap_payload(seed, index, heap_size), f"heap {index}"
            cnts[index] = heap.cnt
    # One stream, one numbering: the heap cnts ascend by one with the heap index.
    assert [cnts[index] - cnts[0] for index in range(count)] == list(range(count))


def test_paced(doorbell, listen) -> None:
    receiver = listen()
    doorbell.send_to(
        receiver,
        *("--rate", "200Mb/s", "--burst", "64KiB"),
        *("--source", "random:18", "--heap-size", 8192, "--heaps", 500),
    )
    assert_random_stream(receiver.data_heaps(), 18, 8192, 500)


@pytest.mark.parametrize("ttl", [1, 7])
def test_ttl(doorbell, ttl: int) -> None:
    """ip(7): the receiver's kernel says with which TTL a multicast packet came."""
    endpoint = multicast_endpoint("239.255.79.1")
    with endpoint.socket as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        sock.settimeout(10)
        doorbell.send(*endpoint.to, "--ttl", ttl, "--heaps", 1, "--heap-size", 100)
        _, [(level, kind, value)], *_ = sock.recvmsg(65536, 64)
        assert (level, kind) == (socket.IPPROTO_IP, socket.IP_TTL)
        assert int.from_bytes(value, "little") == ttl


def test_ipv6_multicast(doorbell) -> None:
    def send_and_receive() -> None:
        with Receiver(multicast6_endpoint("ff15::77", VETH)) as receiver:
            doorbell.send_to(receiver, "--source", "random:19", "--heap-size", 10_000, "--heaps", 20)
            assert_random_stream(receiver.data_heaps(), 19, 10_000, 20)

    in_new_network(VETH_SETUP, send_and_receive)


def test_packets_larger_than_the_interface_carries_are_not_lost_in_silence(doorbell) -> None:
    """`--mtu` is wrong here: the kernel answers EMSGSIZE, or refuses the segmentation."""

    def send_and_receive() -> None:
        with Receiver(bound_endpoint("ipv4")) as receiver:
            done = doorbell.run(
                *("send", "-q", *receiver.to, "--mtu", 9000, "--packet-size", 8972),
                *("--source", "random:20", "--heap-size", 50_000, "--heaps", 20),
            )
            if done.returncode == 0:
                assert_random_stream(receiver.data_heaps(), 20, 50_000, 20)
            else:
                assert done.returncode in (1, 2, 3)
                assert done.stderr.strip(), "packets were lost without a word"

    in_new_network(["link set lo up mtu 1500"], send_and_receive)


def test_an_interrupt_drains_and_stops(doorbell, listen) -> None:
    receiver = listen()
    process = doorbell.start(
        *("send", "--json", "-q", *receiver.to, "--rate", "20Mb/s"),
        *("--source", "random:21", "--heap-size", 8192, "--heaps", 1_000_000, "--batch-heaps", 4),
    )
    try:
        assert receiver.next_heap().cnt == 1
        assert receiver.next_heap().cnt == 2
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130, err.decode()
    assert out.decode().splitlines()[-1].startswith("{"), "no report"
    rest = receiver.until_stop()
    assert [heap.cnt for heap in rest] == list(range(3, 3 + len(rest)))


def test_without_a_destination_it_verifies_itself(doorbell) -> None:
    report = doorbell.send("--heaps", 500, "--heap-size", 8192)
    received = report["received"]
    assert (received["incomplete"], received["mismatched"]) == (0, 0)
    assert received["heaps"] >= 500


ITEM = 0x3300
# ip(7); Python does not name it.
IP_RECVTTL = 12
