"""A program as text: its chains in the order of execution, where their tensors lie, when their weights come."""

from collections import defaultdict

from npu.chain import Chain, Files, Tensor
from npu.program import Program
from npu.tables import columns

__all__ = ["render"]

HEADER = (
    "#/group",
    "chain",
    "kind",
    "sums",
    "kernel",
    "stride",
    "pad",
    "stage",
    "reads",
    "adds",
    "writes",
    "shape",
    "files",
    "tiles",
    "loads",
)
LONGEST = 44  # letters of a name


def render(program: Program) -> str:
    """The chains, one per line, and what the program needs.

    A tensor's files are `matrix@address` and `float16@address`, with ` streamed` if only lines of it exist at any
    time, and `/pitch` where its positions lie farther apart than its channels need. A chain's loads are tiles into
    buffers: `0:64 1:64 0:16`.
    """
    loads: dict[int, list[str]] = defaultdict(list)
    for load in program.loads:
        loads[load.chain].append(f"{load.buffer}:{load.tiles}")
    rows = [HEADER]
    for index, (chain, name) in enumerate(zip(program.chains, program.chain_names, strict=True)):
        source, target = program.tensors[chain.source], program.tensors[chain.target]
        rows.append(
            (
                f"{index}/{chain.group}",
                name[-LONGEST:],
                chain.kind.name.lower(),
                chain.accumulation.name.lower().replace("_", "-"),
                "x".join(map(str, chain.kernel)) + _dilated(chain),
                "x".join(map(str, chain.stride)),
                ",".join(map(str, chain.pad)),
                (chain.stage.name or "none").lower(),
                f"t{chain.source}",
                _residual(chain),
                f"t{chain.target}",
                "x".join(map(str, target.shape)),
                _files(target, output=chain.target in program.output_tensors),
                str(chain.tiles(source, target)),
                " ".join(loads[index]) if program.loads else "resident",
            )
        )
    need = ", ".join(f"{key} {value}" for key, value in vars(program.need).items())
    outputs = ", ".join(
        f"t{index} {'x'.join(map(str, program.tensors[index].shape))}" for index in program.output_tensors
    )
    return (
        f"program {program.name}  {program.digest}\n"
        f"format {program.preset.name}, rounding {program.rounding.name.lower().replace('_', '-')}, "
        f"compiled for {program.sku} (native dimension {program.native_dim})\n"
        f"input {'x'.join(map(str, program.input_shape))}, output {outputs}\n"
        f"needs {need}\n\n{columns(rows)}"
    )


def _dilated(chain: Chain) -> str:
    return "" if chain.dilation == (1, 1) else f" dilated {'x'.join(map(str, chain.dilation))}"


def _residual(chain: Chain) -> str:
    if chain.residual is None:
        return ""
    stride = "" if chain.residual_stride == (1, 1) else f"/{'x'.join(map(str, chain.residual_stride))}"
    return f"t{chain.residual}{stride}"


def _files(tensor: Tensor, *, output: bool) -> str:
    parts = ["output"] if output else []
    if Files.MATRIX in tensor.files:
        parts.append(f"matrix@{tensor.matrix_address}")
    if Files.FLOAT16 in tensor.files:
        parts.append(f"float16@{tensor.float16_address}")
    if tensor.pitch > tensor.depth:
        parts.append(f"/{tensor.pitch}")
    if Files.STREAMED in tensor.files:
        parts.append("streamed")
    return " ".join(parts)
