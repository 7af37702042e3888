"""The cluster, by way of the user's own kubectl: its kubeconfig, its login plugins, its context. No
Kubernetes library.

Namespace and context are passed on, not interpreted.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel.errors import KubectlError, MissingRight

__all__ = ["Kubectl", "Listing"]

TIMEOUT = "--request-timeout=30s"  # an API server that is gone is told, not waited for
_FORWARDING = re.compile(r"Forwarding from (?:127\.0\.0\.1|\[::1\]):(\d+)")
_FORBIDDEN = re.compile(r'cannot (\w+) resource "([^"]+)"')


@dataclass(frozen=True)
class Listing:
    """What the user may see of several kinds, and which rights are missing to see the rest ("list pods")."""

    items: list[dict[str, Any]] = field(default_factory=list)
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kubectl:
    """How kubectl is called. None means kubectl's own default."""

    namespace: str | None = None
    context: str | None = None
    program: str = "kubectl"
    kubeconfig: Path | None = None

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object; raises KubectlError with kubectl's own words."""
        found: dict[str, Any] = json.loads(self._run("get", kind, name, "--output=json"))
        return found

    def listing(self, kinds: Sequence[str], *, selector: str = "", everywhere: bool = False) -> Listing:
        """Return the namespace's objects of several kinds with one call (`everywhere`: of all namespaces).

        A kind that the user may not list is left out and told; any other failure raises KubectlError.
        """
        options = [f"--selector={selector}"] if selector else []
        options += ["--all-namespaces"] if everywhere else []
        done = self._call("get", ",".join(kinds), "--output=json", TIMEOUT, *options)
        lacking = []
        for line in done.stderr.splitlines() if done.returncode != 0 else ():
            refused = _FORBIDDEN.search(line)
            if refused is not None:
                lacking.append(f"{refused.group(1)} {refused.group(2)}")
            elif line.strip():
                raise KubectlError(done.stderr.strip())
        if done.returncode != 0 and not lacking:
            raise KubectlError(f"kubectl get {','.join(kinds)} failed and did not say why")
        return Listing(
            json.loads(done.stdout)["items"] if done.stdout.strip() else [], tuple(dict.fromkeys(lacking))
        )

    def log_tail(self, pod: str, container: str, lines: int = 100) -> str:
        """Return the end of a container's log; raises MissingRight, and KubectlError where there is none yet."""
        return self._run("logs", pod, f"--container={container}", f"--tail={lines}", TIMEOUT)

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
        done = self._call(*arguments)
        if done.returncode != 0:
            said = done.stderr.strip() or f"{self.program} {' '.join(arguments)} failed"
            refused = _FORBIDDEN.search(said)
            if refused is not None:
                raise MissingRight(said, f"{refused.group(1)} {refused.group(2)}")
            raise KubectlError(said)
        return done.stdout

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._command(*arguments), capture_output=True, text=True, check=False)

    def _command(self, *arguments: str) -> list[str]:
        if shutil.which(self.program) is None:
            raise KubectlError(f"{self.program} is not on PATH")
        options = [f"--namespace={self.namespace}"] if self.namespace else []
        options += [f"--context={self.context}"] if self.context else []
        options += [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        return [self.program, *options, *arguments]
