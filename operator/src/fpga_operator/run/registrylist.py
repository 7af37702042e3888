"""The registry as values: every manifest that a tag of a repository leads to.

Tags are all that the distribution API lists. A tag leads to its manifest, an index to its children, and a tag
that is named after a digest (`sha256-<hex>`, with or without more behind it) to that manifest as well.
"""

from collections import OrderedDict
from dataclasses import dataclass

from fpga_operator.plan.sweep import Repository, Stored, subject_of
from fpga_operator.run.registry import Absent, Refused, Registry

KEY = "accel.dev/key"  # the toolchain's annotation: every version carries it
RECORD_TYPE = "application/vnd.accel.record.v1"
KNOWN = 20_000


@dataclass(frozen=True)
class Content:
    """What never changes about a digest."""

    children: frozenset[str] = frozenset()
    is_index: bool = False
    key: bool = False  # made by us
    record: bool = False


class Listing:
    """Reads repositories; contents of digests seen before are not fetched again."""

    def __init__(self) -> None:
        self._contents: OrderedDict[str, Content] = OrderedDict()

    async def repository(self, registry: Registry, name: str, *, private: bool) -> Repository:
        """Return a repository. `private`: all in it is ours; else only what carries our marks is."""
        tags: dict[str, set[str]] = {}
        for tag in await registry.tags(name):
            if digest := await registry.digest(name, tag):
                tags.setdefault(digest, set()).add(tag)
            # Also where the tag's own manifest has gone meanwhile.
            subject = subject_of(tag)
            if subject and subject not in tags and await registry.digest(name, subject):
                tags.setdefault(subject, set())
        contents: dict[str, Content] = {}
        todo = list(tags)
        while todo:
            digest = todo.pop()
            if digest in contents:
                continue
            content = await self._content(registry, name, digest, there=digest in tags)
            if content is not None:
                contents[digest] = content
                todo += content.children
        return Repository(name, _stored(contents, tags, private=private))

    async def _content(self, registry: Registry, name: str, digest: str, *, there: bool) -> Content | None:
        known = self._contents.get(digest)
        if known is not None:
            self._contents.move_to_end(digest)
            return known if there or await registry.digest(name, digest) else None
        try:
            known = _read(await registry.manifest(name, digest))
        except Absent:
            return None
        except Refused as error:
            if error.status != 200:
                raise
            return Content()  # unreadable: there, and led to by its tag alone
        self._contents[digest] = known
        while len(self._contents) > KNOWN:
            self._contents.popitem(last=False)
        return known


def _read(manifest: dict[str, object]) -> Content:
    children = manifest.get("manifests")
    listed = children if isinstance(children, list) else []
    annotations = manifest.get("annotations")
    return Content(
        children=frozenset(str(child.get("digest")) for child in listed if isinstance(child, dict)),
        is_index=isinstance(children, list),
        key=isinstance(annotations, dict) and KEY in annotations,
        record=manifest.get("artifactType") == RECORD_TYPE,
    )


def _stored(contents: dict[str, Content], tags: dict[str, set[str]], *, private: bool) -> dict[str, Stored]:
    made = {digest for digest, content in contents.items() if content.key or content.record}
    found = {}
    for digest, content in contents.items():
        names, children = frozenset(tags.get(digest, ())), content.children & set(contents)
        # An index of records is ours, also one whose records a sweep that was cut short has taken already.
        records = content.is_index and bool(names) and all(map(subject_of, names)) and children <= made
        found[digest] = Stored(
            digest, names, children, content.is_index, private or digest in made or records
        )
    return found
