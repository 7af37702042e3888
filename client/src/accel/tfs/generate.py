"""Compile the .proto files to the committed descriptor set: `python -m accel.tfs.generate [--check]`.

The descriptors are data and not generated code, because generated code refuses every protobuf runtime older
than its generator. Needs grpcio-tools, which users of the package do not.
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).parent
PROTOS = HERE / "protos"
DESCRIPTORS = HERE / "descriptors.binpb"


def compile_descriptors() -> bytes:
    """Return the serialized FileDescriptorSet of all .proto files and what they import."""
    from grpc_tools import protoc

    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "descriptors.binpb"
        arguments = [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={files('grpc_tools') / '_proto'}",
            f"--descriptor_set_out={target}",
            "--include_imports",
            *sources,
        ]
        if protoc.main(arguments) != 0:
            raise SystemExit("protoc refused the .proto files; its message is above")
        return target.read_bytes()


def main() -> int:
    """Write the descriptor set; with --check return 1 if the committed one differs."""
    generated = compile_descriptors()
    if "--check" in sys.argv[1:]:
        return 0 if DESCRIPTORS.is_file() and DESCRIPTORS.read_bytes() == generated else 1
    DESCRIPTORS.write_bytes(generated)
    return 0


if __name__ == "__main__":
    sys.exit(main())
