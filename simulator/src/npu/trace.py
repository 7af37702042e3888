"""A program's timeline as Chrome trace events: open the file in https://ui.perfetto.dev or chrome://tracing.

One track per engine, complete events in microseconds of simulated time; `args` hold the exact cycles.
"""

import json

from npu.program import Program
from npu.sku import Sku
from npu.timing import Estimate, Event, Track

__all__ = ["render"]

PROCESS = 1


def render(program: Program, sku: Sku, estimate: Estimate, events: tuple[Event, ...]) -> str:
    """The trace as JSON; `events` are `npu.timing.timeline`'s."""
    microseconds = 1e6 / sku.clock_hz
    tracks = {track: number for number, track in enumerate(Track, start=1)}
    rows: list[dict[str, object]] = [_name("process_name", 0, f"{program.name} on {sku.name}")]
    for track, number in tracks.items():
        rows.append(_name("thread_name", number, track.value))
        rows.append(
            {
                "name": "thread_sort_index",
                "ph": "M",
                "pid": PROCESS,
                "tid": number,
                "args": {"sort_index": number},
            }
        )
    for event in sorted(events, key=lambda event: (tracks[event.track], event.start)):
        layer = program.chain_names[event.chain] if event.chain >= 0 else event.name
        rows.append(
            {
                "name": layer,
                "cat": event.name,
                "ph": "X",
                "pid": PROCESS,
                "tid": tracks[event.track],
                "ts": event.start * microseconds,
                "dur": event.cycles * microseconds,
                "args": {"what": event.name, "start_cycle": event.start, "cycles": event.cycles},
            }
        )
    told = {
        "sku": sku.name,
        "precision": estimate.precision,
        "clockHz": sku.clock_hz,
        "latencyMs": estimate.latency_ms,
        "boundBy": estimate.bound_by,
    }
    whole = {"displayTimeUnit": "ns", "otherData": told, "traceEvents": rows}
    return json.dumps(whole, allow_nan=False) + "\n"


def _name(what: str, thread: int, name: str) -> dict[str, object]:
    return {"name": what, "ph": "M", "pid": PROCESS, "tid": thread, "args": {"name": name}}
