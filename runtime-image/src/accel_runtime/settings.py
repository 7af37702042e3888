"""The container's environment, read once. Every default works in an AccelService's pod."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accel_runtime.errors import SettingsError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How this server is run. Times in seconds, sizes in bytes."""

    model_dir: Path = Path("/opt/accel/model")
    model_name: str = ""
    """Empty: the artifact's own name."""
    model_version: int = 1
    auth: bool = True
    keys_dir: Path = Path("/var/run/accel/keys")
    tls_dir: Path | None = None
    devices: tuple[str, ...] = ()
    device_root: Path = Path("/run/fpga")
    host: str = "[::]"
    grpc_port: int = 8500
    health_port: int = 8502
    metrics_port: int = 8503
    max_message_bytes: int = 16 * 1024 * 1024
    max_requests: int = 64
    """Requests that may wait or be computed at once; more are refused."""
    max_waiting_bytes: int = 256 * 1024 * 1024
    max_batch: int = 128
    max_pixels: int = 50_000_000
    hold: float = 30.0
    """How long a request without a deadline waits for a device that is being restored."""
    drain_delay: float = 0.5
    """How long new requests are still taken after SIGTERM; the pod's preStop waits for the endpoints."""
    drain_grace: float = 20.0
    log_level: str = "INFO"

    @property
    def socket(self) -> Path | None:
        """The device's socket: the first device that the kubelet allocated, or None."""
        return self.device_root / self.devices[0] / "device.sock" if self.devices else None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the ACCEL_* and FPGA_* variables; raises SettingsError naming the one that is wrong."""
        auth = environment.get("ACCEL_AUTH") or "required"
        if auth not in ("required", "disabled"):
            raise SettingsError(f"ACCEL_AUTH is {auth!r}; it is required or disabled")
        tls_dir = environment.get("ACCEL_TLS_DIR")
        devices = environment.get("FPGA_DEVICES", "")
        return cls(
            model_dir=Path(environment.get("ACCEL_MODEL_DIR") or cls.model_dir),
            model_name=environment.get("ACCEL_MODEL_NAME", ""),
            model_version=_number(environment, "ACCEL_MODEL_VERSION", cls.model_version, prefix="v"),
            auth=auth == "required",
            keys_dir=Path(environment.get("ACCEL_KEYS_DIR") or cls.keys_dir),
            tls_dir=Path(tls_dir) if tls_dir else None,
            devices=tuple(device.strip() for device in devices.split(",") if device.strip()),
            device_root=Path(environment.get("FPGA_DEVICE_ROOT") or cls.device_root),
            host=environment.get("ACCEL_HOST") or cls.host,
            grpc_port=_port(environment, "ACCEL_GRPC_PORT", cls.grpc_port),
            health_port=_port(environment, "ACCEL_HEALTH_PORT", cls.health_port),
            metrics_port=_port(environment, "ACCEL_METRICS_PORT", cls.metrics_port),
            max_message_bytes=_number(environment, "ACCEL_MAX_MESSAGE_BYTES", cls.max_message_bytes),
            max_requests=_number(environment, "ACCEL_MAX_REQUESTS", cls.max_requests),
            max_waiting_bytes=_number(environment, "ACCEL_MAX_WAITING_BYTES", cls.max_waiting_bytes),
            max_batch=_number(environment, "ACCEL_MAX_BATCH", cls.max_batch),
            max_pixels=_number(environment, "ACCEL_MAX_PIXELS", cls.max_pixels),
            hold=_seconds(environment, "ACCEL_HOLD_SECONDS", cls.hold),
            drain_delay=_seconds(environment, "ACCEL_DRAIN_DELAY_SECONDS", cls.drain_delay),
            drain_grace=_seconds(environment, "ACCEL_DRAIN_GRACE_SECONDS", cls.drain_grace),
            log_level=environment.get("ACCEL_LOG_LEVEL") or cls.log_level,
        )


def _number(environment: Mapping[str, str], name: str, default: int, prefix: str = "") -> int:
    text = environment.get(name)
    if not text:
        return default
    try:
        number = int(text.removeprefix(prefix))
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}; it is a whole number") from error
    if number < 0:
        raise SettingsError(f"{name} is {text!r}; it may not be negative")
    return number


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    port = _number(environment, name, default)
    if port > 65535:
        raise SettingsError(f"{name} is {port}; ports end at 65535")
    return port


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}; it is a number of seconds") from error
    if not 0 <= seconds < 86400:
        raise SettingsError(f"{name} is {text!r}; it is between 0 and a day")
    return seconds
