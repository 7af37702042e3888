"""The command of the toolchain's images: `accel-toolchain fetch|convert|push|build`.

One container runs one of them; the job comes in `ACCEL_JOB`, the result goes to the termination message, and
the exit code says whether to try again (65: no, a person must act; 75: yes; 137: killed for its memory).
"""

import argparse
import os
import sys
import traceback
from typing import Any, Final

from accel_toolchain import __version__, jobs, results
from accel_toolchain.conditions import Failure, Terminal
from accel_toolchain.workspace import Workspace

STEPS: Final = ("fetch", "convert", "push", "build")


def main(arguments: list[str] | None = None) -> int:
    """Run one step and return the container's exit code."""
    parser = argparse.ArgumentParser(prog="accel-toolchain", description="Steps of the operator's Jobs.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("step", choices=STEPS)
    step = parser.parse_args(arguments).step
    try:
        result = _run(step, os.environ.get("ACCEL_JOB", ""))
    except Failure as error:
        print(f"{step}: {error.reason}: {error.message}", file=sys.stderr, flush=True)
        results.write(results.failure(step, error))
        return error.exit_code
    except (
        Exception
    ) as error:  # a defect of ours: the trace belongs into the log, one sentence into the status
        traceback.print_exc()
        condition = Terminal(
            _UNEXPECTED[step], f"Unexpected {type(error).__name__}: {error}. See the container's log."
        )
        results.write(results.failure(step, condition))
        return condition.exit_code
    results.write(result)
    return 0


_UNEXPECTED: Final = {
    "fetch": "FetchFailed",
    "convert": "ConversionFailed",
    "push": "PushFailed",
    "build": "BuildFailed",
}


def _run(step: str, text: str) -> dict[str, Any]:
    if step == "build":
        from accel_toolchain.build import build

        return build(jobs.parse_build(text))
    job, work = jobs.parse_convert(text), Workspace.from_environment()
    if step == "fetch":
        from accel_toolchain.fetch import fetch

        fetch(job, work)
        return results.success("fetch")
    if step == "convert":
        from accel_toolchain.convert import convert

        convert(work, text)
        return results.success("convert")
    from accel_toolchain.push import push

    return push(job, work)


if __name__ == "__main__":
    sys.exit(main())
