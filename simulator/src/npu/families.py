"""Concatenation in place: tensors that share registers, each of which is the one before with channels appended.

A concatenation passes position by position, so its result may lie where its source lies if the source is not read
afterwards. All of a family have one pitch, the depth of the last, so that their layouts agree.
"""

from collections.abc import Sequence

from npu.chain import Chain, Files, Kind, Tensor
from npu.fusion import members, overtaken
from npu.liveness import Uses

__all__ = ["families_of", "links"]


def links(
    chains: Sequence[Chain], tensors: Sequence[Tensor], uses: Uses, groups: Sequence[int]
) -> dict[int, int]:
    """Target → source of the concatenations that may run in place.

    Both must be whole in the matrix unit's file, and the concatenation must be the last to read the source there;
    if another reader runs row by row beside it, the concatenation must stay behind that one.
    """
    found: dict[int, int] = {}
    at = {}
    for index, chain in enumerate(chains):
        source, target = chain.source, chain.target
        if (
            chain.kind is Kind.CONCAT
            and source != 0  # the host writes the input as its channels are
            and uses.matrix[target]
            and uses.matrix[source][-1] == index
            and Files.STREAMED not in tensors[source].files | tensors[target].files
        ):
            found[target] = source
            at[index] = target
    for run in members(groups):
        if len(run) > 1 and any(index in at for index in run):
            for index in overtaken(run, chains, tensors) & at.keys():
                del found[at[index]]
    return found


def families_of(found: dict[int, int]) -> list[list[int]]:
    """The tensors of each family, oldest first, from `links` or some of them."""
    after = {source: target for target, source in found.items()}
    families = []
    for head in sorted(after.keys() - found.keys()):
        family = [head]
        while family[-1] in after:
            family.append(after[family[-1]])
        families.append(family)
    return families
