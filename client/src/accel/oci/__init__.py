"""A small typed client of the OCI distribution API, and what is pushed with it.

Knows references, blobs, manifests, tags and deterministic layers. It must not know Kubernetes, models or the
command line: Jobs and `kubectl accel` use it alike.
"""

from accel.oci.digests import EMPTY_JSON, digest_of, digest_of_file
from accel.oci.errors import (
    BadReference,
    Denied,
    Full,
    InvalidContent,
    NotFound,
    OciError,
    ReadOnly,
    Rejected,
    TooLarge,
    Unavailable,
)
from accel.oci.layers import Entry, Layer, directory_entries, write_layer
from accel.oci.manifests import Descriptor, Document, Index, Manifest
from accel.oci.reference import Reference
from accel.oci.registry import Credentials, Registry
from accel.oci.sources import SOURCE_TYPE, push_source

__all__ = [
    "EMPTY_JSON",
    "SOURCE_TYPE",
    "BadReference",
    "Credentials",
    "Denied",
    "Descriptor",
    "Document",
    "Entry",
    "Full",
    "Index",
    "InvalidContent",
    "Layer",
    "Manifest",
    "NotFound",
    "OciError",
    "ReadOnly",
    "Reference",
    "Registry",
    "Rejected",
    "TooLarge",
    "Unavailable",
    "digest_of",
    "digest_of_file",
    "directory_entries",
    "push_source",
    "write_layer",
]
