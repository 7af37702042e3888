"""Generate the kubelet's message stubs: `python -m fpga_device_plugin.generate`, with --check only compare.

A tool for developers: needs grpcio-tools, which the image does not carry.
"""

import importlib.resources
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).parent / "protos"


def generate(target: Path) -> None:
    """Write the stubs of every .proto file under `target`, which gets the package's directories."""
    from grpc_tools import protoc

    include = importlib.resources.files("grpc_tools") / "_proto"
    root = PROTOS.parent.parent
    files = [str(path.relative_to(root)) for path in sorted(PROTOS.glob("*.proto"))]
    arguments = [
        "protoc",
        f"-I{root}",
        f"-I{include}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")


def main() -> int:
    """Write the stubs, or with --check return 1 if the committed ones differ."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        made = {path.name: path.read_bytes() for path in Path(scratch).rglob("*_pb2.py*")}
    if "--check" in sys.argv[1:]:
        differ = [name for name, content in made.items() if _read(PROTOS / name) != content]
        for name in differ:
            print(f"{name} is not what its .proto says", file=sys.stderr)
        return 1 if differ else 0
    for name, content in made.items():
        (PROTOS / name).write_bytes(content)
    return 0


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    sys.exit(main())
