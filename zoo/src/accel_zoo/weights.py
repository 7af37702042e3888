"""Numbers for a network's variables, where no trained ones are to be had.

A deep network with plain random weights answers the same class for every picture, and its numbers leave float16's
range or vanish. So the statistics of every layer are measured on a few pictures, layer by layer: a batch
normalisation gets those that its input really has; a convolution with a bias is scaled and shifted to them; the
classifier is centred. That makes tensors worth comparing. It does not make answers worth anything.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from accel_zoo.forward import apply, walk
from accel_zoo.network import Kind, Layer, Network
from accel_zoo.pictures import pictures

__all__ = ["blank_weights", "random_weights"]

Float32 = NDArray[np.float32]
PIXELS = 4 * 224 * 224  # of all pictures together: four of the usual size, more of smaller ones
MOST_PICTURES = 48
BRANCH_SCALE = 0.25  # of a residual branch's last normalisation: a unit refines and does not replace
# A ReLU in the middle of a centred distribution keeps half of a small error's energy and a third of what differs
# between positions: errors grow by 1.7 dB a layer, and a deep random network answers noise in any arithmetic but
# float32's. With most numbers above zero it is half a decibel.
SHIFT, SHIFT_SPREAD = 0.8, 0.3
LOGIT_SPREAD = 3.0  # standard deviation of the classifier's answers over the pictures
PRIOR = 8  # positions that the mean of all channels' variances counts for
L2_SCALE = 20.0  # what SSD starts with


def random_weights(network: Network, seed: int = 0) -> dict[str, Float32]:
    """Return every variable by its checkpoint name, calibrated on a few seeded pictures."""
    height, width, _ = network.picture
    count = min(max(PIXELS // (height * width), 2), MOST_PICTURES)
    calibration = _Calibration(network, np.random.default_rng(seed))
    walk(network, pictures(network, count, seed), calibration.layer)
    return calibration.variables


def blank_weights(network: Network) -> dict[str, Float32]:
    """Return every variable by its checkpoint name, zeros and ones, at no cost of time or memory."""
    ones = ("/gamma", "/moving_variance")
    return {
        name: np.broadcast_to(np.float32(name.endswith(ones)), shape) for name, shape in network.variables()
    }


class _Calibration:
    def __init__(self, network: Network, rng: np.random.Generator) -> None:
        self.rng = rng
        self.shapes = dict(network.variables())
        self.variables: dict[str, Float32] = {}
        readers = [(name, layer.kind, at) for layer in network.layers for at, name in enumerate(layer.inputs)]
        self.branches = {name for name, kind, at in readers if kind is Kind.ADD and at == 1}
        self.classifiers = {name for name, kind, _ in readers if kind is Kind.SOFTMAX}

    def layer(self, layer: Layer, inputs: list[Float32]) -> Float32:
        """Choose the layer's variables and return its result with them."""
        match layer.kind:
            case Kind.BATCH_NORM:
                self._batch_norm(layer, inputs[0])
            case Kind.L2_NORM:
                name = f"{layer.variable}/gamma"
                self.variables[name] = np.full(self.shapes[name], L2_SCALE, np.float32)
            case Kind.CONV | Kind.DENSE:
                name = f"{layer.variable}/weights"
                self.variables[name] = _he(self.rng, self.shapes[name])
                if layer.bias:
                    return self._biased(layer, inputs)
        return apply(layer, inputs, self.variables)

    def _batch_norm(self, layer: Layer, x: Float32) -> None:
        channels = x.shape[3]
        scale = BRANCH_SCALE if layer.name in self.branches else 1.0
        mean, variance = _statistics(x)
        chosen = {
            "gamma": self.rng.uniform(0.7 * scale, 1.3 * scale, channels),
            "beta": self.rng.normal(scale * SHIFT, scale * SHIFT_SPREAD, channels),
            "moving_mean": mean,
            "moving_variance": variance,
        }
        self.variables |= {
            f"{layer.variable}/{part}": np.asarray(numbers, np.float32) for part, numbers in chosen.items()
        }

    def _biased(self, layer: Layer, inputs: list[Float32]) -> Float32:
        """Scale the weights and choose biases so that every channel has spread one around its own mean.

        A fully connected layer sees too few numbers for statistics per channel: it is scaled as a whole. The
        classifier is centred instead, so that its answer is in what differs between pictures.
        """
        channels = self.shapes[f"{layer.variable}/biases"][0]
        beta = self.rng.normal(SHIFT, SHIFT_SPREAD, channels).astype(np.float32)
        x = apply(replace(layer, bias=False), inputs, self.variables)
        mean, variance = _statistics(x)
        if layer.kind is Kind.DENSE:
            centre = mean if layer.name in self.classifiers else np.zeros_like(mean)
            mean, variance = centre, np.full_like(mean, ((x - centre) ** 2).mean())
            if layer.name in self.classifiers:
                beta[:] = 0
                variance /= np.float32(LOGIT_SPREAD**2)
        scale = 1 / np.sqrt(variance + np.float32(1e-6))
        self.variables[f"{layer.variable}/weights"] *= scale
        self.variables[f"{layer.variable}/biases"] = beta - mean * scale
        return np.asarray(x * scale + self.variables[f"{layer.variable}/biases"], np.float32)


def _he(rng: np.random.Generator, shape: tuple[int, ...]) -> Float32:
    """Normal numbers that keep the variance through a ReLU."""
    drawn = rng.standard_normal(shape, dtype=np.float32)
    drawn *= np.float32(np.sqrt(2 / math.prod(shape[:-1])))
    return drawn


def _statistics(x: Float32) -> tuple[Float32, Float32]:
    """Mean and variance per channel; few positions tell little, so their variance leans on all channels'."""
    count = x.size // x.shape[3]
    variance = x.var(axis=(0, 1, 2))
    pulled = (count * variance + PRIOR * variance.mean()) / (count + PRIOR)
    return x.mean(axis=(0, 1, 2)), pulled.astype(np.float32)
