"""Deleting in every order, with a real garbage collector and a real namespace controller beside the API server."""

import itertools
import subprocess
from collections.abc import Iterator

import pytest
from chain import D1, MODEL, convert
from fpga_operator.errors import ApiFailure
from fpga_operator.run.cluster import Cluster
from servers import ADMIN, Server
from simulated import Kubelet
from world import Operator, World

OWN = ("FpgaModel", "AccelImage", "AccelService")
CHILDREN = (
    "Job",
    "Deployment",
    "Service",
    "ServiceAccount",
    "Secret",
    "PodDisruptionBudget",
    "NetworkPolicy",
)
ORDERS = list(itertools.permutations(OWN))
MINUTE = 60.0


@pytest.fixture(scope="module", autouse=True)
def controllers(server: Server) -> Iterator[None]:
    """The two controllers of Kubernetes that deletion is about."""
    kubeconfig = server.kubeconfig(ADMIN)
    program = server.kubectl.with_name("kube-controller-manager")
    options = [
        *(
            f"--{name}={kubeconfig}"
            for name in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
        ),
        "--controllers=garbage-collector-controller,namespace-controller",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    with (server.folder / "controllers.log").open("wb") as log:
        process = subprocess.Popen([str(program), *options], stdout=log, stderr=log)
    yield
    process.terminate()
    process.wait(30)


async def apply(world: World, name: str) -> None:
    """Apply the three objects of a name."""
    await world.apply("FpgaModel", name, MODEL)
    await world.apply("AccelImage", name, {"modelRef": {"name": name}})
    await world.apply("AccelService", name, {"imageRef": {"name": name}})


async def left(world: World) -> list[str]:
    """Name what of ours is in the namespace."""
    found = []
    for kind in (*OWN, *CHILDREN):
        items = await world.cluster.list(kind)
        found += [
            f"{kind} {item['metadata']['name']}"
            for item in items
            if item["metadata"]["namespace"] == world.namespace and item["metadata"]["name"] != "default"
        ]
    return found


async def empty(world: World) -> None:
    """Await that nothing is left."""
    story: list[str] = []

    async def nothing() -> bool:
        story[:] = await left(world)
        return not story

    await world.until("nothing is left", nothing, seconds=MINUTE, story=story)


async def at_work(world: World, name: str) -> None:
    """Await that the operator has made the service's children."""
    await world.until(f"the Secret of {name}", lambda: world.get("Secret", f"{name}-keys"))
    await world.until_reason("AccelService", name, "WaitingForImage")


async def test_in_any_order(world: World, operator: Operator) -> None:
    names = {f"net-{number}": order for number, order in enumerate(ORDERS)}
    for name in names:
        await apply(world, name)
    for name in names:
        await at_work(world, name)
    for name, order in names.items():
        for kind in order:
            await world.delete(kind, name)
    await empty(world)


async def test_in_the_middle_of_a_build_with_the_operator_away(
    world: World, kubelet: Kubelet, operator: Operator
) -> None:
    await apply(world, "net")
    await convert(world, kubelet, "net", 1, D1)
    await world.until("the build's Job", lambda: world.owned("Job", "image", "net"))
    await world.apply("FpgaModel", "kept", MODEL)
    operator.stop()
    for kind in OWN:
        await world.delete(kind, "net")
    operator.start()
    await world.until(
        "the other model's Job, in a slot that is free again", lambda: world.owned("Job", "model", "kept")
    )
    await world.delete("FpgaModel", "kept")
    await empty(world)


async def test_deleted_and_made_again_at_once_under_the_same_name(world: World, operator: Operator) -> None:
    await apply(world, "again")
    await at_work(world, "again")
    old = await world.live("Secret", "again-keys")
    for kind in OWN:
        await world.delete(kind, "again")
    await apply(world, "again")
    await at_work(world, "again")

    async def successor() -> bool:
        found = await world.get("Secret", "again-keys")
        service = await world.live("AccelService", "again")
        return (
            found is not None and found["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]
        )

    await world.until("the keys of the new service", successor, seconds=MINUTE)
    assert (await world.live("Secret", "again-keys"))["data"] != old["data"], "another service has other keys"
    await world.until_reason("AccelService", "again", "WaitingForImage")


async def test_a_deleted_secret_is_back_at_once_though_nobody_asks_for_it(
    world: World, operator: Operator
) -> None:
    await apply(world, "keys")
    await at_work(world, "keys")
    before = await world.live("Secret", "keys-keys")
    await world.delete("Secret", "keys-keys")

    async def back() -> bool:
        found = await world.get("Secret", "keys-keys")
        return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

    await world.until("the Secret", back)
    assert (await world.live("Secret", "keys-keys"))["data"] == before["data"]


async def a_namespace(admin: Cluster, name: str) -> World:
    """Make a namespace that the test deletes."""
    await admin._request("POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    return World(admin, name)


async def goes(admin: Cluster, world: World) -> None:
    """Delete the namespace and await its end."""
    path = f"/api/v1/namespaces/{world.namespace}"
    await admin._request("DELETE", path)

    async def gone() -> bool:
        try:
            await admin._request("GET", path)
        except ApiFailure as error:
            return error.status == 404
        return False

    await world.until("the namespace is gone", gone, seconds=MINUTE)


async def test_a_namespace_ends_with_the_operator_at_work(
    admin: Cluster, namespace: str, kubelet: Kubelet, operator: Operator
) -> None:
    world = await a_namespace(admin, f"{namespace}-full")
    await apply(world, "net")
    await at_work(world, "net")
    begin = len(operator.log.read_text())
    await goes(admin, world)
    assert "Traceback" not in operator.log.read_text()[begin:]


async def test_a_namespace_ends_without_the_operator(
    admin: Cluster, namespace: str, operator: Operator
) -> None:
    world = await a_namespace(admin, f"{namespace}-full")
    await apply(world, "net")
    await at_work(world, "net")
    operator.stop()
    try:
        await goes(admin, world)
    finally:
        operator.start()
