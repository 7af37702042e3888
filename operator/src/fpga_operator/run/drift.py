"""How a live child differs from the desired one, and what a hand has added to it.

Server-side apply alone restores what we set and leaves what others add. Two signs tell an addition from a default of
the API server: a list that is longer than ours, and a field that another manager owns (defaults have no owner).
"""

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from fpga_operator.plan.types import Manifest

_SUFFIXES = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)}
_SUFFIXES |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)}
_SUFFIXES |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
_QUANTITIES = ("requests", "limits", "sizeLimit")
_MERGE_KEYS = ("name", "mountPath", "containerPort", "port", "uid")
_META = ("labels", "ownerReferences")
_OUTSIDE = ("apiVersion", "kind", "metadata", "status")
_DEFAULTED = ("protocol",)  # filled in by the API server inside values that are owned as a whole
OURS = ("fpga-operator",)


def quantity(text: Any) -> Decimal | None:
    """Read a Kubernetes quantity; None when it is not one."""
    value = str(text)
    digits = value.rstrip("numkMGTPEi")
    try:
        return Decimal(digits) * _SUFFIXES[value[len(digits) :]]
    except (InvalidOperation, KeyError):
        return None


def _same_quantity(one: Any, other: Any) -> bool:
    value = quantity(one)
    return value is not None and value == quantity(other)


def _empty(value: Any) -> bool:
    return value is None or value in ({}, [], "")


def _by_key(items: list[Any]) -> dict[Any, Any] | None:
    """Return list entries by their merge key, or None where order is the identity."""
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for key in _MERGE_KEYS:
        if all(key in item for item in items):
            found = {item[key]: item for item in items}
            return found if len(found) == len(items) else None
    return None


def differences(desired: Any, live: Any, path: str = "") -> Iterator[str]:
    """Yield the paths at which the live object is not what we want, lists that are too long included."""
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            if not _empty(desired):
                yield path
            return
        for key, value in desired.items():
            if key not in live:
                if not _empty(value):
                    yield f"{path}.{key}"
            else:
                yield from differences(value, live[key], f"{path}.{key}")
    elif isinstance(desired, list):
        yield from _list_differences(desired, live, path)
    elif desired != live and not (_is_quantity(path) and _same_quantity(desired, live)):
        yield path


def _is_quantity(path: str) -> bool:
    return any(word in path.split(".") for word in _QUANTITIES)


def _list_differences(desired: list[Any], live: Any, path: str) -> Iterator[str]:
    if not isinstance(live, list):
        if desired:
            yield path
        return
    if len(desired) != len(live):
        yield path
        return
    wanted, there = _by_key(desired), _by_key(live)
    if wanted is not None and there is not None:
        if wanted.keys() != there.keys():
            yield path
            return
        for key, value in wanted.items():
            yield from differences(value, there[key], f"{path}[{key}]")
        return
    for index, value in enumerate(desired):
        yield from differences(value, live[index], f"{path}[{index}]")


def child_differences(desired: Manifest, live: Manifest) -> list[str]:
    """Compare what we own of a child: our labels, the owner, and everything outside metadata and status."""
    found: list[str] = []
    for key in _META:
        wanted, there = desired["metadata"].get(key), live["metadata"].get(key)
        if key == "ownerReferences":  # others may add theirs; ours must be as they are
            ours = {reference["uid"] for reference in wanted}
            there = [reference for reference in there or [] if reference["uid"] in ours]
        found += differences(wanted, there, f".metadata.{key}")
    for key, value in desired.items():
        if key not in _OUTSIDE:
            found += differences(value, live.get(key), f".{key}")
    return found


def foreign_fields(live: Manifest) -> list[Manifest]:
    """Return the fields outside metadata and status that managers other than us own."""
    found = []
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("manager") in OURS or entry.get("subresource") == "status":
            continue
        fields = {
            key: value
            for key, value in (entry.get("fieldsV1") or {}).items()
            if key.startswith("f:") and key[2:] not in _OUTSIDE
        }
        if fields:
            found.append(fields)
    return found


def additions(desired: Manifest, live: Manifest, foreign: Sequence[Manifest]) -> list[str]:
    """Return the fields that others own and that are not as we set them: what a hand has added."""
    return [path for fields in foreign for path in _extra(fields, desired, live, "")]


def _extra(fields: Manifest, desired: Any, live: Any, path: str) -> Iterator[str]:
    for key, inner in fields.items():
        if key == ".":
            continue
        if key.startswith("f:"):
            name = key[2:]
            here = live.get(name) if isinstance(live, dict) else None
            if not isinstance(desired, dict) or name not in desired or _empty(desired[name]):
                yield f"{path}.{name}"
            elif inner:
                yield from _extra(inner, desired[name], here, f"{path}.{name}")
            elif not _exact(desired[name], here):
                yield f"{path}.{name}"
        elif key.startswith("k:"):
            element, there = _element(desired, key[2:]), _element(live, key[2:])
            if element is None:
                yield f"{path}[{key[2:]}]"
            else:
                yield from _extra(inner, element, there, f"{path}[{key[2:]}]")


def _exact(desired: Any, live: Any) -> bool:
    """Compare a value that is owned as a whole (a selector, a list of rules): nothing may stand beside ours."""
    if isinstance(desired, dict) and isinstance(live, dict):
        extra = {key for key in live.keys() - desired.keys() if key not in _DEFAULTED}
        return not extra and all(_exact(value, live.get(key)) for key, value in desired.items())
    if isinstance(desired, list) and isinstance(live, list):
        return len(desired) == len(live) and all(map(_exact, desired, live))
    return bool(desired == live) or (_empty(desired) and _empty(live)) or _same_quantity(desired, live)


def _element(items: Any, key: str) -> Any:
    """Find the list entry that a managed-fields key names."""
    wanted = json.loads(key)
    for item in items if isinstance(items, list) else []:
        if all(
            item.get(name, "TCP" if name == "protocol" else None) == value for name, value in wanted.items()
        ):
            return item
    return None
