"""Versions: decided by the registry's tags and keys, reproducible, safe against a push that dies half-way."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from accel.oci import Reference, Registry
from accel_toolchain import jobs, versions
from accel_toolchain.conditions import Terminal, Transient
from accel_toolchain.fetch import known
from accel_toolchain.jobs import Conversion
from accel_toolchain.push import push
from accel_toolchain.results import fit
from accel_toolchain.workspace import Workspace, write_note

Make = Callable[..., str]
REPORT = {
    "inputs": [{"name": "x:0", "alias": "x", "dtype": "float32", "shape": [-1, 8, 8, 3]}],
    "outputs": [{"name": "y:0", "alias": "y", "dtype": "float32", "shape": [-1, 10]}],
    "device": {"fits": True, "tiles": 1},
    "parity": {"maxAbs": 0.1, "maxRel": 0.1, "top1Agreement": 1.0, "samples": 4},
}


def leave(work: Workspace, sha256: str, weights: bytes = b"weights", log: bytes = b"log") -> None:
    """Leave in the workspace what fetch and convert leave."""
    work.artifact.mkdir(exist_ok=True)
    (work.artifact / "model.json").write_text("{}")
    (work.artifact / "device.npu").write_bytes(weights)
    write_note(work.source_note, {"sha256": sha256, "known": False})
    write_note(work.report, REPORT)
    work.log.write_bytes(log)


def test_the_result_holds_what_the_status_shows(convert_job: Make, work: Workspace) -> None:
    leave(work, "1" * 64)
    result = push(jobs.parse_convert(convert_job()), work)
    assert result["ok"]
    assert result["model"]["version"] == 1
    assert result["model"]["sourceSha256"] == "1" * 64
    assert {key: result[key] for key in ("inputs", "outputs", "device", "parity")} == REPORT
    assert result["versions"] == [result["model"]]
    assert result["log"].startswith("oci:///models/test/")
    assert len(fit(result)) <= 4096


def test_the_same_input_is_the_same_version_and_digest(convert_job: Make, work: Workspace) -> None:
    leave(work, "1" * 64, log=b"first log")
    first = push(jobs.parse_convert(convert_job()), work)
    leave(work, "1" * 64, b"a newer converter makes other bytes", b"second log")
    second = push(jobs.parse_convert(convert_job()), work)
    assert second == first


def test_the_digest_depends_on_the_artifact_alone(endpoint: str, convert_job: Make, work: Workspace) -> None:
    """Also when the registry was wiped, or it is another one: times and logs are not part of the manifest."""
    leave(work, "1" * 64, log=b"first log")
    job = json.loads(convert_job())
    first = push(jobs.parse_convert(json.dumps(job)), work)
    leave(work, "1" * 64, log=b"second log, an hour later")
    job["target"]["repository"] += "-other"
    second = push(jobs.parse_convert(json.dumps(job)), work)
    assert second["model"]["digest"] == first["model"]["digest"]


def test_a_wiped_registry_gives_no_number_twice(convert_job: Make, work: Workspace) -> None:
    """The operator remembers which bytes had which number; what is new comes after all of them."""
    job = json.loads(convert_job())
    leave(work, "1" * 64)
    digest = push(jobs.parse_convert(json.dumps(job)), work)["model"]["digest"]
    job["target"]["repository"] += "-wiped"
    job["target"]["versions"] = {digest: 3, f"sha256:{'0' * 64}": 4}
    assert push(jobs.parse_convert(json.dumps(job)), work)["model"]["version"] == 3
    leave(work, "2" * 64, b"other")
    result = push(jobs.parse_convert(json.dumps(job)), work)
    assert result["model"]["version"] == 5
    assert [entry["version"] for entry in result["versions"]] == [5, 3]


def test_a_number_that_is_taken_is_not_given_again(convert_job: Make, work: Workspace) -> None:
    job = json.loads(convert_job())
    leave(work, "1" * 64)
    push(jobs.parse_convert(json.dumps(job)), work)
    leave(work, "2" * 64, b"other")
    job["target"]["repository"] += "-elsewhere"
    digest = push(jobs.parse_convert(json.dumps(job)), work)["model"]["digest"]
    job["target"]["repository"] = job["target"]["repository"].removesuffix("-elsewhere")
    job["target"]["versions"] = {digest: 1}
    assert push(jobs.parse_convert(json.dumps(job)), work)["model"]["version"] == 2


CHANGES = {
    # name: (sha256 of the source, options)
    "changed weights": ("2" * 64, {}),
    "other outputs": ("1" * 64, {"outputs": ["y:0"]}),
    "other precision": ("1" * 64, {"precision": "ms-fp9"}),
    "host allowed": ("1" * 64, {"requireFpga": False}),
}


@pytest.mark.parametrize(("sha256", "options"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_the_next_version(
    sha256: str, options: dict[str, object], convert_job: Make, work: Workspace
) -> None:
    leave(work, "1" * 64)
    first = push(jobs.parse_convert(convert_job()), work)
    leave(work, sha256, b"other")
    second = push(jobs.parse_convert(convert_job(**options)), work)
    assert (first["model"]["version"], second["model"]["version"]) == (1, 2)
    assert [entry["version"] for entry in second["versions"]] == [2, 1]
    leave(work, "1" * 64)
    again = push(jobs.parse_convert(convert_job()), work)
    assert again["model"] == first["model"]
    assert [entry["version"] for entry in again["versions"]] == [2, 1]


def test_samples_and_tolerance_are_no_part_of_the_key() -> None:
    assert versions.model_key("1", Conversion()) == versions.model_key("1", Conversion())
    assert versions.model_key("1", Conversion()) != versions.model_key("1", Conversion(mode="RegisterOnly"))
    assert versions.model_key("1", Conversion(mode="RegisterOnly")) == versions.model_key(
        "1", Conversion(mode="RegisterOnly", precision="ms-fp9")
    )


def test_a_known_version_is_not_fetched_or_converted_again(convert_job: Make, work: Workspace) -> None:
    job = jobs.parse_convert(convert_job())
    assert not known(job, "1" * 64)
    leave(work, "1" * 64)
    first = push(job, work)
    assert known(job, "1" * 64)
    assert not known(job, "2" * 64)
    for path in (work.report, work.log):
        path.unlink()
    write_note(work.source_note, {"sha256": "1" * 64, "known": True})
    assert push(job, work) == first


def test_a_known_version_that_vanished_is_made_again(convert_job: Make, work: Workspace) -> None:
    write_note(work.source_note, {"sha256": "1" * 64, "known": True})
    with pytest.raises(Transient, match="made again"):
        push(jobs.parse_convert(convert_job()), work)


def test_a_push_that_died_before_its_tag_leaves_no_version(
    convert_job: Make, work: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(work, "1" * 64)
    job = jobs.parse_convert(convert_job())
    put = Registry.put_manifest

    def dying(self: Registry, repository: str, target: str, document: object) -> str:
        if target == "v1":
            raise KeyboardInterrupt
        return put(self, repository, target, document)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "put_manifest", dying)
        with pytest.raises(KeyboardInterrupt):
            push(job, work)
    result = push(job, work)
    assert result["model"]["version"] == 1
    assert len(result["versions"]) == 1


def test_the_report_and_the_log_are_found_from_the_result(
    endpoint: str, convert_job: Make, work: Workspace
) -> None:
    leave(work, "1" * 64, log=b"what the converter said")
    result = push(jobs.parse_convert(convert_job()), work)
    log = Reference.parse(result["log"])
    with Registry(endpoint) as registry:
        manifest = registry.get_manifest(log.repository, log.target).manifest()
        contents = {layer.media_type: registry.read_blob(log.repository, layer) for layer in manifest.layers}
    assert contents["text/plain"] == b"what the converter said"
    assert json.loads(contents["application/vnd.accel.report.v1+json"]) == REPORT
    assert manifest.subject is not None
    assert manifest.subject.digest == result["model"]["digest"]


def test_the_artifact_is_an_image_that_others_read(
    endpoint: str, convert_job: Make, work: Workspace, tmp_path: Path
) -> None:
    leave(work, "1" * 64)
    job = jobs.parse_convert(convert_job())
    push(job, work)
    image = f"docker://{endpoint.removeprefix('http://')}/{job.repository}:v1"
    config = json.loads(
        subprocess.check_output(["skopeo", "inspect", "--config", "--tls-verify=false", image])
    )
    # A copy to a folder makes skopeo check every digest, and diff_ids against the layers.
    subprocess.run(
        [
            "skopeo",
            "--insecure-policy",
            "copy",
            "-q",
            "--src-tls-verify=false",
            image,
            f"oci:{tmp_path}/copy:v1",
        ],
        check=True,
    )
    manifest = json.loads(
        subprocess.check_output(["skopeo", "inspect", "--raw", "--tls-verify=false", image])
    )
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert len(manifest["layers"]) == 1


HOSTILE = {
    # name: (what a converter that was taken over does to the workspace, reason)
    "link in the artifact": lambda work: (work.artifact / "model.onnx").symlink_to("/etc/hostname"),
    "link as the log": lambda work: (work.log.unlink(), work.log.symlink_to("/etc/hostname")),
    "link as the report": lambda work: (work.report.unlink(), work.report.symlink_to("/etc/hostname")),
    "link as the folder's file": lambda work: (work.artifact / "source").symlink_to("/etc"),
    "unknown file": lambda work: (work.artifact / "setup.sh").write_text("rm -rf /"),
    "report that is none": lambda work: work.report.write_text("]["),
    "no artifact": lambda work: __import__("shutil").rmtree(work.artifact),
}


@pytest.mark.parametrize("harm", HOSTILE.values(), ids=HOSTILE)
def test_what_a_hostile_converter_left_is_refused(
    harm: Callable[[Workspace], object], endpoint: str, convert_job: Make, work: Workspace
) -> None:
    leave(work, "1" * 64)
    harm(work)
    job = jobs.parse_convert(convert_job())
    with pytest.raises(Terminal) as raised:
        push(job, work)
    assert raised.value.reason == "ConversionFailed"
    with Registry(endpoint) as registry:
        assert not [tag for tag in registry.tags(job.repository) if tag.startswith("v")]


def test_a_registry_that_is_down_is_tried_again(convert_job: Make, work: Workspace) -> None:
    leave(work, "1" * 64)
    with pytest.raises(Transient) as raised:
        push(jobs.parse_convert(convert_job(registry="http://127.0.0.1:9")), work)
    assert raised.value.reason == "RegistryUnavailable"
