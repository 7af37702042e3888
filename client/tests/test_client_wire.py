"""Our messages against TensorFlow's own, and what must hold of the package around them."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from accel.tfs import generate, tensors
from accel.tfs.messages import TensorInfo, pool
from accel.tfs.services import METHODS

# Imports TensorFlow's generated modules without TensorFlow itself (its __init__ costs ten seconds), beside
# ours.
TRUE_MESSAGES = """
import sys, types
from importlib.util import find_spec
package = types.ModuleType("tensorflow")
package.__path__ = list(find_spec("tensorflow").submodule_search_locations)
sys.modules["tensorflow"] = package
if {ours_first}:
    from accel.tfs import messages
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import error_codes_pb2, meta_graph_pb2
from accel.tfs import messages, tensors
"""
COMPARE = """
def fields(descriptor):
    return {f.number: (f.name, f.type, f.message_type and f.message_type.full_name) for f in
    descriptor.fields}
for ours, theirs in (
    (messages.TensorProto, tensor_pb2.TensorProto),
    (messages.TensorShapeProto, tensor_pb2.TensorProto().tensor_shape),
    (messages.TensorInfo, meta_graph_pb2.TensorInfo),
    (messages.SignatureDef, meta_graph_pb2.SignatureDef),
):
    assert ours.DESCRIPTOR.full_name == theirs.DESCRIPTOR.full_name
    known = fields(theirs.DESCRIPTOR)
    for number, field in fields(ours.DESCRIPTOR).items():
        assert known[number] == field, (field, known[number])
for ours, theirs in (
    (messages.pool.FindEnumTypeByName("tensorflow.DataType"), types_pb2.DataType.DESCRIPTOR),
    (messages.pool.FindEnumTypeByName("tensorflow.error.Code"), error_codes_pb2.Code.DESCRIPTOR),
):
    known = {v.number: v.name for v in theirs.values}
    assert all(known[v.number] == v.name for v in ours.values)
"""
EXCHANGE = """
import numpy as np
names = "float16 float32 float64 int8 int16 int32 int64 bool"
for dtype in (names + " uint8 uint16 uint32 uint64 complex64").split():
    array = (np.arange(6) % 3).astype(dtype).reshape(2, 3)
    for as_fields in (False, True):
        sent = tensors.to_proto(array, as_fields=as_fields)
        theirs = tensor_pb2.TensorProto.FromString(sent.SerializeToString())
        assert types_pb2.DataType.Name(theirs.dtype), dtype
        assert [d.size for d in theirs.tensor_shape.dim] == [2, 3]
        back = tensors.from_proto(messages.TensorProto.FromString(theirs.SerializeToString()))
        np.testing.assert_array_equal(back, array)
"""


def run(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow is not installed")
@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "theirs first"])
def test_tensorflows_messages_are_ours_in_one_process(ours_first: bool) -> None:
    run(TRUE_MESSAGES.replace("{ours_first}", str(ours_first)) + COMPARE + EXCHANGE)


def test_the_committed_descriptors_are_those_of_the_protos() -> None:
    assert generate.compile_descriptors() == generate.DESCRIPTORS.read_bytes(), "run `make generate`"


def test_the_true_names_are_in_a_pool_of_their_own() -> None:
    from google.protobuf import descriptor_pool

    assert pool.FindServiceByName("tensorflow.serving.PredictionService").methods_by_name["Predict"]
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("tensorflow.serving.PredictRequest")


def test_services_in_the_protos_are_those_in_the_code() -> None:
    for service, methods in METHODS.items():
        declared = pool.FindServiceByName(service).methods_by_name
        for name, method in declared.items():
            assert methods[name].request.DESCRIPTOR is method.input_type
            assert methods[name].response.DESCRIPTOR is method.output_type
        assert set(methods) == set(declared)


def test_bytes_on_the_wire_are_what_they_were() -> None:
    """A golden message: field numbers are the interface, whatever the descriptors say."""
    golden = bytes.fromhex("0801 1208 1202 0802 1202 0801 2208 0000803f 00000040")
    assert tensors.to_proto(np.array([[1], [2]], np.float32)).SerializeToString() == golden
    assert TensorInfo(name="x:0", dtype=7).SerializeToString() == bytes.fromhex("0a03 783a30 1007")


HELP = """
import sys
sys.argv[1:] = ["--help"]
from accel.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code, left
"""
LIGHT = {
    "accel alone": ("import accel", ["grpc", "numpy", "httpx", "google.protobuf", "typer"]),
    "the registry client": ("import accel.oci", ["grpc", "numpy", "google.protobuf", "typer"]),
    "the command line's help": (
        HELP,
        ["grpc", "numpy", "httpx", "google.protobuf"],
    ),
}


@pytest.mark.parametrize("name", LIGHT)
def test_light_imports(name: str) -> None:
    statement, heavy = LIGHT[name]
    run(f"{statement}\nimport sys\nfound = [m for m in {heavy} if m in sys.modules]\nassert not found, found")


def test_public_names() -> None:
    import accel

    for name in accel.__all__:
        assert getattr(accel, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = accel.Nothing


def test_the_descriptors_are_packed() -> None:
    assert (Path(generate.__file__).parent / "descriptors.binpb").stat().st_size < 20_000
