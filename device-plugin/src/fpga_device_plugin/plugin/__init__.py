"""The adapter between the node's cards and its kubelet. Holds no state that a restart would lose."""
