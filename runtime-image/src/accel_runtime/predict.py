"""Between the wire and the pipeline: Predict's and GetModelMetadata's messages to values and back. Pure."""

from collections.abc import Mapping
from typing import Any

from accel.tfs import tensors
from accel.tfs.messages import (
    GetModelMetadataResponse,
    ModelSpec,
    PredictResponse,
    SignatureDefMap,
)
from numpy.typing import NDArray

from accel_runtime.artifact import Artifact, TensorSpec
from accel_runtime.errors import InvalidInput, UnknownModel

__all__ = ["Identity", "metadata", "read_inputs", "wanted_outputs", "write_response"]

DEFAULT_SIGNATURE = "serving_default"
MAX_TENSOR = (
    64 * 1024 * 1024
)  # bytes: one value can fill a whole tensor, so the message's size bounds nothing


class Identity:
    """What this server serves, and whether a request's model_spec means it."""

    def __init__(self, name: str, version: int, signature: str) -> None:
        self.name = name
        self.version = version
        self.signature = signature

    def check(self, spec: Any) -> None:
        """Raise UnknownModel or InvalidInput unless `spec` is absent, empty or this model's."""
        if spec.name and spec.name != self.name:
            raise UnknownModel(f"this server serves the model {self.name!r}, not {spec.name!r}")
        if spec.HasField("version") and spec.version.value != self.version:
            raise UnknownModel(
                f"this server serves version {self.version} of {self.name!r}, not {spec.version.value}"
            )
        if spec.version_label:
            raise UnknownModel(
                f"version labels are not served; the version of {self.name!r} is {self.version}"
            )
        if spec.signature_name not in ("", DEFAULT_SIGNATURE, self.signature):
            raise InvalidInput(
                f"the model has no signature {spec.signature_name!r}; its signature is {self.signature!r}"
            )

    def spec(self) -> Any:
        """Return the ModelSpec that answers carry."""
        spec = ModelSpec(name=self.name, signature_name=self.signature)
        spec.version.value = self.version
        return spec


def read_inputs(request: Any, *, max_bytes: int = MAX_TENSOR) -> dict[str, NDArray[Any]]:
    """Return the request's arrays by the names it uses; raises InvalidInput naming the input."""
    arrays = {}
    for name in request.inputs:
        try:
            arrays[name] = tensors.from_proto(request.inputs[name], max_bytes=max_bytes)
        except tensors.TensorError as error:
            raise InvalidInput(f"input {name!r}: {error}") from error
    return arrays


def wanted_outputs(request: Any, artifact: Artifact) -> dict[str, TensorSpec]:
    """Return the outputs by the name under which the answer shall carry them.

    With `output_filter` the names are the caller's own. Without it the answer speaks as the request did: a
    caller who named an input by its tensor gets tensor names, one who used the signature gets the
    signature's.
    """
    by_name = {spec.name: spec for spec in artifact.outputs}
    by_alias = {spec.alias: spec for spec in artifact.outputs}
    if request.output_filter:
        known = by_name | by_alias
        unknown = [name for name in request.output_filter if name not in known]
        if unknown:
            names = ", ".join(
                f"{s.alias!r}" if s.alias == s.name else f"{s.alias!r} (tensor {s.name!r})"
                for s in artifact.outputs
            )
            raise InvalidInput(f"the model has no output {unknown[0]!r}; its outputs are {names}")
        return {name: known[name] for name in request.output_filter}
    aliases = {spec.alias for spec in artifact.inputs}
    return by_name if not any(name in aliases for name in request.inputs) else by_alias


def write_response(
    outputs: Mapping[str, NDArray[Any]], wanted: Mapping[str, TensorSpec], identity: Identity
) -> Any:
    """Return the PredictResponse; values go into the typed fields, as TensorFlow Serving sends them."""
    response = PredictResponse(model_spec=identity.spec())
    for name, spec in wanted.items():
        response.outputs[name].CopyFrom(tensors.to_proto(outputs[spec.name], as_fields=True))
    return response


def metadata(artifact: Artifact, identity: Identity) -> Any:
    """Return the GetModelMetadataResponse with the model's one signature."""
    signatures = SignatureDefMap()
    signature = signatures.signature_def[artifact.signature]
    signature.method_name = "tensorflow/serving/predict"
    for target, specs in ((signature.inputs, artifact.inputs), (signature.outputs, artifact.outputs)):
        for spec in specs:
            info = target[spec.alias]
            info.name = spec.name
            info.dtype = spec.dtype.number
            for size in spec.shape:
                info.tensor_shape.dim.add(size=size)
    response = GetModelMetadataResponse(model_spec=identity.spec())
    response.model_spec.signature_name = ""
    packed = response.metadata["signature_def"]
    packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    packed.value = signatures.SerializeToString(deterministic=True)
    return response
