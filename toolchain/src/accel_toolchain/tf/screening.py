"""Operators that no model to be served may hold, found by name before anything is loaded.

A SavedModel is a program: loading runs its initialisers and conversion folds constants, so an operator that
reads files would run here. The sandbox is the wall; this is the sign on it, with a reason that the user
understands.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from accel_toolchain.conditions import Terminal, listed
from accel_toolchain.tf.graphs import called, node_name

# Of TensorFlow 2.21's registry: what reads or writes files, opens connections, runs Python, or logs to a URL.
_FORBIDDEN: Final = re.compile(
    r"""(?x)
    ReadFile | WriteFile | MatchingFiles | .*MatchingFilesDataset | ImmutableConst | ReadVariableFromFile |
    PyFunc | PyFuncStateless | EagerPyFunc |
    (WholeFile|TextLine|FixedLengthRecord|TFRecord|Identity|LMDB)Reader(V2)? |
    Reader(Read|Num|Restore|Serialize|Reset).* |
    (TextLine|TFRecord|CSV|Sql|LMDB|Cache|Save|Load|FixedLengthRecord)Dataset(V\d)? |
    Experimental(CSV|Sql|LMDB)Dataset | .*SnapshotDataset.* | .*Snapshot(Chunk|Nested).* | .*DataService.* |
    RegisterDataset.* | DatasetToTFRecord | ExperimentalDatasetToTFRecord | InitializeTableFromTextFile.* |
    InitializeTableFromDataset | Save | SaveSlices | Restore | RestoreSlice | LoadAndRemapMatrix |
    GenerateVocabRemapping | DistributedSave | ImportEvent | CreateSummary(File|Db)Writer | SummaryWriter |
    Write.*Summary | WriteSummary | FlushSummaryWriter | Debug(Identity|NanCount|NumericSummary).* |
    FileSystemSetConfiguration | .*Rpc(Call|Server|Client|CheckStatus|GetValue|Server.*)? | TryRpc |
    Collective.* | _?Nccl.* | DumpTensor | .*Bigtable.* | .*BigQuery.* | .*Gcs.* | _?(Host)?(Recv|Send) |
    _?Xla(Send|Recv|Host).* | DTensorRestoreV2 | CalibrationStatisticsSaver | TPU.* | .*TPUEmbedding.* |
    ConfigureDistributedTPU | ConfigureAndInitializeGlobalTPU | RemoteCall
    """
)
# A SavedModel's own saver needs these, where `saver_def` leads to. Nothing that is served or run at loading may.
_SAVER: Final = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "ShardedFilespec"})


def screen(meta_graph: Any, served: list[str]) -> None:
    """Refuse forbidden operators anywhere, and saver operators anywhere but in the saver.

    Raises:
        Terminal: ForbiddenOperator, listing them.
    """
    found = {node.op for node in meta_graph.graph_def.node if is_forbidden(node)}
    for function in meta_graph.graph_def.library.function:
        found |= {node.op for node in function.node_def if is_forbidden(node)}
    found |= _misplaced_saver_operators(meta_graph, served)
    if found:
        raise Terminal(
            "ForbiddenOperator",
            f"spec.source: the model holds operators that read or write files, use the network or run Python: "
            f"{listed(sorted(found))}. Export the serving function without them.",
        )


def is_forbidden(node: Any) -> bool:
    """Tell whether one NodeDef is forbidden wherever it stands."""
    if _FORBIDDEN.fullmatch(node.op):
        return True
    stream = node.attr["output_stream"].s if node.op == "PrintV2" and "output_stream" in node.attr else b""
    return bytes(stream).startswith(b"file:")


def _misplaced_saver_operators(meta_graph: Any, served: list[str]) -> set[str]:
    saver = meta_graph.saver_def
    own = _below(meta_graph, [saver.save_tensor_name, saver.restore_op_name])
    others = _below(meta_graph, served)
    found = set()
    for node in meta_graph.graph_def.node:
        if node.op in _SAVER and (node.name not in own.nodes or node.name in others.nodes):
            found.add(node.op)
    for function in meta_graph.graph_def.library.function:
        name = function.signature.name
        if name not in own.functions or name in others.functions:
            found |= {node.op for node in function.node_def if node.op in _SAVER}
    return found


@dataclass
class _Below:
    """What tensors depend on: nodes of the graph, and functions that these call."""

    nodes: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)


def _below(meta_graph: Any, tensors: list[str]) -> _Below:
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    found = _Below()
    waiting = [node_name(tensor) for tensor in tensors]
    calls: list[str] = []
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in found.nodes:
            found.nodes.add(name)
            calls += called(nodes[name])
            waiting += [node_name(reference) for reference in nodes[name].input]
    while calls:
        name = calls.pop()
        if name in functions and name not in found.functions:
            found.functions.add(name)
            # A function's dead nodes count: they may have effects.
            calls += [inner for node in functions[name].node_def for inner in called(node)]
    return found
