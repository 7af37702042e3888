"""What becomes of each node, and who reads or makes a tensor behind nodes that vanish.

*Work* becomes chains. *Views* (transposes between NCHW and NHWC, identities, zeros around a picture that a
window reads) vanish in the compiler's own layout. Everything else stays on the *host*, with a reason.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from npu.compiler.geometry import Layout
from npu.compiler.graph import Graph, attributes

__all__ = ["VIEW", "WORK", "Candidate", "Role", "Rule", "Verdict", "on_host", "real_maker", "real_readers"]


MOST_VIEWS = 100  # one behind the other: exporters leave a few


class Role(Enum):
    """What becomes of a node."""

    WORK = "work"
    VIEW = "view"
    HOST = "host"


@dataclass(frozen=True)
class Verdict:
    """A role, and for HOST the reason."""

    role: Role
    reason: str = ""


WORK, VIEW = Verdict(Role.WORK), Verdict(Role.VIEW)


def on_host(reason: str) -> Verdict:
    """The verdict on a node that the device cannot run."""
    return Verdict(Role.HOST, reason)


def real_readers(graph: Graph, verdicts: Sequence[Verdict], tensor: str) -> list[int]:
    """Nodes that read the tensor, seen through views without zeros; a graph output counts as the index -1."""
    outputs, found, todo = graph.output_names(), [], [tensor]
    while todo:
        name = todo.pop()
        if name in outputs:
            found.append(-1)
        for index in graph.consumers.get(name, ()):
            node = graph.nodes[index]
            if index < len(verdicts) and verdicts[index].role is Role.VIEW and node.op_type != "Pad":
                todo.append(node.output[0])
            else:
                found.append(index)
    return sorted(found)


def real_maker(graph: Graph, verdicts: Sequence[Verdict], tensor: str) -> int | None:
    """The node that makes the tensor, seen through views; None for a model input, or behind too many views."""
    for _ in range(MOST_VIEWS):
        if tensor not in graph.producer:
            break
        index = graph.producer[tensor]
        if verdicts[index].role is not Role.VIEW:
            return index
        tensor = graph.nodes[index].input[0]
    return None


@dataclass(frozen=True)
class Candidate:
    """A node that is judged, with what is known of layouts and the verdicts on all earlier nodes."""

    graph: Graph
    index: int
    known: dict[str, Layout]
    verdicts: Sequence[Verdict]

    @property
    def node(self) -> Any:
        """The ONNX node."""
        return self.graph.nodes[self.index]

    @property
    def given(self) -> dict[str, Any]:
        """Its attributes."""
        return attributes(self.node)

    @property
    def keeps_picture(self) -> bool:
        """Whether its output has the shape and the layout of its input."""
        return self.same_picture(self.node.input[0], self.node.output[0])

    def same_picture(self, one: str, other: str) -> bool:
        """Whether two tensors have the same shape, but for the batch, and the same layout."""
        shapes, known = self.graph.shapes, self.known
        return one in known and shapes[one][1:] == shapes[other][1:] and known[one] is known[other]


Rule = Callable[[Candidate], Verdict]
