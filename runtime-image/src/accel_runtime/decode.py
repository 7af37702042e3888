"""The head of a model that takes encoded pictures: strings in, one array out.

TensorFlow graphs decode and resize inside the graph; the converter recognises that part and writes it into
model.json as `decode`, because neither ONNX Runtime nor the FPGA can execute it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from accel_runtime import resize
from accel_runtime.errors import ArtifactError, InvalidInput
from accel_runtime.pictures import MAX_PIXELS, decode_picture

__all__ = ["Decode", "Step", "decode_pictures"]

Pixels = NDArray[np.float32] | NDArray[np.uint8]


@dataclass(frozen=True)
class Step:
    """One operation on a picture. Sizes in pixels; `side` is the smaller side's new length
    (resizeSmallest).
    """

    op: Literal["resize", "resizeSmallest", "crop"]
    height: int = 0
    width: int = 0
    side: int = 0
    method: Literal["bilinear", "nearest"] = "bilinear"
    half_pixel_centers: bool = False
    align_corners: bool = False

    def apply(self, picture: Pixels) -> Pixels:
        """Return the picture [h,w,C] after this step."""
        if self.op == "crop":
            return self._crop(picture)
        height, width = self._target(picture.shape[0], picture.shape[1])
        resized = resize.bilinear if self.method == "bilinear" else resize.nearest
        return resized(
            picture,
            height,
            width,
            half_pixel_centers=self.half_pixel_centers,
            align_corners=self.align_corners,
        )

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if self.op == "resize":
            return self.height, self.width
        # The smaller side becomes exactly `side`, the other keeps the aspect ratio and is cut to an integer.
        smallest = min(height, width)
        return height * self.side // smallest, width * self.side // smallest

    def _crop(self, picture: Pixels) -> Pixels:
        height, width = picture.shape[:2]
        if height < self.height or width < self.width:
            raise InvalidInput(
                f"the picture is {width}×{height}; {self.width}×{self.height} pixels are cut from its centre"
            )
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return picture[top : top + self.height, left : left + self.width]


@dataclass(frozen=True)
class Decode:
    """What model.json says under `decode`."""

    input: str
    """The wire input that carries the strings."""
    tensor: str
    """The tensor that the graphs read."""
    channels: Literal[1, 3]
    dtype: Literal["float32", "uint8"]
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Decode":
        """Read model.json's `decode`; raises ArtifactError naming the field."""
        try:
            channels, dtype = document["channels"], document["dtype"]
            steps = tuple(_step(step) for step in document.get("steps", []))
            head = cls(str(document["input"]), str(document["tensor"]), channels, dtype, steps)
        except KeyError as error:
            raise ArtifactError(f"model.json: decode lacks {error}") from error
        if channels not in (1, 3):
            raise ArtifactError(f"model.json: decode.channels is {channels}; 1 and 3 are known")
        if dtype not in ("float32", "uint8"):
            raise ArtifactError(f"model.json: decode.dtype is {dtype}; float32 and uint8 are known")
        return head

    def run(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
        """Return one picture as [H,W,C] after all steps; values 0..255. Raises InvalidInput."""
        picture: Pixels = decode_picture(data, self.channels, max_pixels=max_pixels)
        for step in self.steps:
            picture = step.apply(picture)
        return picture.astype(self.dtype)


def decode_pictures(head: Decode, strings: NDArray[Any], *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return encoded pictures [N] as one array [N,H,W,C] (a scalar string gives [H,W,C]).

    Raises InvalidInput naming the picture's place in the batch.
    """
    pictures: list[Pixels] = []
    kept = 0
    for place, data in enumerate(strings.reshape(-1).tolist()):
        try:
            pictures.append(head.run(data, max_pixels=max_pixels))
        except InvalidInput as error:
            raise InvalidInput(f"input {head.input!r}, picture {place}: {error}") from error
        kept += pictures[-1].shape[0] * pictures[-1].shape[1]
        if kept > max_pixels:
            raise InvalidInput(f"input {head.input!r}: the batch has more than {max_pixels} pixels")
    _same_sizes(head, pictures)
    if strings.ndim == 0:
        return pictures[0]
    batch: NDArray[Any] = np.stack(pictures)
    return batch


def _same_sizes(head: Decode, pictures: Sequence[Pixels]) -> None:
    sizes = {picture.shape for picture in pictures}
    if len(sizes) > 1:
        raise InvalidInput(
            f"input {head.input!r}: the model does not resize, so all pictures of a batch must have one size"
        )


def _step(document: Mapping[str, Any]) -> Step:
    op, method = document["op"], document.get("method", "bilinear")
    if op not in ("resize", "resizeSmallest", "crop"):
        raise ArtifactError(
            f"model.json: decode.steps has op {op!r}; this runtime is older than the converter"
        )
    if method not in ("bilinear", "nearest"):
        raise ArtifactError(f"model.json: decode.steps has method {method!r}; bilinear and nearest are known")
    sizes = {key: int(document.get(key, 0)) for key in ("height", "width", "side")}
    needed = ("side",) if op == "resizeSmallest" else ("height", "width")
    for key in needed:
        if sizes[key] <= 0:
            raise ArtifactError(f"model.json: decode.steps: {op} needs a positive {key}")
    return Step(
        op=op,
        method=method,
        half_pixel_centers=bool(document.get("halfPixelCenters", False)),
        align_corners=bool(document.get("alignCorners", False)),
        **sizes,
    )
