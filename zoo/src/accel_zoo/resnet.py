"""ResNet v1 as TensorFlow slim's checkpoints have it: the stride sits in the *last* unit of a block.

Pool1 has no padding, as in the accelerator's firmware (55 x 55 instead of slim's 56 x 56; weights do not care).
"""

from accel_zoo.network import Network
from accel_zoo.recipe import Recipe

__all__ = ["UNITS", "resnet"]

# depth: (units per block, whether a unit is a bottleneck of 1x1, 3x3, 1x1 or two 3x3)
UNITS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
    200: ((3, 24, 36, 3), True),
}


def resnet(depth: int, *, classes: int = 1000, side: int = 224) -> Network:
    """ResNet of that depth; KeyError for one that has no table."""
    units, bottleneck = UNITS[depth]
    r = Recipe(f"resnet_v1_{depth}", epsilon=1e-5)
    x = _normalised(r, r.conv(r.picture, "conv1", 64, 7, 2, (3, 3, 3, 3)), "conv1")
    x = r.max_pool(x, "pool1", 3, 2)
    channels = 64
    for block, count in enumerate(units, start=1):
        base = 64 << (block - 1)
        out = 4 * base if bottleneck else base
        for unit in range(1, count + 1):
            stride = 2 if unit == count and block < len(units) else 1
            kind = "bottleneck_v1" if bottleneck else "basic_v1"
            scope = f"block{block}/unit_{unit}/{kind}"
            short = _short_cut(r, x, scope, channels, out, stride)
            y = _bottleneck(r, x, scope, base, stride) if bottleneck else _basic(r, x, scope, base, stride)
            x = r.relu(r.add(short, y, f"{scope}/add"), scope)
            channels = out
    x = r.global_average(x, "pool5")
    x = r.softmax(r.dense(x, "logits", classes), "predictions")
    return Network(f"resnet{depth}", (side, side, 3), tuple(r.layers), (x,))


def _normalised(r: Recipe, x: str, name: str, *, relu: bool = True) -> str:
    x = r.batch_norm(x, f"{name}/BatchNorm")
    return r.relu(x, f"{name}/Relu") if relu else x


def _short_cut(r: Recipe, x: str, scope: str, channels: int, out: int, stride: int) -> str:
    """Skip pixels where the channels stay; a 1x1 convolution where they change."""
    if channels == out:
        return x if stride == 1 else r.max_pool(x, f"{scope}/shortcut", 1, stride)
    x = r.conv(x, f"{scope}/shortcut", out, 1, stride)
    return _normalised(r, x, f"{scope}/shortcut", relu=False)


def _bottleneck(r: Recipe, x: str, scope: str, base: int, stride: int) -> str:
    x = _normalised(r, r.conv(x, f"{scope}/conv1", base, 1), f"{scope}/conv1")
    x = _normalised(r, r.conv(x, f"{scope}/conv2", base, 3, stride, (1, 1, 1, 1)), f"{scope}/conv2")
    return _normalised(r, r.conv(x, f"{scope}/conv3", 4 * base, 1), f"{scope}/conv3", relu=False)


def _basic(r: Recipe, x: str, scope: str, base: int, stride: int) -> str:
    x = _normalised(r, r.conv(x, f"{scope}/conv1", base, 3, stride, (1, 1, 1, 1)), f"{scope}/conv1")
    return _normalised(r, r.conv(x, f"{scope}/conv2", base, 3), f"{scope}/conv2", relu=False)
