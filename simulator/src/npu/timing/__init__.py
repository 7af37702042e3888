"""How long a program takes on a SKU, from its chains and loads alone: no tensor is touched.

`costs` says what a chain asks of each engine, `engines` plays the engines beside each other, `plan` makes
of a program what they play, `record` is what comes out, `events` the same as a timeline.
"""

from npu.timing.costs import input_vectors, tile_bytes
from npu.timing.estimation import estimate, timeline
from npu.timing.events import Event, Track
from npu.timing.record import Estimate, LayerTime

__all__ = [
    "Estimate",
    "Event",
    "LayerTime",
    "Track",
    "estimate",
    "input_vectors",
    "tile_bytes",
    "timeline",
]
