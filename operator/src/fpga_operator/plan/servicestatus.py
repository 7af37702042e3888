"""What a service's status says beside the summary: details, address, devices."""

from fpga_operator.api.accelservice import AccelServiceStatus, ExposeType, LastGood
from fpga_operator.plan import children
from fpga_operator.plan.conditions import Conditions
from fpga_operator.plan.standing import Standing
from fpga_operator.plan.types import SERVICE_LABEL
from fpga_operator.plan.upstream import Verdict
from fpga_operator.plan.words import counted


def set_details(standing: Standing, conditions: Conditions, verdict: Verdict) -> None:
    """Set the conditions beside the summary."""
    _image_ready(standing, conditions)
    _devices_available(standing, conditions)
    fleet = standing.fleet
    if standing.choice.reference is None:
        conditions.set("RolledOut", False, verdict.reason, verdict.message)
    elif fleet.complete or standing.was_out():
        conditions.set("RolledOut", True, "RolledOut", f"revision {fleet.revision} is out")
    else:
        figures = f"{len(fleet.new_ready)} of {fleet.wanted} replicas serve revision {fleet.revision}"
        conditions.set("RolledOut", False, "RollingOut", figures)
    address = scoring_uri(standing)
    if address is None:
        conditions.set("EndpointReady", False, "NoAddress", "the address is not known yet")
    elif fleet.ready:
        conditions.set("EndpointReady", True, "EndpointReady", f"{address} answers")
    else:
        conditions.set(
            "EndpointReady", False, "NoReplicaReady", f"nobody answers on {address}: no replica serves"
        )
    if standing.spec.tls is not None:
        _tls_ready(standing, conditions, standing.spec.tls.secret_ref.name)


def _image_ready(standing: Standing, conditions: Conditions) -> None:
    verdict = standing.choice.verdict
    if verdict is not None:
        conditions.set("ImageReady", False, verdict.reason, verdict.message)
    else:
        conditions.set("ImageReady", True, "ImageReady", f"runs {standing.choice.reference}")


def _devices_available(standing: Standing, conditions: Conditions) -> None:
    if standing.fleet.wanted == 0:
        conditions.set("DevicesAvailable", True, "NoneWanted", "no replica is wanted")
    elif not standing.fleet.complete and (told := standing.skus.lacking()):
        conditions.set("DevicesAvailable", False, "NoSuchSku", told)
    elif standing.sick and not standing.fleet.unplaced:
        conditions.set("DevicesAvailable", False, "DeviceUnhealthy", standing.sick_story())
    elif standing.fleet.unplaced and standing.lacks_device():
        conditions.set("DevicesAvailable", False, *standing.unplaced_story())
    elif len([pod for pod in standing.fleet.new if pod.scheduled]) >= standing.fleet.wanted:
        conditions.set(
            "DevicesAvailable",
            True,
            "DevicesHeld",
            counted(standing.fleet.wanted, "replica has an FPGA", "replicas have an FPGA each"),
        )
    else:
        conditions.set("DevicesAvailable", None, "NotPlaced", "not every replica has been placed yet")


def _tls_ready(standing: Standing, conditions: Conditions, secret: str) -> None:
    if standing.fleet.new_ready:
        conditions.set("TLSReady", True, "TLSReady", f"serves with the certificate of Secret {secret}")
    elif told := standing.missing_volume():
        conditions.set("TLSReady", False, "VolumesNotMounted", told)
    else:
        conditions.set("TLSReady", None, "NotServing", f"no replica serves with Secret {secret} yet")


def given_out(previous: AccelServiceStatus) -> int | None:
    """Return the node port that clients know: it stays, whatever a hand does to the Service."""
    stalled = previous.condition("Stalled")
    if stalled is not None and stalled.reason == "ChildRejected":
        return None  # somebody may have taken it meanwhile: then any other will do
    host, _, number = (previous.scoring_uri or "").rpartition(":")
    return int(number) if number.isdigit() and not host.endswith(".svc") else None


def scoring_uri(standing: Standing) -> str | None:
    """Return what a client dials, host:port; None while Kubernetes has not given out the node port."""
    expose, owner, previous = standing.spec.expose, standing.owner, standing.previous
    if expose is None or expose.type is not ExposeType.NODE_PORT:
        return f"{owner.name}.{owner.namespace}.svc:{children.port(standing.spec)}"
    ports = (standing.observed.service or {}).get("spec", {}).get("ports") or []
    live = next((port.get("nodePort") for port in ports if port.get("name") == "grpc"), None)
    if live is None and standing.observed.fault is not None:
        return None  # the port that was refused is somebody else's server
    number = expose.node_port or given_out(previous) or live
    if number is None:
        return None
    if standing.config.external_address:
        return f"{standing.config.external_address}:{number}"
    nodes = sorted(standing.observed.nodes, key=lambda node: node.name)
    addresses = [node.address for node in nodes if node.ready and node.address]
    before = (previous.scoring_uri or "").rpartition(":")[0]
    # Any node answers; keep the one that was given out.
    return f"{before if before in addresses else addresses[0]}:{number}" if addresses else None


def status_of(standing: Standing, conditions: Conditions) -> AccelServiceStatus:
    """Return the status but for its conditions, which stay the previous ones here."""
    fleet, image = standing.fleet, standing.choice.reference
    good = standing.previous.last_good
    if fleet.complete and fleet.wanted > 0 and image is not None:
        good = LastGood(image=image, model_version=standing.choice.model_version, revision=fleet.revision)
    return AccelServiceStatus(
        observed_generation=standing.owner.generation,
        conditions=standing.previous.conditions,
        state=conditions.state,
        scoring_uri=scoring_uri(standing),
        image=image,
        model_version=standing.choice.model_version,
        last_good=good,
        replicas=len(fleet.alive),
        ready_replicas=len(fleet.ready),
        selector=f"{SERVICE_LABEL}={standing.owner.name}",
        devices=tuple(seat.held() for seat in standing.seats if seat.device),
        keys_secret=children.keys_name(standing.owner)
        if standing.spec.auth is None or standing.spec.auth.enabled is not False
        else None,
    )
