"""Comparing the artifact with the original, by the very code that serves it.

Two questions, two answers: did the conversion keep the numbers (float32 against float32: strict), and what
does the device's arithmetic make of them (judged against the user's tolerance, or a generous one). Beside the
second stands how many of the device's numbers overflowed, which is what most often spoils it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from accel_runtime.artifact import Artifact
from accel_runtime.decode import Decode, decode_pictures
from accel_runtime.errors import RuntimeFault
from accel_runtime.pipeline import Pipeline
from npu import float16
from npu.errors import NpuError
from npu.oracle import Oracle
from npu.program import Program
from numpy.typing import NDArray

from accel_toolchain.conditions import Terminal
from accel_toolchain.model import Arrays, FloatModel, Sample
from accel_toolchain.onnx_checks import open_session

_FLOAT_RELATIVE: Final = 1e-3
"""Largest difference of float32 results over their largest number. Other orders of sums give less."""


DEFAULT_TOLERANCE: Final = 0.5
"""Largest difference of served results that passes where the user names none. Block floating point costs trained
networks 0.02 to 0.2; half of the largest output is a model that answers something else."""


@dataclass(frozen=True)
class _Run:
    """What `accel_runtime.pipeline` wants back from a device."""

    output: NDArray[np.float32]
    simulated_seconds: float = 0.0
    wall_seconds: float = 0.0
    device_id: str = "oracle"
    epoch: int = 0


class OracleDevice:
    """The device's arithmetic, in this process. Counts the numbers that reached the end of float16's range."""

    def __init__(self, program: bytes) -> None:
        self._oracle = Oracle(Program.from_bytes(program))
        self._numbers = self._saturated = 0

    @property
    def saturated(self) -> float:
        """Share of the numbers between chains that are at ±65504, 0 to 1."""
        return self._saturated / self._numbers if self._numbers else 0.0

    def run(self, x: NDArray[np.float32]) -> _Run:
        """Compute one picture [H,W,C]."""
        self._count(0, x)
        return _Run(np.asarray(self._oracle.run(x, self._count), dtype=np.float32))

    def _count(self, _: int, numbers: NDArray[np.float32]) -> None:
        self._numbers += numbers.size
        self._saturated += int(np.count_nonzero(np.abs(numbers) >= float16.LARGEST))


def verify(
    folder: Path, model: FloatModel, tolerance: float | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return `parity` (what the FPGA changes) and `floatParity` (what the conversion changed).

    Raises:
        Terminal: ParityFailed, ToleranceExceeded.
    """
    converted = _float_parity(model)
    say(f"float32 parity: max {converted['maxAbs']:.3g}, relative {converted['maxRel']:.3g}")
    if not converted["maxRel"] <= _FLOAT_RELATIVE:
        raise Terminal(
            "ParityFailed",
            f"The converted float32 graph differs from the original by {converted['maxRel']:.2g} of the "
            "largest output "
            f"(allowed {_FLOAT_RELATIVE:g}). The model computes something that the converter gets wrong.",
        )
    try:
        artifact = Artifact.load(folder)
        program = artifact.graph.program
        oracle = OracleDevice(program) if program is not None else None
        pipeline = Pipeline(artifact, oracle, threads=1)
        served = [pipeline.run(sample.inputs) for sample in model.samples]
    except (RuntimeFault, NpuError) as error:
        raise Terminal("ParityFailed", f"The artifact does not run on a sample input: {error}") from error
    lossless = [
        (sample, answer) for sample, answer in zip(model.samples, served, strict=True) if sample.lossless
    ]
    device = _difference([s.outputs for s, _ in lossless], [a for _, a in lossless])
    jpeg = [(s, a) for s, a in zip(model.samples, served, strict=True) if not s.lossless]
    say(
        f"served parity: max {device['maxAbs']:.3g}, relative {device['maxRel']:.3g}, top-1 "
        f"{device['top1Agreement']}"
    )
    if oracle is not None:
        device["saturated"] = float(f"{oracle.saturated:.3g}")
        if oracle.saturated:
            say(f"{oracle.saturated:.3%} of the device's numbers are at float16's largest, 65504")
    allowed = DEFAULT_TOLERANCE if tolerance is None else tolerance
    if not device["maxRel"] <= allowed:
        raise _exceeded(device, allowed, given=tolerance is not None)
    report = {"parity": device, "floatParity": converted}
    if jpeg:
        report["jpegParity"] = _difference([s.outputs for s, _ in jpeg], [a for _, a in jpeg])
        say(f"JPEG instead of PNG: relative {report['jpegParity']['maxRel']:.3g}")
    return report


def _exceeded(device: dict[str, Any], allowed: float, *, given: bool) -> Terminal:
    overflow = ""
    if share := device.get("saturated"):
        overflow = (
            f"{share:.2%} of the numbers on the device reached float16's largest, 65504: scale the model's input or "
            "normalise between its layers. "
        )
    return Terminal(
        "ToleranceExceeded",
        f"spec.verification.tolerance: the FPGA's answers differ from the original's by {device['maxRel']:.3g} of the "
        f"largest output, more than {allowed:g}{'' if given else ', the default'}. {overflow}If that is good enough, "
        f"raise spec.verification.tolerance above {device['maxRel']:.3g}.",
    )


def _float_parity(model: FloatModel) -> dict[str, Any]:
    session = open_session(model.proto.SerializeToString())
    names = [tensor.name for tensor in model.outputs]
    samples = [sample for sample in model.samples if sample.lossless]
    answers = [dict(zip(names, session.run(names, _fed(model, sample)), strict=True)) for sample in samples]
    return _difference([sample.outputs for sample in samples], answers)


def _fed(model: FloatModel, sample: Sample) -> Arrays:
    """Return what the float graph reads for a sample: strings are decoded as the server does it."""
    if model.decode is None:
        return sample.inputs
    head = Decode.parse(model.decode)
    fed = dict(sample.inputs)
    fed[head.tensor] = decode_pictures(head, fed.pop(head.input))
    return fed


def _difference(wanted: list[Arrays], got: list[Arrays]) -> dict[str, Any]:
    """Return the largest difference, the same over the largest wanted number, and the share of equal top-1.

    top1Agreement is None where no output looks like class scores: a vector of at least two numbers a picture.
    """
    absolute = largest = 0.0
    votes: list[bool] = []
    for one, other in zip(wanted, got, strict=True):
        for name, expected in one.items():
            answer = other[name]
            if answer.shape != expected.shape:
                raise Terminal(
                    "ParityFailed",
                    f"The output {name} has the shape {answer.shape} instead of {expected.shape}.",
                )
            if not np.issubdtype(expected.dtype, np.number):
                continue
            delta = np.abs(answer.astype(np.float64) - expected.astype(np.float64))
            if not np.array_equal(np.isfinite(answer), np.isfinite(expected)):
                raise Terminal(
                    "ParityFailed",
                    f"The output {name} has infinite or undefined numbers where the original has not.",
                )
            absolute = max(absolute, float(np.nanmax(delta, initial=0.0)))
            largest = max(largest, float(np.nanmax(np.abs(expected.astype(np.float64)), initial=0.0)))
            if expected.ndim == 2 and expected.shape[1] > 1 and np.issubdtype(expected.dtype, np.floating):
                votes += list(answer.argmax(axis=1) == expected.argmax(axis=1))
    return {
        "maxAbs": float(f"{absolute:.6g}"),
        "maxRel": float(f"{absolute / largest if largest else absolute:.6g}"),
        "top1Agreement": float(f"{sum(votes) / len(votes):.6g}") if votes else None,
        "samples": len(wanted),
    }
