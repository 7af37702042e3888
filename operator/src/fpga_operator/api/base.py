"""What the four kinds share: the frozen base model, bounded field types and metav1 conditions.

Every string and list is bounded, because CEL's cost estimate multiplies the bounds and because status lives in etcd.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "accel.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "accel"


class ApiModel(BaseModel):
    """Reads leniently (a newer API server may know more fields), writes camelCase, never changes."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, protected_namespaces=()
    )

    def dump(self) -> dict[str, Any]:
        """Return the JSON form that the API server stores: camelCase keys, absent instead of null."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


Text = Annotated[str, StringConstraints(max_length=1024)]
Short = Annotated[str, StringConstraints(max_length=256)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[a-f0-9]{64}$", max_length=64)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[a-f0-9]{64}$", max_length=71)]
Reference = Annotated[str, StringConstraints(max_length=512)]
Time = Annotated[
    str, StringConstraints(max_length=64), WithJsonSchema({"type": "string", "format": "date-time"})
]
Tags = Annotated[
    dict[str, Annotated[str, StringConstraints(max_length=256)]],
    Field(
        max_length=32,
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "self.all(key, key.size() <= 63)",
                    "message": "a key has at most 63 characters: shorten it",
                }
            ]
        },
    ),
]
_NUMBER = r"(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
_QUANTITY = rf"^{_NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?{_NUMBER}))?$"
Quantity = Annotated[
    str | int,
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "pattern": _QUANTITY,
            "maxLength": 32,
        }
    ),
]


def listed_by(*keys: str) -> dict[str, Any]:
    """Return the schema extras of a list that server-side apply merges by these keys."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def rule(expression: str, message: str, **extra: Any) -> dict[str, Any]:
    """Return one CEL rule; the message says what to do."""
    return {"rule": expression, "message": message, **extra}


def checked(*rules: dict[str, Any]) -> Any:
    """Return a field's schema extras with CEL rules, where a pattern's refusal would not tell the cure."""
    return Field(json_schema_extra={"x-kubernetes-validations": list(rules)})


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63),
    checked(
        rule(
            "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            "a name has lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit: "
            "write it as kubectl get shows it",
        )
    ),
]


class Condition(ApiModel):
    """One observation about the object, in the form that kubectl wait, kstatus and Argo CD read."""

    type: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z]([A-Za-z0-9]*)$")] = Field(
        description="What the condition is about, for example Ready."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: Annotated[int, Field(ge=0)] = Field(
        description="metadata.generation that this is about."
    )
    last_transition_time: Time = Field(description="When status last changed.")
    reason: Annotated[
        str,
        StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
    ] = Field(description="Why, as one word for programs.")
    message: Annotated[str, StringConstraints(max_length=2048)] = Field(
        description="Why, as a sentence for people; says the cure where there is one."
    )


class State(StrEnum):
    """The summary in one word; the status contract says which conditions go with it."""

    TRANSITIONING = "Transitioning"
    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    UNSCHEDULABLE = "Unschedulable"
    FAILED = "Failed"


class StatusBase(ApiModel):
    """What every status begins with."""

    observed_generation: int = Field(
        default=-1,
        description="The metadata.generation that this status is about; -1 before the operator saw it.",
    )
    state: State | None = Field(default=None, description="The summary in one word.")
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        default=(), description="The status contract.", json_schema_extra=listed_by("type")
    )

    def dump(self) -> dict[str, Any]:
        """Return the JSON form; empty lists are left out, as the API server's merge may drop them too."""
        return {key: value for key, value in super().dump().items() if value != []}

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of that type, or None."""
        return next((c for c in self.conditions if c.type == kind), None)

    def holds(self, kind: str) -> bool:
        """Tell whether the condition is there and True."""
        found = self.condition(kind)
        return found is not None and found.status == "True"
