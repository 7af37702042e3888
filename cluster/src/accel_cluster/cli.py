"""The command line: `python -m accel_cluster …`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from accel_cluster import packages, progress, toolchain
from accel_cluster.cluster import Cluster
from accel_cluster.errors import ClusterError

OK, FAILED, NOT_WELL = 0, 1, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    asked = parser().parse_args(argv)
    try:
        return _run(asked)
    except ClusterError as error:
        progress.say(f"accel_cluster {asked.command}: {error}")
        return FAILED
    except KeyboardInterrupt:
        progress.say("interrupted: the same command goes on from here, `down` cleans up")
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(
        prog="python -m accel_cluster", description="A throw-away Kubernetes cluster."
    )
    commands = root.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="bring it up, or what is missing of it")
    commands.add_parser("down", help="remove it without a trace")
    commands.add_parser("status", help=f"show its parts; exit code {NOT_WELL} if one is not well")
    commands.add_parser("kubeconfig", help="print the kubeconfig's path")
    commands.add_parser("build", help="build all binaries into the cache")
    program = commands.add_parser("which", help="print the path of kubectl, helm, kube-apiserver, etcd, …")
    program.add_argument("program")
    commands.add_parser("pytest-options", help="print the options that make pytest-kind use this cluster")
    push = commands.add_parser("push", help="push an image; print what pods call it")
    push.add_argument("image", type=Path, help="OCI archive, OCI layout folder or Docker archive")
    push.add_argument("name", help="NAME:TAG in the cluster's registry")
    node = commands.add_parser(
        "node",
        help="kill, start, restart, cordon, uncordon a node, restart its kubelet, or run a command on it",
    )
    actions = node.add_subparsers(dest="action", required=True)
    for action in ("kill", "start", "restart", "restart-kubelet", "cordon", "uncordon"):
        actions.add_parser(action).add_argument("name")
    control = commands.add_parser(
        "control-plane",
        help="freeze, thaw or kill (it is started again at once) a program of the control plane",
    )
    control.add_argument("action", choices=("freeze", "thaw", "kill"))
    control.add_argument("part", choices=("etcd", "kube-apiserver"))
    run = actions.add_parser("exec")
    run.add_argument("name")
    run.add_argument("argv", nargs=argparse.REMAINDER)
    return root


def _run(asked: argparse.Namespace) -> int:
    if asked.command == "build":
        packages.ensure()
        toolchain.ensure()
        return OK
    cluster = Cluster()
    match asked.command:
        case "up":
            cluster.up()
            progress.say(f"── up: export KUBECONFIG={cluster.kubeconfig}")
        case "down":
            cluster.down()
        case "status":
            rows = cluster.status()
            for part, text, well in rows:
                print(f"{'ok ' if well else 'NOT'}  {part:<22}  {text}")
            return OK if all(well for _, _, well in rows) else NOT_WELL
        case "kubeconfig":
            print(cluster.kubeconfig)
        case "which":
            print(cluster.provider.program(asked.program))
        case "pytest-options":
            print("\n".join(cluster.pytest_options()))
        case "push":
            print(cluster.push(asked.image, asked.name))
        case "control-plane":
            cluster.control_plane(asked.action, asked.part)
        case "node":
            return _node(cluster, asked)
    return OK


def _node(cluster: Cluster, asked: argparse.Namespace) -> int:
    match asked.action:
        case "kill":
            cluster.kill(asked.name)
        case "start":
            cluster.start(asked.name)
        case "restart":
            cluster.kill(asked.name)
            cluster.start(asked.name)
        case "restart-kubelet":
            cluster.restart_kubelet(asked.name)
        case "cordon" | "uncordon":
            cluster.run(asked.action, asked.name)
        case "exec":
            argv = asked.argv[1:] if asked.argv[:1] == ["--"] else asked.argv
            return cluster.enter(asked.name, argv or ["sh", "-l"])
    return OK


if __name__ == "__main__":
    sys.exit(main())
