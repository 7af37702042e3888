"""Pydantic models to structural schemas that the API server accepts.

The generator's hooks are overridden, not its output: a hook knows why a node exists. What a CRD cannot express
is refused at generation, never written down wrongly.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import DEFAULT_REF_TEMPLATE, GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

INT32_MAX = 2**31 - 1
_REFUSED = {
    "anyOf",
    "oneOf",
    "prefixItems",
    "discriminator",
    "patternProperties",
    "uniqueItems",
    "const",
    "$ref",
    "propertyNames",
}


class SchemaError(TypeError):
    """A model asks for something that a structural schema cannot say."""


class StructuralSchema(GenerateJsonSchema):
    """JSON schema as apiextensions.k8s.io/v1 wants it: inlined, no null type, no titles."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - the base class's name

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the hook's signature
        """No titles: the property's name says it."""
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Optional means absent, so the type alone remains."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Defaults live in the operator; one written into the object would be drift to a GitOps tool."""
        inner = self.generate_inner(schema["schema"])
        if schema.get("default") == -1:  # observedGeneration: what keeps kstatus from trusting a fresh object
            inner["default"] = -1
        return inner

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """Enum also for a single value: const is unknown to OpenAPI 3.0."""
        return {"type": "string", "enum": [str(value) for value in schema["expected"]]}

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        """The values alone; the class docstring is for readers of the code."""
        return {"type": "string", "enum": [member.value for member in schema["members"]]}

    def int_schema(self, schema: core_schema.IntSchema) -> JsonSchemaValue:
        """Whole numbers carry their width."""
        upper = schema.get("le")
        width = "int32" if upper is not None and upper <= INT32_MAX else "int64"
        return {**_open_bounds(super().int_schema(schema)), "format": width}

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """Numbers, with bounds as OpenAPI 3.0 writes them."""
        return _open_bounds(super().float_schema(schema))

    def tuple_schema(self, schema: core_schema.TupleSchema) -> JsonSchemaValue:
        """`tuple[X, ...]` is a frozen list; a tuple of fixed positions has no structural form."""
        if schema.get("variadic_item_index") != 0 or len(schema["items_schema"]) != 1:
            raise SchemaError("a tuple of fixed positions cannot be published: use a model with named fields")
        found: JsonSchemaValue = {"type": "array", "items": self.generate_inner(schema["items_schema"][0])}
        self.update_with_validations(found, schema, self.ValidationsMapping.array)
        return found

    def union_schema(self, schema: core_schema.UnionSchema) -> JsonSchemaValue:  # noqa: ARG002 - as above
        """Unions are one-of-many fields with a CEL rule; only quantities are int-or-string, by their own schema."""
        raise SchemaError("a union cannot be published: use one field for each choice and a CEL rule")

    def generate(self, schema: Any, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        """Inline every definition; recursion is refused."""
        document = super().generate(schema, mode=mode)
        definitions = document.pop("$defs", {})
        inlined = _inline(document, definitions, ())
        assert isinstance(inlined, dict)
        return inlined


def _open_bounds(found: JsonSchemaValue) -> JsonSchemaValue:
    """OpenAPI 3.0 has a boolean beside minimum for an open bound."""
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if flag in found:
            found[bound], found[flag] = found[flag], True
    return found


def _inline(node: Any, definitions: dict[str, Any], path: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_inline(item, definitions, path) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].removeprefix(DEFAULT_REF_TEMPLATE.format(model=""))
        if name in path:
            raise SchemaError(f"{name} contains itself: a CRD cannot be recursive")
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inline(definitions[name], definitions, (*path, name)), **siblings}
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "title" and isinstance(value, str):
            continue
        if key == "properties":
            result[key] = {name: _inline(child, definitions, path) for name, child in value.items()}
        else:
            result[key] = _inline(value, definitions, path)
    return result


def _check(node: Any, where: str) -> None:
    """Refuse what slipped past the hooks, and strings and lists without bounds.

    Raises:
        SchemaError: names the field.
    """
    if refused := _REFUSED & node.keys():
        raise SchemaError(f"{where}: {', '.join(sorted(refused))} cannot be published")
    kind = node.get("type")
    if kind == "array" and "maxItems" not in node:
        raise SchemaError(f"{where}: a list without max_length")
    if kind == "string" and not (node.keys() & {"maxLength", "enum", "format"}):
        raise SchemaError(f"{where}: a string without max_length")
    for name, child in node.get("properties", {}).items():
        _check(child, f"{where}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            _check(node[key], f"{where}[]")


def structural_schema(model: type[BaseModel], where: str) -> dict[str, Any]:
    """Return the inlined, checked schema of a model; `where` names it in errors (spec, status)."""
    schema = model.model_json_schema(schema_generator=StructuralSchema, mode="validation")
    _check(schema, where)
    return schema
