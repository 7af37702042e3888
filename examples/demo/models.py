"""The two example networks, made once and kept under ~/.cache by content."""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from examples.demo.phases import Phases

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Example:
    """A network's folder as its maker wrote it."""

    name: str
    key: str  # of everything that decides the content
    folder: Path

    @property
    def saved_model(self) -> Path:
        """Return what is pushed."""
        return self.folder / "saved_model"

    @property
    def objects(self) -> Path:
        """Return the folder of the three YAML objects."""
        return ROOT / "examples" / self.name


def _key(name: str) -> str:
    total = sha256(f"{version('tensorflow-cpu')} {version('keras')} {version('scikit-learn')}".encode())
    for source in sorted((ROOT / "examples" / name).glob("*.py")):
        total.update(source.name.encode() + b"\0" + source.read_bytes())
    return total.hexdigest()[:12]


def make(phases: Phases, name: str, module: str) -> Example:
    """Return the example `name`; runs `python -m MODULE FOLDER` where the cache has none."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accel-examples"
    key = _key(name)
    folder = base / f"{name}-{key}"
    if folder.exists():
        phases.say(f"{name}: kept from an earlier run ({folder})")
        return Example(name, key, folder)
    phases.doing(f"python -m {module}")
    base.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=base))
    try:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        phases.run([sys.executable, "-m", module, str(temporary)], cwd=ROOT, env=environment, errors=False)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Example(name, key, folder)
