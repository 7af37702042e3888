"""Places that sources come from, inside the tenant's namespace: an https server, a registry with accounts, a claim."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from kube import Kube, Object

USER, PASSWORD = "reader", "open sesame"
PASSWORD_BCRYPT = "$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW"

# /private asks for Basic; /slow sends a piece every second, as many as it takes to last SLOW_SECONDS.
SLOW_SECONDS = 20
SERVER = f"""
import base64, http.server, pathlib, ssl, time
WANTED = "Basic " + base64.b64encode(b"{USER}:{PASSWORD}").decode()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        folder, _, name = self.path.strip("/").partition("/")
        file = pathlib.Path("/files") / name
        if folder == "private" and self.headers.get("Authorization") != WANTED:
            return self.answer(401, b"")
        self.answer(200, file.read_bytes(), folder == "slow") if file.is_file() else self.answer(404, b"")
    def answer(self, status, body, slow=False):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        pieces = {SLOW_SECONDS} if slow else 1
        size = -(-len(body) // pieces)
        for start in range(0, len(body), max(1, size)):
            self.wfile.write(body[start:start + size])
            self.wfile.flush()
            if slow:
                time.sleep(1)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""

REGISTRY = """
version: 0.1
storage: {filesystem: {rootdirectory: /data}}
http: {addr: ":5000"}
auth: {htpasswd: {realm: sources, path: /config/htpasswd}}
"""
RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def images(system: Kube) -> tuple[str, str]:
    """Return the toolchain's image, which has Python, and the registry's."""
    config = yaml.safe_load(system.get("configmap", "fpga-operator")["data"]["operator.yaml"])
    registry = system.get("deployment", "registry")["spec"]["template"]["spec"]["containers"][0]["image"]
    return config["images"]["toolchain"], registry


def encoded(files: dict[str, bytes]) -> dict[str, str]:
    """Return files as the data of a Secret or the binaryData of a ConfigMap."""
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def pod(name: str, image: str, mounts: dict[str, Any], command: list[str], **spec: Any) -> Object:
    """Return a pod; `mounts` maps paths to volume sources."""
    volumes = {f"v{number}": (path, source) for number, (path, source) in enumerate(mounts.items())}
    container = {
        "name": "main",
        "image": image,
        "command": command,
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": v, "mountPath": path} for v, (path, _) in volumes.items()],
        **({"readinessProbe": {"tcpSocket": {"port": spec.pop("port")}, "periodSeconds": 1}} if "port" in spec else {}),
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"fsGroup": 65532},
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": v, **source} for v, (_, source) in volumes.items()],
            **spec,
        },
    }


def service(name: str, port: int) -> Object:
    """Return a Service in front of a pod."""
    ports = [{"port": port}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports},
    }


def certificate(folder: Path, host: str) -> tuple[bytes, bytes]:
    """Return a self-signed certificate for a host, and its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=sources",
         "-addext", f"subjectAltName=DNS:{host}", "-keyout", str(folder / "key"), "-out", str(folder / "crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    return (folder / "crt").read_bytes(), (folder / "key").read_bytes()


def create(kube: Kube, *objects: Object) -> None:
    """Create objects; applying would copy them into an annotation, which is too small for archives."""
    kube("create", "-f", "-", stdin=yaml.safe_dump_all(objects))


def web_server(kube: Kube, image: str, files: dict[str, bytes], folder: Path) -> tuple[str, bytes]:
    """Run the https server; return its address and the certificate to trust."""
    host = f"web.{kube.namespace}.svc"
    crt, key = certificate(folder, host)
    tls = encoded({"tls.crt": crt, "tls.key": key})
    create(
        kube,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "binaryData": encoded(files)},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}, "data": tls},
        pod("web", image, {"/files": {"configMap": {"name": "web"}}, "/tls": {"secret": {"secretName": "web"}}},
            ["python3", "-c", SERVER], port=8443),
        service("web", 8443),
    )  # fmt: skip
    return f"https://{host}:8443", crt


def private_registry(kube: Kube, image: str) -> str:
    """Run a registry that wants an account; return its host and port."""
    files = {"config.yml": REGISTRY, "htpasswd": f"{USER}:{PASSWORD_BCRYPT}\n"}
    create(
        kube,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "registry"}, "data": files},
        pod("registry", image, {"/config": {"configMap": {"name": "registry"}}, "/data": {"emptyDir": {}}},
            ["docker-registry", "serve", "/config/config.yml"], port=5000),
        service("registry", 5000),
    )  # fmt: skip
    return f"registry.{kube.namespace}.svc:5000"


def filled_claim(kube: Kube, image: str, name: str, files: dict[str, bytes]) -> None:
    """Make a claim and a pod that writes files into it; their names may have folders."""
    flat = {f"f{number}": content for number, content in enumerate(files.values())}
    places = json.dumps(dict(zip(flat, files, strict=True)))
    copy = (
        "import json, pathlib, shutil\n"
        f"for source, target in json.loads('''{places}''').items():\n"
        "    path = pathlib.Path('/claim') / target\n"
        "    path.parent.mkdir(parents=True, exist_ok=True)\n"
        "    shutil.copyfile('/files/' + source, path)\n"
    )
    create(
        kube,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": encoded(flat)},
        claim(name),
        pod(f"{name}-writer", image, {"/files": {"configMap": {"name": name}}, "/claim": _of(name)},
            ["python3", "-c", copy], restartPolicy="OnFailure"),
    )  # fmt: skip


def claim(name: str) -> Object:
    """Return a claim of the default storage class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": spec,
    }


def _of(name: str) -> Object:
    return {"persistentVolumeClaim": {"claimName": name}}
