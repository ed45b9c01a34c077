"""A program in a pseudo-terminal: keys in, bytes out, and what it costs meanwhile."""

import fcntl
import os
import pty
import select
import struct
import termios
import time

import psutil

SEEN = 1 << 20
"""Bytes that are remembered."""


class Terminal:
    """`command` in a terminal of this size (columns, rows); ended with `close`."""

    def __init__(self, command: list[str], size: tuple[int, int], **environment: str) -> None:
        self.began = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLUMNS": str(size[0]), "LINES": str(size[1])} | environment)
            os.environ.pop("COLORTERM", None)  # as over OpenSSH
            os.execv(command[0], command)
        self.seen = b""
        self.code: int | None = None
        """All that came; the exit code once it has ended."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.process = psutil.Process(self.pid)

    def read(self, seconds: float) -> bytes:
        """What comes within so many seconds, as soon as anything comes; empty if nothing does."""
        ready, _, _ = select.select([self._fd], [], [], max(0.0, seconds))
        try:
            new = os.read(self._fd, 1 << 16) if ready else b""
        except OSError:  # the program has ended
            return b""
        self.seen = (self.seen + new)[-SEEN:]
        return new

    def until(self, text: str, seconds: float = 30) -> float:
        """Seconds until the text has come. Raises SystemExit if it does not."""
        began, seen = time.perf_counter(), b""
        while text.encode() not in seen:
            new = self.read(began + seconds - time.perf_counter())
            if not new:
                raise SystemExit(f"{text!r} did not come in {seconds:g} s; the end of what came: {seen[-2000:]!r}")
            seen += new
        return time.perf_counter() - began

    def quiet(self, seconds: float = 0.15, most: float = 20) -> None:
        """Wait until nothing has come for so many seconds."""
        end = time.perf_counter() + most
        while time.perf_counter() < end and self.read(seconds):
            continue

    def send(self, keys: str) -> None:
        """Type."""
        os.write(self._fd, keys.encode())

    def paint(self, keys: str, shows: str = "", seconds: float = 5) -> float:
        """Seconds from typing to the first bytes, or to those with this text; typed when nothing else is being drawn."""
        self.quiet()
        began = time.perf_counter()
        self.send(keys)
        if shows:
            return self.until(shows, seconds)
        if not self.read(seconds):
            raise SystemExit(f"nothing was drawn after {keys!r}")
        return time.perf_counter() - began

    def watch(self, seconds: float) -> tuple[int, float]:
        """(bytes that came, CPU seconds used) in so many seconds."""
        before, end, count = self._cpu(), time.perf_counter() + seconds, 0
        while (left := end - time.perf_counter()) > 0:
            count += len(self.read(left))
        return count, self._cpu() - before

    def memory(self) -> float:
        """Resident memory, MiB."""
        return float(self.process.memory_info().rss) / 2**20

    def ended(self) -> bool:
        """Whether the program has ended by itself; then `code` is its exit code, negative for a signal."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def hang_up(self) -> None:
        """Close the terminal, the program still in it."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        """Kill what still runs."""
        if not self.ended():
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        self.hang_up()

    def _cpu(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)
