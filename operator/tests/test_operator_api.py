"""Generated schemas: up to date, bounded, and what cannot be published is refused at generation."""

from typing import Annotated, Any, Literal

import pytest
import yaml
from fpga_operator.api.crd import KINDS, MAX_BYTES, Kind, crd
from fpga_operator.api.generate import crd_text, outputs, repository_root
from fpga_operator.api.schema import SchemaError, structural_schema
from pydantic import BaseModel, Field

IDS = [kind.kind for kind in KINDS]


def test_generated_files_are_up_to_date() -> None:
    stale = [path.name for path, text in outputs(repository_root()).items() if path.read_text() != text]
    assert not stale, "run python -m fpga_operator.api.generate"


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_crd_is_small_and_complete(kind: Kind) -> None:
    text = crd_text(kind)
    assert len(text.encode()) < MAX_BYTES
    body = yaml.safe_load(text)
    version = body["spec"]["versions"][0]
    assert body["spec"]["names"]["categories"] == ["accel"]
    assert body["spec"]["names"]["shortNames"] == [kind.short]
    assert "status" in version["subresources"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    if kind.kind != "FpgaNode":
        assert status["default"] == {"observedGeneration": -1}
        assert status["properties"]["observedGeneration"]["default"] == -1
        assert status["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]


def defaults(node: Any, path: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    found = [path] if "default" in node and not isinstance(node["default"], dict) else []
    for key, value in node.items():
        found += defaults(value, f"{path}.{key}")
    return found


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_the_spec_has_no_default_that_a_gitops_tool_would_see(kind: Kind) -> None:
    schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert defaults(schema["spec"], "spec") == []


class Recursive(BaseModel):
    inner: "Recursive | None" = None


class Unbounded(BaseModel):
    name: str


class UnboundedList(BaseModel):
    names: tuple[Literal["a"], ...]


class OneOf(BaseModel):
    either: int | Annotated[str, Field(max_length=3)]


class Positions(BaseModel):
    pair: tuple[int, int]


REFUSED = {
    "recursion": (Recursive, "contains itself"),
    "string without bound": (Unbounded, "without max_length"),
    "list without bound": (UnboundedList, "without max_length"),
    "union": (OneOf, "union"),
    "tuple of positions": (Positions, "positions"),
}


@pytest.mark.parametrize(("model", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_published_is_refused(model: type[BaseModel], words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        structural_schema(model, "spec")


class Hooks(BaseModel):
    one: Literal["x"]
    maybe: Annotated[int, Field(gt=0, le=9)] | None = None
    ratio: Annotated[float, Field(gt=0)] | None = None
    sizes: Annotated[tuple[int, ...], Field(max_length=2)] = ()


def test_hooks() -> None:
    assert structural_schema(Hooks, "spec") == {
        "type": "object",
        "required": ["one"],
        "properties": {
            "one": {"type": "string", "enum": ["x"]},
            "maybe": {
                "type": "integer",
                "format": "int32",
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 9,
            },
            "ratio": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
            "sizes": {"type": "array", "maxItems": 2, "items": {"type": "integer", "format": "int64"}},
        },
    }
