"""`--backend verbs` on the software device: what a receiver at the other end of a wire sees of it."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct

import numpy as np
import pytest

from capture import Datagram, Tap, multicast_mac, ones_complement_sum
from namespace import FAR, NEAR, VETH, Network, Wire, joined_networks
from packets import drain, parse_packet, whole_heaps
from splitmix import heap_payload, splitmix_bytes
from verbs import REFUSALS, far_endpoint

KINDS = ["ipv4", "ipv6", "multicast4", "multicast6"]


@pytest.mark.parametrize("completion", ["poll", "event"])
@pytest.mark.parametrize("layout", ["packed", "split"])
@pytest.mark.parametrize("kind", KINDS)
def test_spead2_receives_it(sender, listen_far, kind: str, layout: str, completion: str) -> None:
    """37 heaps in batches of 8: the last batch is partial."""
    receiver = listen_far(kind)
    sender().send_to(
        receiver,
        *("--layout", layout, "--completion", completion),
        *("--source", "random:51", "--heap-size", 30_000, "--heaps", 37, "--batch-heaps", 8),
    )
    heaps = receiver.data_heaps()
    assert [heap.content(ITEM, 30_000) for heap in heaps] == [heap_payload(51, i, 30_000) for i in range(37)]


@pytest.mark.parametrize("layout", ["packed", "split"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_socket_receives_it(sender, bind_far, kind: str, layout: str) -> None:
    receiver = bind_far(kind)
    sender().send(
        *(*receiver.to, "--layout", layout, "--descriptors", "own", "--packet-size", 1400),
        *("--source", "random:52", "--heap-size", 5000, "--heaps", 21, "--batch-heaps", 8),
    )
    heaps = whole_heaps(map(parse_packet, drain(receiver.socket)))
    assert list(heaps) == list(range(1, 1 + len(heaps)))
    assert [payload for payload in heaps.values() if len(payload) == 5000] == [
        heap_payload(52, index, 5000) for index in range(21)
    ]


@pytest.mark.parametrize("group", ["serial", "round-robin"])
@pytest.mark.parametrize("layout", ["packed", "split"])
@pytest.mark.parametrize("kind", KINDS)
def test_three_substreams(sender, bind_far, kind: str, layout: str, group: str) -> None:
    """Heap i goes to destination i mod 3; descriptors and the stop heap go to each."""
    receivers = [bind_far(kind) for _ in range(3)]
    to = [flag for receiver in receivers for flag in ("--to", receiver.destination)]
    sender().send(
        *(*to, *receivers[0].flags, "--layout", layout, "--group", group, "--packet-size", 1400),
        *("--source", "random:53", "--heap-size", 5000, "--heaps", 32, "--batch-heaps", 12),
    )
    cnts: list[int] = []
    for number, receiver in enumerate(receivers):
        packets = [parse_packet(datagram) for datagram in drain(receiver.socket)]
        assert packets[-1].is_stop
        heaps = whole_heaps(packets)
        data = [payload for payload in heaps.values() if len(payload) == 5000]
        assert data == [heap_payload(53, index, 5000) for index in range(number, 32, 3)]
        cnts += heaps
    assert sorted(cnts) == list(range(1, 1 + len(cnts)))


@pytest.mark.parametrize("heap_size", [1, 8, 1400, 8192, 65536, (1 << 20) + 3])
@pytest.mark.parametrize("layout", ["packed", "split"])
def test_every_heap_size(sender, listen_far, heap_size: int, layout: str) -> None:
    count = max(5, min(200, (8 << 20) // heap_size))
    receiver = listen_far()
    sender().send_to(
        receiver, "--layout", layout, "--source", "random:54", "--heap-size", heap_size, "--heaps", count
    )
    heaps = receiver.data_heaps()
    assert [heap.content(ITEM, heap_size) for heap in heaps] == [
        heap_payload(54, index, heap_size) for index in range(count)
    ]


@pytest.mark.parametrize("faults", ["", "reg-readonly=fail"], ids=["registered", "copied"])
@pytest.mark.parametrize("kind", ["ipv4", "ipv6"])
def test_npy_file(sender, listen_far, tmp_path, kind: str, faults: str) -> None:
    """Sent from the mapped file itself, or from a copy where such memory cannot be registered."""
    array = np.frombuffer(splitmix_bytes(55, 23 * 50_000 * 4), "<f4").reshape(23, 200, 250)
    np.save(tmp_path / "array.npy", array)
    receiver = listen_far(kind)
    sender(FAULT=faults).send_to(receiver, "--source", tmp_path / "array.npy", "--batch-heaps", 4)
    received = np.stack([heap.values[ITEM] for heap in receiver.data_heaps()])
    assert received.tobytes() == array.tobytes()


def test_a_copy_is_reported(sender, bind_far, tmp_path) -> None:
    (tmp_path / "samples.bin").write_bytes(splitmix_bytes(56, 20 * 8192))
    receiver = bind_far()
    done = sender(FAULT="reg-readonly=fail").run(
        *("send", "-q", "--backend", "verbs", *receiver.to),
        *("--source", tmp_path / "samples.bin", "--heap-size", 8192),
    )
    assert done.returncode == 0
    assert "copied" in done.stderr


@pytest.mark.parametrize("late", [0, 200])
@pytest.mark.parametrize("layout", ["packed", "split"])
def test_memory_in_flight_is_left_alone(sender, listen_far, layout: str, late: int) -> None:
    """The device reads just before the completion: a batch that is filled too early shows."""
    receiver = listen_far()
    sender(device=f"veth={VETH},late={late}").send_to(
        receiver,
        *("--layout", layout, "--in-flight", 3, "--batch-heaps", 2),
        *("--source", "random:57", "--heap-size", 20_000, "--heaps", 60),
    )
    heaps = receiver.data_heaps()
    assert [heap.content(ITEM, 20_000) for heap in heaps] == [heap_payload(57, i, 20_000) for i in range(60)]


@pytest.mark.parametrize("completion", ["poll", "event"])
@pytest.mark.parametrize("depth", [2, 16, 100])
@pytest.mark.parametrize("layout", ["packed", "split"])
def test_batches_larger_than_the_queue(sender, listen_far, layout: str, depth: int, completion: str) -> None:
    """70 packets a batch, on queues of `depth` blocks, of which split packets take two each."""
    receiver = listen_far()
    sender(MAX_QP_WR=depth).send_to(
        receiver,
        *("--layout", layout, "--completion", completion, "--batch-heaps", 5, "--packet-size", 1472),
        *("--source", "random:58", "--heap-size", 20_000, "--heaps", 33),
    )
    heaps = receiver.data_heaps()
    assert [heap.content(ITEM, 20_000) for heap in heaps] == [heap_payload(58, i, 20_000) for i in range(33)]


@pytest.mark.parametrize("heaps, batch_heaps", [(65, 8), (60, 8), (5, 8), (1001, 100)])
@pytest.mark.parametrize("layout", ["packed", "split"])
def test_a_batch_is_one_doorbell(sender, listen_far, layout: str, heaps: int, batch_heaps: int) -> None:
    """Descriptors go in the first heap, the stop heap by itself."""
    receiver = listen_far()
    device = sender()
    report = device.send_to(
        receiver,
        *("--layout", layout, "--heaps", heaps, "--batch-heaps", batch_heaps, "--heap-size", 10_000),
    )
    receiver.whole_stream()
    assert report["doorbells"] == -(-heaps // batch_heaps) + 1
    counted = device.posts()
    assert counted["posts"] == counted["doorbells"] == report["doorbells"]
    assert counted["wrs"] == counted["frames"] == report["packets"]
    assert counted["bytes"] == report["wire_bytes"]
    # The stop heap is packed either way.
    assert counted["sges"] - counted["wrs"] == (0 if layout == "packed" else counted["wrs"] - 1)


@pytest.mark.parametrize("completion", ["poll", "event"])
@pytest.mark.parametrize("layout", ["packed", "split"])
@pytest.mark.parametrize("depth", [16, 64, 100, 128, 256])
def test_as_few_doorbells_as_planned(sender, listen_far, layout: str, depth: int, completion: str) -> None:
    """70 packets a batch, two of them in flight: the queue holds less than one, less than two, or both."""
    receiver = listen_far()
    device = sender(MAX_QP_WR=depth)
    stream = ("--layout", layout, "--completion", completion, "--descriptors", "own")
    stream += ("--batch-heaps", 5, "--packet-size", 1472, "--heap-size", 20_000, "--heaps", 35)
    planned = device.run("plan", "--json", "--backend", "verbs", *receiver.to, *stream)
    report = device.send_to(receiver, *stream)
    receiver.whole_stream()
    blocks = depth if depth != 100 else 64  # Queues have a power of two.
    parts = -(-70 * (1 if layout == "packed" else 2) // blocks)
    assert json.loads(planned.stdout)["doorbells_per_batch"] == parts
    assert report["doorbells"] == device.posts()["posts"] == 1 + 7 * parts + 1


def test_pacing_sends_everything(sender, listen_far) -> None:
    receiver = listen_far()
    sender().send_to(
        receiver,
        *("--rate", "200Mb/s", "--burst", "32KiB"),
        *("--source", "random:59", "--heap-size", 8192, "--heaps", 200),
    )
    assert [heap.content(ITEM, 8192) for heap in receiver.data_heaps()] == [
        heap_payload(59, index, 8192) for index in range(200)
    ]


@pytest.mark.parametrize("offload", [0, 1])
@pytest.mark.parametrize("vlan", [None, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_headers(sender, wire, bind_far, kind: str, vlan: int | None, offload: int) -> None:
    """As a packet socket sees them; `capture` holds the rest, checksums included, to the RFCs."""
    receiver = bind_far(kind)
    address = ipaddress.ip_address(receiver.destination.rpartition(":")[0].strip("[]"))
    family = "ipv4" if address.version == 4 else "ipv6"
    tag = [] if vlan is None else ["--vlan", vlan]
    with wire.far(Tap, VETH) as tap:
        report = sender(IP_CSUM=offload).send(
            *(*receiver.to, *tag, "--ttl", 9, "--source-port", 4711, "--packet-size", 1400),
            *("--source", "random:60", "--heap-size", 5000, "--heaps", 12, "--batch-heaps", 5),
        )
        found = tap.datagrams(receiver.port, report["packets"])
    near_mac, far_mac = (mac_of(network) for network in (wire.near, wire.far))
    for datagram in found:
        assert datagram.vlan == vlan
        assert datagram.source_mac == near_mac
        assert datagram.destination_mac == (multicast_mac(address) if address.is_multicast else far_mac)
        assert (datagram.destination, datagram.destination_port) == (address, receiver.port)
        assert datagram.source == ipaddress.ip_address(getattr(NEAR, family))
        assert (datagram.source_port, datagram.hops) == (4711, 9)
        assert not datagram.may_fragment
    # Over IPv4 nobody computes a checksum in software.
    assert {datagram.checksum != 0 for datagram in found} == {bool(offload) or address.version == 6}
    assert_random_heaps(found, 60, 5000, 12)
    if vlan is None:
        assert drain(receiver.socket) == [datagram.payload for datagram in found]


def test_default_hops(sender, wire, bind_far) -> None:
    for kind, hops in (("ipv4", 64), ("ipv6", 64), ("multicast4", 1), ("multicast6", 1)):
        receiver = bind_far(kind)
        with wire.far(Tap, VETH) as tap:
            sender().send(*receiver.to, "--heaps", 1, "--heap-size", 100)
            (datagram,) = tap.datagrams(receiver.port, 1)
        assert datagram.hops == hops, kind


@pytest.mark.parametrize("host", ["10.71.48.99", "fd00:7148::99"])
def test_a_destination_mac_needs_no_neighbour(sender, wire, host: str) -> None:
    """Nobody has this address, and so nobody would answer for it."""
    mac = "02:00:5e:10:00:07"
    to = f"[{host}]:7148" if ":" in host else f"{host}:7148"
    with wire.far(Tap, VETH) as tap:
        report = sender().send("--to", to, "--dst-mac", mac, "--heaps", 3, "--heap-size", 5000)
        found = tap.datagrams(7148, report["packets"])
    assert {datagram.destination_mac.hex(":") for datagram in found} == {mac}


def test_one_file_serves_both_backends(sender, bind_far, tmp_path) -> None:
    """The receiver cannot tell them apart: the same datagrams, in the same order."""
    for kind in KINDS:
        receivers = [bind_far(kind) for _ in range(2)]
        to = ", ".join(f'"{receiver.destination}"' for receiver in receivers)
        streams = {}
        for backend in ("udp", "verbs"):
            (tmp_path / "stream.toml").write_text(
                f"""
                [stream]
                to = [{to}]
                packet_size = 1400
                mtu = 1500
                ttl = 3
                [heap]
                size = "10000"
                count = 40
                [source]
                kind = "random:61"
                [batch]
                heaps = 8
                [backend]
                kind = "{backend}"
                interface = "{VETH}"
                """
            )
            done = sender().run("send", "-q", tmp_path / "stream.toml")
            assert done.returncode == 0, done.stderr
            streams[backend] = [drain(receiver.socket) for receiver in receivers]
        assert streams["udp"] == streams["verbs"]
        assert all(len(stream) > 100 for stream in streams["udp"])


def test_a_refused_datagram_would_be_noticed() -> None:
    """What the fixture `wire` relies on: the kernel counts a datagram with a wrong checksum."""
    with joined_networks() as wire:
        assert set(REFUSALS) <= wire.far.counters().keys()
        receiver = far_endpoint(wire, "ipv4")
        with receiver.socket:
            frame = frame_with_wrong_checksum(mac_of(wire.far), receiver.port)
            wire.near(send_frame, frame)
            assert not drain(receiver.socket)
        assert wire.far.counters()["UdpInCsumErrors"] == 1


def frame_with_wrong_checksum(mac: bytes, port: int) -> bytes:
    udp = struct.pack("!HHHH", 4711, port, 8 + 4, 0xBAD0) + b"data"
    addresses = socket.inet_aton(NEAR.ipv4) + socket.inet_aton(FAR.ipv4)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    checksum = 0xFFFF - ones_complement_sum(header)
    return mac + bytes(6) + b"\x08\x00" + header[:10] + struct.pack("!H", checksum) + header[12:] + udp


def send_frame(frame: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((VETH, 0))
        sock.send(frame)


def mac_of(network: Network) -> bytes:
    (line,) = [line for line in network.ip(f"link show {VETH}")[0].splitlines() if "link/ether" in line]
    return bytes.fromhex(line.split()[1].replace(":", ""))


def assert_random_heaps(datagrams: list[Datagram], seed: int, heap_size: int, count: int) -> None:
    """`datagrams` are all of ``--source random:SEED``; the first heap has descriptors, too."""
    heaps = list(whole_heaps(parse_packet(datagram.payload) for datagram in datagrams).values())
    assert heap_payload(seed, 0, heap_size) in heaps[0]
    assert heaps[1:count] == [heap_payload(seed, index, heap_size) for index in range(1, count)]


ITEM = 0x3300
