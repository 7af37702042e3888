"""DenseNet-BC: batch normalisation and ReLU in front of each convolution, concatenation behind.

Names are those of the public TensorFlow checkpoints (`densenet121/dense_block1/conv_block1/x1/Conv/weights`). Pools
have no padding, as in the accelerator (55, 27, 13, 6).
"""

from accel_zoo.network import Network
from accel_zoo.recipe import Recipe

__all__ = ["BLOCKS", "densenet"]

# depth: (layers per block, growth, first channels)
BLOCKS = {
    121: ((6, 12, 24, 16), 32, 64),
    161: ((6, 12, 36, 24), 48, 96),
    169: ((6, 12, 32, 32), 32, 64),
    201: ((6, 12, 48, 32), 32, 64),
}
WIDENING = 4  # the 1x1 in front of a 3x3 makes that many times the growth


def densenet(depth: int, *, classes: int = 1000, side: int = 224) -> Network:
    """DenseNet of that depth; KeyError for one that has no table."""
    blocks, growth, channels = BLOCKS[depth]
    r = Recipe(f"densenet{depth}", epsilon=1.1e-5)
    x = r.conv(r.picture, "conv1", channels, 7, 2, (3, 3, 3, 3))
    x = r.relu(r.batch_norm(x, "BatchNorm"), "Relu")
    x = r.max_pool(x, "pool1", 3, 2)
    for block, count in enumerate(blocks, start=1):
        for number in range(1, count + 1):
            scope = f"dense_block{block}/conv_block{number}"
            y = _conv(r, x, f"{scope}/x1", WIDENING * growth, 1)
            y = _conv(r, y, f"{scope}/x2", growth, 3)
            x = r.concat(x, y, scope)
            channels += growth
        if block < len(blocks):
            channels //= 2
            x = _conv(r, x, f"transition_block{block}/blk", channels, 1)
            x = r.average_pool(x, f"transition_block{block}", 2, 2)
    x = r.relu(r.batch_norm(x, "final_block/BatchNorm"), "final_block/Relu")
    x = r.global_average(x, "final_block/global_avg_pool")
    x = r.softmax(r.dense(x, "logits", classes), "predictions")
    return Network(f"densenet{depth}", (side, side, 3), tuple(r.layers), (x,), factor=0.017)


def _conv(r: Recipe, x: str, scope: str, channels: int, kernel: int) -> str:
    x = r.relu(r.batch_norm(x, f"{scope}/BatchNorm"), f"{scope}/Relu")
    return r.conv(x, f"{scope}/Conv", channels, kernel)
