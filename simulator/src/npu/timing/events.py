"""One picture as a timeline: what each engine does from when to when."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from npu.timing.engines import LOADED_BEFORE, Machine, Picture

__all__ = ["Event", "Track", "timeline_of"]


class Track(Enum):
    """The engines, and why the matrix pipeline waits."""

    HOST_IN = "host DMA, picture in"
    DRAM = "DRAM loader"
    ISSUE = "instruction issue"
    MATRIX = "matrix pipeline"
    WAIT = "matrix pipeline waits"
    HOST_OUT = "host DMA, result out"


@dataclass(frozen=True)
class Event:
    """Something that an engine does for one chain (-1: for the whole picture), in cycles from the request on."""

    track: Track
    name: str
    start: int
    cycles: int
    chain: int


def timeline_of(machine: Machine, picture: Picture, after: Picture) -> Iterator[Event]:
    """Everything of `picture`, the first of an idle device, and of `after` only the loads that then follow: the
    first weights of the picture behind it.
    """
    begin = picture.host_start
    yield Event(Track.HOST_IN, "driver", begin, machine.driver, -1)
    yield Event(Track.HOST_IN, "picture", begin + machine.driver, machine.dma_in, -1)
    for index, load in enumerate(machine.loads):
        first = load.release == LOADED_BEFORE
        start = (after if first else picture).load_starts[index]
        yield Event(
            Track.DRAM, "next picture's weights" if first else "weights", start, load.cycles, load.chain
        )
    for index, step in enumerate(machine.steps):
        start = picture.starts[index]
        yield Event(Track.ISSUE, "instructions", start, step.issue, step.chain)
        yield Event(Track.MATRIX, "multiply", start, step.mvm, step.chain)
        weights, results = picture.dram_stalls[index], picture.latency_stalls[index]
        yield Event(Track.WAIT, "for results", start - weights - results, results, step.chain)
        yield Event(Track.WAIT, "for weights", start - weights, weights, step.chain)
        over = step.issue - step.mvm
        yield Event(Track.WAIT, "for instructions", start + step.mvm, max(0, over), step.chain)
    yield Event(Track.WAIT, "for results", picture.ends[-1], machine.pipeline, machine.steps[-1].chain)
    for start, end in zip(picture.out_starts, picture.out_ends, strict=True):
        yield Event(Track.HOST_OUT, "result", start, end - start, -1)
