"""VGG with biases and without batch normalisation, under the names of TensorFlow slim's checkpoints."""

from accel_zoo.network import Network, Pads
from accel_zoo.recipe import Recipe

__all__ = ["CONVOLUTIONS", "backbone", "vgg"]

# depth: how many convolutions each of the five blocks has
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)
SCOPES = {11: "vgg_a", 13: "vgg_b", 16: "vgg_16", 19: "vgg_19"}


def vgg(depth: int, *, classes: int = 1000, side: int = 224) -> Network:
    """VGG of that depth; KeyError for one that has no table. The fully connected layers stay on the host."""
    r = Recipe(SCOPES[depth])
    x = r.picture
    for block, count in enumerate(CONVOLUTIONS[depth], start=1):
        x = backbone(r, x, block, count)
        x = r.max_pool(x, f"pool{block}", 2, 2)
    x = r.host_relu(r.dense(x, "fc6", 4096), "fc6/Relu")
    x = r.host_relu(r.dense(x, "fc7", 4096), "fc7/Relu")
    x = r.softmax(r.dense(x, "fc8", classes), "predictions")
    return Network(f"vgg{depth}", (side, side, 3), tuple(r.layers), (x,))


def backbone(r: Recipe, x: str, block: int, count: int) -> str:
    """One block of 3x3 convolutions, each with bias and ReLU."""
    for number in range(1, count + 1):
        name = f"conv{block}/conv{block}_{number}"
        pads: Pads = (1, 1, 1, 1)
        x = r.relu(r.conv(x, name, WIDTHS[block - 1], 3, 1, pads, bias=True), f"{name}/Relu")
    return x
