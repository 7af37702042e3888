"""What can go wrong with a registry: one tree, two branches.

`Unavailable` may heal by itself, so try again; everything under `Rejected` needs a person.
"""


class OciError(Exception):
    """Root of the tree; the message names the registry or reference and says what happened."""


class Unavailable(OciError):
    """The registry cannot be reached, is overloaded or broke down half-way. Trying again later is right."""


class Full(Unavailable):
    """The registry has no space left. Somebody frees or adds some; then trying again is right."""


class ReadOnly(Unavailable):
    """The registry takes no writes now (405): maintenance, or a read-only mirror."""


class Rejected(OciError):
    """Trying again gives the same answer."""


class NotFound(Rejected):
    """No such repository, tag, manifest or blob."""


class Denied(Rejected):
    """The registry wants other credentials, or forbids the action to these."""


class BadReference(Rejected):
    """A name that is no reference, or one that lacks the part that is needed here."""


class InvalidContent(Rejected):
    """What was read is not what its digest or its media type says."""


class TooLarge(Rejected):
    """The content exceeds the limit that the caller set."""
