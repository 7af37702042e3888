"""What can go wrong: one tree, two branches. Each message says what is wrong and what to do."""


class ClusterError(Exception):
    """Any failure of this package."""


class Refused(ClusterError):
    """A person must act: what is not the cluster's is in its way, or a request makes no sense."""


class Failed(ClusterError):
    """A step did not work; running the same command again may help and does no harm."""
