"""The cluster as the demo uses it: kubectl, helm and `kubectl accel`, as a user would type them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.demo.phases import StepFailed

BIN = Path(sys.executable).parent
SYSTEM = "accel-system"


@dataclass(frozen=True)
class Kubectl:
    """The programs that talk to one cluster."""

    kubeconfig: Path
    kubectl: Path
    helm: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return an environment in which `kubectl` and its plugin `kubectl accel` find each other and the
        cluster.
        """
        path = f"{self.kubectl.parent}:{BIN}:{os.environ.get('PATH', '')}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def __call__(self, *arguments: str, stdin: str | None = None, may_fail: bool = False) -> str:
        """Run kubectl; return its output."""
        return self._run([str(self.kubectl), *arguments], stdin, may_fail)

    def accel(self, *arguments: str) -> str:
        """Run `kubectl accel`; return its output."""
        return self._run([str(BIN / "kubectl-accel"), *arguments])

    def get(self, namespace: str, what: str) -> dict[str, Any]:
        """Return one object."""
        found: dict[str, Any] = json.loads(self("get", "--namespace", namespace, what, "--output", "json"))
        return found

    def _run(self, command: list[str], stdin: str | None = None, may_fail: bool = False) -> str:
        done = subprocess.run(
            command, env=self.environment, input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode != 0 and not may_fail:
            said = (done.stderr or done.stdout).strip()
            raise StepFailed(f"`{Path(command[0]).name} {' '.join(command[1:5])}`: {said}")
        return done.stdout


def story(kubectl: Kubectl, namespace: str) -> str:
    """Return what a person would look at when something in `namespace` does not become ready."""
    parts = []
    for arguments in (
        ("get", "accel", "--output", "wide"),
        ("get", "pods", "--output", "wide"),
        ("get", "events", "--sort-by=.lastTimestamp"),
    ):
        said = kubectl(arguments[0], "--namespace", namespace, *arguments[1:], may_fail=True)
        parts.append("\n".join(said.strip().splitlines()[-15:]))
    return "\n\n".join(parts)
