"""Bad input: one clear message that names the thing, the documented exit code, and no panic."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from namespace import in_new_network

USAGE, UNOPENED = 2, 3


@dataclass(frozen=True)
class Case:
    """Arguments of ``doorbell send`` that must fail, and words that the message must hold."""

    name: str
    arguments: str
    words: tuple[str, ...]
    code: int = USAGE


TO = "--to 127.0.0.1:7148"

COMMAND_LINES = [
    Case("unknown flag", "--hepas 5", ("--hepas", "--heaps")),
    Case("unknown backend", "--backend rdma", ("rdma", "verbs", "udp", "pcap")),
    Case("no port", "--to 127.0.0.1", ("127.0.0.1", "port")),
    Case("port too large", "--to 127.0.0.1:70000", ("70000",)),
    Case("mixed families", "--to 127.0.0.1:7148 --to [::1]:7148", ("IPv4", "IPv6", "127.0.0.1", "::1")),
    Case("packet size too small", f"{TO} --packet-size 48", ("48", "56")),
    Case("packet size no number", f"{TO} --packet-size big", ("packet-size", "big", "auto")),
    Case("packet above the MTU", f"{TO} --packet-size 9000 --mtu 9000", ("9000", "8972")),
    Case("packet above an IPv6 MTU", "--to [::1]:7148 --packet-size 8972 --mtu 9000", ("8972", "8952")),
    Case("packet above what UDP carries", f"{TO} --packet-size 65528", ("65528", "6550")),
    Case("flavour no multiple of 8", f"{TO} --flavour 64-41", ("64-41",)),
    Case("flavour too wide", f"{TO} --flavour 64-64", ("64-64",)),
    Case("heaps of nothing", f"{TO} --heap-size 0", ("heap-size",)),
    Case("unknown unit of size", f"{TO} --heap-size 8parsecs", ("8parsecs", "KiB")),
    Case("unknown unit of rate", f"{TO} --rate 10parsecs", ("10parsecs", "Gb/s")),
    Case("a rate of nothing", f"{TO} --rate 0Gb/s", ("rate",)),
    Case("batches of nothing", f"{TO} --batch-heaps 0", ("batch-heaps",)),
    Case("nothing in flight", f"{TO} --in-flight 0", ("in-flight",)),
    Case("TTL too large", "--to 239.255.77.9:7148 --interface lo --ttl 300", ("300", "255")),
    Case("unknown order", f"{TO} --group random", ("random", "serial", "round-robin")),
    Case("seed no number", f"{TO} --source random:dice", ("random", "dice")),
    Case("item of no type", f"{TO} --items adc:", ("adc",)),
    Case("item of unknown type", f"{TO} --items adc:q8[16]", ("adc", "q8")),
    Case("item with bad dimensions", f"{TO} --items adc:i8[4,-1]", ("adc",)),
    Case("items of one name", f"{TO} --items adc:i8[16],adc:u8[16]", ("adc",)),
    Case("items of one id", f"{TO} --items 0x3300=a:i8[16],0x3300=b:u8[16]", ("0x3300",)),
    Case("id too large", f"{TO} --flavour 64-48 --items 0x8000=a:i8[16]", ("0x8000",)),
    Case("cnt too large", f"{TO} --cnt-start 1099511627776", ("cnt",)),
    Case("file that is not there", f"{TO} --source /nowhere/samples.bin", ("/nowhere/samples.bin",)),
    Case("source a directory", f"{TO} --source /", ("/", "directory")),
    Case("configuration not there", "/nowhere/send.toml", ("/nowhere/send.toml",)),
    Case("capture into nowhere", f"{TO} --backend pcap --pcap /nowhere/wire.pcap", ("/nowhere/wire.pcap",), UNOPENED),
    Case("capture without a file", f"{TO} --backend pcap", ("--pcap",)),
    Case("interface not there", f"{TO} --interface nosuch0", ("nosuch0",), UNOPENED),
    Case("verbs over loopback", f"{TO} --backend verbs --device nosuch_0", ("127.0.0.1", "by udp"), UNOPENED),
]


@pytest.mark.parametrize("case", COMMAND_LINES, ids=lambda case: case.name)
def test_command_line(doorbell, case: Case) -> None:
    refused(doorbell, case.arguments.split(), case.words, case.code)


CONFIGURATIONS = [
    Case("unknown key", "[stream]\npakcet_size = 1472\n", ("pakcet_size", "packet_size", "2")),
    Case("unknown table", "[sream]\npacket_size = 1472\n", ("sream", "stream")),
    Case("wrong type", '[stream]\nrepeat_pointers = "often"\n', ("repeat_pointers", "often")),
    Case("number for a list", "[stream]\nto = 7148\n", ("to", "7148")),
    Case("value out of range", "[stream]\npacket_size = 48\n", ("packet_size", "48", "56")),
    Case("negative count", "[batch]\nheaps = -1\n", ("heaps", "-1")),
    Case("not TOML", "[stream\n", ("1",)),
]


@pytest.mark.parametrize("case", CONFIGURATIONS, ids=lambda case: case.name)
def test_configuration(doorbell, tmp_path, case: Case) -> None:
    (tmp_path / "send.toml").write_text(case.arguments)
    refused(doorbell, [tmp_path / "send.toml"], ("send.toml", *case.words), case.code)


def npy(array: np.ndarray, path: Path) -> bytes:
    np.save(path, array, allow_pickle=True)
    return path.read_bytes()


def test_npy_cut_short(doorbell, tmp_path) -> None:
    path = tmp_path / "array.npy"
    whole = npy(np.arange(6000, dtype="<f4").reshape(6, 1000), path)
    for length in (len(whole) - 1, 200, 128, 40, 11, 9, 3, 0):
        path.write_bytes(whole[:length])
        refused(doorbell, [*TO.split(), "--source", path], ("array.npy",))


BAD_HEADERS = {
    "not numpy": b"PNG" + bytes(200),
    "version 9": b"\x93NUMPY\x09\x00" + bytes(200),
    "header no dictionary": b"\x93NUMPY\x01\x00\x76\x00" + b"[1, 2, 3]".ljust(117) + b"\n" + bytes(100),
    "header without a shape": b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f4'}".ljust(117) + b"\n" + bytes(100),
    "negative shape": b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 2), }".ljust(117)
    + b"\n"
    + bytes(100),
    "shape beyond 64 bits": b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4), }".ljust(117)
    + b"\n"
    + bytes(100),
}


@pytest.mark.parametrize("content", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_npy_with_a_bad_header(doorbell, tmp_path, content: bytes) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(content)
    refused(doorbell, [*TO.split(), "--source", path], ("array.npy",))


def test_npy_of_python_objects(doorbell, tmp_path) -> None:
    npy(np.array([[{}], [[]]], dtype=object), tmp_path / "array.npy")
    refused(doorbell, [*TO.split(), "--source", tmp_path / "array.npy"], ("array.npy", "object"))


def test_npy_of_no_dimension(doorbell, tmp_path) -> None:
    npy(np.array(1.5), tmp_path / "array.npy")
    refused(doorbell, [*TO.split(), "--source", tmp_path / "array.npy"], ("array.npy",))


def test_file_shorter_than_a_heap(doorbell, tmp_path) -> None:
    (tmp_path / "samples.bin").write_bytes(bytes(1000))
    arguments = [*TO.split(), "--source", tmp_path / "samples.bin", "--heap-size", 1024]
    refused(doorbell, arguments, ("samples.bin", "1000", "1024"))


def test_an_unreachable_destination(doorbell) -> None:
    """RFC 5737's TEST-NET-3, from a network that has nothing but loopback."""

    def send() -> None:
        refused(doorbell, ["--to", "203.0.113.1:7148"], ("203.0.113.1", "unreachable"), UNOPENED)

    in_new_network(["link set lo up"], send)


def test_a_closed_port_is_no_panic(doorbell) -> None:
    """Connected sockets hear of it (ECONNREFUSED); port 9 is discard, which nobody runs."""
    done = doorbell.run("send", "-q", "--json", "--to", "127.0.0.1:9", "--heaps", 200, "--heap-size", 8192)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["heaps_failed"] > 0) == (done.returncode == 1)


@pytest.mark.parametrize("command", ["plan", "send"])
def test_plan_refuses_what_send_refuses(doorbell, command: str) -> None:
    done = doorbell.run(command, *TO.split(), "--packet-size", 48)
    assert done.returncode == USAGE
    assert "56" in done.stderr


def refused(doorbell, arguments: list, words: tuple[str, ...], code: int = USAGE) -> None:
    """``doorbell send ARGUMENTS`` exits with `code` and one message that holds `words`."""
    done = doorbell.run("send", *arguments)
    said = f"exit code {done.returncode}, stdout {done.stdout!r}, stderr {done.stderr!r}"
    assert done.returncode == code, said
    missing = [word for word in words if plain(word) not in plain(done.stderr)]
    assert not missing, f"the message does not say {missing}: {said}"
    assert not done.stdout.strip(), said
    assert done.stderr.lower().count("error") <= 1, f"more than one message: {said}"


def plain(text: str) -> str:
    """`text` so that ``--batch-heaps`` (the flag) and ``batch.heaps`` (the key) are one name."""
    return text.lower().translate(str.maketrans("_.", "--"))
