"""Where the device stops: the fewest tensors behind which nothing is left to multiply.

Operators without multiplications at the end of the region may run on either side. The cut between them is a
minimum cut of tensors (Ford and Fulkerson; each tensor lets one path through), and of several the one furthest
from the input, so that as much as possible stays on the device.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence, Set

__all__ = ["outputs_of"]

Vertex = tuple[int, bool]  # a node's entering (False) or leaving side (True)
Room = dict[Vertex, dict[Vertex, int]]  # how many more paths may go from one vertex to the next
ENTRY, EXIT = (-1, False), (-1, True)
MANY = 1 << 30


def outputs_of(after: Mapping[int, Sequence[int]], escaping: Set[int], heavy: Set[int]) -> list[int]:
    """The nodes whose results leave the device, in order.

    `after` has each node's readers on the device; the results of `escaping` are read elsewhere (too); `heavy`
    nodes must be on the device: they multiply, or something that multiplies needs them.
    """
    room: Room = defaultdict(dict)

    def join(one: Vertex, other: Vertex, paths: int) -> None:
        room[one][other] = paths  # nothing is joined in both directions
        room[other].setdefault(one, 0)

    for node, readers in after.items():
        join((node, False), (node, True), 1)
        if node in heavy:
            join(ENTRY, (node, False), MANY)
        if node in escaping:
            join((node, True), EXIT, MANY)
        for reader in readers:
            join((node, True), (reader, False), MANY)
            join((reader, False), (node, False), MANY)  # who is on the device needs what it reads there
    while path := _path(room):
        for one, other in path:
            room[one][other] -= 1
            room[other][one] += 1
    outside = _reaching(room, EXIT)
    return sorted(node for node in after if (node, True) in outside and (node, False) not in outside)


def _path(room: Room) -> list[tuple[Vertex, Vertex]]:
    """A shortest way from ENTRY to EXIT that has room; empty if there is none."""
    came: dict[Vertex, Vertex] = {ENTRY: ENTRY}
    todo = deque([ENTRY])
    while todo and EXIT not in came:
        one = todo.popleft()
        for other, paths in room[one].items():
            if paths and other not in came:
                came[other] = one
                todo.append(other)
    path = []
    at = EXIT
    while at in came and at != ENTRY:
        path.append((came[at], at))
        at = came[at]
    return path


def _reaching(room: Room, goal: Vertex) -> set[Vertex]:
    """The vertices from which the goal can still be reached."""
    found, todo = {goal}, [goal]
    while todo:
        other = todo.pop()
        for one in room[other]:
            if one not in found and room[one].get(other, 0):
                found.add(one)
                todo.append(one)
    return found
