"""The one way in which the end-to-end tests talk to the cluster: kubectl, as users do."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


class KubectlError(AssertionError):
    """kubectl said no; the message is its own."""


@dataclass(frozen=True)
class Kube:
    """kubectl bound to one cluster and one namespace."""

    kubectl: Path
    kubeconfig: Path
    namespace: str

    def command(self, *arguments: str) -> list[str]:
        """Return the command line for `arguments` in this namespace."""
        return [
            str(self.kubectl),
            f"--kubeconfig={self.kubeconfig}",
            f"--namespace={self.namespace}",
            *arguments,
        ]

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl and return its output; a refusal raises KubectlError with kubectl's words."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def apply(self, *objects: Object) -> str:
        """Apply objects as one file, in the order given."""
        return self("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> Object:
        """Return one object."""
        found: Object = json.loads(self("get", kind, name, "-o", "json"))
        return found

    def find(self, kind: str, name: str) -> Object | None:
        """Return one object, or None where it does not exist."""
        text = self("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, selector: str = "") -> list[Object]:
        """Return the namespace's objects of a kind."""
        found: list[Object] = json.loads(self("get", kind, "-l", selector, "-o", "json"))["items"]
        return found

    def patch(self, kind: str, name: str, patch: Object, *more: str) -> None:
        """Merge-patch an object as a user's edit would."""
        self("patch", kind, name, "--type=merge", "-p", json.dumps(patch), *more)

    def wait_ready(self, kind: str, name: str, timeout: float = 240) -> Object:
        """`kubectl wait --for=condition=Ready`, and the object it ended with."""
        try:
            self(
                "wait",
                "--for=condition=Ready",
                f"{kind}/{name}",
                f"--timeout={timeout:.0f}s",
                timeout=timeout + 30,
            )
        except KubectlError as error:
            raise KubectlError(f"{error}\n{self.story(kind, name)}") from None
        return self.get(kind, name)

    def until(
        self, what: str, probe: Callable[[], Any], timeout: float = 120, story: tuple[str, str] | None = None
    ) -> Any:
        """Return the first true result of `probe`, asked again at short intervals."""
        deadline = time.monotonic() + timeout
        for _ in ticks(deadline):
            result = probe()
            if result:
                return result
        told = self.story(*story) if story else ""
        raise AssertionError(f"not within {timeout:.0f} s: {what}\n{told}")

    def story(self, kind: str, name: str) -> str:
        """Return what a person would look at when `name` does not become what it should."""
        parts = []
        for arguments in (
            ["get", kind, name, "-o", "jsonpath={.status}"],
            ["get", "pods", "-o", "wide"],
            ["get", "events", "--sort-by=.lastTimestamp"],
        ):
            done = subprocess.run(
                self.command(*arguments), capture_output=True, text=True, check=False, timeout=60
            )
            parts.append((done.stdout or done.stderr)[-4000:])
        return "\n".join(parts)


def ticks(deadline: float, interval: float = 0.5) -> Iterator[int]:
    """Count up at `interval` seconds until `deadline` (time.monotonic()); at least once."""
    import threading

    never = threading.Event()
    number = 0
    yield number
    while time.monotonic() < deadline:
        never.wait(interval)
        number += 1
        yield number


def condition(thing: Object, kind: str) -> Object:
    """Return an object's condition, or an empty one."""
    found = [entry for entry in thing.get("status", {}).get("conditions", []) if entry["type"] == kind]
    return found[0] if found else {}


def is_ready(thing: Object) -> bool:
    """Whether Ready is True for the object's present generation."""
    ready = condition(thing, "Ready")
    return (
        ready.get("status") == "True" and ready.get("observedGeneration") == thing["metadata"]["generation"]
    )
