"""How a Secret's absence shows without a right to read Secrets, and without asking for it again and again.

A child that may be watched, the ServiceAccount, names the Secret as a second owner. When the Secret is deleted the
garbage collector takes that reference off, as the first owner still stands: a change like any other, that a watch
delivers and a comparison finds.
"""

from fpga_operator.plan.types import Manifest

KIND = "ServiceAccount"


def anchored(manifest: Manifest, secret: str, uid: str) -> Manifest:
    """Return a child's manifest; the anchor's with the Secret as its second owner."""
    if manifest["kind"] != KIND:
        return manifest
    meta = manifest["metadata"]
    reference = {"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": uid}
    return {**manifest, "metadata": {**meta, "ownerReferences": [*meta["ownerReferences"], reference]}}


def holds(live: Manifest | None, uid: str) -> bool:
    """Tell whether a live anchor still names the Secret."""
    references = live["metadata"].get("ownerReferences") or [] if live is not None else []
    return any(reference["uid"] == uid for reference in references)


def holds_any(live: Manifest, secret: str) -> bool:
    """Tell whether it names a Secret of that name, whichever."""
    references = live["metadata"].get("ownerReferences") or []
    return any((reference["kind"], reference["name"]) == ("Secret", secret) for reference in references)
