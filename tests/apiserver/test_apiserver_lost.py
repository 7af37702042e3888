"""What the registry has lost is noticed by asking a real one, and only then."""

from typing import Any

import pytest
from fpga_operator.config import Config, Images, Registry
from fpga_operator.run.registry import Unreachable
from fpga_operator.run.registrywatch import Lost
from fpga_operator.run.store import Key, Store
from fpga_operator.run.sweep import connect
from fpga_operator.run.sweepmetrics import SweepMetrics
from prometheus_client import CollectorRegistry
from registries import Pusher, Service


class Watch:
    """A store with one model, and who was woken."""

    def __init__(self, endpoint: str, namespace: str) -> None:
        images = Images(toolchain="t", converter="c", runtime="r")
        self.config = Config(images=images, registry=Registry(endpoint=endpoint))
        self.namespace = namespace
        self.key = Key("FpgaModel", namespace, "net")
        self.store = Store()
        self.woken: list[Key] = []
        self.metrics = CollectorRegistry()
        self.lost = Lost(self.config, self.store, self.woken.append, SweepMetrics(self.metrics))

    @property
    def repository(self) -> str:
        return f"models/{self.namespace}/net"

    def promise(self, version: str, *results: dict[str, Any]) -> None:
        """The model's status says that these versions exist."""
        versions = [{"version": r["model"]["version"], "digest": r["model"]["digest"]} for r in results]
        meta = {"name": "net", "namespace": self.namespace, "uid": "u", "resourceVersion": version}
        status = {"observedGeneration": 1, "versions": versions}
        self.store.put({"kind": "FpgaModel", "metadata": meta, "spec": {}, "status": status})

    async def check(self) -> list[Key]:
        """Ask the registry; return who was woken."""
        self.woken.clear()
        async with connect(self.config) as registry:
            await self.lost.check(registry)
        return self.woken

    def gauge(self) -> float | None:
        return self.metrics.get_sample_value("accel_registry_lost_manifests")


@pytest.fixture
def watch(service: Service) -> Watch:
    return Watch(service.endpoint, "shop")


@pytest.fixture
def pushed(tmp_path: Any, service: Service) -> Pusher:
    return Pusher(tmp_path, service.endpoint, "shop")


async def test_a_wiped_registry_and_its_return(watch: Watch, service: Service, pushed: Pusher) -> None:
    first, second = pushed.push("net", "1"), pushed.push("net", "2")
    watch.promise("1", first, second)
    digests = {first["model"]["digest"], second["model"]["digest"]}
    assert await watch.check() == []
    assert watch.gauge() == 0

    service.stop()
    service.start(data="another-disk")
    assert await watch.check() == [watch.key]
    assert watch.lost.of(watch.repository) == digests
    assert watch.lost.lost(watch.repository, first["model"]["digest"])
    assert watch.gauge() == 2
    assert await watch.check() == [], "said once"

    assert pushed.push("net", "2")["model"]["digest"] == second["model"]["digest"]
    assert await watch.check() == [watch.key]
    assert watch.lost.of(watch.repository) == {first["model"]["digest"]}
    watch.promise("2", second)
    assert await watch.check() == []
    assert not watch.lost.of(watch.repository), "what nobody needs is not lost"


async def test_a_registry_that_does_not_answer_has_lost_nothing(
    watch: Watch, service: Service, pushed: Pusher
) -> None:
    watch.promise("1", pushed.push("net", "1"))
    service.stop()
    with pytest.raises(Unreachable):
        await watch.check()
    assert not watch.lost.of(watch.repository)


def pod(reason: str) -> dict[str, Any]:
    state = {"waiting": {"reason": reason}} if reason else {"running": {}}
    return {"kind": "Pod", "metadata": {}, "status": {"containerStatuses": [{"state": state}]}}


def image(reason: str) -> dict[str, Any]:
    return {
        "kind": "AccelImage",
        "metadata": {},
        "status": {"conditions": [{"type": "Built", "reason": reason}]},
    }


SIGNS = {
    # name: (object, whether the registry is asked)
    "a pod that cannot pull": (pod("ErrImagePull"), True),
    "a pod that waits to pull again": (pod("ImagePullBackOff"), True),
    "a pod that starts": (pod("ContainerCreating"), False),
    "a pod that runs": (pod(""), False),
    "a build that did not find its model": (image("ModelNotFound"), True),
    "a build that failed": (image("BaseNotFound"), False),
    "anything else": ({"kind": "Node", "metadata": {}}, False),
}


@pytest.mark.parametrize(("body", "asked"), SIGNS.values(), ids=SIGNS)
async def test_when_the_registry_is_asked(watch: Watch, body: dict[str, Any], asked: bool) -> None:
    watch.lost.seen(body)
    assert watch.lost._suspected.is_set() is asked
