"""The four kinds: what a user may write, what the operator answers, and the CRDs made of both."""

from fpga_operator.api.accelimage import AccelImageSpec, AccelImageStatus
from fpga_operator.api.accelservice import AccelServiceSpec, AccelServiceStatus
from fpga_operator.api.base import API_VERSION, GROUP, VERSION, Condition
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus
from fpga_operator.api.fpganode import FpgaNodeStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "AccelImageSpec",
    "AccelImageStatus",
    "AccelServiceSpec",
    "AccelServiceStatus",
    "Condition",
    "FpgaModelSpec",
    "FpgaModelStatus",
    "FpgaNodeStatus",
]
