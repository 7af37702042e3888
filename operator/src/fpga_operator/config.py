"""The operator's configuration file, checked once at start."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from fpga_operator.errors import ConfigError


class _Section(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Images(_Section):
    """Images that Jobs run and AccelImages are built on, as a node can pull them."""

    toolchain: str
    converter: str
    runtime: str


class Registry(_Section):
    """The one store: its address for Jobs, and its name in pod specs."""

    endpoint: str = "http://registry.accel-system.svc:5000"
    node_name: str = "localhost:5000"
    insecure_bases: bool = True
    secret_name: str = (
        ""  # a dockerconfigjson Secret that each namespace with models holds; empty: no credentials
    )
    # The operator's own account, for the sweep; the file may be missing.
    account_file: Path = Path("/var/run/accel/registry/.dockerconfigjson")


class Jobs(_Section):
    """Bounds of one conversion; memory and disk as Kubernetes quantities."""

    convert_memory: str = "4Gi"
    convert_cpu: str = "1"
    work_volume: str = "8Gi"
    deadline_seconds: int = Field(default=1800, ge=60)
    max_source_bytes: int = Field(default=4 * 2**30, ge=1)
    max_source_files: int = Field(default=20_000, ge=1)
    max_source_ratio: int = Field(default=200, ge=2)  # unpacked to packed bytes of an archive


class Serving(_Section):
    """Host resources of a replica whose AccelService names none."""

    cpu_request: str = "100m"
    memory_request: str = "256Mi"
    memory_limit: str = "2Gi"


class Devices(_Section):
    """How long bad news of hardware must last before a replica moves, and good news before a device counts again."""

    unhealthy_seconds: float = Field(default=10, ge=0)
    node_lost_seconds: float = Field(default=30, ge=0)


class Sweep(_Section):
    """When the registry is swept, and of what. `catalog`: every models/ and images/ in it is this cluster's."""

    interval_seconds: float = Field(default=3600, ge=1)
    grace_seconds: float = Field(default=86400, ge=0)
    dry_run: bool = False
    sources: bool = False
    catalog: bool = True


class Config(_Section):
    """All of it. Times in seconds."""

    images: Images
    registry: Registry = Registry()
    resource_name: str = "fpga.intel.com/arria10"
    external_address: str = ""
    max_concurrent_jobs: int = Field(default=2, ge=1)
    jobs: Jobs = Jobs()
    serving: Serving = Serving()
    sweep: Sweep = Sweep()
    namespace: str = "accel-system"  # the operator's own
    devices: Devices = Devices()
    resync_seconds: float = Field(default=30, gt=0)
    master_key_file: Path = Path("/var/run/accel/master/key")


def load(path: Path) -> Config:
    """Read the file.

    Raises:
        ConfigError: names the file and each wrong key.
    """
    try:
        return Config.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {wrong}") from error
