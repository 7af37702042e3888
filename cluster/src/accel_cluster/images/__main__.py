"""Command line: `python -m accel_cluster.images build|push|values|lock [--only NAME]`."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable

from accel_cluster.cluster import Cluster
from accel_cluster.errors import ClusterError
from accel_cluster.images import builders, locks, plan
from accel_cluster.images.catalog import IMAGES, REPOSITORY_PREFIX, Image, find
from accel_cluster.images.store import ImageError
from accel_cluster.settings import REGISTRY

Say = Callable[[str], None]


def _say(text: str) -> None:
    print(text, flush=True)


def build(image: Image, say: Say = _say) -> plan.Plan:
    """Build `image` unless the cache has this content; return its plan."""
    started = time.monotonic()
    made = plan.make(image)
    known = builders.layout(made).exists()
    builders.image(made, builders.choose())
    said = "unchanged" if known else f"built in {time.monotonic() - started:.0f} s"
    say(f"{image.name:<10} {made.key}  {said}")
    return made


def push(made: plan.Plan, cluster: Cluster, say: Say = _say) -> str:
    """Make a built image available to the cluster's nodes; return its reference. Layers that are there
    stay there.
    """
    started = time.monotonic()
    name = f"{REPOSITORY_PREFIX}/{made.image.name}:{made.key}"
    reference = cluster.push(builders.image(made, builders.choose()), name)
    say(f"{made.image.name:<10} {made.key}  in the cluster after {time.monotonic() - started:.0f} s")
    return reference


def references(images: Iterable[Image], registry: str) -> dict[str, str]:
    """Return what each image is called in the cluster, whether it is built yet or not."""
    return {
        image.name: f"{registry}/{REPOSITORY_PREFIX}/{image.name}:{plan.make(image).key}" for image in images
    }


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m accel_cluster.images", description=__doc__)
    parser.add_argument("action", choices=["build", "push", "values", "lock"])
    parser.add_argument("--only", metavar="NAME", help="one image instead of all")
    given = parser.parse_args()
    try:
        images = (find(given.only),) if given.only else IMAGES
        match given.action:
            case "lock":
                for path in locks.write_all():
                    _say(path)
            case "values":
                for name, reference in references(images, Cluster().registry or REGISTRY).items():
                    _say(f"{name}: {reference}")
            case "build":
                for image in images:
                    build(image)
            case "push":
                for image in images:
                    push(build(image), Cluster())
    except (ImageError, ClusterError, KeyError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
