#!/usr/bin/env python3
"""Golden vectors: heaps as spead2 4.5.1 cuts them into packets.

Prints one JSON object a line; ``heaps.jsonl`` beside this file is its output, and ci.sh holds that
the two agree. README.md beside this file describes the fields.

Left out, because spead2 is no oracle there: heaps with *some* payload, but less than spead2 needs
to put at least one byte into each packet that the item pointers ask for. It then pads in the middle
of the payload instead of after it (``send_packet.cpp``, ``packet_generator::next_packet``: the
padding is merged into the header's buffer, ahead of the payload's).
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from dataclasses import dataclass

import numpy as np
import spead2
import spead2.send

from splitmix import SplitMix64, splitmix_bytes


@dataclass(frozen=True)
class RawItem:
    """What ``spead2.send.Heap.add_item`` asks of an item, for bytes that are already at hand."""

    id: int
    content: bytes
    immediate: bool

    def to_buffer(self) -> bytes:
        return self.content

    def allow_immediate(self) -> bool:
        return self.immediate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=argparse.FileType("w"), default=sys.stdout)
    out = parser.parse_args().output
    for spec in specs():
        line = {**spec, "packets": [expected(p) for p in packets(spec)]}
        print(json.dumps(line, separators=(",", ":")), file=out)


def specs():
    """The heaps: a few that sit on an edge each, then generated ones."""
    for spec in edges():
        assert spead2_is_oracle(spec), spec
        yield spec
    rng = SplitMix64(SEED)
    made = 0
    while made < GENERATED:
        spec = generated(rng)
        if not spead2_is_oracle(spec):
            continue
        made += 1
        yield spec


def edges():
    """Heaps that a generator would seldom hit."""
    for bits in FLAVOURS:
        top = (1 << bits) - 1
        yield heap(bits, 1472, 1, [])
        yield heap(bits, 56, 0, [{"kind": "stop"}])
        yield heap(bits, 1472, top, [{"kind": "start"}, {"kind": "stop"}])
        yield heap(bits, 1472, 2, [{"kind": "immediate", "id": max_id(bits), "value": top}])
        # The longest item that travels in its pointer, and one byte more.
        yield heap(bits, 72, 3, [payload(9, bits // 8, 1), payload(10, bits // 8 + 1, 2)])
        yield heap(bits, 72, 4, [payload(9, bits // 8, 3, allow_immediate=False), payload(10, 0, 4)])
        # One packet exactly full, and one byte more.
        yield heap(bits, 1472, 5, [payload(9, 1472 - 48, 5)])
        yield heap(bits, 1472, 6, [payload(9, 1472 - 47, 6)])
        # 1479 is 1472: sizes are rounded down to a multiple of 8.
        yield heap(bits, 1479, 7, [payload(9, 3000, 7)])
    # As many pointers as fit, and one more, with no payload at all.
    for count in (4, 5, 6):
        items = [{"kind": "immediate", "id": 0x1000 + i, "value": i} for i in range(count)]
        yield heap(40, 88, 8, items)
    for repeat in (False, True):
        items = tutorial(40, 8192) + [{"kind": "immediate", "id": 0x1600, "value": 8192}, payload(0x3300, 8192, 8)]
        yield heap(40, 1472, 1, items, repeat)
        yield heap(40, 8972, 1, items, repeat)
        yield heap(48, 9000, 1, [payload(0x3300, 60000, 9)], repeat)


def generated(rng: SplitMix64) -> dict:
    """A heap drawn from `rng`. Packet sizes grow with payloads, which keeps the file small."""
    bits = rng.choice((40, 40, 40, 48, 48, 48, 32, 24, 56))
    items = []
    payload_left = rng.choice((0, 0, 40, 200, 1500, 9000, 60000))
    for _ in range(rng.between(0, 12)):
        kind = rng.below(100)
        if kind < 25:
            items.append({"kind": "immediate", "id": random_id(rng, bits), "value": rng.next() >> (64 - bits)})
        elif kind < 70:
            size = rng.below(12) if rng.chance(30) else rng.between(0, payload_left)
            payload_left = max(0, payload_left - size)
            items.append(payload(random_id(rng, bits), size, rng.next(), rng.chance(60)))
        elif kind < 85:
            items.append(format_descriptor(rng, bits))
        elif kind < 95:
            items.append(numpy_descriptor(rng, bits))
        else:
            items.append({"kind": rng.choice(("start", "stop"))})
    total = payload_bytes({"address_bits": bits, "items": items})
    smallest = max(56, total // 24)
    size = rng.choice((56, 57, 64, 88, 100, 128, 256, 1000, 1472, 1479, 4096, 8952, 8972, 9000))
    if size < smallest:
        size = rng.between(smallest, 9000)
    return heap(bits, size, rng.next() >> (64 - bits), items, rng.chance(40))


def format_descriptor(rng: SplitMix64, bits: int) -> dict:
    fields = [rng.choice(FORMATS) for _ in range(rng.between(1, 3))]
    shape = [rng.below(5000) for _ in range(rng.below(4))]
    if shape and rng.chance(40):
        # One variable dimension: spead2 takes no more.
        shape[rng.below(len(shape))] = None
    return descriptor(described_id(rng, bits), text(rng, "item"), text(rng, "about"), fields, shape)


def numpy_descriptor(rng: SplitMix64, bits: int) -> dict:
    header = {
        "descr": rng.choice(DTYPES),
        "fortran_order": rng.chance(25),
        "shape": tuple(rng.below(5000) for _ in range(rng.below(4))),
    }
    about = text(rng, "about")
    return descriptor(described_id(rng, bits), text(rng, "item"), about, [], list(header["shape"]), repr(header))


def tutorial(bits: int, samples: int) -> list[dict]:
    """The descriptors of the SPEAD tutorial's stream, as the default source sends them."""
    header = repr({"descr": "|i1", "fortran_order": False, "shape": (samples,)})
    return [
        descriptor(0x1600, "timestamp", "Index of the first sample", [["u", bits]], []),
        descriptor(0x3300, "adc_samples", "ADC converter output", [], [samples], header),
    ]


def heap(bits: int, packet_size: int, cnt: int, items: list[dict], repeat_pointers: bool = False) -> dict:
    return {
        "address_bits": bits,
        "packet_size": packet_size,
        "repeat_pointers": repeat_pointers,
        "cnt": cnt,
        "items": items,
    }


def payload(id: int, size: int, seed: int, allow_immediate: bool = True) -> dict:
    return {"kind": "payload", "id": id, "size": size, "seed": seed, "allow_immediate": allow_immediate}


def descriptor(
    id: int, name: str, description: str, format: list, shape: list, numpy_header: str | None = None
) -> dict:
    return {
        "kind": "descriptor",
        "id": id,
        "name": name,
        "description": description,
        "format": format,
        "shape": shape,
        "numpy_header": numpy_header,
    }


def max_id(bits: int) -> int:
    return (1 << (63 - bits)) - 1


def random_id(rng: SplitMix64, bits: int) -> int:
    """An id outside the protocol's own, 0x0 to 0x16."""
    return rng.between(0x17, max_id(bits))


def described_id(rng: SplitMix64, bits: int) -> int:
    """An identifier of a described item; a descriptor says it in an immediate. spead2 mixes up one that does not fit."""
    return rng.between(0x17, min(max_id(bits), 2**bits - 1))


def text(rng: SplitMix64, stem: str) -> str:
    return stem + "x" * rng.below(20) if rng.chance(85) else ""


def build(spec: dict) -> spead2.send.Heap:
    """The heap that `spec` describes, as spead2 has it."""
    bits = spec["address_bits"]
    out = spead2.send.Heap(spead2.Flavour(4, 64, bits))
    out.repeat_pointers = spec["repeat_pointers"]
    for item in spec["items"]:
        match item["kind"]:
            case "immediate":
                # spead2's Python has no inline items of its own; one as wide as the pointer's value
                # that may be immediate is the same on the wire.
                out.add_item(RawItem(item["id"], item["value"].to_bytes(bits // 8, "big"), True))
            case "payload":
                content = splitmix_bytes(item["seed"], item["size"])
                out.add_item(RawItem(item["id"], content, item["allow_immediate"]))
            case "descriptor":
                out.add_descriptor(spead2_descriptor(item))
            case "start":
                out.add_start()
            case "stop":
                out.add_end()
    return out


def spead2_descriptor(item: dict) -> spead2.Descriptor:
    about = (item["id"], item["name"], item["description"])
    shape = tuple(item["shape"])
    if item["numpy_header"] is None:
        return spead2.Descriptor(*about, shape, format=[tuple(field) for field in item["format"]])
    header = ast.literal_eval(item["numpy_header"])
    order = "F" if header["fortran_order"] else "C"
    return spead2.Descriptor(*about, shape, dtype=np.dtype(header["descr"]), order=order)


def packets(spec: dict) -> list[bytes]:
    return list(spead2.send.PacketGenerator(build(spec), spec["cnt"], spec["packet_size"]))


def expected(packet: bytes) -> dict:
    """What a packet must be: its length, the bytes before its payload, a hash of all of it."""
    pointers = int.from_bytes(packet[6:8], "big")
    return {"length": len(packet), "header": packet[: 8 + 8 * pointers].hex(), "fnv1a64": f"{fnv1a64(packet):016x}"}


def fnv1a64(data: bytes) -> int:
    """FNV-1a, 64 bits (Fowler, Noll and Vo; offset basis and prime as they publish them)."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def payload_bytes(spec: dict) -> int:
    """How long the heap's payload is, before padding."""
    widest = spec["address_bits"] // 8
    total = 0
    for item in spec["items"]:
        if item["kind"] == "payload" and not (item["allow_immediate"] and item["size"] <= widest):
            total += item["size"]
        elif item["kind"] == "descriptor":
            total += descriptor_bytes(item, widest)
    return total


def descriptor_bytes(item: dict, widest: int) -> int:
    """A descriptor is a packet of its own: header, nine or ten pointers, and its fields."""
    header = item["numpy_header"] or ""
    texts = len(item["name"]) + len(item["description"]) + len(header)
    fields = len(item["format"]) * (9 - widest) + len(item["shape"]) * (1 + widest)
    return 8 + 8 * (10 if header else 9) + texts + fields


def spead2_is_oracle(spec: dict) -> bool:
    """Whether spead2 takes the heap, and does not mix padding and payload (see the top)."""
    total = payload_bytes(spec)
    pointers_per_packet = (spec["packet_size"] // 8 * 8 - 48) // 8
    packets_for_pointers = len(spec["items"]) // pointers_per_packet + 1
    if spec["repeat_pointers"] and packets_for_pointers > 1:
        return False
    if total >= 1 << spec["address_bits"]:
        return False
    return total == 0 or total >= 8 * (packets_for_pointers - 1) + 1


SEED = 20250731
GENERATED = 330
FLAVOURS = (40, 48, 24, 32, 56)
FORMATS = (["u", 8], ["u", 10], ["u", 12], ["i", 16], ["i", 40], ["f", 32], ["f", 64], ["b", 1], ["b", 8], ["c", 8])
DTYPES = ("|i1", "|u1", "<i2", ">i2", "<u4", ">f4", "<f8", "|b1", "<c8", ">c16", "|S4")

if __name__ == "__main__":
    main()
