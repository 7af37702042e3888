"""The converting child: from a source folder to an artifact folder, inside the sandbox.

Everything below this module may run a stranger's graph. Its only results are files of the workspace.
"""

import sys
import time
import traceback
from pathlib import Path
from typing import Any

from accel_toolchain import __version__, jobs, sandbox
from accel_toolchain.artifact import SOURCE, Artifact
from accel_toolchain.conditions import Failure, Terminal, is_out_of_memory
from accel_toolchain.jobs import ConvertJob
from accel_toolchain.progress import progress
from accel_toolchain.workspace import Workspace, read_note, write_note


def main() -> int:
    """Convert, and leave `outcome.json`: the result, or the reason why there is none."""
    import os

    work = Workspace.from_environment()
    try:
        sandbox.verify()
        job = jobs.parse_convert(os.environ["ACCEL_JOB"])
        write_note(work.report, run(job, work))
        write_note(work.outcome, {"ok": True})
    except Failure as error:
        say(f"{error.reason}: {error.message}")
        return _leave(work, error.reason, error.message)
    except Exception as error:  # a defect of ours or of a library: the trace belongs into the log only
        traceback.print_exc()
        if is_out_of_memory(error):
            return _leave(work, "OOMKilled", "The converter ran out of memory.")
        text = " ".join(str(error).split())[:500]
        return _leave(
            work,
            "ConversionFailed",
            f"The converter failed with {type(error).__name__}: {text}. See its log.",
        )
    return 0


def say(text: str) -> None:
    """Write one line of progress, with the process' age in seconds and its peak memory."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(f"[{time.process_time():6.1f} s cpu, peak {peak:4.1f} GiB] {text}", flush=True)


def step(number: int, what: str) -> None:
    """Tell whoever watches how far the conversion is."""
    progress.say(f"converting: step {number} of 4: {what}")


def run(job: ConvertJob, work: Workspace) -> dict[str, Any]:
    """Convert and return the report; raises Terminal."""
    sha256 = str(read_note(work.source_note)["sha256"])
    if job.conversion.register_only:
        return _register(work, sha256)
    step(1, "exporting to ONNX")
    from accel_toolchain.offload import offload
    from accel_toolchain.sources import find_source
    from accel_toolchain.verification import verify

    source = find_source(work.source, job.conversion.format)
    say(f"{source.format} found at {source.path.relative_to(work.source) or '.'}")
    if source.format == "FrozenGraph":
        from accel_toolchain.tf.frozen_graph import read_frozen_graph

        model = read_frozen_graph(source.path, job.conversion, job.samples, say)
    elif source.format == "SavedModel":
        from accel_toolchain.tf.saved_model import read_saved_model

        model = read_saved_model(source.path, job.conversion, job.samples, say)
    else:
        from accel_toolchain.onnx_source import read_onnx

        model = read_onnx(source.path, job.conversion, job.samples)
    say(f"ONNX: {len(model.proto.graph.node)} nodes, {model.proto.ByteSize()} bytes")
    step(2, "compiling for the device")
    parts, device = offload(model, job.conversion, say)
    step(3, "writing the artifact")
    artifact = Artifact(
        signature=model.signature,
        inputs=model.inputs,
        outputs=model.outputs,
        decode=model.decode,
        precision=job.conversion.precision if parts.program is not None else "float32",
        source_sha256=sha256,
        converter=f"accel-toolchain {__version__}",
        parts=parts,
    )
    artifact.write(work.artifact)
    step(4, f"comparing {job.samples} samples with the original")
    parity = verify(work.artifact, model, job.tolerance, say)
    return {
        "schema": "accel.dev/report/v1",
        "inputs": [tensor.to_json() for tensor in model.inputs],
        "outputs": [tensor.to_json() for tensor in model.outputs],
        "decode": model.decode,
        "device": device,
        **parity,
    }


def _register(work: Workspace, sha256: str) -> dict[str, Any]:
    """Keep the source as it is: nothing is opened, so nothing is known about it."""
    Artifact("", (), (), None, "", sha256, f"accel-toolchain {__version__}").write(work.artifact)
    target: Path = work.artifact / SOURCE
    work.source.rename(target)
    if not any(target.iterdir()):
        raise Terminal("InvalidModel", "spec.source.uri: the source is empty.")
    say("registered without conversion")
    return {
        "schema": "accel.dev/report/v1",
        "inputs": [],
        "outputs": [],
        "decode": None,
        "device": None,
        "parity": None,
    }


def _leave(work: Workspace, reason: str, message: str) -> int:
    write_note(work.outcome, {"ok": False, "reason": reason, "message": message})
    return 65


if __name__ == "__main__":
    sys.exit(main())
