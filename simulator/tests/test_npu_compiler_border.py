"""Where the device stops, against all places where it could."""

from itertools import chain, combinations

import numpy as np
import pytest
from npu.compiler.border import outputs_of


def drawn(rng):
    """Readers, escaping and heavy nodes of a small graph without dead ends."""
    count = int(rng.integers(1, 8))
    after = {node: [n for n in range(node + 1, count) if rng.random() < 0.4] for node in range(count)}
    escaping = {node for node in after if not after[node] or rng.random() < 0.2}
    heavy = {node for node in after if rng.random() < 0.3} or {0}
    for node in reversed(range(count)):
        if any(reader in heavy for reader in after[node]):
            heavy.add(node)
    return after, escaping, heavy


def leaving(after, escaping, kept):
    """Nodes on the device whose results are read elsewhere."""
    return {node for node in kept if node in escaping or any(reader not in kept for reader in after[node])}


def possible(after, heavy):
    """Every set of nodes that holds the heavy ones and whatever its nodes need."""
    light = [node for node in after if node not in heavy]
    for chosen in chain.from_iterable(combinations(light, size) for size in range(len(light) + 1)):
        kept = heavy | set(chosen)
        if all(node in kept for node in after if any(reader in kept for reader in after[node])):
            yield kept


@pytest.mark.parametrize("seed", range(60))
def test_the_cut_is_a_smallest_one_and_the_furthest_of_those(seed):
    after, escaping, heavy = drawn(np.random.default_rng(seed))
    found = outputs_of(after, escaping, heavy)
    kept = heavy | set(found)
    for node in reversed(range(len(after))):
        if any(reader in kept for reader in after[node]):
            kept.add(node)
    assert leaving(after, escaping, kept) == set(found)
    sizes = {frozenset(other): len(leaving(after, escaping, other)) for other in possible(after, heavy)}
    assert len(found) == min(sizes.values())
    furthest = {
        frozenset(other)
        for other, size in sizes.items()
        if size == len(found) and behind(after, heavy) >= other
    }
    assert all(other <= kept for other in furthest)


def behind(after, heavy):
    """The heavy nodes and everything that their results flow into."""
    found = set(heavy)
    for node in sorted(after):
        if node in found:
            found.update(after[node])
    return found
