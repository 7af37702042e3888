"""Networks drawn at random, with branches and several outputs: the three parts answer like float32."""

import os

import numpy as np
import pytest
from npu.compiler import compile_model
from npu.errors import NothingToOffload
from whole_models import check_parts, draw, infer, through_device

COUNT = 400 if os.environ.get("ACCEL_TEST_FULL") else 24
SAME = {"pads": [1, 1, 1, 1]}


class Drawing:
    """Grows a network one operator at a time; knows each tensor's side, and whether it is NHWC."""

    def __init__(self, net, seed):
        self.rng = np.random.default_rng(seed)
        self.n = net(("N", 3, 12, 12), seed=seed)
        self.sides, self.nhwc = {"x": 12}, {"x": False}

    def any(self, *, nhwc=False, but=()):
        names = [name for name in self.sides if self.nhwc[name] == nhwc and name not in but]
        late = names[-4:]  # mostly go on where the network has got to
        return names and str(self.rng.choice(late if self.rng.random() < 0.8 else names))

    def like(self, x, *, shape):
        """A tensor of the same size (or shape) and layout as x; maybe x itself."""
        names = [
            name
            for name in self.sides
            if (self.sides[name], self.nhwc[name]) == (self.sides[x], self.nhwc[x])
            and (not shape or self.n.channels[name] == self.n.channels[x])
        ]
        return str(self.rng.choice(names))

    def grow(self):
        x = self.any()
        side, channels = self.sides[x], self.n.channels[x]
        match int(self.rng.integers(14)):
            case 0 | 1 | 2:
                stride = 2 if side > 4 and self.rng.random() < 0.3 else 1
                out = int(self.rng.integers(2, 12))
                self.note(
                    self.n.conv(x, out, strides=[stride] * 2, bias=self.rng.normal(0, 1, out), **SAME),
                    -(-side // stride),
                )
            case 3:
                self.note(self.n.conv(x, int(self.rng.integers(2, 12)), (1, 1)), side)
            case 4:
                self.note(self.n.bn(x), side)
            case 5 | 6:
                self.note(self.n.relu(x), side)
            case 7 if side > 4:
                self.note(self.n.pool(x, 3, 2), (side - 3) // 2 + 1)
            case 8 if side > 4:
                self.note(self.n.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), side // 2)
            case 9:
                other = self.like(x, shape=False)
                joined = channels + self.n.channels[other]
                self.note(self.n.op("Concat", x, other, axis=1, channels=joined), side)
            case 10:
                self.note(self.n.op("Add", x, self.like(x, shape=True)), side)
            case 11:
                scale = self.rng.uniform(0.5, 1.5, (channels, 1, 1)).astype(np.float32)
                self.note(self.n.op("Mul", x, self.n.constant(scale)), side)
            case 12:
                turned = self.n.op("Transpose", x, perm=[0, 2, 3, 1])
                self.note(turned, side, nhwc=True)
                back = self.n.op("Relu", turned) if self.rng.random() < 0.5 else turned
                self.note(self.n.op("Transpose", back, perm=[0, 3, 1, 2]), side)
            case 13 if self.rng.random() < 0.3:
                self.note(self.n.op("Sigmoid", x), side)

    def note(self, name, side, *, nhwc=False):
        self.sides[name], self.nhwc[name] = side, nhwc

    def model(self):
        read = {name for node in self.n.nodes for name in node.input}
        ends = [
            name
            for node in self.n.nodes
            for name in node.output
            if name not in read or self.rng.random() < 0.1
        ]
        return self.n.model(*ends)


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_drawn_network_answers_like_float32(net, seed):
    drawing = Drawing(net, seed)
    while len(drawing.n.nodes) < 6 + seed % 12:
        drawing.grow()
    model = drawing.model()
    try:
        compiled = compile_model(model, precision="msfp16")
    except NothingToOffload:
        assert not any(node.op_type == "Conv" for node in model.graph.node)
        return
    check_parts(compiled)
    feeds = draw(model)
    expected, found = infer(model, feeds), through_device(compiled, feeds)
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape
        error = np.linalg.norm(found[name] - tensor)
        assert error < 0.08 * np.linalg.norm(tensor) + 1e-3, name
