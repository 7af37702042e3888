"""The operator's errors: two branches, two meanings.

OperatorError
├── Retry            try again by itself, with backoff
│   └── ApiFailure   the API server answered with an error, or not at all
└── Terminal         a person must act; shown in a condition
    ├── NotOurs      an object of that name exists and belongs to someone else
    └── ConfigError  the operator's own configuration is unusable
"""


class OperatorError(Exception):
    """Root of the tree."""


class Retry(OperatorError):
    """Something that passes by itself."""


class ApiFailure(Retry):
    """The API server refused a request or could not be reached.

    status: HTTP status, 0 when there was no answer.
    """

    def __init__(self, what: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{what}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Terminal(OperatorError):
    """Something that only a person can change."""


class NotOurs(Terminal):
    """A child cannot be written, because an object of its name belongs to someone else."""

    def __init__(self, kind: str, namespace: str, name: str) -> None:
        super().__init__(f"{kind} {namespace}/{name} exists and does not belong to this object")
        self.kind = kind
        self.namespace = namespace
        self.name = name


class ConfigError(Terminal):
    """The configuration file is missing or wrong."""
