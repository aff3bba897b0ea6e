"""Runs the program under test."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from receiver import Receiver


@dataclass(frozen=True)
class Doorbell:
    """The `doorbell` binary, what starts it (such as ``strace``), and what it finds in its environment."""

    path: Path
    launcher: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: object, stdin: bytes | None = None) -> subprocess.Popen[bytes]:
        """Starts ``doorbell ARGUMENTS``."""
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=plain_environment() | dict(self.environment),
        )

    def run(self, *arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Runs ``doorbell ARGUMENTS`` to its end. No panic, whatever the arguments."""
        process = self.start(*arguments, stdin=stdin)
        try:
            out, err = process.communicate(stdin, timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"still running after {TIME_LIMIT} s: {process.args}\n{err.decode()}") from None
        done = subprocess.CompletedProcess(process.args, process.returncode, out.decode(), err.decode())
        assert "panicked" not in done.stderr, f"{done.args} panicked:\n{done.stderr}"
        assert done.returncode >= 0, f"{done.args} died of signal {-done.returncode}"
        return done

    def send(self, *arguments: object, stdin: bytes | None = None) -> dict[str, Any]:
        """Runs ``doorbell send ARGUMENTS``, which must succeed, and returns its report."""
        done = self.run("send", "--json", "-q", *arguments, stdin=stdin)
        assert done.returncode == 0, f"{done.args} exited {done.returncode}:\n{done.stderr}"
        report = json.loads(done.stdout.splitlines()[-1])
        assert report["heaps_failed"] == 0, report
        return report

    def send_to(self, receivers: Receiver | Sequence[Receiver], *arguments: object, **rest: Any) -> dict[str, Any]:
        """As `send`, to `receivers`; slowly if their sockets may not have room for a burst."""
        if isinstance(receivers, Receiver):
            receivers = [receivers]
        destinations = [flag for receiver in receivers for flag in ("--to", receiver.endpoint.destination)]
        shared = list(receivers[0].endpoint.flags)
        if min(receiver.endpoint.lossless_bytes for receiver in receivers) < ROOMY:
            if "--rate" not in arguments:
                shared += ["--rate", CAREFUL_RATE]
        return self.send(*destinations, *shared, *arguments, **rest)

    def command(self, *arguments: object) -> list[str]:
        return [*self.launcher, str(self.path), *map(str, arguments)]


def plain_environment() -> dict[str, str]:
    """The environment, less what would change the program's output."""
    return {name: value for name, value in os.environ.items() if name not in ("RUST_LOG", "RUST_BACKTRACE")}


TIME_LIMIT = 120
ROOMY = 64 << 20
CAREFUL_RATE = "400Mb/s"
