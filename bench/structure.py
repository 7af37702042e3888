"""A network's program without its weights, from the zoo's table: what timing needs, in milliseconds.

The chains are those that the compiler makes of the table's ONNX graph (tests/networks compares them); only the
numbers are absent, so such a program can be timed and listed, and neither written nor run.
"""

from dataclasses import replace

import numpy as np
from accel_zoo import network as zoo
from accel_zoo.network import PICTURE, Layer, Network
from npu.bfp import PRESETS, Accumulation, Preset, Rounding
from npu.chain import EXPANDER_CHANNELS, Chain, Kind, Stage, Tensor
from npu.compiler.frontblock import front_block
from npu.compiler.layers import Layer as Compiled
from npu.compiler.layers import ordered
from npu.program import Program
from npu.registers import allocate, need_of
from npu.schedule import plan_loads
from npu.sku import Sku, load_sku

__all__ = ["program_of"]

POOLS = {zoo.Kind.MAX_POOL: Kind.MAX_POOL, zoo.Kind.AVERAGE_POOL: Kind.AVERAGE_POOL}
BIASED = (Kind.CONV, Kind.EXPAND)


def program_of(network: Network, precision: str, sku: Sku | None = None) -> Program:
    """The device's part of the network as a program for the SKU. Raises DoesNotFit."""
    machine = sku or load_sku()
    preset = PRESETS[precision].on(machine.native_dim)
    layers = _Layers(network.device_part(), machine.native_dim)
    chains, tensors = allocate(layers.accumulating(preset), layers.tensors, layers.names, machine)
    nothing = np.zeros(0, np.int8)
    return Program(
        name=network.name,
        sku=machine.name,
        preset=preset,
        rounding=Rounding.NEAREST_EVEN,
        tensors=tensors,
        chains=chains,
        chain_names=tuple(layers.names),
        mantissas=nothing,
        exponents=nothing,
        vectors=nothing.astype(np.float16),
        need=need_of(chains, tensors),
        native_dim=machine.native_dim,
        outputs=layers.outputs,
        loads=plan_loads(chains, tensors, machine),
    )


class _Layers:
    """Chains so far; `made` is which tensor a layer's result is in."""

    def __init__(self, network: Network, native_dim: int) -> None:
        self.network, self.native_dim = network, native_dim
        self.shapes = network.shapes()
        self.tensors = [Tensor(*network.picture, native_dim=native_dim)]
        self.chains: list[Chain] = []
        self.names: list[str] = []
        self.made = {PICTURE: 0}
        self.strided: dict[str, tuple[str, tuple[int, int]]] = {}  # pools of 1 x 1: read around
        self.readers: dict[str, int] = dict.fromkeys(self.shapes, 0)
        for layer in network.layers:
            for name in layer.inputs:
                self.readers[name] += 1
        for layer in network.layers:
            self._add(layer)
        self.outputs = tuple(self.made[name] for name in network.outputs)
        self._order()

    def accumulating(self, preset: Preset) -> list[Chain]:
        """The chains, with the sums that the compiler gives them."""
        if Accumulation.FP16_TAPS not in preset.accumulations:
            return [replace(chain, accumulation=preset.accumulation) for chain in self.chains]
        taps = front_block(self.chains, self.tensors, self.outputs)
        return [
            replace(chain, accumulation=Accumulation.FP16_TAPS) if index in taps else chain
            for index, chain in enumerate(self.chains)
        ]

    def _order(self) -> None:
        """Put the chains into the compiler's order of execution."""
        by_name = dict(zip(self.names, self.chains, strict=True))
        layers = [
            Compiled(
                name,
                chain.kind,
                chain.source - 1,
                self.tensors[chain.target].shape,
                residual=None if chain.residual is None else chain.residual - 1,
            )
            for name, chain in by_name.items()
        ]
        placed, outputs = ordered(layers, [index - 1 for index in self.outputs])
        self.names = [layer.name for layer in placed]
        self.tensors = [
            self.tensors[0],
            *(Tensor(*layer.shape, native_dim=self.native_dim) for layer in placed),
        ]
        self.chains = [
            replace(
                by_name[layer.name],
                source=layer.source + 1,
                residual=None if layer.residual is None else layer.residual + 1,
                target=index + 1,
            )
            for index, layer in enumerate(placed)
        ]
        self.outputs = tuple(index + 1 for index in outputs)

    def _add(self, layer: Layer) -> None:
        source = layer.inputs[0]
        match layer.kind:
            case zoo.Kind.CONV:
                expands = source == PICTURE and self.shapes[source][2] <= EXPANDER_CHANNELS
                self._chain(Kind.EXPAND if expands else Kind.CONV, layer, Stage.BIAS)
            case zoo.Kind.BATCH_NORM:
                if not self._fuse(layer, source, Stage.SCALE | Stage.BIAS):
                    self._chain(Kind.IDENTITY, layer, Stage.SCALE | Stage.BIAS)
            case zoo.Kind.RELU:
                if not self._fuse(layer, source, Stage.RELU):
                    self._chain(Kind.IDENTITY, layer, Stage.RELU)
            case zoo.Kind.ADD:
                self._join(layer)
            case zoo.Kind.CONCAT:
                self._chain(Kind.CONCAT, layer, Stage.RESIDUAL, residual=self.made[layer.inputs[1]])
            case zoo.Kind.MAX_POOL if layer.kernel == (1, 1):
                self.strided[layer.name] = source, layer.stride
            case kind if kind in POOLS:
                self._chain(POOLS[kind], layer, Stage.SCALE if kind is zoo.Kind.AVERAGE_POOL else Stage.NONE)
            case _:
                raise ValueError(
                    f"{self.network.name}: {layer.name!r} is a {layer.kind.value}: not for the device"
                )

    def _chain(self, kind: Kind, layer: Layer, stage: Stage, residual: int | None = None) -> None:
        self.tensors.append(Tensor(*self.shapes[layer.name], native_dim=self.native_dim))
        target = len(self.tensors) - 1
        self.chains.append(
            Chain(
                kind=kind,
                accumulation=Accumulation.FP32_SEQ,
                stage=stage,
                kernel=layer.kernel,
                stride=layer.stride,
                dilation=layer.dilation,
                pad=layer.pads[:2],
                source=self.made[layer.inputs[0]],
                target=target,
                residual=residual,
            )
        )
        self.names.append(layer.name)
        self.made[layer.name] = target

    def _fuse(self, layer: Layer, source: str, stage: Stage) -> bool:
        """Put the layer into the chain that makes its source, if nobody else reads that."""
        at = self.made[source] - 1
        if self.readers[source] > 1 or at < 0 or self.chains[at].kind not in (*BIASED, Kind.IDENTITY):
            return False
        if self.chains[at].stage & (Stage.RELU | Stage.RESIDUAL) and stage is not Stage.RELU:
            return False
        self.chains[at] = replace(self.chains[at], stage=self.chains[at].stage | stage)
        self.made[layer.name] = at + 1
        return True

    def _join(self, layer: Layer) -> None:
        """The later of the two branches adds the earlier."""
        other, main = layer.inputs
        stride = (1, 1)
        if other in self.strided:
            other, stride = self.strided[other]
        at = self.made[main] - 1
        self.chains[at] = replace(
            self.chains[at],
            stage=self.chains[at].stage | Stage.RESIDUAL,
            residual=self.made[other],
            residual_stride=stride,
        )
        self.made[layer.name] = at + 1
