"""Programs without weights: the networks whose structure is known, as tables of layers."""

import numpy as np
from npu.bfp import PRESETS, Accumulation, Rounding
from npu.chain import Chain, Kind, Stage, Tensor
from npu.program import Program
from npu.registers import allocate, need_of
from npu.schedule import plan_loads
from npu.sku import load_sku

AFFINE, RELU, ADD = Stage.SCALE | Stage.BIAS, Stage.RELU, Stage.RESIDUAL
BIAS = Stage.BIAS


class Layers:
    """Structure and time need no weights; square pictures and windows, to be short."""

    def __init__(self, side: int = 224, channels: int = 3, native_dim: int = 128) -> None:
        self.native_dim = native_dim
        self.tensors = [Tensor(side, side, channels, native_dim=native_dim)]
        self.chains: list[Chain] = []
        self.names: list[str] = []

    def add(
        self, kind, source, side, channels, kernel=1, stride=1, pad=0, stage=AFFINE | RELU, dilation=1,
        accumulation=Accumulation.FP32_SEQ, **more,
    ) -> int:  # fmt: skip
        self.tensors.append(Tensor(side, side, channels, native_dim=self.native_dim))
        target = len(self.tensors) - 1
        shape = ((kernel,) * 2, (stride,) * 2, (dilation,) * 2, (pad,) * 2)
        self.chains.append(Chain(kind, accumulation, stage, *shape, source, target, **more))
        self.names.append(f"layer{target}")
        return target

    def concat(self, old: int, new: int) -> int:
        channels = self.tensors[old].channels + self.tensors[new].channels
        return self.add(Kind.CONCAT, old, self.tensors[old].height, channels, stage=ADD, residual=new)

    def program(self, outputs: tuple[int, ...] = (), sku: str = "bw-cnn-a10") -> Program:
        machine = load_sku(sku)
        chains, tensors = allocate(self.chains, self.tensors, self.names, machine)
        none = np.zeros(0, np.int8)
        return Program(
            "table", sku, PRESETS["msfp-a10"], Rounding.NEAREST_EVEN, tensors, chains, tuple(self.names),
            none, none, none.astype(np.float16), need_of(chains, tensors), self.native_dim, outputs,
            plan_loads(chains, tensors, machine),
        )  # fmt: skip


def slim_resnet(units) -> Layers:
    """ResNet v1 of TensorFlow slim: stride in a block's last 3 x 3, first pool without padding (55 x 55)."""
    n = Layers()
    side = 55
    x = n.add(Kind.EXPAND, 0, 112, 64, 7, 2, 3)
    x = n.add(Kind.MAX_POOL, x, side, 64, 3, 2, 0, Stage.NONE)
    for block, count in enumerate(units):
        base = 64 << block
        for unit in range(count):
            stride = 2 if unit == count - 1 and block < 3 else 1
            small = -(-side // stride)
            short = n.add(Kind.CONV, x, side, 4 * base, stage=AFFINE) if unit == 0 else x
            y = n.add(Kind.CONV, x, side, base)
            y = n.add(Kind.CONV, y, small, base, 3, stride, 1)
            stage, skip = AFFINE | ADD | RELU, (stride, stride)
            x = n.add(Kind.CONV, y, small, 4 * base, stage=stage, residual=short, residual_stride=skip)
            side = small
    return n


def keras_resnet50() -> Layers:
    """Keras' own: zero-padded pool (56 x 56), stride in a block's first 1 x 1."""
    n = Layers()
    side = 56
    x = n.add(Kind.EXPAND, 0, 112, 64, 7, 2, 3)
    x = n.add(Kind.MAX_POOL, x, side, 64, 3, 2, 1, Stage.NONE)
    for block, count in enumerate((3, 4, 6, 3)):
        base = 64 << block
        for unit in range(count):
            stride = 2 if unit == 0 and block > 0 else 1
            side = side // stride
            short = n.add(Kind.CONV, x, side, 4 * base, 1, stride, stage=AFFINE) if unit == 0 else x
            y = n.add(Kind.CONV, x, side, base, 1, stride)
            y = n.add(Kind.CONV, y, side, base, 3, 1, 1)
            x = n.add(Kind.CONV, y, side, 4 * base, stage=AFFINE | ADD | RELU, residual=short)
    return n


VGG_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def vgg16(side: int = 224) -> Layers:
    """The thirteen convolutions and five pools; conv1_2 to conv3_3 add their taps in float16."""
    n = Layers(side)
    x = 0
    for block, (count, channels) in enumerate(VGG_BLOCKS):
        x = _convolutions(n, x, side, count, channels, front=block < 3)
        side //= 2
        x = n.add(Kind.MAX_POOL, x, side, channels, 2, 2, 0, Stage.NONE)
    return n


def _convolutions(n: Layers, x: int, side: int, count: int, channels: int, *, front: bool) -> int:
    for _ in range(count):
        kind = Kind.CONV if x else Kind.EXPAND
        adding = Accumulation.FP16_TAPS if front and x else Accumulation.FP32_SEQ
        x = n.add(kind, x, side, channels, 3, 1, 1, BIAS | RELU, accumulation=adding)
    return x


def ssd_vgg300() -> tuple[Layers, tuple[int, ...]]:
    """Backbone, the heads of blocks 7 to 11, and raw conv4_3; also the tensors of the output queue."""
    n = Layers(300)
    x, side = 0, 300
    outputs = []
    for block, (count, channels) in enumerate(VGG_BLOCKS):
        x = _convolutions(n, x, side, count, channels, front=block < 3)
        outputs += [x] if block == 3 else []
        small = (150, 75, 37, 19, 19)[block]
        kernel, stride, pad = (3, 1, 1) if block == 4 else (2, 2, 0)
        x = n.add(Kind.MAX_POOL, x, small, channels, kernel, stride, pad, Stage.NONE)
        side = small
    plain = BIAS | RELU
    x = n.add(Kind.CONV, x, 19, 1024, 3, 1, 6, plain, dilation=6)
    x = n.add(Kind.CONV, x, 19, 1024, stage=plain)
    for small, channels, stride, pad, boxes in ((19, 1024, 0, 0, 6), (10, 512, 2, 1, 6), (5, 256, 2, 1, 6),
                                                (3, 256, 1, 0, 4), (1, 256, 1, 0, 4)):  # fmt: skip
        if stride:
            x = n.add(Kind.CONV, x, side, channels // 2, stage=plain)
            x = n.add(Kind.CONV, x, small, channels, 3, stride, pad, plain)
            side = small
        outputs += [n.add(Kind.CONV, x, side, boxes * k, 3, 1, 1, BIAS) for k in (4, 21)]
    return n, tuple(outputs)


def densenet(units=(6, 12, 24, 16), *, valid: bool = True, growth: int = 32, bottleneck: int = 4) -> Layers:
    """DenseNet-BC, BN-ReLU before each convolution; VALID pools (55, 27, 13, 6) or padded ones (56 to 7)."""
    n = Layers()
    side = 55 if valid else 56
    x = n.add(Kind.EXPAND, 0, 112, 2 * growth, 7, 2, 3)
    x = n.add(Kind.MAX_POOL, x, side, 2 * growth, 3, 2, 0 if valid else 1, Stage.NONE)
    for block, count in enumerate(units):
        for _ in range(count):
            y = n.add(Kind.IDENTITY, x, side, n.tensors[x].channels)
            y = n.add(Kind.CONV, y, side, bottleneck * growth)
            x = n.concat(x, n.add(Kind.CONV, y, side, growth, 3, 1, 1, BIAS))
        channels = n.tensors[x].channels
        x = n.add(Kind.IDENTITY, x, side, channels)
        if block < len(units) - 1:
            x = n.add(Kind.CONV, x, side, channels // 2, stage=BIAS)
            side //= 2
            x = n.add(Kind.AVERAGE_POOL, x, side, channels // 2, 2, 2, 0, Stage.SCALE)
    return n
