"""A terminal: a pseudo-terminal of a given width, and what is on its screen once all is written."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from dataclasses import dataclass, field

from program import Doorbell, plain_environment


@dataclass
class Screen:
    """Rows of text that a program has written: as much of ECMA-48 as progress bars use, and wrapping."""

    columns: int
    rows: list[list[str]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    wrapped: int = 0

    def write(self, text: str) -> Screen:
        for control, parameter, letter, plain in re.findall(r"(\x1b\[([0-9;?]*)([A-Za-z]))|([^\x1b])", text):
            if control:
                self._control(parameter, letter)
            elif plain == "\r":
                self.column = 0
            elif plain == "\n":
                self._next_row()
            else:
                self._put(plain)
        return self

    def _control(self, parameter: str, letter: str) -> None:
        count = int(parameter) if parameter.isdigit() else 1
        match letter:
            case "A":
                self.row = max(self.row - count, 0)
            case "B":
                self.row = min(self.row + count, len(self.rows) - 1)
            case "K" if parameter == "2":
                self.rows[self.row] = []
            case "K":
                del self.rows[self.row][self.column :]

    def _put(self, character: str) -> None:
        if self.column == self.columns:
            self.wrapped += 1
            self.column = 0
            self._next_row()
        line = self.rows[self.row]
        line += " " * (self.column + 1 - len(line))
        line[self.column] = character
        self.column += 1

    def _next_row(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    @property
    def text(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.rows]


def on_a_terminal(
    doorbell: Doorbell, columns: int, *arguments: object, seconds: float | None = None
) -> tuple[str, int]:
    """What `doorbell ARGUMENTS` writes to a terminal, and its exit code; interrupted after `seconds`, if given."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = plain_environment() | dict(doorbell.environment) | {"TERM": "xterm"}
    process = subprocess.Popen(
        doorbell.command(*arguments), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    written, started, interrupted = b"", time.monotonic(), False
    while True:
        ended = process.poll() is not None
        try:
            while piece := os.read(ours, 1 << 16):
                written += piece
        except BlockingIOError:
            pass
        except OSError:
            # EIO: nobody has the other end any more.
            break
        if ended:
            break
        if seconds is not None and not interrupted and time.monotonic() - started > seconds:
            process.send_signal(signal.SIGINT)
            interrupted = True
        time.sleep(0.02)
    os.close(ours)
    return written.decode(), process.wait(60)
