"""The three objects, as short as users write them."""

from typing import Any

Object = dict[str, Any]
API = "accel.dev/v1alpha1"


def fpga_model(name: str, uri: str, **spec: Any) -> Object:
    """Return an FpgaModel of a source."""
    source = {"uri": uri, **spec.pop("source", {})}
    return {
        "apiVersion": API,
        "kind": "FpgaModel",
        "metadata": {"name": name},
        "spec": {"source": source, **spec},
    }


def accel_image(name: str, model: str, version: int | None = None, **spec: Any) -> Object:
    """Return an AccelImage that follows a model, or pins one version of it."""
    ref: Object = {"name": model} if version is None else {"name": model, "version": version}
    return {
        "apiVersion": API,
        "kind": "AccelImage",
        "metadata": {"name": name},
        "spec": {"modelRef": ref, **spec},
    }


def accel_service(name: str, image: str, **spec: Any) -> Object:
    """Return an AccelService that the host reaches through a NodePort."""
    body = {"imageRef": {"name": image}, "expose": {"type": "NodePort"}, **spec}
    return {"apiVersion": API, "kind": "AccelService", "metadata": {"name": name}, "spec": body}


def chain(name: str, uri: str, **service: Any) -> list[Object]:
    """Return model, image and service of one name."""
    return [fpga_model(name, uri), accel_image(name, name), accel_service(name, name, **service)]
