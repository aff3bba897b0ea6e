"""What the system does not grant is named, with the limit to raise; nothing panics, hangs, or is lost in silence."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from program import plain_environment


@pytest.fixture
def limited(doorbell, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program as a user of its own, whose limits hold: those of root do not."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user that runs nothing else")
    program = Path(shutil.copy(doorbell.path, tmp_path / "doorbell"))
    for directory in [tmp_path, *tmp_path.parents]:
        if not directory.stat().st_mode & 0o001 and directory.is_relative_to("/tmp"):
            directory.chmod(directory.stat().st_mode | 0o011)

    def run(*arguments: object, threads: int | None = None, descriptors: int | None = None):
        def limit() -> None:
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
            if threads is not None:
                resource.setrlimit(resource.RLIMIT_NPROC, (threads, threads))
            os.setgid(USER)
            os.setuid(USER)

        return subprocess.run(
            [program, *map(str, arguments)],
            preexec_fn=limit,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=plain_environment(),
        )

    return run


COMMANDS = [
    ("send", "--heaps", 10),
    ("send", "--heaps", 10, "--to", "127.0.0.1:9"),
    ("send", "--heaps", 10, "--to", "127.0.0.1:9", "--backend", "tcp", "--reconnect", 1),
    ("send", "--heaps", 10, "--to", "127.0.0.1:9", "-v", "--metrics", "127.0.0.1:0"),
    ("recv", "--from", "127.0.0.1:27148", "--timeout", "0.1"),
    ("bench", "--sizes", "8KiB", "--seconds", "0.001", "--sink", "127.0.0.1:9", "--repeat", 1),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda it: " ".join(map(str, it)))
def test_threads_that_cannot_be_started(limited, command) -> None:
    """With one more allowed each time, until it works."""
    refused = 0
    for threads in range(1, 12):
        done = limited(*command, threads=threads)
        assert "panicked" not in done.stderr, done.stderr
        if "ulimit -u" not in done.stderr:
            break
        assert done.returncode in (2, 3) and "RLIMIT_NPROC" in done.stderr, done.stderr
        refused += 1
    else:
        pytest.fail("it never works")
    assert refused > 0


@pytest.mark.parametrize("command", COMMANDS, ids=lambda it: " ".join(map(str, it)))
def test_descriptors_that_cannot_be_had(limited, command) -> None:
    """From as many as it takes to start at all."""
    refused = 0
    for descriptors in range(4, 24):
        done = limited(*command, descriptors=descriptors)
        assert "panicked" not in done.stderr, done.stderr
        if "Too many open files" not in done.stderr:
            break
        assert done.returncode in (1, 2, 3) and "ulimit -n" in done.stderr, done.stderr
        refused += 1
    else:
        pytest.fail("it never works")
    assert refused > 0


def test_a_batch_is_no_larger_than_the_stream(doorbell) -> None:
    """And there are no more of them than it fills: half a gibibyte, once."""
    report = doorbell.send("--to", "127.0.0.1:9", "--batch-heaps", 134_217_728)
    assert report["heaps"] == 65_536 and report["pinned_bytes"] < 600 << 20


# A user that runs nothing, so that its processes are those of the test.
USER = 64_717
