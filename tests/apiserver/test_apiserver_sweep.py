"""The sweep against a real registry with real pushes, with the operator's own rights at a real API server."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from accel.oci import Document, Manifest
from accel.oci import Registry as Store
from accel.oci.manifests import EMPTY_DESCRIPTOR
from accel_toolchain.versions import put_record
from fpga_operator.config import Config, Images, Registry, Sweep
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.registrylist import Listing
from fpga_operator.run.sweep import Report, Sweeper, connect
from fpga_operator.run.sweepcommand import render
from fpga_operator.run.sweepmetrics import SweepMetrics
from fpga_operator.run.sweepstate import NAME
from prometheus_client import CollectorRegistry
from registries import Pusher, Service
from world import World

START = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sweeper(service: Service, limited: Cluster, admin: Cluster, clock: Clock) -> Any:
    """Makes sweepers as restarts of the operator would: each begins with what the ConfigMap says."""

    def make(**settings: Any) -> Sweeper:
        config = Config(
            images=Images(toolchain="t", converter="c", runtime="r"),
            registry=Registry(endpoint=service.endpoint),
            sweep=Sweep(grace_seconds=2 * HOUR.total_seconds(), **settings),
        )
        return Sweeper(config, limited, SweepMetrics(CollectorRegistry()), now=clock)

    yield make
    await admin.delete("ConfigMap", "accel-system", NAME, "")


Make = Callable[..., Sweeper]


async def model(world: World, name: str, *results: dict[str, Any]) -> None:
    """An FpgaModel whose status promises what was pushed."""
    await world.apply("FpgaModel", name, {"source": {"uri": "oci:///sources/x:1"}})
    live = await world.live("FpgaModel", name)
    await world.cluster.apply_status(
        "FpgaModel",
        world.namespace,
        name,
        live["metadata"]["uid"],
        {
            "observedGeneration": live["metadata"]["generation"],
            "versions": [
                {k: v for k, v in r["model"].items() if k != "createdTime"} for r in reversed(results)
            ],
        },
    )


async def pod(world: World, name: str, image: str) -> None:
    """A pod of somebody else, labelled with nothing of ours."""
    await world.cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": world.namespace},
            "spec": {"containers": [{"name": "c", "image": image}]},
        }
    )


def settings(service: Service) -> Config:
    images = Images(toolchain="t", converter="c", runtime="r")
    return Config(images=images, registry=Registry(endpoint=service.endpoint))


async def listed(service: Service, repository: str) -> set[str]:
    """The digests that a tag leads to."""
    async with connect(settings(service)) as registry:
        return set((await Listing().repository(registry, repository, private=True)).manifests)


def said(report: Report) -> str:
    return render(report, dry_run=False)


async def test_a_deleted_model_leaves_no_tag_and_no_manifest(
    world: World, service: Service, sweeper: Make, pusher: Pusher, clock: Clock
) -> None:
    await model(world, "net", pusher.push("net", "1"), pusher.push("net", "2"))
    await model(world, "other", pusher.push("other", "1"))
    kept = {entry for entry in service.stored() if "/other@" in entry}
    assert len(service.stored()) == 9
    assert len(kept) == 3
    assert not (await sweeper().sweep(dry_run=False)).waiting

    await world.delete("FpgaModel", "net")
    clock.now += HOUR
    first = await sweeper().sweep(dry_run=False)
    assert len(first.waiting) == 6, said(first)
    assert not first.deleted
    clock.now += 2 * HOUR
    second = await sweeper().sweep(dry_run=False)
    assert len(second.deleted) == 6, said(second)
    assert service.stored() == kept
    with Store(service.endpoint) as store:
        assert store.tags(f"models/{world.namespace}/net") == []


async def test_an_object_made_again_within_the_grace_goes_on_counting(
    world: World, sweeper: Make, pusher: Pusher, clock: Clock
) -> None:
    await model(world, "net", pusher.push("net", "1"))
    await world.delete("FpgaModel", "net")
    await sweeper().sweep(dry_run=False)
    clock.now += HOUR
    await world.apply("FpgaModel", "net", {"source": {"uri": "oci:///sources/x:2"}})
    clock.now += 9 * HOUR
    assert not (await sweeper().sweep(dry_run=False)).waiting  # not settled: a Job may be at it
    again = pusher.push("net", "2")
    assert again["model"]["version"] == 2


async def test_a_dropped_version_goes_and_the_kept_one_stays_whole(
    world: World, service: Service, sweeper: Make, pusher: Pusher
) -> None:
    pusher.push("net", "1")
    await model(world, "net", second := pusher.push("net", "2"))
    report = await sweeper().sweep(dry_run=False, grace_seconds=0)
    assert len(report.deleted) == 3, said(report)
    assert len(service.stored()) == 3
    with Store(service.endpoint) as store:
        assert "v2" in store.tags(f"models/{world.namespace}/net")
        assert "v1" not in store.tags(f"models/{world.namespace}/net")
    assert pusher.push("net", "2") == {**second, "versions": second["versions"][:1]}


async def test_what_a_foreign_pod_runs_stays(
    world: World, service: Service, sweeper: Make, pusher: Pusher
) -> None:
    first, second = pusher.push("net", "1"), pusher.push("net", "2")
    repository = f"models/{world.namespace}/net"
    await pod(world, "by-digest", f"localhost:5000/{repository}@{first['model']['digest']}")
    report = await sweeper().sweep(dry_run=False, grace_seconds=0)
    assert {each.digest for each in report.deleted} >= {second["model"]["digest"]}
    assert len(await listed(service, repository)) == 3
    await world.cluster._request(
        "DELETE",
        world.cluster._path("Pod", world.namespace, "by-digest"),
        body={"gracePeriodSeconds": 0},
    )
    await sweeper().sweep(dry_run=False, grace_seconds=0)
    assert not service.stored()


async def test_a_dry_run_deletes_nothing_and_remembers_nothing(
    world: World, service: Service, sweeper: Make, pusher: Pusher, admin: Cluster
) -> None:
    pusher.push("net", "1")
    before = service.stored()
    report = await sweeper().sweep(dry_run=True, grace_seconds=0, remember=False)
    assert len(report.deleted) == 3
    table = render(report, dry_run=True)
    assert f"models/{world.namespace}/net" in table
    assert "would go" in table
    assert f"no FpgaModel {world.namespace}/net" in table
    assert service.stored() == before
    assert await admin.get("ConfigMap", "accel-system", NAME) is None


@pytest.mark.parametrize("puts", range(1, 6))
async def test_a_push_killed_at_any_put_leaves_nothing_undiscoverable(
    puts: int,
    world: World,
    service: Service,
    sweeper: Make,
    pusher: Pusher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first push dies before a put, the next one after all: what a tag leads to is all that is on the disk."""
    put, left = Store.put_manifest, [puts]

    def dying(self: Store, repository: str, target: str, document: Document) -> str:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return put(self, repository, target, document)

    repository = f"models/{world.namespace}/net"
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_manifest", dying)
        for source in "11":  # the second has the first one's leavings before it
            try:
                pusher.push("net", source)
            except KeyboardInterrupt:
                assert {f"{repository}@{d}" for d in await listed(service, repository)} == service.stored()
    await model(world, "net", done := pusher.push("net", "1"))
    assert {f"{repository}@{d}" for d in await listed(service, repository)} == service.stored()
    assert done["model"]["version"] == 1
    await sweeper().sweep(dry_run=False, grace_seconds=0)
    assert len(service.stored()) == 3, "version, record, index"
    await world.delete("FpgaModel", "net")
    await sweeper().sweep(dry_run=False, grace_seconds=0)
    assert not service.stored()


async def test_idle_sweeps_write_nothing(
    world: World, sweeper: Make, pusher: Pusher, admin: Cluster, clock: Clock
) -> None:
    pusher.push("net", "1")
    await sweeper().sweep(dry_run=False)
    before = await admin.get("ConfigMap", "accel-system", NAME)
    assert before is not None
    clock.now += HOUR
    await sweeper().sweep(dry_run=False)
    assert await admin.get("ConfigMap", "accel-system", NAME) == before


async def test_a_registry_that_does_not_answer_harms_nothing(
    world: World, service: Service, sweeper: Make, pusher: Pusher, admin: Cluster, clock: Clock
) -> None:
    pusher.push("net", "1")
    await sweeper().sweep(dry_run=False)
    marks = await admin.get("ConfigMap", "accel-system", NAME)
    service.stop()
    report = await sweeper().sweep(dry_run=False)
    assert report.result == "error"
    assert "does not answer" in report.trouble[0]
    assert await admin.get("ConfigMap", "accel-system", NAME) == marks
    service.start()
    clock.now += 2 * HOUR
    assert len((await sweeper().sweep(dry_run=False)).deleted) == 3


async def test_a_registry_that_deletes_nothing_is_told_of(
    world: World, service: Service, sweeper: Make, pusher: Pusher
) -> None:
    pusher.push("net", "1")
    before = service.stored()
    service.stop()
    service.start(delete=False)
    report = await sweeper().sweep(dry_run=False, grace_seconds=0)
    assert report.result == "refused"
    assert f"nothing can be deleted in models/{world.namespace}/net" in report.trouble[0]
    assert service.stored() == before


async def test_the_registrys_own_collection_frees_what_the_sweep_left(
    world: World,
    service: Service,
    sweeper: Make,
    pusher: Pusher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is read-only, pushes and the sweep are refused and nothing else happens to them."""
    await model(world, "kept", kept := pusher.push("kept", "1"))
    pusher.push("gone", "2")
    await sweeper().sweep(dry_run=False, grace_seconds=0)
    pusher.push("late", "3")
    service.stop()
    with monkeypatch.context() as patch:
        patch.setenv("REGISTRY_STORAGE_MAINTENANCE_READONLY", '{"enabled":true}')
        service.start()
    report = await sweeper().sweep(dry_run=False, grace_seconds=0)
    assert report.result == "refused"
    before = len(list(service.folder.glob("data/**/blobs/**/data")))
    after = service.collect_garbage()
    assert after < before
    service.stop()
    service.start()
    with Store(service.endpoint) as store:
        repository = f"models/{world.namespace}/kept"
        manifest = store.get_manifest(repository, kept["model"]["digest"]).manifest()
        assert all(store.has_blob(repository, layer.digest) for layer in manifest.layers)
    assert pusher.push("kept", "1") == kept
    assert pusher.push("gone", "2")["model"]["version"] == 1


async def test_a_chosen_repository_is_remembered_when_its_image_is_gone(
    world: World, service: Service, sweeper: Make
) -> None:
    """Also by an operator that was started since; what users pushed beside stays."""
    chosen = f"shop/{world.namespace}"
    await world.apply("AccelImage", "net", {"modelRef": {"name": "net"}, "repository": chosen})
    with Store(service.endpoint) as store:
        store.put_blob(chosen, b"{}")
        for tag, annotations in (("v1", {"accel.dev/key": "k"}), ("mine", {"by": "hand"})):
            manifest = Manifest(EMPTY_DESCRIPTOR, (EMPTY_DESCRIPTOR,), annotations)
            store.put_manifest(chosen, tag, Document(manifest.media_type, manifest.to_bytes()))
        await sweeper().sweep(dry_run=False)
        await world.delete("AccelImage", "net")
        await sweeper().sweep(dry_run=False, grace_seconds=0)
        assert store.tags(chosen) == ["mine"]


async def test_an_index_whose_records_are_gone_is_still_ours(service: Service) -> None:
    """In a chosen repository, after a sweep that was cut short; what users pushed there is not."""
    subject = Manifest(EMPTY_DESCRIPTOR, (EMPTY_DESCRIPTOR,), {"accel.dev/key": "k"})
    body = Document(subject.media_type, subject.to_bytes())
    with Store(service.endpoint) as store:
        store.put_blob("shop/net", b"{}")
        record = put_record(store, "shop/net", body, {}, {})
        theirs = Manifest(EMPTY_DESCRIPTOR, (EMPTY_DESCRIPTOR,), {"by": "hand"})
        foreign = store.put_manifest("shop/net", "mine", Document(theirs.media_type, theirs.to_bytes()))
    async with connect(settings(service)) as registry:
        assert await registry.delete("shop/net", record.digest)
        found = await Listing().repository(registry, "shop/net", private=False)
    assert {m.digest: m.ours for m in found.manifests.values() if m.digest == foreign} == {foreign: False}
    assert [m.ours for m in found.manifests.values() if m.digest != foreign] == [True]


@pytest.mark.parametrize(("sources", "left"), [(False, 2), (True, 1)])
async def test_sources_are_the_users_own_unless_said_otherwise(
    sources: bool, left: int, world: World, service: Service, sweeper: Make
) -> None:
    name = f"sources/{world.namespace}"
    with Store(service.endpoint) as store:
        store.put_blob(name, b"{}")
        for tag in ("1", "2"):
            manifest = Manifest(EMPTY_DESCRIPTOR, (EMPTY_DESCRIPTOR,), {"tag": tag})
            store.put_manifest(name, tag, Document(manifest.media_type, manifest.to_bytes()))
        await world.apply("FpgaModel", "net", {"source": {"uri": f"oci:///{name}:1"}})
        await sweeper(sources=sources).sweep(dry_run=False, grace_seconds=0)
        assert store.tags(name) == ["1", "2"][:left]


async def test_without_the_catalog_only_what_was_ours_is_swept(
    world: World, service: Service, sweeper: Make, pusher: Pusher
) -> None:
    """A registry that several clusters share: what another one has is none of our business."""
    await model(world, "net", pusher.push("net", "1"))
    pusher.push("another-cluster", "1")
    await sweeper(catalog=False).sweep(dry_run=False)
    await world.delete("FpgaModel", "net")
    await sweeper(catalog=False).sweep(dry_run=False, grace_seconds=0)
    assert {entry.partition("@")[0] for entry in service.stored()} == {
        f"models/{world.namespace}/another-cluster"
    }
