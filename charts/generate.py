"""What the chart copies or derives: `python charts/generate.py`, and with --check the drift test.

- files/crds/: the CRDs of crds/ (Helm packages nothing from outside the chart's folder)
- files/rbac/: the rules of operator/rbac.yaml, operator/rbac-namespace.yaml and device-plugin/rbac.yaml
- files/alerts.yaml: operator/alerts.yaml
- values.schema.json: the shape of values.yaml, closed, with the rules of RULES below
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "fpga-operator"
RBAC = {
    "operator": ROOT / "operator" / "rbac.yaml",
    "operator-namespace": ROOT / "operator" / "rbac-namespace.yaml",
    "device-plugin": ROOT / "device-plugin" / "rbac.yaml",
}

QUANTITY = {"type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|[kKMGT]i?)?$"}
RESOURCES = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        name: {"type": "object", "additionalProperties": QUANTITY} for name in ("requests", "limits")
    },
}
CARDS = {"type": "integer", "minimum": 0, "maximum": 16}
SKU = {"enum": ["bw-cnn-a10", "bw-a10"]}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
RULES: dict[str, dict[str, Any]] = {
    # by path, else by the last name: what a default value alone does not tell
    "images.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "images.pullSecrets": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "resourceName": {"type": "string", "pattern": r"^[a-z0-9.-]+\.[a-z0-9.-]+/[A-Za-z0-9._-]+$"},
    "operator.maxConcurrentJobs": {"type": "integer", "minimum": 1},
    "operator.resyncSeconds": {"type": "number", "exclusiveMinimum": 0},
    "operator.devices.unhealthySeconds": {"type": "number", "minimum": 0},
    "operator.devices.nodeLostSeconds": {"type": "number", "minimum": 0},
    "operator.sweep.intervalSeconds": {"type": "number", "minimum": 1},
    "operator.sweep.graceSeconds": {"type": "number", "minimum": 0},
    "operator.jobs.deadlineSeconds": {"type": "integer", "minimum": 60},
    "operator.jobs.maxSourceBytes": {"type": "number", "minimum": 1},
    "operator.jobs.maxSourceFiles": {"type": "integer", "minimum": 1},
    "operator.jobs.maxSourceRatio": {"type": "integer", "minimum": 2},
    "emulator.flashSeconds": {"type": "number", "minimum": 0},
    "emulator.sku": SKU,
    "emulator.default": CARDS,
    "emulator.nodes": {
        "type": "object",
        "additionalProperties": {
            "oneOf": [
                CARDS,
                {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["count"],
                    "properties": {"count": CARDS, "sku": SKU},
                },
            ]
        },
    },
    "emulator.root": {"type": "string", "pattern": "^/"},
    "serviceMonitor.labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "prometheusRule.labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "networkPolicy.metricsFrom": {"type": "array", "items": {"type": "object"}},
    "port": PORT,
    "size": QUANTITY,
    "convertMemory": QUANTITY,
    "convertCpu": QUANTITY,
    "workVolume": QUANTITY,
    "cpuRequest": QUANTITY,
    "memoryRequest": QUANTITY,
    "memoryLimit": QUANTITY,
    "resources": RESOURCES,
    "nodeSelector": {"type": "object", "additionalProperties": {"type": "string"}},
    "tolerations": {"type": "array", "items": {"type": "object"}},
    "affinity": {"type": "object"},
}
# Helm adds this one to the values of every chart that is somebody's dependency.
GLOBAL = {"global": {"type": "object"}}


def shape(value: object, path: str = "") -> dict[str, Any]:
    """Return the JSON schema of one value of values.yaml."""
    rule = RULES.get(path) or RULES.get(path.rpartition(".")[2])
    if rule is not None:
        return rule
    match value:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            return {"type": "string"}
        case dict():
            below = {name: shape(part, f"{path}.{name}".lstrip(".")) for name, part in value.items()}
            return {"type": "object", "additionalProperties": False, "properties": below}
    raise TypeError(f"values.yaml: {path} needs a rule, its default does not tell what it takes")


def schema() -> str:
    """Return values.schema.json."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    whole = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of fpga-operator",
        **shape(values),
    }
    whole["properties"] = {**whole["properties"], **GLOBAL}
    return json.dumps(whole, indent=2) + "\n"


def rules(source: Path) -> str:
    """Return the rules of the one role in a room's rbac file, as the chart reads them."""
    documents = [document for document in yaml.safe_load_all(source.read_text()) if document]
    if len({document["kind"] for document in documents}) != 1:
        raise ValueError(f"{source}: roles of one kind to a file; the chart binds each file in its own way")
    found = [rule for document in documents for rule in document["rules"]]
    header = f"# Copied from {source.relative_to(ROOT)} by charts/generate.py; do not edit.\n"
    return header + yaml.safe_dump({"rules": found}, sort_keys=False)


def wanted() -> dict[Path, str]:
    """Return every generated file and its content."""
    files = {
        CHART / "files" / "crds" / crd.name: crd.read_text() for crd in sorted((ROOT / "crds").glob("*.yaml"))
    }
    files |= {
        CHART / "files" / "rbac" / f"{name}.yaml": rules(source)
        for name, source in RBAC.items()
        if source.exists()
    }
    files[CHART / "files" / "alerts.yaml"] = (ROOT / "operator" / "alerts.yaml").read_text()
    files[CHART / "values.schema.json"] = schema()
    return files


def main() -> int:
    """Write what differs, or with --check only name it; return the exit code."""
    files = wanted()
    stale = set((CHART / "files").rglob("*.yaml")) - set(files)
    differing = [file for file, text in files.items() if not file.exists() or file.read_text() != text]
    if "--check" in sys.argv[1:]:
        for file in sorted([*differing, *stale]):
            print(f"{file.relative_to(ROOT)} is out of date: run `make generate`", file=sys.stderr)
        return 1 if differing or stale else 0
    for file in stale:
        file.unlink()
    for file in differing:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(files[file])
    return 0


if __name__ == "__main__":
    sys.exit(main())
