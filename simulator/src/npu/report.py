"""Estimates and programs as text: tables for people, CSV and JSON for programs."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from npu.chain import Files
from npu.program import Program
from npu.timing import Estimate

__all__ = ["FORMATS", "listing", "render"]

FORMATS = ("table", "csv", "json")


def render(estimate: Estimate, form: str) -> str:
    """The estimate as one of FORMATS; JSON has the keys of `Estimate`, CSV one line per layer."""
    if form == "json":
        return json.dumps(estimate.to_dict(), indent=2) + "\n"
    if form == "csv":
        out = io.StringIO()
        rows = [asdict(layer) | {"output": "x".join(map(str, layer.output))} for layer in estimate.layers]
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
    header = ("layer", "output", "tiles", "MMAC", "matrix", "issue", "DRAM", "wait", "bound by", "use")
    body = [
        (
            layer.name[-44:],
            "x".join(map(str, layer.output)),
            str(layer.tiles),
            f"{layer.macs / 1e6:.1f}",
            str(layer.mvm_cycles),
            str(layer.issue_cycles),
            str(layer.dram_cycles),
            str(layer.dram_stall),
            layer.bound_by,
            f"{100 * layer.utilisation:.0f} %",
        )
        for layer in estimate.layers
    ]
    return f"{_table([header, *body])}\n{_summary(estimate)}"


def listing(program: Program) -> str:
    """The program's chains, one per line, and what it needs."""
    rows = [
        (
            "#",
            "chain",
            "kind",
            "kernel",
            "stride",
            "pad",
            "stage",
            "reads",
            "adds",
            "writes",
            "shape",
            "files",
        )
    ]
    for index, (chain, name) in enumerate(zip(program.chains, program.chain_names, strict=True)):
        target = program.tensors[chain.target]
        rows.append(
            (
                f"{index}/{chain.group}",
                name[-44:],
                chain.kind.name.lower(),
                "x".join(map(str, chain.kernel)),
                "x".join(map(str, chain.stride)),
                ",".join(map(str, chain.pad)),
                (chain.stage.name or "none").lower(),
                f"t{chain.source}",
                "" if chain.residual is None else f"t{chain.residual}",
                f"t{chain.target}",
                "x".join(map(str, target.shape)),
                (Files(target.files).name or "output").lower() if target.files else "output",
            )
        )
    need = ", ".join(f"{key} {value}" for key, value in vars(program.need).items())
    return (
        f"program {program.name}  {program.digest}\n"
        f"format {program.preset.name}, compiled for {program.sku}, input "
        f"{'x'.join(map(str, program.input_shape))}, output {'x'.join(map(str, program.output_shape))}\n"
        f"needs {need}\n\n{_table(rows)}"
    )


def _summary(e: Estimate) -> str:
    return (
        f"{e.latency_ms:.3f} ms a picture ({e.device_ms:.3f} on the device, {e.host_ms:.3f} DMA and driver), "
        f"{e.inferences_per_second:.0f} inferences a second, bound by {e.bound_by}\n"
        f"{e.tiles} weight tiles, {e.vectors} vectors, {e.macs / 1e9:.2f} GMAC, {e.tflops:.2f} TFLOPS "
        f"({100 * e.utilisation:.0f} % of {e.sku}); compute {e.compute_ms:.3f} ms, DRAM {e.dram_ms:.3f} ms\n"
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines) + "\n"
