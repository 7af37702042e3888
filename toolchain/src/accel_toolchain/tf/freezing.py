"""From a SavedModel to one GraphDef without variables, with as little memory as it can be done.

The model is loaded, asked for its answers to the samples, frozen and dropped; what follows sees the GraphDef
only.
"""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from accel_toolchain.conditions import Terminal, is_out_of_memory
from accel_toolchain.tf.graphs import GraphDef
from accel_toolchain.tf.signature import Port, Signature, is_tensorflow1


@dataclass(frozen=True)
class Frozen:
    """A GraphDef, and where the signature's ports are in it: port -> tensor name."""

    graph: GraphDef
    inputs: dict[Port, str]
    outputs: dict[Port, str]


@dataclass(frozen=True)
class InputSpec:
    """What an input accepts; None for any size."""

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


class Original:
    """A loaded model: asked, then frozen, which lets go of it."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._loaded: Any = None
        self._graph: Any = None
        self._session: Any = None
        self._function: Any = None

    @classmethod
    def of_saved_model(cls, path: Path, meta_graph: Any, signature: Signature) -> "Original":
        """Load a SavedModel's folder; raises Terminal (InvalidModel, UnsupportedOperator)."""
        original = cls(signature)
        tags = list(meta_graph.meta_info_def.tags)
        try:
            if is_tensorflow1(meta_graph):
                with original._open_session().as_default():
                    tf.compat.v1.saved_model.load(original._session, tags, str(path))
            else:
                original._loaded = tf.saved_model.load(str(path), tags=tags)  # owns the variables
                original._function = original._loaded.signatures[signature.key]
        except Exception as error:  # TensorFlow's loader raises whatever a damaged file makes of it
            raise load_failure(error) from error
        return original

    @classmethod
    def of_graph(cls, graph: GraphDef, signature: Signature) -> "Original":
        """Import a GraphDef without variables; raises Terminal (InvalidModel, UnsupportedOperator)."""
        original = cls(signature)
        try:
            with original._open_session().as_default():
                tf.import_graph_def(graph, name="")
            for port in (*signature.inputs, *signature.outputs):
                original._tensor(port)
        except Exception as error:  # as above
            raise load_failure(error) from error
        return original

    def _open_session(self) -> Any:
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph, config=_single_threaded())
        return self._graph

    def input_specs(self) -> dict[Port, InputSpec]:
        """Return what each input accepts."""
        specs = {}
        for port in self.signature.inputs:
            tensor = (
                self._tensor(port)
                if self._session
                else self._function.structured_input_signature[1][port.alias]
            )
            if tensor.shape.rank is None:
                raise Terminal(
                    "InvalidModel",
                    f"spec.source: the input {port.name} has no known rank. Export it with a shape.",
                )
            dtype = np.dtype(object) if tensor.dtype == tf.string else np.dtype(tensor.dtype.as_numpy_dtype)
            specs[port] = InputSpec(dtype, tuple(tensor.shape.as_list()))
        return specs

    def answer(self, inputs: dict[Port, NDArray[Any]]) -> dict[Port, NDArray[Any]]:
        """Run the original."""
        try:
            if self._session:
                feeds = {self._tensor(port): value for port, value in inputs.items()}
                values = self._session.run([self._tensor(port) for port in self.signature.outputs], feeds)
                return dict(zip(self.signature.outputs, map(np.asarray, values), strict=True))
            results = self._function(**{port.alias: tf.constant(value) for port, value in inputs.items()})
            return {port: results[port.alias].numpy() for port in self.signature.outputs}
        except tf.errors.ResourceExhaustedError:
            raise  # memory is no property of the model
        except tf.errors.OpError as error:
            text = " ".join(str(error.message).split())[:300]
            raise Terminal(
                "InvalidModel", f"spec.source: the model itself fails on a sample input: {text}"
            ) from error

    def freeze(self) -> Frozen:
        """Return the model as a GraphDef with constants, and let go of everything else."""
        from tensorflow.python.framework import convert_to_constants

        signature = self.signature
        try:
            if self._session:
                graph = convert_to_constants.convert_variables_to_constants_from_session_graph(
                    self._session,
                    self._graph.as_graph_def(),
                    [port.name.rpartition(":")[0] for port in signature.outputs],
                )
                self._session.close()
                frozen = Frozen(
                    graph, {p: p.name for p in signature.inputs}, {p: p.name for p in signature.outputs}
                )
            else:
                function = self._function
                # The flattened order of a signature's outputs is that of its sorted keys.
                keys = sorted(function.structured_outputs)
                converted = convert_to_constants.convert_variables_to_constants_v2(
                    function, lower_control_flow=False
                )
                places = {tensor.name.rpartition(":")[0]: tensor.name for tensor in converted.inputs}
                frozen = Frozen(
                    converted.graph.as_graph_def(),
                    {port: _placeholder(port, places) for port in signature.inputs},
                    {port: converted.outputs[keys.index(port.alias)].name for port in signature.outputs},
                )
        except (ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError) as error:
            raise Terminal(
                "ConversionFailed", f"spec.source: its variables cannot be frozen: {_text(error)}"
            ) from error
        self._session = self._function = self._graph = self._loaded = None
        gc.collect()
        return frozen

    def _tensor(self, port: Port) -> Any:
        return self._graph.get_tensor_by_name(port.name)


def _placeholder(port: Port, places: dict[str, str]) -> str:
    """Find a signature's argument among the frozen function's inputs; TensorFlow sanitises argument names."""
    for name in (port.alias, port.alias.replace("/", "_").replace(".", "_"), port.alias.lower()):
        if name in places:
            return places[name]
    if len(places) == 1:
        return next(iter(places.values()))
    raise KeyError(f"argument {port.alias} among {sorted(places)}")


def load_failure(error: Exception) -> Terminal:
    """Return the condition for a SavedModel that TensorFlow does not load."""
    if is_out_of_memory(error):
        raise error
    text = _text(error)
    for mark in ("Op type not registered '", "No OpKernel was registered to support Op '"):
        if mark in str(error):
            name = str(error).split(mark, 1)[1].split("'", 1)[0]
            return Terminal(
                "UnsupportedOperator",
                f"spec.source: TensorFlow {tf.__version__} has no operator {name}. Export the model without "
                "custom operators.",
            )
    return Terminal("InvalidModel", f"spec.source: TensorFlow {tf.__version__} cannot load the model: {text}")


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _single_threaded() -> Any:
    return tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
