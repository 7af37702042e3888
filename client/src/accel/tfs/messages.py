"""TensorFlow Serving's messages under their true names, without TensorFlow.

They live in a descriptor pool of their own: the real `tensorflow` and `tensorflow_serving` packages
register the same names in protobuf's default pool, and one process may need both. A message of one pool is
not a message of the other: pass bytes between them (`SerializeToString`, `FromString`).
"""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet

__all__ = [
    "GetModelMetadataRequest",
    "GetModelMetadataResponse",
    "GetModelStatusRequest",
    "GetModelStatusResponse",
    "ModelSpec",
    "ModelVersionStatus",
    "PredictRequest",
    "PredictResponse",
    "SignatureDef",
    "SignatureDefMap",
    "TensorInfo",
    "TensorProto",
    "TensorShapeProto",
    "add_descriptors",
    "pool",
]


def add_descriptors(target: Any) -> None:
    """Add TensorFlow Serving's files to the descriptor pool `target` (a server's reflection pool, for
    instance).
    """
    data = (files("accel.tfs") / "descriptors.binpb").read_bytes()
    for file in FileDescriptorSet.FromString(data).file:  # protoc wrote imports before their importers
        target.AddSerializedFile(file.SerializeToString())


pool: Any = descriptor_pool.DescriptorPool()
add_descriptors(pool)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


# Message classes are made at run time, so mypy sees Any; conversions to typed values are in
# `accel.tfs.tensors`.
TensorProto: Any = _message("tensorflow.TensorProto")
TensorShapeProto: Any = _message("tensorflow.TensorShapeProto")
TensorInfo: Any = _message("tensorflow.TensorInfo")
SignatureDef: Any = _message("tensorflow.SignatureDef")
ModelSpec: Any = _message("tensorflow.serving.ModelSpec")
PredictRequest: Any = _message("tensorflow.serving.PredictRequest")
PredictResponse: Any = _message("tensorflow.serving.PredictResponse")
SignatureDefMap: Any = _message("tensorflow.serving.SignatureDefMap")
GetModelMetadataRequest: Any = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse: Any = _message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest: Any = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse: Any = _message("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus: Any = _message("tensorflow.serving.ModelVersionStatus")
