#!/usr/bin/env python3
"""What the fuzzer starts from: streams and descriptors as spead2 makes them, configuration files, numpy's files.

Writes ``seeds/TARGET/NAME`` beside this file, or in the directory that is named; ci.sh holds that those which are
checked in are what this writes today. It runs in the environment of tests/interop/requirements.txt.
"""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "golden"))

import generate  # noqa: E402

Heap = list[bytes]


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "seeds"
    for target, seeds in {"packets": packets(), "descriptor": descriptors(), "toml": tomls(), "npy": npys()}.items():
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
