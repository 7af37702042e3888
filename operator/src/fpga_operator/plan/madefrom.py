"""What a model's version is made from: an edit of anything else does not convert it again."""

from fpga_operator.api.base import ApiModel
from fpga_operator.api.fpgamodel import Conversion, FpgaModelSpec, Verification
from fpga_operator.plan.asked import request
from fpga_operator.plan.jobs import job_name
from fpga_operator.plan.types import Manifest, Owner

DEFAULTS = {
    "mode": "Auto",
    "format": "Auto",
    "precision": "msfp-a10",
    "sku": "bw-cnn-a10",
    "requireFpga": True,
    "samples": 4,
}


def inputs(spec: FpgaModelSpec) -> Manifest:
    """Return what the outcome depends on: texts are not in it, and a default written out is as good as none.

    It holds what the user said and not what the operator made of it, so that a release with a new field asks nobody
    to convert again.
    """
    return {
        "source": spec.source.dump(),
        "conversion": _said(spec.conversion),
        "verification": _said(spec.verification),
    }


def _said(part: ApiModel | None) -> Manifest:
    found = part.dump() if part is not None else {}
    return {
        key: value for key, value in found.items() if value not in ([], {}) and value != DEFAULTS.get(key)
    }


def former_name(owner: Owner, spec: FpgaModelSpec) -> str:
    """Return the Job's name as release 0.1 gave it, from the generation: what it recorded stays answered."""
    what = {
        "source": spec.source.dump(),
        "conversion": (spec.conversion or Conversion()).dump(),
        "verification": (spec.verification or Verification()).dump(),
        "generation": owner.generation,
        "requestedAt": request(owner),
    }
    return job_name(owner, what)
