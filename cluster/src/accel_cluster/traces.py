"""What a cluster could leave on the host, as sets of lines that can be compared: before `up`, and after
`down`.
"""

import shutil
from pathlib import Path

from accel_cluster import cgroups, network
from accel_cluster.commands import run, search_path
from accel_cluster.settings import Settings

Traces = dict[str, list[str]]

# What kubelets and proxies would change in the host's kernel if they were let.
WATCHED_SYSCTLS = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "net/netfilter/nf_conntrack_max",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


def take(settings: Settings) -> Traces:
    """Return the host's mounts, network, cgroups, kernel settings, and the ports the cluster would take."""
    folders = (path for root in cgroups.hierarchies() for path in root.glob("*") if path.is_dir())
    kernel = (Path("/proc/sys") / name for name in WATCHED_SYSCTLS)
    found = {
        "mounts": [" ".join(line.split()[:3]) for line in _lines("/proc/self/mounts")],
        "network namespaces": [path.name for path in Path("/run/netns").glob("*")],
        "links": [line.split(":")[1].strip() for line in run(["ip", "-o", "link"]).splitlines()],
        "addresses": [" ".join(line.split()[1:4]) for line in run(["ip", "-o", "address"]).splitlines()],
        "routes": run(["ip", "route", "show", "table", "all"]).splitlines(),
        "nft tables": _nft_tables(),
        "cgroups": [str(folder) for folder in folders],
        "kernel settings": [f"{path}={path.read_text().strip()}" for path in kernel if path.exists()],
        "state folders": [str(path) for path in Path("/var/lib/accel-cluster").glob("*")],
        "listening": list(map(str, network.taken_ports(settings.host_ports))),
    }
    return {what: sorted(lines) for what, lines in found.items()}


def difference(before: Traces, after: Traces) -> Traces:
    """Return the lines that are in `after` and were not in `before`, by what they describe; empty where none
    is.
    """
    added = {what: sorted(set(after[what]) - set(before.get(what, []))) for what in after}
    return {what: lines for what, lines in added.items() if lines}


def _nft_tables() -> list[str]:
    if shutil.which("nft", path=search_path()) is None:  # before `up` has installed it there can be none
        return []
    return run(["nft", "list", "tables"]).splitlines()


def _lines(path: str) -> list[str]:
    place = Path(path)
    return place.read_text().splitlines() if place.exists() else []
