"""The hub: the machine that runs the control plane, the image registry and the forwarder, in the cluster's
network.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from accel_cluster import forwarder
from accel_cluster.machine import Machine, Service, Spec
from accel_cluster.pki import Pki
from accel_cluster.settings import (
    API_PORT,
    API_SERVICE,
    GATEWAY,
    POD_NETWORK,
    REGISTRY,
    SERVICE_NETWORK,
    Settings,
)
from accel_cluster.toolchain import Binaries

NAME = "hub"
ETCD = "http://127.0.0.1:2379"  # the namespace's loopback: no pod and no node reaches it


def machine(settings: Settings) -> Machine:
    """Return the hub of a cluster."""
    return Machine(settings, NAME)


def spec(settings: Settings, binaries: Binaries, pki: Pki) -> Spec:
    """Write what the hub's programs read, and return how it is made."""
    folder = machine(settings).folder
    folder.mkdir(parents=True, exist_ok=True)
    registry = folder / "registry.yaml"
    registry.write_text(_registry(folder / "registry"))
    return Spec(
        name=f"{settings.name}-hub",
        services=(
            Service("etcd", _words("/usr/bin/etcd", _etcd(settings, folder))),
            Service("registry", ("/usr/bin/docker-registry", "serve", str(registry))),
            Service("kube-apiserver", _words(binaries["kube-apiserver"], _apiserver(settings, pki))),
            Service(
                "kube-controller-manager",
                _words(binaries["kube-controller-manager"], _controllers(settings, pki, folder)),
            ),
            Service("kube-scheduler", _words(binaries["kube-scheduler"], _scheduler(pki, folder))),
            _forwarder(settings),
        ),
    )


def _words(program: Path | str, options: Iterable[str]) -> tuple[str, ...]:
    return (str(program), *(f"--{option}" for option in options))


def _etcd(settings: Settings, folder: Path) -> Iterable[str]:
    return (
        f"name={settings.name}",
        f"data-dir={folder / 'etcd'}",
        f"listen-client-urls={ETCD}",
        f"advertise-client-urls={ETCD}",
        "listen-peer-urls=http://127.0.0.1:2380",
        "unsafe-no-fsync",  # throw-away: a power cut of the host may cost the cluster, nothing else
        "log-level=warn",
        "logger=zap",
    )


def _apiserver(settings: Settings, pki: Pki) -> Iterable[str]:
    names = (
        f"IP:{GATEWAY},IP:127.0.0.1,IP:{API_SERVICE},DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,"
        "DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    )
    crt, key = pki.ensure("apiserver", "/CN=kube-apiserver", names)
    to_kubelet_crt, to_kubelet_key = pki.ensure(
        "apiserver-kubelet-client", "/O=system:masters/CN=apiserver-kubelet-client"
    )
    first, last = settings.node_ports[0], settings.node_ports[-1]
    return (
        f"etcd-servers={ETCD}",
        f"advertise-address={GATEWAY}",
        f"bind-address={GATEWAY}",
        f"secure-port={API_PORT}",
        f"service-cluster-ip-range={SERVICE_NETWORK}",
        f"service-node-port-range={first}-{last}",
        f"client-ca-file={pki.ca}",
        f"tls-cert-file={crt}",
        f"tls-private-key-file={key}",
        f"kubelet-certificate-authority={pki.ca}",
        f"kubelet-client-certificate={to_kubelet_crt}",
        f"kubelet-client-key={to_kubelet_key}",
        "kubelet-preferred-address-types=InternalIP",
        "service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"service-account-key-file={pki.service_account_key}",
        f"service-account-signing-key-file={pki.service_account_key}",
        "authorization-mode=Node,RBAC",
        "enable-admission-plugins=NodeRestriction",
        "enable-aggregator-routing=true",  # no kube-proxy here: webhooks are called by their pods' addresses
        "default-not-ready-toleration-seconds=60",  # pods leave a dead node after 1 minute, not 5
        "default-unreachable-toleration-seconds=60",
        "allow-privileged=true",
        "profiling=false",
    )


def _controllers(settings: Settings, pki: Pki, folder: Path) -> Iterable[str]:
    name = "kube-controller-manager"
    config = pki.kubeconfig(
        name, f"/CN=system:{name}", f"https://{GATEWAY}:{API_PORT}", folder / f"{name}.kubeconfig"
    )
    return (
        f"kubeconfig={config}",
        f"authentication-kubeconfig={config}",
        f"authorization-kubeconfig={config}",
        f"cluster-name={settings.name}",
        f"cluster-cidr={POD_NETWORK}",
        "allocate-node-cidrs=false",  # each node's pods have the network that the routes name
        f"root-ca-file={pki.ca}",
        f"service-account-private-key-file={pki.service_account_key}",
        f"cluster-signing-cert-file={pki.ca}",
        f"cluster-signing-key-file={pki.folder / 'ca.key'}",
        "use-service-account-credentials=true",
        "node-monitor-grace-period=40s",
        "leader-elect=false",
        "bind-address=127.0.0.1",
        "profiling=false",
    )


def _scheduler(pki: Pki, folder: Path) -> Iterable[str]:
    name = "kube-scheduler"
    config = pki.kubeconfig(
        name, f"/CN=system:{name}", f"https://{GATEWAY}:{API_PORT}", folder / f"{name}.kubeconfig"
    )
    return (
        f"kubeconfig={config}",
        f"authentication-kubeconfig={config}",
        f"authorization-kubeconfig={config}",
        "leader-elect=false",
        "bind-address=127.0.0.1",
        "profiling=false",
    )


def _forwarder(settings: Settings) -> Service:
    argv = (sys.executable, "-m", forwarder.__name__, *forwarder.arguments(settings))
    packages = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    return Service("forwarder", argv, packages, host_network=True)


def _registry(storage: Path) -> str:
    return (
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        "storage:\n"
        "  cache: {blobdescriptor: inmemory}\n"
        f"  filesystem: {{rootdirectory: {storage}}}\n"
        "  delete: {enabled: true}\n"
        f"http: {{addr: '{REGISTRY}'}}\n"
    )
