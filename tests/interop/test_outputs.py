"""What `doorbell` writes: it costs no other file, and numpy reads what it is said to hold."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from endpoint import bound_endpoint, wait_until_bound
from program import plain_environment
from splitmix import heap_payload

HEAP_SIZE = 8000
OLD = b"an old recording"
USAGE = 2


class Recording:
    """`doorbell recv` that writes, and what it says at its end."""

    def __init__(self, doorbell, *arguments: object, **options) -> None:
        free = bound_endpoint()
        self.port = free.port
        free.socket.close()
        self.to = f"127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            doorbell.command("recv", "--json", "-q", "--from", self.to, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=plain_environment(),
            **options,
        )

    def listening(self) -> Recording:
        wait_until_bound(self.port)
        return self

    def finish(self, code: int = 0) -> dict:
        out, errors = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == code, out + errors
        assert b"panicked" not in errors
        self.errors = errors.decode()
        return json.loads(out.splitlines()[-1])


@pytest.fixture
def record(doorbell) -> Iterator[Callable[..., Recording]]:
    """Starts receivers: ``record("--write", path)``."""
    started = []

    def start(*arguments: object, **options) -> Recording:
        started.append(Recording(doorbell, *arguments, **options))
        return started[-1]

    yield start
    for recording in started:
        recording.process.kill()
        recording.process.communicate()


def idle(doorbell, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs ``doorbell recv ARGUMENTS`` where nothing comes."""
    free = bound_endpoint()
    free.socket.close()
    return doorbell.run("recv", "--from", free.destination, "--timeout", 0.1, *arguments)


def send(doorbell, recording: Recording, heaps: int, *flags: object) -> None:
    stream = ("--source", "random:71", "--heap-size", HEAP_SIZE, "--heaps", heaps)
    doorbell.send("--to", recording.to, *stream, "--rate", "100Mb/s", *flags)


def assert_frames(frames, count: int) -> None:
    assert len(frames) == count
    for index, frame in enumerate(frames):
        assert frame.tobytes() == heap_payload(71, index, HEAP_SIZE), f"frame {index}"


FLAGS = {"--write": "out.npy", "--preview": "out.png"}


@pytest.mark.parametrize("flag, name", FLAGS.items())
@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_a_file_that_exists_is_kept(doorbell, tmp_path, flag: str, name: str, link) -> None:
    (tmp_path / name).write_bytes(OLD)
    named = tmp_path / name
    if link is not None:
        named = tmp_path / f"linked-{name}"
        link(tmp_path / name, named)
    done = idle(doorbell, flag, named)
    assert done.returncode == USAGE
    assert all(word in done.stderr for word in (flag, str(named), "--force")), done.stderr
    # Nothing comes that could replace it.
    done = idle(doorbell, flag, named, "--force")
    assert done.returncode == 1, done.stderr
    assert (tmp_path / name).read_bytes() == OLD


@pytest.mark.parametrize("flag, name", [*FLAGS.items(), ("--write-dir", "frames")])
def test_nothing_is_created_if_nothing_comes(doorbell, tmp_path, flag: str, name: str) -> None:
    done = idle(doorbell, flag, tmp_path / name)
    assert done.returncode == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_what_is_there(doorbell, record, tmp_path) -> None:
    image = np.zeros((3, 4, 5), "u1")
    np.save(tmp_path / "in.npy", image)
    (tmp_path / "keep.npy").write_bytes(OLD)
    os.link(tmp_path / "keep.npy", tmp_path / "out.npy")
    (tmp_path / "picture.png").write_bytes(OLD)
    os.symlink("picture.png", tmp_path / "out.png")
    recording = record(*(x for flag, name in FLAGS.items() for x in (flag, tmp_path / name)), "--force").listening()
    doorbell.send("--to", recording.to, "--source", tmp_path / "in.npy")
    recording.finish()
    assert np.array_equal(np.load(tmp_path / "out.npy"), image)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out.png").is_symlink()
    assert (tmp_path / "keep.npy").read_bytes() == OLD, "another name of the same file"
    assert len(list(tmp_path.iterdir())) == 5, "no temporary file is left"


def test_a_directory_with_frames_is_kept(doorbell, record, tmp_path) -> None:
    out = tmp_path / "frames"
    out.mkdir()
    (out / "notes.txt").write_bytes(OLD)
    recording = record("--write-dir", out).listening()
    send(doorbell, recording, 3)
    recording.finish()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len(before) == 4
    done = idle(doorbell, "--write-dir", out)
    assert done.returncode == USAGE
    assert all(word in done.stderr for word in ("--write-dir", str(out), "--force")), done.stderr
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}
    recording = record("--write-dir", out, "--force").listening()
    send(doorbell, recording, 2)
    recording.finish()
    assert {path.name for path in out.iterdir()} == set(before)


def test_a_frame_that_appears_meanwhile_is_kept(doorbell, record, tmp_path) -> None:
    recording = record("--write-dir", tmp_path).listening()
    (tmp_path / "frame-00000002.npy").write_bytes(OLD)
    send(doorbell, recording, 3, "--descriptors", "own")
    assert recording.finish()["written"]["frames"] == 3
    assert (tmp_path / "frame-00000002.npy").read_bytes() == OLD
    names = ["frame-00000002-2.npy", "frame-00000003.npy", "frame-00000004.npy"]
    assert_frames([np.load(tmp_path / name) for name in names], 3)


@pytest.mark.parametrize("before", [None, OLD])
def test_a_capture_that_exists_is_kept(doorbell, tmp_path, before: bytes | None) -> None:
    capture, link = tmp_path / "capture.pcap", tmp_path / "link.pcap"
    os.symlink(capture, link)
    flags = ("send", "-q", "--backend", "pcap", "--pcap", link, "--to", "127.0.0.1:9", "--heaps", 3)
    if before is not None:
        capture.write_bytes(before)
        done = doorbell.run(*flags)
        assert done.returncode == USAGE
        assert all(word in done.stderr for word in ("--pcap", str(link), "--force")), done.stderr
        assert capture.read_bytes() == before
        flags += ("--force",)
    assert doorbell.run(*flags).returncode == 0
    assert capture.read_bytes().startswith(b"\x4d\x3c\xb2\xa1")
    assert link.is_symlink()


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_a_source_is_not_captured_into(doorbell, tmp_path, link) -> None:
    source, capture = tmp_path / "source.pcap", tmp_path / "capture.pcap"
    content = bytes(range(250)) * 100
    source.write_bytes(content)
    if link is None:
        capture = source
    else:
        link(source, capture)
    flags = ("send", "-q", "--backend", "pcap", "--pcap", capture, "--force", "--to", "127.0.0.1:9", "--heap-size", 1000)
    for arguments in (("--source", source), ("--source", tmp_path / "s*.pcap")):
        done = doorbell.run(*flags, *arguments)
        assert done.returncode == USAGE
        assert all(word in done.stderr for word in ("--pcap", str(source), "the source")), done.stderr
    with source.open("rb") as stdin:
        command = doorbell.command(*flags, "--source", "-")
        done = subprocess.run(command, stdin=stdin, capture_output=True, timeout=PATIENCE)
    assert done.returncode == USAGE, done.stderr
    assert source.read_bytes() == content


def test_no_capture_of_a_source_that_cannot_be_read(doorbell, tmp_path) -> None:
    flags = ("--backend", "pcap", "--pcap", tmp_path / "a.pcap", "--source", tmp_path / "none", "--to", "127.0.0.1:9")
    assert doorbell.run("send", *flags).returncode == USAGE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("recv", "--write", "out.png"),
        ("recv", "--write", "out.npz"),
        ("recv", "--preview", "out.jpg"),
        ("send", "--to", "127.0.0.1:9", "--backend", "pcap", "--pcap", "out.pcapng"),
        ("bench", "--plot", "out.gif"),
    ],
    ids=lambda it: " ".join(it[-2:]),
)
def test_names_say_what_is_written(doorbell, tmp_path, arguments: tuple[str, ...]) -> None:
    *arguments, name = arguments
    done = doorbell.run(*arguments, tmp_path / name)
    assert done.returncode == USAGE
    assert arguments[-1] in done.stderr and name in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


@contextmanager
def device(path: Path, minor: int) -> Iterator[Path]:
    """A memory device of one's own: 1:3 is null, 1:7 full (mem(4))."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        path.open("wb").close()
    except PermissionError as error:
        pytest.skip(f"needs root, and a file system that may have devices: {error}")
    yield path
    assert stat.S_ISCHR(path.lstat().st_mode), "it is still there, and a device"


@pytest.mark.parametrize("flag", ["--write", "--preview"])
@pytest.mark.parametrize("comes", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_a_device_stays_a_device(doorbell, record, tmp_path, flag: str, comes: bool, linked: bool) -> None:
    np.save(tmp_path / "in.npy", np.ones((3, 4, 5), "u1"))
    with device(tmp_path / "null", 3) as null:
        if linked:
            os.symlink(null, tmp_path / "link")
        recording = record(flag, tmp_path / "link" if linked else null, "--timeout", 0.5, "--force").listening()
        if comes:
            doorbell.send("--to", recording.to, "--source", tmp_path / "in.npy")
        recording.finish(0 if comes else 1)
        assert not linked or (tmp_path / "link").is_symlink()


def test_a_capture_into_a_device(doorbell, tmp_path) -> None:
    with device(tmp_path / "null", 3) as null:
        doorbell.send("--backend", "pcap", "--pcap", null, "--to", "127.0.0.1:9", "--heaps", 3)
    with device(tmp_path / "full", 7) as full:
        done = doorbell.run("send", "--backend", "pcap", "--pcap", full, "--to", "127.0.0.1:9", "--heaps", 3)
        assert done.returncode == 1 and "No space left on device" in done.stderr


def loaded(path: Path, frames: list) -> None:
    """What repeated ``np.load`` makes of what comes out of a pipe; it seeks, which pipes cannot."""
    content = io.BytesIO(path.read_bytes())
    while content.tell() < len(content.getbuffer()):
        frames.append(np.load(content))


def test_a_pipe_gets_an_array_a_frame(doorbell, record, tmp_path) -> None:
    pipe, frames = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=loaded, args=(pipe, frames))
    reader.start()
    recording = record("--write", pipe).listening()
    send(doorbell, recording, 20)
    assert recording.finish()["written"]["frames"] == 20
    reader.join(PATIENCE)
    assert_frames(frames, 20)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_standard_output_gets_frames_alone(doorbell, record, tmp_path) -> None:
    frames = []
    recording = record("--write", "-").listening()
    reader = threading.Thread(target=loaded, args=(Path(f"/proc/self/fd/{recording.process.stdout.fileno()}"), frames))
    reader.start()
    send(doorbell, recording, 20)
    report = json.loads(recording.process.stderr.read().splitlines()[-1])
    assert recording.process.wait(PATIENCE) == 0
    recording.process.stdout.close()
    reader.join(PATIENCE)
    assert report["written"]["frames"] == 20
    assert_frames(frames, 20)
    assert not Path("-").exists()


def test_a_pipe_whose_reader_leaves(doorbell, record, tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    recording = record("--write", pipe)
    pipe.open("rb").close()
    send(doorbell, recording.listening(), 20)
    assert recording.finish(1)["written"]["frames"] == 0
    assert str(pipe) in recording.errors and "Broken pipe" in recording.errors


def test_what_came_can_be_read_while_it_grows(doorbell, record, tmp_path) -> None:
    """All of it, though nothing more comes; and after SIGKILL."""
    out = tmp_path / "out.npy"
    recording = record("--write", out).listening()
    for heaps in (5, 7):
        # No stop heap: the stream goes on.
        send(doorbell, recording, heaps, "--stop-heap=false", "--cnt-start", 1 if heaps == 5 else 1000)
        deadline = time.monotonic() + PATIENCE
        wanted = 5 if heaps == 5 else 12
        while not out.exists() or len(np.load(out)) < wanted:
            assert time.monotonic() < deadline and recording.process.poll() is None
            time.sleep(0.02)
    recording.process.send_signal(signal.SIGKILL)
    recording.process.wait(PATIENCE)
    frames = np.load(out)
    assert_frames(frames[:5], 5)
    assert_frames(frames[5:], 7)


@pytest.mark.parametrize("heap_size", [HEAP_SIZE, 3_000_000])
@pytest.mark.parametrize("flag", ["--write", "--write-dir"])
def test_files_that_may_not_grow(doorbell, record, tmp_path, flag: str, heap_size: int) -> None:
    """RLIMIT_FSIZE, which is a signal (SIGXFSZ) to those who do not see to it."""
    limit = 4_000_000 if flag == "--write" else heap_size
    out = tmp_path / ("out.npy" if flag == "--write" else "out")
    limited = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))}
    recording = record(flag, out, "--timeout", 5, **limited).listening()
    stream = ("--source", "random:71", "--heap-size", heap_size, "--heaps", 8_000_000 // heap_size)
    doorbell.run("send", "-q", "--to", recording.to, *stream, "--rate", "400Mb/s")
    written = recording.finish(1)["written"]["frames"]
    assert "File too large" in recording.errors and str(out) in recording.errors, recording.errors
    if flag == "--write":
        frames = np.load(out)
        assert len(frames) == written == (limit - 128) // heap_size
        assert all(frame.tobytes() == heap_payload(71, i, heap_size) for i, frame in enumerate(frames))
        assert out.stat().st_size == 128 + written * heap_size
    else:
        assert written == 0 and list(out.iterdir()) == []


PATIENCE = 60
