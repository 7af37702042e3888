"""What an estimate says, as plain records: `npu estimate --format json` has these keys."""

from dataclasses import asdict, dataclass

__all__ = ["Estimate", "LayerTime"]


@dataclass(frozen=True)
class LayerTime:
    """One chain, in cycles of the SKU's clock.

    `total_cycles` is `dram_stall` (waiting for weights), `latency_stall` (waiting for what it reads to leave the
    pipeline), and the longer of matrix unit and instruction issue; the layers' sum is the time on the device.
    `utilisation` counts the multiplications that the layer means, `padded_utilisation` those that the matrix unit
    makes. `loaded_bytes` come from DRAM for each picture: none if the weights stay in the matrix registers, more than
    `weight_bytes` if they come again for each band of rows. `initial_vrf` and `addsub_vrf_1` are the registers in use
    up to the highest while it runs.
    """

    name: str
    kind: str
    output: tuple[int, int, int]
    tiles: int
    vectors: int
    macs: int
    weight_bytes: int
    loaded_bytes: int
    activation_bytes: int
    mvm_cycles: int
    issue_cycles: int
    dram_cycles: int
    dram_stall: int
    latency_stall: int
    total_cycles: int
    bound_by: str
    utilisation: float
    padded_utilisation: float
    dram_bytes_per_second: float
    vrf_bytes_per_second: float
    initial_vrf: int
    addsub_vrf_1: int


@dataclass(frozen=True)
class Estimate:
    """`latency_ms` is one picture alone, on a device whose first weights were loaded behind the picture before;
    `inferences_per_second` is with the next picture's DMA and first loads beside the computing.

    `bound_by` is the busiest of compute, dram, issue, host, and latency (waiting for the pipeline).
    `critical_path` divides `latency_ms` among them; `bottleneck` is the layer that takes longest. `compute_ms`,
    `issue_ms` and `dram_ms` are how long each engine works for one picture.
    """

    sku: str
    precision: str
    latency_ms: float
    inferences_per_second: float
    bound_by: str
    bottleneck: str
    critical_path: dict[str, float]
    tiles: int
    vectors: int
    macs: int
    device_ms: float
    host_ms: float
    compute_ms: float
    issue_ms: float
    dram_ms: float
    tflops: float
    utilisation: float
    padded_utilisation: float
    dram_bytes: int
    matrix_rf: int
    initial_vrf: int
    addsub_vrf_0: int
    addsub_vrf_1: int
    multiply_vrf: int
    layers: tuple[LayerTime, ...]

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""
        return asdict(self)
