"""The network namespace that holds the whole cluster, with a bridge between its nodes.

On the host it adds one name under /run/netns and nothing else: no link, no route, no nft table.
"""

import errno
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from accel_cluster.commands import run
from accel_cluster.settings import GATEWAY, Settings

BRIDGE = "nodes"
FOLDER = Path("/run/netns")  # where `ip netns` keeps names


def path(settings: Settings) -> Path:
    """Return the file that stands for the namespace."""
    return FOLDER / settings.netns


def exists(settings: Settings) -> bool:
    """Return whether a network namespace of that name is there, whoever made it."""
    return _is_mounted(path(settings))


def inside(settings: Settings) -> list[str]:
    """Return the words to put before a command so that it runs in the namespace (and the host's files)."""
    return ["nsenter", f"--net={path(settings)}", "--"]


def ensure(settings: Settings) -> None:
    """Make the namespace with its bridge, its addresses and the routes to every node's pods."""
    if not exists(settings):
        path(settings).unlink(
            missing_ok=True
        )  # an empty file: what is left when a making was killed half way
        run(["ip", "netns", "add", settings.netns])
    enter = inside(settings)
    if BRIDGE not in run([*enter, "ip", "-o", "link"]):
        run([*enter, "ip", "link", "add", BRIDGE, "type", "bridge"])
    commands = [
        "link set lo up",
        f"address replace {GATEWAY}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        *(f"route replace {node.pod_network} via {node.address}" for node in settings.nodes),
    ]
    run([*enter, "ip", "-batch", "-"], stdin="\n".join(commands))
    # Frames between nodes are not this namespace's business: without this they pass its netfilter hooks.
    bridge_filter = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    run([*enter, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    run([*enter, "sh", "-c", f"if [ -e {bridge_filter} ]; then echo 0 > {bridge_filter}; fi"])


def remove(settings: Settings, *, folder_too: bool) -> None:
    """Remove the namespace; what is in it goes when its last process has gone.

    `folder_too`: also the mount that `ip netns` made of the names' folder, if no other name is in it.
    """
    if exists(settings):
        run(["ip", "netns", "delete", settings.netns])
    path(settings).unlink(missing_ok=True)
    if folder_too and FOLDER.is_dir() and not list(FOLDER.iterdir()):
        while _is_mounted(FOLDER):
            run(["umount", FOLDER])


def _is_mounted(place: Path) -> bool:
    """Return whether something is mounted on `place`, also if it is a part of the same file system."""
    return str(place) in (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())


def taken_ports(ports: Iterable[int]) -> list[int]:
    """Return those of `ports` that something on the host already listens on, on 127.0.0.1."""
    taken = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                    raise
                taken.append(port)
    return taken


def ranges(ports: Sequence[int]) -> str:
    """Return "1-3, 7" for [1, 2, 3, 7]."""
    parts: list[list[int]] = []
    for port in sorted(ports):
        if parts and port == parts[-1][-1] + 1:
            parts[-1].append(port)
        else:
            parts.append([port])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
