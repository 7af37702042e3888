"""Which part of the graph goes to the device: the largest one with a single input and a single output.

*Largest* counts multiplications first, then operators. Parts are convex by construction: everything on a path
from the input tensor to the output tensor, nothing inside read from outside.
"""

from collections import Counter
from dataclasses import dataclass

from npu.compiler.geometry import Layout, layouts
from npu.compiler.graph import Graph, label
from npu.compiler.operators import Role, Verdict, real_readers
from npu.errors import NothingToOffload

__all__ = ["Region", "choose"]

STARTERS = ("Conv", "MaxPool", "Add")  # what may read the region's input: no float16 stage on raw pictures


@dataclass(frozen=True)
class Region:
    """Node indices in order, and the two tensors at the border."""

    nodes: tuple[int, ...]
    input: str
    output: str
    input_layout: Layout
    output_layout: Layout


def choose(graph: Graph, verdicts: list[Verdict]) -> Region:
    """Return the region for the device, or raise NothingToOffload with every operator's reason."""
    known = layouts(graph)
    best: tuple[tuple[int, int, int, int], Region] | None = None
    macs = [_macs(graph, index) for index in range(len(graph.nodes))]
    tensors = {name for i, v in enumerate(verdicts) if v.role is not Role.HOST for name in graph.inputs_of(i)}
    for start in sorted(tensors, key=lambda name: (graph.producer.get(name, -1), name)):
        readers = [
            r for r in real_readers(graph, verdicts, start) if r >= 0 and verdicts[r].role is not Role.HOST
        ]
        ops = [graph.nodes[r].op_type for r in readers if verdicts[r].role is Role.WORK]
        ops += ["Conv" for r in readers if graph.nodes[r].op_type == "Pad"]  # judged: a window reads it
        if start not in known or "Conv" not in ops or any(op not in STARTERS for op in ops):
            continue
        inside = _reachable(graph, verdicts, start)
        bound = _size(_union(inside), macs, verdicts)
        if best is not None and bound < best[0][:2]:
            continue
        for end, (mask, escaping) in inside.items():
            name = graph.nodes[end].output[0]
            if escaping & ~mask or name not in known or _ends_in_pad(graph, verdicts, name):
                continue
            size = _size(mask, macs, verdicts)
            borders = (known[start] is Layout.NHWC) + (known[name] is Layout.NHWC)
            score = (*size, borders, -mask.bit_count())
            if size[0] and (best is None or score > best[0]):
                nodes = tuple(i for i in range(len(graph.nodes)) if mask >> i & 1)
                best = (score, Region(nodes, start, name, known[start], known[name]))
    if best is None:
        raise _nothing(graph, verdicts)
    return best[1]


def _reachable(graph: Graph, verdicts: list[Verdict], start: str) -> dict[int, tuple[int, int]]:
    """Nodes that depend on `start` and constants alone.

    Each with a bit mask of itself and its ancestors among them, and one of who else reads those ancestors
    (bit 0 of which stands, shifted by the number of nodes, for the graph's outputs).
    """
    outside = 1 << len(graph.nodes)
    outputs = graph.output_names()
    found: dict[int, tuple[int, int]] = {}
    for index, verdict in enumerate(verdicts):
        makers = [graph.producer.get(name, -1) for name in graph.inputs_of(index) if name != start]
        if verdict.role is Role.HOST or any(maker not in found for maker in makers):
            continue
        if not makers and start not in graph.inputs_of(index):
            continue
        mask, escaping = 1 << index, 0
        for maker in makers:
            mask |= found[maker][0]
            name = graph.nodes[maker].output[0]
            escaping |= found[maker][1] | (outside if name in outputs else 0)
            for reader in graph.consumers[name]:
                escaping |= 1 << reader
        found[index] = (mask, escaping)
    return found


def _union(inside: dict[int, tuple[int, int]]) -> int:
    union = 0
    for mask, _ in inside.values():
        union |= mask
    return union


def _size(mask: int, macs: list[int], verdicts: list[Verdict]) -> tuple[int, int]:
    chosen = [index for index in range(len(macs)) if mask >> index & 1]
    return sum(macs[i] for i in chosen), sum(verdicts[i].role is Role.WORK for i in chosen)


def _macs(graph: Graph, index: int) -> int:
    node = graph.nodes[index]
    if node.op_type != "Conv":
        return 0
    total = 1
    for length in (*graph.shapes.get(node.input[1], ()), *graph.shapes.get(node.output[0], ())[2:]):
        total *= length or 1
    return total


def _ends_in_pad(graph: Graph, verdicts: list[Verdict], tensor: str) -> bool:
    while tensor in graph.producer and verdicts[graph.producer[tensor]].role is Role.VIEW:
        node = graph.nodes[graph.producer[tensor]]
        if node.op_type == "Pad":
            return True
        tensor = node.input[0]
    return False


def _nothing(graph: Graph, verdicts: list[Verdict]) -> NothingToOffload:
    reasons: dict[str, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for node, verdict in zip(graph.nodes, verdicts, strict=True):
        reason = verdict.reason or "no convolution with a single input and output around it"
        reasons[label(node)] = reason
        counts[node.op_type, reason] += 1
    listed = "; ".join(f"{count} {op}: {reason}" for (op, reason), count in sorted(counts.items()))
    return NothingToOffload(
        f"no convolution of this model can run on the FPGA ({listed}). "
        "Serve it without an FPGA (requireFpga: false), or use a convolutional network",
        reasons,
    )
