"""How much of each register file every tensor takes, and when."""

from collections.abc import Sequence
from dataclasses import dataclass

from npu.chain import Chain, Files, Tensor
from npu.families import families_of, links
from npu.fusion import groups_of, lines_kept, members
from npu.liveness import FILES, Uses
from npu.placement import Place

__all__ = ["Lines", "Occupancy", "occupancy"]

Lines = dict[range, dict[int, int]]  # of each group that somebody has looked at, by its chains


@dataclass(frozen=True)
class Occupancy:
    """The groups of the chains, the families of tensors that share registers, and who takes what in which file.

    `sizes` are in native vectors, of one tensor in one file.
    """

    groups: list[int]
    families: list[list[int]]
    sizes: list[int]
    places: dict[Files, list[Place]]

    @property
    def steps(self) -> int:
        """Groups are the steps of time."""
        return self.groups[-1] + 1 if self.groups else 0


def occupancy(
    chains: Sequence[Chain],
    tensors: Sequence[Tensor],
    uses: Uses,
    *,
    placed: bool = False,
    known: Lines | None = None,
) -> Occupancy:
    """Who lives where and when, if the tensors with the flag STREAMED are streamed.

    Concatenations run in place wherever they may; of `placed` tensors, where source and target do share address
    and pitch. `known` spares going through groups again.
    """
    known = {} if known is None else known
    groups = groups_of(chains, tensors, uses)
    found = links(chains, tensors, uses, groups)
    if placed:
        found = {
            target: source for target, source in found.items() if _together(tensors[source], tensors[target])
        }
    families = families_of(found)
    sizes = [max(tensor.pitch, tensor.depth) * tensor.positions for tensor in tensors]
    for run in members(groups):
        if len(run) > 1:
            if run not in known:
                known[run] = lines_kept(run, chains, tensors)
            for index, lines in known[run].items():
                if Files.STREAMED in tensors[index].files:
                    sizes[index] = lines * tensors[index].width * tensors[index].depth
    for family in families:
        pitch = tensors[family[-1]].depth
        for index in family:
            sizes[index] = tensors[index].positions * pitch
    return Occupancy(
        groups, families, sizes, {file: _places(file, uses, groups, families, sizes) for file in FILES}
    )


def _together(source: Tensor, target: Tensor) -> bool:
    return source.matrix_address == target.matrix_address and source.pitch == target.pitch > 0


def _places(
    file: Files, uses: Uses, groups: Sequence[int], families: Sequence[Sequence[int]], sizes: Sequence[int]
) -> list[Place]:
    """Only the matrix unit's file is written in place."""
    kin = {index: family for family in families for index in family} if file is Files.MATRIX else {}
    places = []
    for index, size in enumerate(sizes):
        family = kin.get(index, (index,))
        readers = uses.readers(family[-1], file)
        if readers and index == family[0]:
            writer = uses.writers[index]
            first = groups[writer] if writer >= 0 else 0
            places.append(Place(tuple(family), size, first, groups[readers[-1]]))
    return places
