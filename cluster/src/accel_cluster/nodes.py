"""What a node runs and is configured with: containerd, kubelet, kube-proxy, pod networking.

Every path in the node's configuration lies below /var/lib/accel, /var/lib/… or /run as the node sees them:
its own.
"""

import json
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel_cluster import network
from accel_cluster import settings as names
from accel_cluster.machine import Machine, Service, Spec
from accel_cluster.pki import Pki
from accel_cluster.settings import API_PORT, DNS_SERVICE, GATEWAY, POD_NETWORK, REGISTRY, Node, Settings
from accel_cluster.toolchain import Binaries

ETC = Path("/var/lib/accel/etc")
BIN = Path("/var/lib/accel/bin")
PAUSE = f"{REGISTRY}/cluster/pause:1"
GIB = 1 << 30
CONTROL_PLANE_SHARE = 0.05  # of the machine's memory that pods on the control-plane node may have
OWN_USE = 2 * GIB  # what the cluster's own processes need beside all pods
WORKER_CPU = 1.25  # cores at least: a Job that asks for one must fit beside the DaemonSets, also on two cores

# What the kubelet would set on the kernel, and with it on the host, if it did not find it so.
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def machine(settings: Settings, node: Node) -> Machine:
    """Return the machine that is this node."""
    return Machine(settings, node.name)


def spec(settings: Settings, node: Node, binaries: Binaries, pki: Pki) -> Spec:
    """Write the node's configuration, and return how its machine is made."""
    here = machine(settings, node)
    var, etc, logs = here.folder / "var", here.folder / "etc", here.logs
    for folder in (var, etc, logs, etc / "certs.d" / REGISTRY, etc / "cni"):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in _configuration(settings, node, pki, etc).items():
        (etc / name).write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return Spec(
        name=node.name,
        services=tuple(
            Service(name, (str(_seen(binaries, name)), *options), {"PATH": search_path(binaries)})
            for name, options in {
                "containerd": ("--config", f"{ETC}/containerd.toml"),
                "kubelet": _kubelet(node),
                "kube-proxy": (f"--config={ETC}/kube-proxy.json",),
            }.items()
        ),
        interface={
            "cable": f"ve-{settings.name}-{node.number}",
            "bridge": network.BRIDGE,
            "address": f"{node.address}/24",
            "gateway": GATEWAY,
        },
        var=var,
        binds=(
            (str(names.cache() / "bin"), "lib/accel/bin"),
            (str(etc), "lib/accel/etc"),
            (str(logs), "lib/accel/log"),
            (str(here.record.parent), "lib/accel/run"),
        ),
        files={
            # Nobody answers there, and at once: a node knows no names, neither the cluster's nor the host's.
            "/etc/resolv.conf": f"nameserver {GATEWAY}\n",
            "/etc/hosts": f"127.0.0.1 localhost\n{node.address} {node.name}\n",
        },
        sysctls=KUBELET_SYSCTLS,
    )


def search_path(binaries: Binaries) -> str:
    """Return the PATH of a command that is run on a node."""
    return ":".join(
        [*(str(BIN / folder.name) for folder in binaries.folders), "/usr/sbin:/usr/bin:/sbin:/bin"]
    )


def _seen(binaries: Binaries, program: str) -> Path:
    """Return a program's path as the node sees it."""
    return BIN / binaries[program].relative_to(names.cache() / "bin")


def _kubelet(node: Node) -> tuple[str, ...]:
    taint = "node-role.kubernetes.io/control-plane=:NoSchedule"
    return (
        f"--config={ETC}/kubelet.json",
        f"--kubeconfig={ETC}/kubelet.kubeconfig",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        *((f"--register-with-taints={taint}",) if node.control_plane else ()),
    )


def _configuration(settings: Settings, node: Node, pki: Pki, etc: Path) -> Mapping[str, str | dict[str, Any]]:
    server = f"https://{GATEWAY}:{API_PORT}"
    crt, key = pki.ensure(
        f"{node.name}-serving", f"/CN={node.name}", f"IP:{node.address},IP:127.0.0.1,DNS:{node.name}"
    )
    pki.kubeconfig(
        f"system:node:{node.name}".replace(":", "-"),
        f"/O=system:nodes/CN=system:node:{node.name}",
        server,
        etc / "kubelet.kubeconfig",
    )
    pki.kubeconfig("kube-proxy", "/CN=system:kube-proxy", server, etc / "kube-proxy.kubeconfig")
    return {
        "ca.crt": pki.ca.read_text(),
        "kubelet.crt": crt.read_text(),
        "kubelet.key": key.read_text(),
        "kubelet.json": _kubelet_configuration(settings, node),
        "kube-proxy.json": _proxy_configuration(node),
        "containerd.toml": CONTAINERD,
        f"certs.d/{REGISTRY}/hosts.toml": f'server = "http://{REGISTRY}"\n',
        "cni/10-pods.conflist": _pod_network(node),
    }


def reserved(node: Node, cpus: int, memory: int) -> tuple[int, int]:
    """Return (millicores, bytes) to take off the machine's: all nodes together have what the machine has.

    Every kubelet sees the whole machine. Memory adds up exactly; processor time, which can be shared, is sold
    a bit more than once where that is the only way for a worker to have a core and a quarter.
    """
    own = int(memory * CONTROL_PLANE_SHARE)
    if node.control_plane:
        return int(cpus * 900), memory - own
    cpu = max(WORKER_CPU, cpus * 0.45)
    return max(0, int((cpus - cpu) * 1000)), memory - max(GIB, (memory - own - OWN_USE) // 2)


def _kubelet_configuration(settings: Settings, node: Node) -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpu_reserved, memory_reserved = reserved(node, os.cpu_count() or 1, memory)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{ETC}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{ETC}/kubelet.crt",
        "tlsPrivateKeyFile": f"{ETC}/kubelet.key",
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine(settings, node).cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "systemReserved": {"cpu": f"{cpu_reserved}m", "memory": str(memory_reserved)},
        "oomScoreAdj": 0,  # the default, -999, is not ours to set on every machine
        "serializeImagePulls": False,
        "maxParallelImagePulls": 3,
        "nodeStatusUpdateFrequency": "5s",
        "nodeStatusReportFrequency": "5s",
        "maxOpenFiles": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "shutdownGracePeriod": "0s",
    }


def _proxy_configuration(node: Node) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{ETC}/kube-proxy.kubeconfig"},
        "hostnameOverride": node.name,
        "clusterCIDR": POD_NETWORK,
        "oomScoreAdj": 0,
        # Limits of the whole kernel: not a node's to change.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _pod_network(node: Node) -> dict[str, Any]:
    # `ptp` routes every packet, also between two pods of a node: kube-proxy's rules see them without
    # br_netfilter.
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-addresses",  # a tmpfs: a killed node leaves no address taken
                    "ranges": [[{"subnet": node.pod_network}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }


CONTAINERD = f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
imports = []

[grpc]
address = "/run/containerd/containerd.sock"

[plugins.'io.containerd.internal.v1.opt']
path = "/var/lib/containerd/opt"

[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "{ETC}/certs.d"

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true # hosts without CAP_SYS_RESOURCE refuse a lower score than their own
disable_apparmor = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{ETC}/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
"""
