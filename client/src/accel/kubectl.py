"""The cluster, by way of the user's own kubectl: its kubeconfig, its login plugins, its context. No
Kubernetes library.

Namespace and context are passed on, not interpreted.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from accel.errors import KubectlError

__all__ = ["Kubectl"]

_FORWARDING = re.compile(r"Forwarding from (?:127\.0\.0\.1|\[::1\]):(\d+)")


@dataclass(frozen=True)
class Kubectl:
    """How kubectl is called. None means kubectl's own default."""

    namespace: str | None = None
    context: str | None = None
    program: str = "kubectl"

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object; raises KubectlError with kubectl's own words."""
        found: dict[str, Any] = json.loads(self._run("get", kind, name, "--output=json"))
        return found

    @contextmanager
    def port_forward(self, target: str, port: int) -> Iterator[int]:
        """Forward a free local port to `target` (say `service/name`) and yield it; ends with the block."""
        command = self._command("port-forward", "--address=127.0.0.1", target, f":{port}")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            match = _FORWARDING.search(process.stdout.readline())
            if match is None:
                process.terminate()
                _out, error = process.communicate()
                raise KubectlError(f"port-forward to {target} failed: {error.strip() or 'no reason given'}")
            yield int(match.group(1))
        finally:
            process.terminate()
            process.communicate()

    def _run(self, *arguments: str) -> str:
        command = self._command(*arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise KubectlError(done.stderr.strip() or f"{' '.join(command)} failed")
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        if shutil.which(self.program) is None:
            raise KubectlError(f"{self.program} is not on PATH")
        options = [f"--namespace={self.namespace}"] if self.namespace else []
        options += [f"--context={self.context}"] if self.context else []
        return [self.program, *options, *arguments]
