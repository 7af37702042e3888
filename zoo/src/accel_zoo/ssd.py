"""SSD-VGG300: a VGG-16 whose fully connected layers became convolutions, more blocks, and twelve heads.

Names and geometry are SSD-Tensorflow's, but pool3 has no padding: 300, 150, 75, 37, 19, 10, 5, 3, 1. The L2
normalisation of block 4 and its two heads stay on the host, as do the reshapes; the outputs are first all class
logits, then all box offsets, per block [height, width, boxes, 21 or 4].
"""

from accel_zoo.network import Network
from accel_zoo.recipe import Recipe
from accel_zoo.vgg import backbone

__all__ = ["BOXES", "ssd_vgg300"]

BOXES = {"block4": 4, "block7": 6, "block8": 6, "block9": 6, "block10": 4, "block11": 4}  # per position
OFFSETS = 4
SIDE = 300
CEILING = (0, 0, 1, 1)  # pool4: an odd last row and column count too


def ssd_vgg300(*, classes: int = 21, side: int = SIDE) -> Network:
    """SSD for pictures of 300 x 300; `classes` counts the background."""
    r = Recipe("ssd_300_vgg")
    x = r.picture
    ends: dict[str, str] = {}
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        x = backbone(r, x, block, count)
        if block == 4:
            ends["block4"] = x
        if block < 5:
            x = r.max_pool(x, f"pool{block}", 2, 2, CEILING if block == 4 else (0, 0, 0, 0))
    x = r.max_pool(x, "pool5", 3, 1, (1, 1, 1, 1))
    x = _conv(r, x, "conv6", 1024, 3, dilation=6)
    x = ends["block7"] = _conv(r, x, "conv7", 1024, 1)
    for block, narrow, wide, stride in (
        (8, 256, 512, 2),
        (9, 128, 256, 2),
        (10, 128, 256, 1),
        (11, 128, 256, 1),
    ):
        x = _conv(r, x, f"block{block}/conv1x1", narrow, 1)
        pad = 1 if stride == 2 else 0
        x = _conv(r, x, f"block{block}/conv3x3", wide, 3, stride, (pad, pad, pad, pad))
        ends[f"block{block}"] = x
    ends["block4"] = r.l2_norm(ends["block4"], "block4_box/L2Normalization")
    logits, offsets = [], []
    for block_name, tensor in ends.items():
        boxes, host = BOXES[block_name], block_name == "block4"
        scope = f"{block_name}_box"
        loc = r.conv(tensor, f"{scope}/conv_loc", boxes * OFFSETS, 3, bias=True, host=host)
        offsets.append(r.boxes(loc, f"{scope}/Reshape", OFFSETS))
        cls = r.conv(tensor, f"{scope}/conv_cls", boxes * classes, 3, bias=True, host=host)
        logits.append(r.boxes(cls, f"{scope}/Reshape_1", classes))
    outputs = (*logits, *offsets)
    return Network("ssd_vgg300", (side, side, 3), tuple(r.layers), outputs, means=(123.0, 117.0, 104.0))


def _conv(
    r: Recipe,
    x: str,
    name: str,
    channels: int,
    kernel: int,
    stride: int = 1,
    pads: tuple[int, int, int, int] | None = None,
    *,
    dilation: int = 1,
) -> str:
    x = r.conv(x, name, channels, kernel, stride, pads, dilation=dilation, bias=True)
    return r.relu(x, f"{name}/Relu")
