"""Secrets as they are mounted, against a real registry with accounts and a real web server; nothing of them is ever
shown.
"""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from accel.oci import Credentials, Reference, Registry, push_source
from accel.oci.local import LocalRegistry
from accel_toolchain import cli, jobs
from accel_toolchain.conditions import Failure, Terminal, Transient
from accel_toolchain.credentials import Secret, read_secret
from accel_toolchain.download import Deadline, download
from accel_toolchain.fetch import fetch
from accel_toolchain.workspace import Workspace, write_note
from web_harness import web_server

Make = Callable[..., str]
USER, PASSWORD = "reader", "open sesame"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"


@contextmanager
def running_registry(folder: Path, *, readonly: bool = False, htpasswd: str = "") -> Iterator[str]:
    """Yield the endpoint of a registry that keeps its content below `folder`."""
    folder.mkdir(exist_ok=True)
    registry = LocalRegistry(folder)
    registry.start(readonly=readonly, htpasswd=htpasswd)
    try:
        yield registry.endpoint
    finally:
        registry.stop()


def secret(**entries: str) -> Secret:
    return Secret("mine", "team", "SourceSecretInvalid", entries)


def docker_config(host: str, user: str = USER, password: str = PASSWORD, packed: bool = False) -> str:
    entry = {"username": user, "password": password}
    if packed:
        entry = {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}
    return json.dumps({"auths": {host: entry}})


ACCOUNTS = {
    # name: (entries, the account)
    "username and password": ({"username": "u", "password": "p"}, ("u", "p")),
    "docker": ({".dockerconfigjson": docker_config("r.example:5000", "u", "p")}, ("u", "p")),
    "docker, packed": ({".dockerconfigjson": docker_config("r.example:5000", "u", "p:q", packed=True)}, ("u", "p:q")),
    "docker, an address": ({".dockerconfigjson": docker_config("https://r.example:5000/v1/", "u", "p")}, ("u", "p")),
    "docker, another host": ({".dockerconfigjson": docker_config("other", "u", "p")}, None),
    "an authority alone": ({"ca.crt": "pem"}, None),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "account"), ACCOUNTS.values(), ids=ACCOUNTS)
def test_the_account_for_a_registry(entries: dict[str, str], account: tuple[str, str] | None) -> None:
    found = secret(**entries).for_registry("r.example:5000")
    assert (None if found is None else (found.username, found.password)) == account


UNUSABLE = {
    "nothing known": {"user": "hunter2"},
    "a broken docker configuration": {".dockerconfigjson": '{"auths": {"h": "hunter2"'},
    "a docker configuration of something else": {".dockerconfigjson": '["hunter2"]'},
    "no password": {".dockerconfigjson": '{"auths": {"h": {"auth": "hunter2"}}}'},
}


@pytest.mark.parametrize("entries", UNUSABLE.values(), ids=UNUSABLE)
def test_a_secret_that_does_not_do_is_named_and_not_shown(entries: dict[str, str]) -> None:
    with pytest.raises(Terminal) as raised:
        secret(**entries).for_registry("h")
    assert raised.value.reason == "SourceSecretInvalid"
    assert "Secret mine of namespace team" in raised.value.message
    assert "kubectl create secret" in raised.value.message
    assert "hunter2" not in raised.value.message
    assert raised.value.__cause__ is None, "a cause would quote it in a trace"
    assert "hunter2" not in repr(secret(**entries))


CURES = {
    # name: (reason, entries, what is asked of it, the command)
    "registry, no entry": (
        "SourceSecretInvalid", {"user": "u"}, lambda s: s.for_registry("h"),
        ("generic mine -n team", "kubectl apply -f -"),
    ),
    "registry, broken": (
        "SourceSecretInvalid", {".dockerconfigjson": "{"}, lambda s: s.for_registry("h"),
        ("docker-registry mine -n team", "kubectl replace --force -f -"),
    ),
    "https": (
        "SourceSecretInvalid", {"user": "u"}, lambda s: s.authorization(),
        ("generic mine -n team", "kubectl apply -f -"),
    ),
    "the operator's": (
        "RegistrySecretInvalid", {"user": "u"}, lambda s: s.for_registry("h"),
        ("docker-registry mine -n team", "kubectl replace --force -f -"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "entries", "ask", "command"), CURES.values(), ids=CURES)
def test_the_cure_of_a_secret_works_on_one_that_exists(
    reason: str, entries: dict[str, str], ask: Callable[[Secret], Any], command: tuple[str, str]
) -> None:
    with pytest.raises(Terminal) as raised:
        ask(Secret("mine", "team", reason, entries))
    made, stored = command
    assert f"kubectl create secret {made} " in raised.value.message
    assert f" --dry-run=client -o yaml | {stored}." in raised.value.message
    assert "looked at again by itself" in raised.value.message
    assert "accel.dev/requestedAt" in raised.value.message


def test_a_missing_secret_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", str(tmp_path))
    with pytest.raises(Transient, match="Secret mine does not exist in namespace team") as raised:
        read_secret("X", "mine", "team", "spec.source.secretRef.name", "Source")
    assert raised.value.reason == "SourceSecretMissing"


def test_read_as_the_kubelet_mounts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "token").write_text("t\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "token").symlink_to("..data/token")
    monkeypatch.setenv("X", str(tmp_path))
    assert read_secret("X", "mine", "team", "f", "Source").authorization() == "Bearer t"


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with web_server({"/m.onnx": b"onnx"}, authorization=Credentials(USER, PASSWORD).basic) as address:
        yield address


WEB = {
    # name: (entries, reason of the failure, None for none)
    "right": ({"username": USER, "password": PASSWORD}, None),
    "wrong": ({"username": USER, "password": "hunter2"}, "SourceDenied"),
    "a token where an account is wanted": ({"token": "hunter2"}, "SourceDenied"),
    "neither": ({"user": "hunter2"}, "SourceSecretInvalid"),
}


@pytest.mark.parametrize(("entries", "reason"), WEB.values(), ids=WEB)
def test_the_web_with_a_secret(web: str, entries: dict[str, str], reason: str | None, tmp_path: Path) -> None:
    if reason is None:
        download(f"{web}/m.onnx", tmp_path / "d", 99, Deadline(9), secret(**entries))
        assert (tmp_path / "d").read_bytes() == b"onnx"
        return
    with pytest.raises(Terminal) as raised:
        download(f"{web}/m.onnx", tmp_path / "d", 99, Deadline(9), secret(**entries))
    assert raised.value.reason == reason
    assert "mine" in raised.value.message
    assert "hunter2" not in raised.value.message


def test_credentials_do_not_follow_a_redirect_to_another_host(web: str, tmp_path: Path) -> None:
    with web_server({}, moved_to=f"{web}/m.onnx") as elsewhere, pytest.raises(Terminal) as raised:
        download(
            f"{elsewhere}/m.onnx", tmp_path / "d", 99, Deadline(9), secret(username=USER, password=PASSWORD)
        )
    assert raised.value.reason == "SourceDenied"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with accounts, and a source in it."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.onnx").write_bytes(b"onnx")
    with running_registry(tmp_path_factory.mktemp("guarded"), htpasswd=HTPASSWD) as endpoint:
        with Registry(endpoint, credentials=Credentials(USER, PASSWORD)) as registry:
            push_source(registry, folder, Reference.parse("oci:///sources/m:1"))
        yield endpoint


def mount(folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, **entries: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in entries.items():
        (folder / name.replace("dockerconfigjson", ".dockerconfigjson")).write_text(content)
    monkeypatch.setenv(variable, str(folder))


def job_text(make: Make, uri: str, **more: str | None) -> str:
    document = json.loads(make(uri))
    document["source"]["secret"] = more.get("source")
    document["registry"]["secret"] = more.get("registry")
    if more.get("endpoint"):
        document["registry"]["endpoint"] = more["endpoint"]
    return json.dumps(document)


def test_a_source_in_a_registry_with_accounts(
    guarded: str, convert_job: Make, work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = guarded.removeprefix("http://")
    uri = f"oci://{host}/sources/m:1"

    def failure(text: str) -> Failure:
        with pytest.raises(Failure) as raised:
            fetch(jobs.parse_convert(text), work)
        return raised.value

    denied = failure(job_text(convert_job, uri))
    assert denied.reason == "SourceDenied"
    assert "spec.source.secretRef" in denied.message
    mount(tmp_path / "s", monkeypatch, "ACCEL_SOURCE_SECRET", dockerconfigjson=docker_config("other:1"))
    wrong_host = failure(job_text(convert_job, uri, source="mine"))
    assert wrong_host.reason == "SourceSecretInvalid"
    assert f"--docker-server={host}" in wrong_host.message
    mount(
        tmp_path / "s",
        monkeypatch,
        "ACCEL_SOURCE_SECRET",
        dockerconfigjson=docker_config(host, USER, "hunter2"),
    )
    wrong = failure(job_text(convert_job, uri, source="mine"))
    assert wrong.reason == "SourceDenied"
    assert "hunter2" not in wrong.message
    mount(tmp_path / "s", monkeypatch, "ACCEL_SOURCE_SECRET", dockerconfigjson=docker_config(host))
    fetch(jobs.parse_convert(job_text(convert_job, uri, source="mine")), work)
    assert (work.source / "model.onnx").read_bytes() == b"onnx"


def run_push(text: str, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setenv("ACCEL_JOB", text)
    monkeypatch.setenv("ACCEL_WORK", str(work.root))
    monkeypatch.setenv("ACCEL_TERMINATION_LOG", str(work.root / "termination"))
    cli.main(["push"])
    result: dict[str, object] = json.loads((work.root / "termination").read_text())
    return result


@pytest.fixture
def artifact(work: Workspace) -> Workspace:
    """A workspace as convert leaves it."""
    work.artifact.mkdir()
    (work.artifact / "model.json").write_text("{}")
    write_note(work.source_note, {"sha256": "5" * 64, "known": False})
    write_note(work.report, {"inputs": [], "outputs": []})
    work.log.write_text("log")
    return work


def test_pushing_with_the_operators_secret(
    guarded: str,
    convert_job: Make,
    artifact: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    host = guarded.removeprefix("http://")
    folder = tmp_path / "r"

    def push(**entries: str) -> dict[str, object]:
        mount(folder, monkeypatch, "ACCEL_REGISTRY_SECRET", **entries)
        text = job_text(convert_job, "oci:///sources/m:1", registry="regcred", endpoint=guarded)
        return run_push(text, artifact, monkeypatch)

    missing = push()
    assert (missing["reason"], missing["retry"]) == ("RegistrySecretMissing", True)
    assert "kubectl create secret docker-registry regcred -n test" in str(missing["message"])
    refused = push(dockerconfigjson=docker_config(host, USER, "hunter2"))
    assert refused["reason"] == "RegistryDenied"
    assert "registry.secretName" in str(refused["message"])
    pushed = push(dockerconfigjson=docker_config(host))
    assert pushed["ok"] is True
    out, err = capfd.readouterr()
    assert "hunter2" not in out + err + json.dumps(refused)
    assert PASSWORD not in out + err + json.dumps(pushed)


def test_a_registry_that_takes_no_writes(
    convert_job: Make, artifact: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_registry(tmp_path / "registry", readonly=True) as endpoint:
        result = run_push(convert_job(registry=endpoint), artifact, monkeypatch)
    assert (result["reason"], result["retry"]) == ("RegistryReadOnly", False)
    assert "maintenance" in str(result["message"])
    with running_registry(tmp_path / "registry") as endpoint:
        assert run_push(convert_job(registry=endpoint), artifact, monkeypatch)["ok"] is True


def test_a_registry_that_is_down(
    convert_job: Make, artifact: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_registry(tmp_path / "registry") as endpoint:
        pass
    result = run_push(convert_job(registry=endpoint), artifact, monkeypatch)
    assert (result["reason"], result["retry"]) == ("RegistryUnavailable", True)


FULL = {
    # name: (status, what the registry answers): as Docker's registry 2.8 on a full disk, and as the standard says
    "in the middle of an upload": (500, '{"errors":[{"code":"UNKNOWN","detail":"write /d: no space left on device"}]}'),
    "at its beginning": (
        500,
        '{"errors":[{"code":"UNKNOWN","detail":{"DriverName":"filesystem","Enclosed":{"Op":"write","Err":28}}}]}',
    ),
    "a quota": (507, ""),
}  # fmt: skip


@pytest.mark.parametrize(("status", "answer"), FULL.values(), ids=FULL)
def test_a_registry_without_space(
    status: int, answer: str, convert_job: Make, artifact: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_server({}, writes=(status, answer.encode())) as endpoint:
        result = run_push(convert_job(registry=endpoint), artifact, monkeypatch)
    assert result["reason"] == "RegistryFull"
    assert "registry.persistence.size" in str(result["message"])
