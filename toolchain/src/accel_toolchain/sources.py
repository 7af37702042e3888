"""Which kind of model a source folder holds, and where in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from accel_toolchain.conditions import Terminal, listed


@dataclass(frozen=True)
class Source:
    """A model as it was found: the SavedModel's folder, or the file."""

    format: Literal["SavedModel", "Onnx", "FrozenGraph"]
    path: Path


_FILES: Final = {"Onnx": ".onnx", "FrozenGraph": ".pb"}  # in the order of preference


def find_source(root: Path, wanted: str) -> Source:
    """Return the model at the root of a source or one folder down.

    Raises:
        Terminal: NotASavedModel, InvalidModel (nothing found, several candidates).
    """
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    if wanted in ("Auto", "SavedModel"):
        for folder in folders:
            if (folder / "saved_model.pb").is_file():
                return Source("SavedModel", folder)
    for kind, ending in _FILES.items():
        if wanted not in ("Auto", kind):
            continue
        files = [path for folder in folders for path in sorted(folder.glob(f"*{ending}")) if path.is_file()]
        if len(files) > 1:
            names = listed([str(path.relative_to(root)) for path in files])
            raise Terminal(
                "InvalidModel",
                f"spec.source: it holds several {ending} files ({names}). Keep the one to serve.",
            )
        if files:
            return Source("Onnx" if kind == "Onnx" else "FrozenGraph", files[0])
    found = listed(sorted(path.name for path in root.iterdir())) or "nothing"
    if wanted in _FILES:
        raise Terminal(
            "InvalidModel",
            f"spec.source: no {_FILES[wanted]} file at its root or one folder down (it holds {found}). "
            "Correct spec.source.uri or spec.conversion.format.",
        )
    if wanted == "SavedModel":
        raise Terminal(
            "NotASavedModel",
            f"spec.source: no saved_model.pb at its root or one folder down (it holds {found}). Push the folder that "
            "tf.saved_model.save or model.export wrote (a Keras .h5 or .keras file is not one), or leave "
            "spec.conversion.format out for another kind of model.",
        )
    raise Terminal(
        "NotASavedModel",
        f"spec.source: no model at its root or one folder down: neither a saved_model.pb nor an .onnx file nor a "
        f"frozen graph's .pb (it holds {found}). Push the .onnx or .pb file, or the folder that tf.saved_model.save or "
        "model.export wrote; a Keras .h5 or .keras file is not one.",
    )
