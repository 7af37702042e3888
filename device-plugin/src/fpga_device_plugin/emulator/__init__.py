"""The node's cards: one process each, kept alive, and one control socket for all of them."""
