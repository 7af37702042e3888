"""Field tables for the docs, from the same schemas as the CRDs."""

from collections.abc import Iterator
from typing import Any

from fpga_operator.api.crd import Kind, crd

INTEGER_LIMIT = 10**9  # bounds beyond it are the type's own, not a rule for users


def _type(node: dict[str, Any]) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    kind = str(node.get("type", "any"))
    if kind == "array":
        return f"list of {_type(node['items'])}, ≤ {node['maxItems']}"
    if kind == "object" and "additionalProperties" in node:
        return "map of strings"
    low, high = node.get("minimum"), node.get("maximum")
    bounds = [f"{word} {value}" for word, value in (("≥", low), ("≤", high)) if value is not None]
    if "maxLength" in node:
        bounds.append(f"≤ {node['maxLength']} characters")
    return ", ".join([kind, *bounds])


def _rows(node: dict[str, Any], path: str) -> Iterator[str]:
    required = set(node.get("required", ()))
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        mark = " (required)" if name in required else ""
        text = " ".join(str(child.get("description", "")).split()).replace("<", "&lt;")  # not HTML
        yield f"| `{here}`{mark} | {_type(child)} | {text} |"
        yield from _rows(child, here)
        if child.get("type") == "array":
            yield from _rows(child["items"], f"{here}[]")


def field_tables(kind: Kind) -> str:
    """Return the Markdown tables of spec and status."""
    properties = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    parts: list[str] = []
    for section in ("spec", "status"):
        rows = list(_rows(properties[section], section))
        if rows:
            parts += ["", f"### {section}", "", "| field | type | meaning |", "| --- | --- | --- |", *rows]
    return "\n".join([*parts, "", ""])
