"""Which tensors are streamed: no more than it takes for the others to fit the register files."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from npu.bfp import Accumulation
from npu.chain import Chain, Files, Kind, Tensor
from npu.fusion import MAX_ROWS, groups_of, members, row_visits
from npu.liveness import FILES, Uses
from npu.occupancy import Lines, Occupancy, occupancy
from npu.placement import loads_of
from npu.schedule import MATRIX_BUFFER_TILES, tiles_of
from npu.sku import Sku

__all__ = ["Streaming"]

PATIENCE = 8  # choices in a row that bring the files no nearer to fitting


class Streaming:
    """The tensors with their flags so far, and what that means for the registers (`now`).

    With `front`, a front block that adds taps in float16 is streamed from the start.
    """

    def __init__(
        self, chains: Sequence[Chain], tensors: Sequence[Tensor], uses: Uses, sku: Sku, *, front: bool
    ) -> None:
        self.chains, self.uses = chains, uses
        self.capacity = {Files.MATRIX: sku.initial_vrf, Files.FLOAT16: sku.addsub_vrf_1}
        self.known: Lines = {}
        self._take(list(tensors))
        if front:
            self._take(self._front())
        self.nearest, self.in_vain = self._overflow(self.now), 0
        self.hopeless: tuple[set[int], Occupancy] = set(), self.now  # the crowd that nothing has helped since

    def crowd(self) -> set[int]:
        """The tensors that live at the first step at which a file is too small; none if there is no such step."""
        for step in range(self.now.steps):
            alive = {
                file: [place for place in self.now.places[file] if place.first <= step <= place.last]
                for file in FILES
            }
            if any(sum(place.size for place in alive[file]) > self.capacity[file] for file in FILES):
                return {tensor for file in FILES for place in alive[file] for tensor in place.tensors}
        return set()

    def relieve(self, crowd: set[int]) -> bool:
        """Stream one of these tensors, and whatever lies between its writer and its readers; False if that helps
        no more.

        Best is what brings the files nearest to fitting, then the group with the fewest weights. Concatenations
        stay in place, and weights come once, unless nothing else helps.
        """
        kin = self._kin()
        options: dict[tuple[bool, bool], list[tuple[int, list[Tensor]]]] = {}
        for index in sorted(crowd):
            tensors = self._with([index]) if self._may_stream(index) else None
            if tensors is not None:
                tiles = self._tiles(index, tensors)
                cost = tiles > 2 * MATRIX_BUFFER_TILES, index in kin
                options.setdefault(cost, []).append((tiles, tensors))
        best: tuple[tuple[int, int], list[Tensor]] | None = None
        for _, choices in sorted(options.items()):
            for tiles, tensors in choices:
                rank = self._overflow(self._occupancy(tensors)), tiles
                if best is None or rank < best[0]:
                    best = rank, tensors
            if best is not None and best[0][0] < self.nearest:
                break
        progress = best is not None and best[0][0] < self.nearest
        if not progress and not self.in_vain:
            self.hopeless = crowd, self.now
        if best is None or (not progress and self.in_vain == PATIENCE):
            return False
        if progress:
            self.nearest, self.in_vain = best[0][0], 0
        else:
            self.in_vain += 1
        self._take(best[1])
        return True

    def _take(self, tensors: list[Tensor]) -> None:
        self.tensors = tensors
        self.now = self._occupancy(tensors)

    def _occupancy(self, tensors: Sequence[Tensor]) -> Occupancy:
        return occupancy(self.chains, tensors, self.uses, known=self.known)

    def _kin(self) -> set[int]:
        return {index for family in self.now.families for index in family}

    def _front(self) -> list[Tensor]:
        """Chains that add taps in float16 are the line-buffered front block, with the pools among them: one group
        from the start, if the matrix registers hold its weights.
        """
        taps = [
            index for index, chain in enumerate(self.chains) if chain.accumulation is Accumulation.FP16_TAPS
        ]
        wanted = {self.chains[index].source for index in taps}
        for index in taps:
            target = self.chains[index].target
            if [self.chains[reader].kind for reader in self.uses.matrix[target]] == [Kind.MAX_POOL]:
                wanted.add(target)
        tensors = self._with([index for index in wanted if self._may_stream(index)])
        if tensors is None:
            return self.tensors
        groups = groups_of(self.chains, tensors, self.uses)
        fits = all(self._weights(run) <= 2 * MATRIX_BUFFER_TILES for run in members(groups) if len(run) > 1)
        return tensors if fits else self.tensors

    def _may_stream(self, index: int) -> bool:
        """Whether the tensor is made here, is read, and is whole until now."""
        streamed = Files.STREAMED in self.tensors[index].files
        return index > 0 and not streamed and self.uses.last(index) >= 0

    def _with(self, chosen: Iterable[int]) -> list[Tensor] | None:
        """The tensors, these and all that lie within their groups streamed; None if there are too many rows."""
        tensors, kin = list(self.tensors), self._kin()
        for index in chosen:
            tensors[index] = _streamed(tensors[index])
        groups = groups_of(self.chains, tensors, self.uses)
        for run in members(groups):
            for index in run if len(run) > 1 else ():
                target = self.chains[index].target
                if 0 <= self.uses.last(target) < run.stop and target not in kin:
                    tensors[target] = _streamed(tensors[target])
        return tensors if row_visits(groups, self.chains, tensors, self.uses) <= MAX_ROWS else None

    def _overflow(self, found: Occupancy) -> int:
        """Vectors that do not fit, over all steps."""
        return sum(
            max(0, load - self.capacity[file])
            for file in FILES
            for load in loads_of(found.places[file], found.steps)
        )

    def _tiles(self, tensor: int, tensors: Sequence[Tensor]) -> int:
        """Weight tiles of the group that makes the tensor."""
        writer = self.uses.writers[tensor]
        return next(
            self._weights(run) for run in members(groups_of(self.chains, tensors, self.uses)) if writer in run
        )

    def _weights(self, run: Iterable[int]) -> int:
        return tiles_of([self.chains[index] for index in run], self.tensors)


def _streamed(tensor: Tensor) -> Tensor:
    return replace(tensor, files=tensor.files | Files.STREAMED)
