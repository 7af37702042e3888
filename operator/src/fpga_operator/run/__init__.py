"""Effects: the queue, the cache of the cluster, the executor of plans, and the watches that feed them."""
