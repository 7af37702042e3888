"""Which part of the graph goes to the device: what depends on one tensor and constants alone, and can run there.

Of several such tensors the one with the most behind it wins: multiplications first, then operators. The part may
have several outputs: whatever is read elsewhere. Views at its end stay on the host, where they cost nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate

from npu.compiler.border import outputs_of
from npu.compiler.geometry import Layout, layouts, windows
from npu.compiler.graph import Graph, label
from npu.compiler.verdicts import Role, Verdict, real_readers
from npu.errors import NothingToOffload

__all__ = ["Region", "choose"]

# What may read the region's input: no float16 stage on raw pictures.
STARTERS = ("Add", "AveragePool", "Concat", "Conv", "MaxPool", "Pad", "Sum")

MOST_VISITS = 200_000  # of nodes while parts are compared: beyond any network, but some files mean no network
TOO_MANY = "behind the last convolution; with it more tensors would have to leave the device"
AVERAGED = "whole pictures are averaged on the host, in float32"


@dataclass(frozen=True)
class Region:
    """Node indices in order, and the tensors at the border with what their axes mean."""

    nodes: tuple[int, ...]
    input: str
    outputs: tuple[str, ...]
    input_layout: Layout
    output_layouts: tuple[Layout, ...]
    dropped: Mapping[int, str]  # nodes that could run there too -> why they do not

    def why_outside(self, index: int, verdict: Verdict) -> str:
        """The reason of a node that is not in the region."""
        if verdict.role is Role.VIEW:
            return "it only lays a tensor out anew where the device ends"
        outside = "outside of the largest part that depends on one tensor"
        return verdict.reason or self.dropped.get(index, outside)


def choose(graph: Graph, verdicts: list[Verdict]) -> Region:
    """Return the region for the device, or raise NothingToOffload with every operator's reason."""
    known = layouts(graph)
    macs = [_macs(graph, index) if verdict.role is Role.WORK else 0 for index, verdict in enumerate(verdicts)]
    left = [*accumulate(reversed(macs), initial=0)][::-1]  # by a node and all that follow it in the file
    best: tuple[tuple[int, int, int, int], Region] | None = None
    visits = 0
    tensors = {name for i, v in enumerate(verdicts) if v.role is not Role.HOST for name in graph.inputs_of(i)}
    for start in sorted(tensors & known.keys(), key=lambda name: (graph.producer.get(name, -1), name)):
        if best is not None and left[graph.producer.get(start, -1) + 1] < best[0][0]:
            break
        maker = graph.producer.get(start)
        if maker is not None and verdicts[maker].role is Role.VIEW:
            continue  # what the view reads is as good a start
        convolved, others = _readers_of_start(graph, verdicts, start)
        if not convolved or visits > MOST_VISITS:
            continue
        region = _region(graph, verdicts, start, others, known, macs)
        visits += len(region.nodes) if region is not None else 1
        if region is None:
            continue
        borders = (region.input_layout is Layout.NHWC) + all(
            layout is Layout.NHWC for layout in region.output_layouts
        )
        work = sum(verdicts[index].role is Role.WORK for index in region.nodes)
        score = (sum(macs[index] for index in region.nodes), work, borders, len(region.nodes))
        if best is None or score > best[0]:
            best = score, region
    if best is None:
        raise _nothing(graph, verdicts)
    return best[1]


def _readers_of_start(graph: Graph, verdicts: list[Verdict], start: str) -> tuple[bool, set[int]]:
    """Whether a convolution reads the tensor, and who else does that may not be the first on the device."""
    readers = [
        reader
        for reader in real_readers(graph, verdicts, start)
        if reader >= 0 and verdicts[reader].role is not Role.HOST
    ]
    operators = {reader: graph.nodes[reader].op_type for reader in readers}
    convolved = any(operator in ("Conv", "Pad") for operator in operators.values())
    return convolved, {reader for reader, operator in operators.items() if operator not in STARTERS}


def _region(
    graph: Graph,
    verdicts: list[Verdict],
    start: str,
    others: set[int],
    known: dict[str, Layout],
    macs: list[int],
) -> Region | None:
    within = _reachable(graph, verdicts, start, others)
    heavy = _ancestors(graph, within, [index for index in within if macs[index]])
    averages = {index for index in within - heavy if _is_of_whole_picture(graph, index)}
    if averages:  # as the last step they are better off in float32, and cost the host nothing
        within = _reachable(graph, verdicts, start, averages | others)
    work = {index for index in within if verdicts[index].role is Role.WORK}
    after: dict[int, list[int]] = {}
    escaping = set()
    for index in work:
        after[index], escapes = _readers(graph, verdicts, within, graph.nodes[index].output[0])
        if escapes:
            escaping.add(index)
    ends = outputs_of(after, escaping, heavy & work)
    if not ends:
        return None
    nodes = _ancestors(graph, within, [*heavy, *ends])
    outputs = []
    for end in ends:
        name, reshaped = _behind_transpose(graph, verdicts, within, graph.nodes[end].output[0], known)
        outputs.append(name)
        nodes |= reshaped
    return Region(
        tuple(sorted(nodes)),
        start,
        tuple(outputs),
        known[start],
        tuple(known[name] for name in outputs),
        dict.fromkeys(work - nodes, TOO_MANY) | dict.fromkeys(averages, AVERAGED),
    )


def _reachable(graph: Graph, verdicts: list[Verdict], start: str, without: Set[int]) -> set[int]:
    """Nodes that can run on the device and depend on `start` and constants alone."""
    found: set[int] = set()
    todo = sorted(set(graph.consumers.get(start, ())))  # a heap: a node comes after all that it reads
    seen = set(todo)
    while todo:
        index = heappop(todo)
        inputs = graph.inputs_of(index)
        able = verdicts[index].role is not Role.HOST and index not in without
        if able and all(name == start or graph.producer.get(name, -1) in found for name in inputs):
            found.add(index)
            for name in graph.nodes[index].output:
                for reader in graph.consumers.get(name, ()):
                    if reader not in seen:
                        seen.add(reader)
                        heappush(todo, reader)
    return found


def _is_of_whole_picture(graph: Graph, index: int) -> bool:
    node = graph.nodes[index]
    return (
        node.op_type == "AveragePool"
        and graph.shapes[node.output[0]][2:] == (1, 1)
        and (windows(graph, index).kernel == graph.shapes[node.input[0]][2:])
    )


def _ancestors(graph: Graph, within: set[int], nodes: Iterable[int]) -> set[int]:
    """The nodes and everything within the region that they need."""
    found: set[int] = set()
    todo = list(nodes)
    while todo:
        index = todo.pop()
        if index in within and index not in found:
            found.add(index)
            todo += [graph.producer[name] for name in graph.inputs_of(index) if name in graph.producer]
    return found


def _readers(graph: Graph, verdicts: list[Verdict], within: set[int], tensor: str) -> tuple[list[int], bool]:
    """Who on the device reads the tensor, through views of all kinds, and whether anybody else does."""
    readers, escapes, todo = [], False, [tensor]
    outputs = graph.output_names()
    while todo:
        name = todo.pop()
        escapes |= name in outputs
        for index in graph.consumers.get(name, ()):
            if index not in within:
                escapes = True
            elif verdicts[index].role is Role.VIEW:
                todo.append(graph.nodes[index].output[0])
            else:
                readers.append(index)
    return readers, escapes


def _behind_transpose(
    graph: Graph, verdicts: list[Verdict], within: set[int], tensor: str, known: dict[str, Layout]
) -> tuple[str, set[int]]:
    """The tensor itself, or what a transpose to NHWC makes of it if nobody reads anything else.

    The device gives NHWC anyway, so the host need not turn it there and back.
    """
    name, passed = tensor, set()
    outputs = graph.output_names()
    while name not in outputs:
        readers = graph.consumers.get(name, [])
        if len(readers) != 1 or readers[0] not in within or verdicts[readers[0]].role is not Role.VIEW:
            break
        if graph.nodes[readers[0]].op_type == "Pad":
            break
        passed.add(readers[0])
        name = graph.nodes[readers[0]].output[0]
        if known[name] is Layout.NHWC:
            return name, passed
    return tensor, set()


def _macs(graph: Graph, index: int) -> int:
    node = graph.nodes[index]
    if node.op_type != "Conv":
        return 0
    total = 1
    for length in (*graph.shapes.get(node.input[1], ()), *graph.shapes.get(node.output[0], ())[2:]):
        total *= length or 1
    return total


def _nothing(graph: Graph, verdicts: list[Verdict]) -> NothingToOffload:
    reasons: dict[str, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for node, verdict in zip(graph.nodes, verdicts, strict=True):
        reason = verdict.reason or "no convolution that the device can run goes with it"
        reasons[label(node)] = reason
        counts[node.op_type, reason] += 1
    listed = "; ".join(f"{count} {op}: {reason}" for (op, reason), count in sorted(counts.items()))
    return NothingToOffload(
        f"no convolution of this model can run on the FPGA ({listed}). "
        "Serve it without an FPGA (requireFpga: false), or use a convolutional network",
        reasons,
    )
