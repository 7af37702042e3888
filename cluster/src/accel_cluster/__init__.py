"""A throw-away Kubernetes cluster for tests: real nodes, real kubelets, gone without a trace.

`Cluster` is what tests use; `python -m accel_cluster` is the same for a shell. Nothing here knows the
product.
"""

from accel_cluster.cluster import Cluster
from accel_cluster.errors import ClusterError, Failed, Refused

__all__ = ["Cluster", "ClusterError", "Failed", "Refused"]
