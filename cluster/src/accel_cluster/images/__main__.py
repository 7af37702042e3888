"""Command line: `python -m accel_cluster.images build|push|values|lock [--only NAME]`."""

import argparse
import sys
import time
from collections.abc import Callable

from accel_cluster.images import base, locks, plan
from accel_cluster.images.builders import Builder, choose
from accel_cluster.images.catalog import IMAGES, Image, find
from accel_cluster.images.registry import ClusterRegistry
from accel_cluster.images.store import ImageError

Say = Callable[[str], None]


def _say(text: str) -> None:
    print(text, flush=True)


def local_name(made: plan.Plan) -> str:
    """Return the name of an image in the builder's own storage."""
    return f"localhost/accel/{made.image.name}:{made.key}"


def build(image: Image, builder: Builder, say: Say = _say) -> plan.Plan:
    """Build `image` unless the storage already holds this content; return its plan."""
    started = time.monotonic()
    made = plan.make(image)
    if builder.has(local_name(made)):
        say(f"{image.name:<10} {made.key}  unchanged")
    else:
        builder.build(made, local_name(made))
        say(f"{image.name:<10} {made.key}  built in {time.monotonic() - started:.0f} s")
    return made


def push(made: plan.Plan, builder: Builder, registry: ClusterRegistry, say: Say = _say) -> str:
    """Push what `build` made unless the registry holds it; return its reference."""
    reference = registry.reference(made.image.name, made.key)
    if not registry.has(reference):
        started = time.monotonic()
        builder.push(local_name(made), reference, registry.enter)
        say(f"{made.image.name:<10} {made.key}  pushed in {time.monotonic() - started:.0f} s")
    return reference


def references(images: tuple[Image, ...], registry: ClusterRegistry) -> dict[str, str]:
    """Return what each image is called in the cluster, whether it is built yet or not."""
    return {image.name: registry.reference(image.name, plan.make(image).key) for image in images}


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m accel_cluster.images", description=__doc__)
    parser.add_argument("action", choices=["build", "push", "values", "lock"])
    parser.add_argument("--only", metavar="NAME", help="one image instead of all")
    given = parser.parse_args()
    try:
        images = (find(given.only),) if given.only else IMAGES
        if given.action == "lock":
            for path in locks.write_all():
                _say(path)
            return 0
        if given.action == "values":
            for name, reference in references(images, ClusterRegistry.of_this_cluster()).items():
                _say(f"{name}: {reference}")
            return 0
        builder = choose()
        _say(f"base       {base.key()}")
        for image in images:
            made = build(image, builder)
            if given.action == "push":
                push(made, builder, ClusterRegistry.of_this_cluster())
    except (ImageError, KeyError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
