"""Operators that no model to be served may hold, found by name before anything is loaded.

A SavedModel is a program: loading runs its initialisers and conversion folds constants, so an operator that
reads files would run here. The sandbox is the wall; this is the sign on it, with a reason that the user
understands.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from accel_toolchain.conditions import Terminal, listed
from accel_toolchain.tf.graphs import called

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
# A SavedModel's own saver needs these, in graphs that are not served. Served graphs must not reach them.
_SAVER: Final = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "ShardedFilespec"})


def screen(meta_graph: Any, served: list[str]) -> None:
    """Refuse forbidden operators anywhere, and saver operators below the served tensors.

    Raises:
        Terminal: ForbiddenOperator, listing them.
    """
    found = {node.op for node in _all_nodes(meta_graph) if is_forbidden(node)}
    found |= {node.op for node in _reachable(meta_graph, served) if node.op in _SAVER}
    if found:
        raise Terminal(
            "ForbiddenOperator",
            "spec.source: the model holds operators that read or write files, use the network or run "
            "Python: "
            f"{listed(sorted(found))}. Export the serving function without them.",
        )


def is_forbidden(node: Any) -> bool:
    """Tell whether one NodeDef is forbidden wherever it stands."""
    if _FORBIDDEN.fullmatch(node.op):
        return True
    stream = node.attr["output_stream"].s if node.op == "PrintV2" and "output_stream" in node.attr else b""
    return bytes(stream).startswith(b"file:")


def _all_nodes(meta_graph: Any) -> Iterator[Any]:
    yield from meta_graph.graph_def.node
    for function in meta_graph.graph_def.library.function:
        yield from function.node_def


def _reachable(meta_graph: Any, tensors: list[str]) -> Iterator[Any]:
    """Yield the nodes that the served tensors depend on, through functions too."""
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    waiting = [tensor.split(":")[0].lstrip("^") for tensor in tensors]
    seen: set[str] = set()
    entered: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        node = nodes[name]
        yield node
        yield from _inside(node, functions, entered)
        waiting += [reference.split(":")[0].lstrip("^") for reference in node.input]


def _inside(node: Any, functions: dict[str, Any], seen: set[str]) -> Iterator[Any]:
    """Yield the nodes of all functions that a node calls; dead ones too, since they may have effects."""
    for name in called(node):
        if name in functions and name not in seen:
            seen.add(name)
            for inner in functions[name].node_def:
                yield inner
                yield from _inside(inner, functions, seen)
