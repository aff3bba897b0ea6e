#!/usr/bin/env python3
"""What the fuzzer starts from: streams and descriptors as spead2 makes them, configuration files, numpy's files.

Writes ``seeds/TARGET/NAME`` beside this file, or in the directory that is named; ci.sh holds that those which are
checked in are what this writes today. It runs in the environment of tests/interop/requirements.txt.
"""

from __future__ import annotations

import re
import shutil
import struct
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "golden"))

import generate  # noqa: E402

Heap = list[bytes]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "seeds"
    targets = {
        "packets": packets(),
        "descriptor": descriptors(),
        "toml": tomls(),
        "npy": npys(),
        "model": models(),
        "stream": streams(),
        "capture": captures(),
        "icmp": notices(),
        "netlink": replies(),
    }
    for target, seeds in targets.items():
        directory = out / target
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name, seed in seeds.items():
            (directory / name).write_bytes(seed)


def packets() -> dict[str, bytes]:
    """Streams, each packet after two bytes that say how long it is."""
    tutorial = generate.tutorial(40, 300)
    samples = [heap(cnt, [immediate(0x1600, cnt), payload(0x3300, 300)], 160) for cnt in range(2, 6)]
    whole = [heap(1, tutorial), *samples, heap(6, [{"kind": "stop"}])]
    lost = [whole[0], samples[0][1:], samples[2][::-1], samples[1] * 2, samples[3][:1]]
    packed = [
        heap(1, [described("pixels", [["u", 10]], [3, None]), described("scale", [["f", 64]], [])]),
        heap(2, [payload(0x2000, 45), payload(0x2001, 8)]),
    ]
    fortran = "{'descr': '<u2', 'fortran_order': True, 'shape': (4, 5)}"
    picture = [heap(1, [described("picture", [], [4, 5], fortran)]), heap(2, [payload(0x2000, 40)])]
    pointers = [immediate(0x1000 + index, index) for index in range(12)]
    wide = heap(1 << 40, [*pointers, payload(0x2000, 200)], 104, bits=48)
    return {
        "whole": framed(whole),
        "lost": framed(lost),
        "packed": framed(packed),
        "picture": framed(picture),
        "many_pointers": framed([wide]),
        "repeated_pointers": framed([heap(1, [payload(0x2000, 400)], 152, repeat_pointers=True)]),
        "two_substreams": framed([on_substream(it, number % 2) for number, it in enumerate(whole)]),
    }


def descriptors() -> dict[str, bytes]:
    """A byte that says how long the descriptor is, the descriptor, and an item."""

    def seed(item: dict, length: int) -> bytes:
        [packet] = heap(1, [item])
        pointers = int.from_bytes(packet[6:8], "big")
        descriptor = packet[8 + 8 * pointers :]
        return bytes([len(descriptor)]) + descriptor + bytes(range(length))

    def numpy(descr: str, order: bool, shape: tuple[int, ...], length: int) -> bytes:
        header = repr({"descr": descr, "fortran_order": order, "shape": shape})
        return seed(described("a", [], list(shape), header), length)

    return {
        "unsigned_10_bits": seed(described("a", [["u", 10]], [2, None, 3]), 30),
        "signed_and_float": seed(described("a", [["i", 12], ["f", 32], ["b", 1]], [4]), 30),
        "text": seed(described("a", [["c", 8]], [None]), 12),
        "number": seed(described("a", [["u", 40]], []), 5),
        "numpy": numpy("<u2", False, (3, 4), 24),
        "numpy_fortran": numpy(">f8", True, (2, 3, 1), 48),
        "numpy_text": numpy("|S4", False, (3,), 12),
    }


def tomls() -> dict[str, bytes]:
    examples = sorted((HERE.parent / "examples").glob("*.toml"))
    texts = {path.name: path.read_bytes() for path in examples}
    texts |= {"everything.toml": EVERYTHING, "samples.toml": SAMPLES}
    said = [tomllib.loads(text.decode()) for text in texts.values()]
    for section, key in documented_keys():
        assert any(key in entry for file in said for entry in sections(file, section)), f"no seed says {section}.{key}"
    return texts


def sections(file: dict, name: str) -> list[dict]:
    found = file.get(name, [])
    return found if isinstance(found, list) else [found]


def documented_keys() -> list[tuple[str, str]]:
    section, keys = "", []
    for line in (HERE.parent / "docs" / "configuration.md").read_text().splitlines():
        if heading := re.match(r"## `\[+(\w+)\]+`", line):
            section = heading[1]
        elif row := re.match(r"\| `(\w+)` \|", line):
            keys.append((section, row[1]))
    assert keys
    return keys


def npys() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((HERE.parent / "cli" / "tests" / "data").glob("*.npy"))}


def models() -> dict[str, bytes]:
    """A byte that says what the window is like, and five for each packet: the target has their meaning."""
    length = {7: 1, 4096: 2, 64: 3, 65: 4, 1000: 6}

    def heap(cnt: int, size: int, step: int = 200, rest: tuple[int, int] = (0, 4)) -> list[bytes]:
        # Offsets are multiples of 16 where they do not fit a byte.
        scale = 16 if size > 255 else 1
        step = min(step, 255) // scale * scale
        packets = []
        for offset in range(0, size, step):
            part = min(step, size - offset)
            packets.append(bytes([length[size] << 5 | cnt, offset // scale, part, rest[0], rest[1] | (scale > 1)]))
        return packets

    def stream(kind: int, packets: list[bytes]) -> bytes:
        return bytes([kind]) + b"".join(packets)

    singles = [packet for cnt in range(1, 31) for packet in heap(cnt, 64)]
    parts = [packet for cnt in range(1, 25) for packet in heap(cnt, 1000)]
    long = [packet for cnt in range(1, 5) for packet in heap(cnt, 4096, 240)]
    from_a, from_b = (0, 0b0001_1100), (0, 0b0010_1100)
    again = [packet for rest in (from_a, from_b) for cnt in range(1, 12) for packet in heap(cnt, 1000, rest=rest)]
    both = [packet for cnt in range(1, 20) for at in (0, 1) for packet in heap(cnt, 65, 20, (at, 4))]
    empty = bytes([4, 0, 0, 0, 4])
    return {
        "singles": stream(7, singles),
        "parts": stream(7, parts),
        "long": stream(7, long),
        "wrapped": stream(8 | 16 | 7, singles + parts),
        "reordered": stream(7, [parts[at ^ 3] for at in range(len(parts) & ~3)]),
        "lost": stream(3, [packet for at, packet in enumerate(parts) if at % 7]),
        "twice": stream(3, [packet for packet in parts for _ in (0, 1)]),
        "restart": stream(1, singles * 3),
        "other_source": stream(5, again),
        "two_substreams": stream(128 | 3, both),
        "stale_length": stream(7, [*heap(2, 1000), *heap(3, 1000), heap(4, 1000)[0], empty, *heap(5, 1000)]),
        "jumps": stream(2, [packet for cnt in (1, 2, 30, 31, 3, 4, 29, 5) for packet in heap(cnt, 65)]),
        "held": stream(0, [packet for cnt in range(1, 31) for packet in heap(cnt, 65, rest=(0, 0))]),
    }


def streams() -> dict[str, bytes]:
    """A byte that says how many lengths of pieces follow, these, and packets one after the other."""
    whole = b"".join(packet for it in packets_of_a_stream() for packet in it)
    return {
        "at_once": b"\x00" + whole,
        "in_pieces": bytes([3, 7, 200, 1]) + whole,
        "cut_off": bytes([1, 40]) + whole[:-7],
        "out_of_step": bytes([1, 90]) + whole[:200] + whole[201:],
    }


def packets_of_a_stream() -> list[Heap]:
    samples = [heap(cnt, [immediate(0x1600, cnt), payload(0x3300, 300)], 160) for cnt in range(2, 5)]
    return [heap(1, generate.tutorial(40, 300)), *samples, heap(5, [{"kind": "stop"}])]


def captures() -> dict[str, bytes]:
    """Captures of Ethernet, with and without a tag, of raw IP, and of tcpdump's `any`."""
    sent = [packet for it in packets_of_a_stream() for packet in it]

    def file(link: int, frames: list[bytes], order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
        out = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 1 << 18, link)
        return out + b"".join(struct.pack(f"{order}IIII", 1, 2, len(it), len(it)) + it for it in frames)

    def udp(payload: bytes) -> bytes:
        return struct.pack("!HHHH", 5000, 7148, 8 + len(payload), 0) + payload

    def ipv4(payload: bytes) -> bytes:
        body = udp(payload)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0)
        return head + bytes([192, 0, 2, 1, 239, 1, 0, 0]) + body

    def ipv6(payload: bytes) -> bytes:
        body = udp(payload)
        return struct.pack("!IHBB", 6 << 28, len(body), 17, 1) + bytes(31) + b"\1" + b"\xff" + bytes(14) + b"\1" + body

    ethernet = bytes(12) + b"\x08\x00"
    tagged = bytes(12) + b"\x81\x00\x00\x05\x86\xdd"
    return {
        "ethernet.pcap": file(1, [ethernet + ipv4(it) for it in sent]),
        "tagged_ipv6.pcap": file(1, [tagged + ipv6(it) for it in sent], ">", 0xA1B23C4D),
        "raw.pcap": file(101, [ipv4(it) for it in sent[:2]] + [ipv6(it) for it in sent[2:]]),
        "any.pcap": file(276, [b"\x08\x00" + bytes(18) + ipv4(it) for it in sent]),
        "any_before.pcap": file(113, [bytes(14) + b"\x08\x00" + ipv4(it) for it in sent])[:-5],
    }


def notices() -> dict[str, bytes]:
    """The length of an address, the address as a `sockaddr_in6`, and a control message: ip(7), `IP_RECVERR`."""
    v4 = struct.pack("=HH4s8x12x", 2, 7148, bytes([192, 0, 2, 7]))
    v6 = struct.pack("=HHI16sI", 10, 7148, 0, bytes(15) + b"\1", 3)

    def notice(name: bytes, used: int, level: int, kind: int, errno: int, origin: int, info: int = 0, data: int = 0) -> bytes:
        error = struct.pack("=IBBBxII", errno, origin, 3, 1, info, data)
        return bytes([used]) + name + struct.pack("=Qii", 16 + len(error) + 28, level, kind) + error + v6

    return {
        "refused_ipv4": notice(v4, 16, 0, 11, 111, 2),
        "unreachable_ipv6": notice(v6, 28, 41, 25, 113, 3),
        "zero_copy": notice(v4, 0, 0, 11, 0, 5, 3, 9),
        "other": notice(v4, 16, 1, 2, 0, 1),
    }


def replies() -> dict[str, bytes]:
    """Replies of rtnetlink(7): a route, a neighbour, a link, an error."""

    def attribute(kind: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

    def message(kind: int, body: bytes) -> bytes:
        return struct.pack("=IHHII", 16 + len(body), kind, 0, 7, 0) + body

    v4 = bytes([192, 0, 2, 7])
    route = bytes([2, 32, 0, 0, 254, 0, 0, 1]) + bytes(4)
    route += attribute(1, v4) + attribute(4, struct.pack("=I", 2)) + attribute(7, v4) + attribute(5, v4)
    neighbour = struct.pack("=BxxxiHBB", 2, 2, 2, 0, 1) + attribute(1, v4) + attribute(2, bytes(range(6)))
    link = struct.pack("=BxHiII", 0, 1, 2, 0x1043, 0)
    link += attribute(3, b"eth0\0") + attribute(4, struct.pack("=I", 9000)) + attribute(1, bytes(range(6)))
    return {
        "route": message(24, route),
        "neighbour": message(28, neighbour),
        "link": message(16, link),
        "error": message(2, struct.pack("=i", -19) + message(18, bytes(16))),
    }


def framed(heaps: list[Heap]) -> bytes:
    return b"".join(len(packet).to_bytes(2, "little") + packet for heap in heaps for packet in heap)


def heap(cnt: int, items: list[dict], size: int = 1472, bits: int = 40, repeat_pointers: bool = False) -> Heap:
    return generate.packets(generate.heap(bits, size, cnt, items, repeat_pointers))


def on_substream(packets: Heap, substream: int) -> Heap:
    """The target takes odd lengths for the second one; a byte after a packet is none of its."""
    return [packet + bytes((len(packet) ^ substream) & 1) for packet in packets]


def payload(id: int, size: int) -> dict:
    return generate.payload(id, size, id, allow_immediate=False)


def immediate(id: int, value: int) -> dict:
    return {"kind": "immediate", "id": id, "value": value}


def described(name: str, format: list, shape: list, numpy_header: str | None = None) -> dict:
    id = 0x2001 if name == "scale" else 0x2000
    return generate.descriptor(id, name, "", format, shape, numpy_header)


# All that can be said at once, as `doorbell send --print-config` writes it.
EVERYTHING = b"""\
[stream]
to = ["239.1.0.0+3:7148", "239.2.0.0:7148"]
packet_size = "1472"
mtu = 1500
flavour = "64-48"
repeat_pointers = true
group = "round-robin"
cnt_start = 2
cnt_step = 3
ttl = 4
vlan = 5
dst_mac = "02:00:00:00:00:01"
source_port = 6
warm_up = "2s"

[heap]
count = 7
items = ["0x3400=w:<f4[16x2]"]
descriptors = "own"
descriptors_every = "1000"
frame_number = true

[source]
kind = ["a.raw"]
repeat = "3"
pack = "u10"
range = "-1.5..2"

[batch]
heaps = 10
in_flight = 11
layout = "split"

[pacing]
rate = "12Mb/s"
rate_counts = "payload"
burst = "13KiB"
burst_rate_ratio = "1.2"
min_sleep_us = 18
mode = "software"
frame_rate = "29.97"
hold_back = true

[backend]
kind = "pcap"
interface = "lo"
device = "mlx5_0"
qp = "raw"
completion = "poll"
spin_us = 14
zerocopy = "on"
gso = "off"
reconnect = 17
pcap = "out.pcap"
force = true
cpu = ["0", "1"]

[monitor]
log_interval = 15
metrics = "127.0.0.1:16"

[senders]
share = "heaps"
rank = 1
ranks = 5
stop_heap = true
"""

# And what cannot be said beside it.
SAMPLES = b"""\
[source]
kind = "-"
dtype = "<f4"
shape = "2x3"

[[item]]
id = 0x1701
name = "gain"
description = "Of the amplifier"
value = 1.5

[[item]]
id = 0x1702
name = "observer"
value = "Jocelyn"
"""

if __name__ == "__main__":
    main()
