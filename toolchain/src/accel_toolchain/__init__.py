"""What the operator's Jobs run: fetch a source, convert it, push the artifact, build an image.

Each command is one container: one JSON job in (`ACCEL_JOB`), one JSON result out (the termination message).
The package knows registries and models; it must not know Kubernetes.
"""

__version__ = "0.1.0"
