"""Where frames come from: several files, pipes, raw samples, constant items; and files that shrink on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from endpoint import bound_endpoint

SHAPE = (12, 20, 3)
ITEM, FRAME_NUMBER = 0x3300, 0x1601


def frames(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype("<f4")


def received(receiver) -> np.ndarray:
    return np.stack([heap.values[ITEM] for heap in receiver.data_heaps()])


@pytest.fixture
def three_files(tmp_path: Path) -> tuple[list[Path], np.ndarray]:
    """Arrays of 2, 1 and 3 frames, in the order of their names, and all frames in this order."""
    arrays = [frames(count, seed) for seed, count in enumerate([2, 1, 3])]
    paths = [tmp_path / f"run-{name}.npy" for name in "abc"]
    for path, array in zip(paths, arrays, strict=True):
        np.save(path, array)
    return paths, np.concatenate(arrays)


def test_files_are_sent_in_the_order_given(doorbell, listen, three_files) -> None:
    paths, expected = three_files
    receiver = listen()
    order = [2, 0, 1]
    sources = [flag for index in order for flag in ("--source", paths[index])]
    report = doorbell.send_to(receiver, *sources)
    starts = [0, 2, 3, 6]
    parts = [expected[starts[index] : starts[index + 1]] for index in order]
    np.testing.assert_array_equal(received(receiver), np.concatenate(parts))
    assert report["heaps"] == 6


@pytest.mark.parametrize("flags", [(), ("--pack", "f32"), ("--layout", "packed")], ids=str)
def test_a_pattern_of_names_is_files_in_their_order(doorbell, listen, tmp_path, three_files, flags) -> None:
    _, expected = three_files
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "run-*.npy", *flags)
    np.testing.assert_array_equal(received(receiver), expected)


def test_frames_are_repeated_and_numbered(doorbell, listen, three_files) -> None:
    paths, expected = three_files
    receiver = listen()
    doorbell.send_to(receiver, "--source", paths[0], "--source", paths[1], "--repeat", 3, "--frame-number")
    heaps = receiver.data_heaps()
    np.testing.assert_array_equal(np.stack([heap.values[ITEM] for heap in heaps]), np.concatenate([expected[:3]] * 3))
    assert [heap.values[FRAME_NUMBER] for heap in heaps] == list(range(9))
    assert receiver.group[FRAME_NUMBER].name == "frame_number"


def test_a_frame_rate_loses_nothing(doorbell, listen, three_files) -> None:
    paths, expected = three_files
    receiver = listen()
    doorbell.send_to(receiver, "--source", paths[2], "--frame-rate", "239.76")
    np.testing.assert_array_equal(received(receiver), expected[3:])


@pytest.mark.parametrize("leading", [(), (1,), (2,), (2, 3)])
def test_an_array_is_cut_into_frames_of_the_shape_given(doorbell, listen, tmp_path, leading: tuple) -> None:
    array = np.arange(np.prod((*leading, 5, 4)), dtype="<f4").reshape(*leading, 5, 4)
    np.save(tmp_path / "frames.npy", array)
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "frames.npy", "--shape", "5x4")
    np.testing.assert_array_equal(received(receiver), array.reshape(-1, 5, 4))


@pytest.mark.parametrize("dtype", ["<f4", ">u2", "<c8"])
def test_raw_frames_have_the_type_and_shape_given(doorbell, listen, tmp_path, dtype: str) -> None:
    array = (frames(3) * 100).astype(dtype)
    (tmp_path / "frames.raw").write_bytes(array.tobytes() + b"rest")
    receiver = listen()
    doorbell.send_to(receiver, "--source", tmp_path / "frames.raw", "--dtype", dtype, "--shape", "12x20x3")
    values = received(receiver)
    assert values.shape == array.shape
    np.testing.assert_array_equal(values, array)
    assert receiver.group[ITEM].dtype == np.dtype(dtype)


@pytest.mark.parametrize("way", ["fifo", "stdin"])
def test_a_pipe_that_ends_in_a_frame_sends_no_part_of_it(doorbell, listen, tmp_path, way: str) -> None:
    array = frames(3)
    content = array.tobytes() + array.tobytes()[:1000]
    receiver = listen()
    source, stdin = "-", content
    if way == "fifo":
        source, stdin = tmp_path / "pipe", None
        os.mkfifo(source)
        threading.Thread(target=source.write_bytes, args=(content,), daemon=True).start()
    to = [*receiver.to, "--source", source, "--dtype", "<f4", "--shape", "12x20x3"]
    done = doorbell.run("send", "-q", "--json", *to, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert re.search(r"its last 1,?000 bytes, of 2,?880 that a heap has, were not sent", done.stderr), done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["heaps"] == 3
    np.testing.assert_array_equal(received(receiver), array)


ITEMS = """
[[item]]
id = 0x4000
name = "telescope"
description = "Who looked"
value = "MeerKAT"

[[item]]
id = 0x4001
name = "gain"
value = -1.5

[[item]]
id = 0x4002
name = "bias"
value = -7

[[item]]
id = 0x4003
name = "channels"
value = [3, 1, 2]

[[item]]
id = 0x4004
name = "weights"
value = [0.5, 1]
"""


@pytest.mark.parametrize("layout", ["auto", "packed"])
def test_constant_items_explain_the_stream(doorbell, listen, tmp_path, three_files, layout: str) -> None:
    """With the descriptors, where files are sent from where they lie; else in each heap."""
    paths, expected = three_files
    (tmp_path / "stream.toml").write_text(ITEMS)
    receiver = listen()
    doorbell.send_to(receiver, tmp_path / "stream.toml", "--source", paths[2], "--layout", layout)
    heaps = receiver.data_heaps()
    np.testing.assert_array_equal(np.stack([heap.values[ITEM] for heap in heaps if ITEM in heap.values]), expected[3:])
    group = receiver.group
    assert "".join(group["telescope"].value) == "MeerKAT"
    assert group["telescope"].description == "Who looked"
    assert (group["gain"].value, group["bias"].value) == (-1.5, -7)
    np.testing.assert_array_equal(group["channels"].value, [3, 1, 2])
    np.testing.assert_array_equal(group["weights"].value, [0.5, 1.0])
    assert {group[name].id for name in ("telescope", "weights")} == {0x4000, 0x4004}
    if layout == "packed":
        assert all(0x4000 in heap.values for heap in heaps)


@pytest.mark.parametrize(
    "item, words",
    [
        ('id = 0x3300\nname = "a"\nvalue = 1', ["0x3300", "`data`"]),
        ('id = 0x1600\nname = "a"\nvalue = 1', ["0x1600", "timestamp"]),
        ('id = 5\nname = "a"\nvalue = 1', ["item.id", "5"]),
        ('id = 0x4000\nname = "a b"\nvalue = 1', ["item.name", "a b"]),
        ('id = 0x4000\nname = "a"\nvalue = []', ["value", "array of numbers"]),
        ('id = 0x4000\nname = "a"\nvalue = true', ["value", "boolean"]),
        ('id = 0x4000\nname = "a"', ["value"]),
        ('id = 0x4000\nname = "a"\nvalues = 1', ["values", "value"]),
        ('id = 0x4000\nname = "a"\nvalue = 1\n[[item]]\nid = 0x4000\nname = "b"\nvalue = 2', ["0x4000"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_items(doorbell, tmp_path, three_files, item: str, words: list[str]) -> None:
    paths, _ = three_files
    (tmp_path / "stream.toml").write_text(f"[[item]]\n{item}\n")
    done = doorbell.run("send", "-q", tmp_path / "stream.toml", "--to", "127.0.0.1:9", "--source", paths[0])
    assert done.returncode == 2, done.stderr
    assert "stream.toml" in done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--source", "A", "--source", "SHAPE"], ["shape.npy", "[12, 20]", "[12, 20, 3]", "alike"]),
        (["--source", "A", "--source", "DTYPE"], ["dtype.npy", "<f8", "<f4", "alike"]),
        (["--source", "A", "--source", "OBJECTS"], ["objects.npy", "object"]),
        (["--source", "A", "--source", "-"], ["source.kind (--source)"]),
        (["--source", "NOTHING*.npy"], ["nothing", "no file"]),
        (["--source", "A", "--dtype", "<f4", "--shape", "2"], ["--dtype", "itself says"]),
        (["--source", "A", "--shape", "7"], ["a.npy", "does not end in [7]"]),
        (["--source", "RAW", "--dtype", "<f4"], ["source.shape (--shape) is missing"]),
        (["--source", "RAW", "--shape", "2"], ["source.dtype (--dtype) is missing"]),
        (["--source", "RAW", "--dtype", "<f3", "--shape", "2"], ["--dtype", "<f3"]),
        (["--source", "RAW", "--dtype", "<f4", "--shape", "2xy"], ["--shape", "2xy"]),
        (["--source", "-", "--repeat", "2"], ["--repeat", "-"]),
        (["--source", "A", "--frame-rate", "0"], ["--frame-rate", "0"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_sources(doorbell, tmp_path, flags: list[str], words: list[str]) -> None:
    paths = {name: tmp_path / f"{name.lower()}.npy" for name in ("A", "SHAPE", "DTYPE", "OBJECTS")}
    np.save(paths["A"], frames(2))
    np.save(paths["SHAPE"], frames(2)[..., 0])
    np.save(paths["DTYPE"], frames(2).astype("<f8"))
    np.save(paths["OBJECTS"], np.array([[None, "a"]]), allow_pickle=True)
    paths |= {"NOTHING*.npy": tmp_path / "nothing*.npy", "RAW": tmp_path / "frames.raw"}
    paths["RAW"].write_bytes(bytes(range(240)))
    arguments = [str(paths.get(flag, flag)) for flag in flags]
    done = doorbell.run("send", "-q", "--to", "127.0.0.1:9", *arguments)
    assert done.returncode == 2, done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert len(done.stderr.splitlines()) <= 5


SHRUNKEN = "has shrunk from"


@pytest.mark.parametrize("way", ["udp", "udp packed", "udp pack", "pcap", "tcp"])
def test_a_file_that_shrinks_is_an_error_and_no_signal(doorbell, tmp_path, way: str) -> None:
    """Once the first frame has gone, and long before the last is due, all but the first pages of the file go, too."""
    path, capture = tmp_path / "frames.npy", tmp_path / "out.pcap"
    np.save(path, np.ones((TOTAL, 64, 1024), "<f4"))
    flags = {
        "udp": ["--backend", "udp"],
        "udp packed": ["--backend", "udp", "--layout", "packed"],
        "udp pack": ["--backend", "udp", "--pack", "u10", "--range", "0..1"],
        "pcap": ["--backend", "pcap", "--pcap", capture],
        "tcp": ["--backend", "tcp"],
    }[way]
    with StreamSink() if way == "tcp" else DatagramSink() as sink:
        sender = doorbell.start(
            *("send", "-q", "--json", "--to", f"127.0.0.1:{sink.port}", "--source", path),
            *("--frame-rate", 4, *flags),
        )
        if way == "pcap":
            deadline = time.monotonic() + PATIENCE
            while not (capture.exists() and capture.stat().st_size > 1000):
                assert time.monotonic() < deadline and sender.poll() is None
                time.sleep(0.005)
        else:
            sink.wait()
        os.truncate(path, 5000)
        out, err = sender.communicate(timeout=PATIENCE)
    assert sender.returncode == 1, err.decode()
    assert SHRUNKEN in err.decode() and str(path) in err.decode()
    assert "panicked" not in err.decode()
    report = json.loads(out.splitlines()[-1])
    assert report["heaps"] + report["heaps_unsubmitted"] == TOTAL
    assert report["payload_bytes"] < TOTAL * 64 * 1024 * 4


@pytest.mark.parametrize("faults", ["", "reg-readonly=fail"], ids=["registered", "copied"])
def test_a_file_that_shrinks_under_a_device(sender, bind_far, tmp_path, faults: str) -> None:
    """Whether the mapping is what the device reads, or what its copy was made of."""
    path, receiver = tmp_path / "frames.npy", bind_far()
    np.save(path, np.ones((TOTAL, 64, 1024), "<f4"))

    def shrink() -> None:
        receiver.socket.settimeout(PATIENCE)
        receiver.socket.recv(1 << 16)
        os.truncate(path, 5000)

    shrinking = threading.Thread(target=shrink)
    shrinking.start()
    arguments = ["send", "-q", "--json", "--backend", "verbs", *receiver.to, "--source", path, "--frame-rate", 4]
    done = sender(FAULT=faults).run(*arguments)
    shrinking.join()
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1 and SHRUNKEN in done.stderr and str(path) in done.stderr, done.stderr
    assert report["heaps"] + report["heaps_unsubmitted"] == TOTAL


class DatagramSink:
    """A socket that takes what comes, and says when anything has."""

    def __init__(self) -> None:
        self.endpoint = bound_endpoint("ipv4")
        self.port = self.endpoint.port

    def __enter__(self) -> DatagramSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.endpoint.socket.close()

    def wait(self) -> None:
        self.endpoint.socket.settimeout(PATIENCE)
        self.endpoint.socket.recv(1 << 16)


class StreamSink:
    """A connection, which a thread reads to its end."""

    def __init__(self) -> None:
        import socket

        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.any = threading.Event()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            while connection.recv(1 << 20):
                self.any.set()

    def __enter__(self) -> StreamSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def wait(self) -> None:
        assert self.any.wait(PATIENCE)


def test_memory_does_not_grow_with_the_file(doorbell, tmp_path) -> None:
    """Peak of anonymous memory: a mapped file's pages are the page cache's, and come and go with it."""
    peaks = []
    for name, size in ("small", 200 << 20), ("large", 4 << 30):
        path = tmp_path / f"{name}.raw"
        with path.open("wb") as file:
            file.truncate(size)  # Sparse: it reads as zeros, and takes no room.
        with DatagramSink() as sink:
            sender = doorbell.start(
                *("send", "-q", "--to", f"127.0.0.1:{sink.port}", "--backend", "udp"),
                *("--source", path, "--heap-size", "8MiB", "--heaps", size >> 23),
            )
            peaks.append(peak_of_anonymous_memory(sender))
        assert sender.returncode == 0, sender.stderr.read().decode()
    small, large = peaks
    assert large < small + (8 << 20), f"{small} bytes for 200 MiB, {large} for 4 GiB"


def peak_of_anonymous_memory(process: subprocess.Popen[bytes]) -> int:
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        if found := re.search(r"RssAnon:\s+(\d+) kB", status):
            peak = max(peak, int(found[1]) << 10)
        time.sleep(0.002)
    process.wait(PATIENCE)
    return peak


def test_a_mapped_file_is_never_read(doorbell, tmp_path) -> None:
    """Neither by read(2) and its like, nor copied: what is sent lies in the mapping."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    path, log = tmp_path / "frames.npy", tmp_path / "calls.txt"
    np.save(path, frames(200))
    with DatagramSink() as sink:
        send = doorbell.command("send", "-q", "--to", f"127.0.0.1:{sink.port}", "--source", path)
        traced = [strace, "-f", "-y", "-e", "trace=read,readv,pread64,preadv,preadv2,copy_file_range,sendfile"]
        done = subprocess.run([*traced, "-o", log, *send], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    calls = log.read_text()
    assert "read" in calls, "strace sees the reads of other files"
    assert str(path) not in calls


def test_the_example_in_python_shows_that_frames_come_back(doorbell) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "receive_frames.py"
    command = [sys.executable, example, "--timeout", str(PATIENCE), doorbell.path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5 frames of (270, 480, 3), [('u', 10)]" in done.stdout


def test_the_example_in_python_ends_if_nothing_comes() -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "receive_frames.py"
    command = [sys.executable, example, "--timeout", "0.2", "/bin/true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (1, "no heap came for 0.2 s: does the sender run, and send here?\n")


TOTAL = 100
PATIENCE = 60
