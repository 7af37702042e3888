"""The whole way of a SavedModel, each step in a process of its own, as in a Job."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accel.oci import Reference, Registry, push_source
from accel_toolchain.workspace import Workspace
from tf_models import plain, save

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore"),  # TensorFlow's own, at import
]

Make = Callable[..., str]


def run(step: str, text: str, work: Workspace) -> dict[str, Any]:
    result = work.root / "termination"
    environment = {
        **os.environ,
        "ACCEL_JOB": text,
        "ACCEL_WORK": str(work.root),
        "ACCEL_TERMINATION_LOG": str(result),
    }
    command = [sys.executable, "-m", "accel_toolchain.cli", step]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(result.read_text()))


def test_the_same_savedmodel_is_one_version_and_one_digest_and_changed_weights_are_the_next(
    tf: Any, endpoint: str, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    with Registry(endpoint) as registry:
        for tag, seed in (("a", 1), ("b", 2)):
            source = save(tf, tmp_path / tag, plain, seed=seed)
            push_source(registry, source, Reference.parse(f"oci:///sources/whole:{tag}"))

    def register(tag: str, repository: str) -> dict[str, Any]:
        job = json.loads(convert_job(f"oci:///sources/whole:{tag}"))
        job["target"]["repository"] = repository
        for step in ("fetch", "convert"):
            run(step, json.dumps(job), work)
        return run("push", json.dumps(job), work)

    first = register("a", "models/test/whole")
    elsewhere = register("a", "models/test/elsewhere")
    assert elsewhere["model"]["digest"] == first["model"]["digest"], "converted twice, in two processes"
    assert register("a", "models/test/whole") == first
    second = register("b", "models/test/whole")
    assert second["model"]["version"] == 2
    assert second["model"]["digest"] != first["model"]["digest"]
    assert register("a", "models/test/whole")["model"] == first["model"]
