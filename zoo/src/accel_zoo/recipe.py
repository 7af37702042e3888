"""Writes tables: each method adds a layer and returns its name, so that a network reads like a recipe."""

from accel_zoo.network import PICTURE, Kind, Layer, Pads

__all__ = ["Recipe", "same"]


def same(kernel: int, dilation: int = 1) -> Pads:
    """The pads that keep the size at stride 1, all around."""
    half = (kernel - 1) * dilation // 2
    return half, half, half, half


class Recipe:
    """Layers so far. `scope` is the prefix of the checkpoint's variables; layer names go without it."""

    def __init__(self, scope: str, epsilon: float = 1e-5) -> None:
        self.scope = scope
        self.epsilon = epsilon
        self.layers: list[Layer] = []
        self.picture = PICTURE

    def conv(
        self,
        x: str,
        name: str,
        channels: int,
        kernel: int,
        stride: int = 1,
        pads: Pads | None = None,
        *,
        dilation: int = 1,
        bias: bool = False,
        host: bool = False,
    ) -> str:
        """Convolution with square kernel; without `pads` the size stays as it is at stride 1."""
        return self._add(
            name,
            Kind.CONV,
            x,
            channels=channels,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            dilation=(dilation, dilation),
            pads=same(kernel, dilation) if pads is None else pads,
            bias=bias,
            host=host,
            variable=f"{self.scope}/{name}",
        )

    def batch_norm(self, x: str, name: str) -> str:
        """Batch normalisation."""
        return self._add(name, Kind.BATCH_NORM, x, epsilon=self.epsilon, variable=f"{self.scope}/{name}")

    def relu(self, x: str, name: str) -> str:
        """Negative numbers become zero."""
        return self._add(name, Kind.RELU, x)

    def max_pool(self, x: str, name: str, kernel: int, stride: int, pads: Pads = (0, 0, 0, 0)) -> str:
        """Largest number of each window."""
        return self._add(name, Kind.MAX_POOL, x, kernel=(kernel, kernel), stride=(stride, stride), pads=pads)

    def average_pool(self, x: str, name: str, kernel: int, stride: int) -> str:
        """Mean of each window."""
        return self._add(name, Kind.AVERAGE_POOL, x, kernel=(kernel, kernel), stride=(stride, stride))

    def add(self, x: str, other: str, name: str) -> str:
        """Sum of two tensors."""
        return self._add(name, Kind.ADD, x, other)

    def concat(self, old: str, new: str, name: str) -> str:
        """The channels of `old`, then those of `new`."""
        return self._add(name, Kind.CONCAT, old, new)

    def l2_norm(self, x: str, name: str) -> str:
        """Each position's channels over their length, times a number per channel; on the host."""
        return self._add(name, Kind.L2_NORM, x, epsilon=1e-12, variable=f"{self.scope}/{name}", host=True)

    def global_average(self, x: str, name: str) -> str:
        """Mean of all positions, on the host."""
        return self._add(name, Kind.GLOBAL_AVERAGE, x, host=True)

    def dense(self, x: str, name: str, channels: int) -> str:
        """Every number times every weight, on the host."""
        return self._add(
            name,
            Kind.DENSE,
            x,
            channels=channels,
            bias=True,
            variable=f"{self.scope}/{name}",
            host=True,
        )

    def host_relu(self, x: str, name: str) -> str:
        """As `relu`, behind a layer of the host."""
        return self._add(name, Kind.RELU, x, host=True)

    def softmax(self, x: str, name: str) -> str:
        """Probabilities, on the host."""
        return self._add(name, Kind.SOFTMAX, x, host=True)

    def boxes(self, x: str, name: str, numbers: int) -> str:
        """A head's channels as boxes of `numbers` each, on the host."""
        return self._add(name, Kind.BOXES, x, kernel=(1, numbers), host=True)

    def _add(self, name: str, kind: Kind, *inputs: str, **more: object) -> str:
        self.layers.append(Layer(name, kind, inputs, **more))  # type: ignore[arg-type]
        return name
