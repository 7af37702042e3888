"""Child processes of a process that may be PID 1: starts them, notices every end, also of orphans that it
never started.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Process", "Reaper"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Process:
    """A child. `ended` gets its exit code, negative for the signal that ended it."""

    pid: int
    ended: "asyncio.Future[int]"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; to a process that has ended, nothing (its pid is ours until we reap it, so never
        another's).
        """
        if not self.ended.done():
            os.kill(self.pid, number)


class Reaper:
    """The only one here who waits for children: asyncio's own watchers would be robbed of theirs."""

    def __init__(self) -> None:
        self._processes: dict[int, Process] = {}
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(self, command: Sequence[str]) -> Process:
        """Start a program with our environment and standard streams; OSError if it cannot be started."""
        pid = os.posix_spawnp(command[0], list(command), os.environ)
        process = Process(pid, asyncio.get_running_loop().create_future())
        self._processes[pid] = process
        return process

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self._processes.pop(pid, None)
            if process is None:
                log.info("reaped the orphan %d", pid)
            elif not process.ended.done():
                process.ended.set_result(os.waitstatus_to_exitcode(status))
