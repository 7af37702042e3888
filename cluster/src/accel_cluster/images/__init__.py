"""The product's container images: built without a daemon and pushed into the cluster's registry.

`python -m accel_cluster.images build|push|values|lock`. Everything is keyed by content: an image's tag is the
hash of its Dockerfile, its base and its wheels, so what has not changed is neither built nor pushed again.
"""
