"""Estimates as text: a table for people, CSV and JSON for programs."""

import csv
import io
import json
from dataclasses import asdict

from npu.tables import columns
from npu.timing import Estimate

__all__ = ["FORMATS", "render"]

FORMATS = ("table", "csv", "json")
LONGEST = 44  # letters of a name
HEADER = (
    "layer",
    "output",
    "tiles",
    "MMAC",
    "matrix",
    "issue",
    "DRAM",
    "waits",
    "pipeline",
    "total",
    "bound by",
    "use",
    "padded",
)


def render(estimate: Estimate, form: str) -> str:
    """The estimate as one of FORMATS; JSON has the keys of `Estimate`, CSV one line per layer, with those of
    `LayerTime`.
    """
    if form == "json":
        return json.dumps(estimate.to_dict(), indent=2, allow_nan=False) + "\n"
    if form == "csv":
        out = io.StringIO()
        rows = [asdict(layer) | {"output": "x".join(map(str, layer.output))} for layer in estimate.layers]
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
    body = [
        (
            layer.name[-LONGEST:],
            "x".join(map(str, layer.output)),
            str(layer.tiles),
            f"{layer.macs / 1e6:.1f}",
            str(layer.mvm_cycles),
            str(layer.issue_cycles),
            str(layer.dram_cycles),
            str(layer.dram_stall),
            str(layer.latency_stall),
            str(layer.total_cycles),
            layer.bound_by,
            f"{100 * layer.utilisation:.0f} %",
            f"{100 * layer.padded_utilisation:.0f} %",
        )
        for layer in estimate.layers
    ]
    return f"{columns([HEADER, *body])}\n{_summary(estimate)}"


def _summary(e: Estimate) -> str:
    path = ", ".join(f"{engine} {ms:.3f}" for engine, ms in e.critical_path.items())
    return (
        f"{e.latency_ms:.3f} ms a picture ({e.device_ms:.3f} on the device, {e.host_ms:.3f} DMA and driver), "
        f"{e.inferences_per_second:.0f} inferences a second, bound by {e.bound_by}; longest layer {e.bottleneck}\n"
        f"ms on the critical path: {path}\n"
        f"{e.tiles} weight tiles, {e.vectors} vectors ({e.dram_bytes / 1e6:.1f} MB of DRAM), {e.macs / 1e9:.2f} GMAC, "
        f"{e.tflops:.2f} TFLOPS ({100 * e.utilisation:.0f} % of {e.sku}, {100 * e.padded_utilisation:.0f} % with "
        f"padding)\n"
        f"busy: compute {e.compute_ms:.3f} ms, issue {e.issue_ms:.3f} ms, DRAM {e.dram_ms:.3f} ms; registers: "
        f"{e.initial_vrf} matrix and {e.addsub_vrf_1} float16 vectors, {e.matrix_rf} tiles\n"
    )
