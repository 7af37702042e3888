"""What the operator's messages quote of the object that is waited for, and of pods. Pure.

They stand alone; beside the object, or after the pod, a page leaves that out.
"""

import re
from collections.abc import Collection

__all__ = ["cut", "waits_for", "without_gone_logs"]

_SEE_LOGS = re.compile(r"; see kubectl logs ([^\s,;]+)(?: -c [^\s,;]+)?(, then)?")


def _waiting(message: str, title: str) -> re.Match[str] | None:
    """Find where a message says that it waits for an object; that it names one says nothing yet."""
    return re.search(rf"waits for (version \d+: )?{re.escape(title)}(?![\w.-])", message) if title else None


def waits_for(message: str, title: str) -> bool:
    """Tell whether a message says that it waits for the object of this kind and name."""
    return _waiting(message, title) is not None


def cut(message: str, follows: str) -> str:
    """Return a message without what it quotes of the object that is waited for.

    "waits for FpgaModel net: Converting: converting and compiling the model" ends after the name.
    """
    found = _waiting(message, follows)
    quotes = found is not None and message[found.end() :].startswith(": ")
    return message[: found.end()] if found is not None and quotes else message


def without_gone_logs(message: str, pods: Collection[str]) -> str:
    """Return a message without `kubectl logs` of a pod that is not among these: conditions outlive pods."""

    def told(found: re.Match[str]) -> str:
        if found[1] in pods:
            return found[0]
        return ";" if found[2] else ""

    return _SEE_LOGS.sub(told, message)
