"""Which version of a model an image takes, and what keeps it from being there."""

from dataclasses import dataclass

from fpga_operator.api.accelimage import ImageVersion, ModelRef
from fpga_operator.api.fpgamodel import FpgaModelSpec, FpgaModelStatus, Mode, ModelVersion
from fpga_operator.plan.conditions import Situation
from fpga_operator.plan.history import dropped_story
from fpga_operator.plan.types import Owner
from fpga_operator.plan.upstream import Upstream, Verdict, waiting_for


@dataclass(frozen=True)
class ModelSeen:
    """The model that it names."""

    owner: Owner
    spec: FpgaModelSpec
    status: FpgaModelStatus

    @property
    def upstream(self) -> Upstream:
        """The model as something to wait for."""
        return Upstream("FpgaModel", self.owner.name, self.owner.generation, self.status)


def choose(
    owner: Owner, ref: ModelRef, model: ModelSeen | None, built: tuple[ImageVersion, ...], *, ready: bool
) -> ModelVersion | Verdict:
    """Return the version to build, or why there is none yet.

    built: images that can be run. ready: there is an image already, whatever becomes of the next one.
    """
    if model is None or model.owner.deleting:
        gone = f"waits for FpgaModel {ref.name}, which does not exist in namespace {owner.namespace}"
        return Verdict(Situation.WAITING, "WaitingForModel", gone)
    if model.spec.conversion is not None and model.spec.conversion.mode is Mode.REGISTER_ONLY:
        return Verdict(
            Situation.FAILED,
            "ModelNotConverted",
            f"FpgaModel {ref.name} is only registered: set its spec.conversion.mode to Auto",
        )
    versions = {version.version: version for version in model.status.versions}
    if ref.version is not None:
        if ref.version in versions:
            return versions[ref.version]
        if not model.upstream.settled and not model.upstream.stalled:
            return Verdict(
                Situation.WAITING,
                "WaitingForModel",
                f"waits for version {ref.version}: {model.upstream.story()}",
            )
        here = next((v for v in built if v.model_version == ref.version and v.model_digest), None)
        if here is not None and here.model_digest is not None:
            return ModelVersion(
                version=ref.version, digest=here.model_digest, sku=here.sku
            )  # only its image is needed
        story = dropped_story(
            "FpgaModel", ref.name, ref.version, model.status.versions, model.spec.history_limit
        )
        return Verdict(Situation.FAILED, "VersionNotFound", f"spec.modelRef.version {ref.version} {story}")
    if not model.upstream.settled:
        reason, message = waiting_for(model.upstream, "WaitingForModel")
        return Verdict(Situation.WAITING, reason if ready else "WaitingForModel", message)
    latest = versions.get(model.status.latest_version or 0)
    if latest is None:
        return Verdict(
            Situation.WAITING, "WaitingForModel", f"waits for FpgaModel {ref.name}, which has no version yet"
        )
    return latest
