"""`fpga-operator sweep [--dry-run] [--grace SECONDS]`: one pass now, and a table of what goes and why."""

import asyncio
import sys
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from fpga_operator.config import Config
from fpga_operator.plan.sweep import Candidate
from fpga_operator.plan.types import format_time
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.sweep import Report, Sweeper
from fpga_operator.run.sweepmetrics import SweepMetrics

HEADINGS = ("REPOSITORY", "MANIFEST", "TAGS", "UNREFERENCED SINCE", "FATE", "WHY")
SHOWN_HEX = 12


def sweep_once(config: Config, *, dry_run: bool, grace_seconds: float | None) -> int:
    """Make the pass, print the table, and return the exit code: 0, or 1 if something was in the way.

    Raises:
        ApiFailure: nobody to log in to.
    """
    report = asyncio.run(_pass(config, dry_run=dry_run, grace_seconds=grace_seconds))
    print(render(report, dry_run=dry_run))
    for told in report.trouble:
        print(f"error: {told}", file=sys.stderr)
    return 1 if report.trouble else 0


async def _pass(config: Config, *, dry_run: bool, grace_seconds: float | None) -> Report:
    cluster = await Cluster.connect()
    try:
        sweeper = Sweeper(config, cluster, SweepMetrics(CollectorRegistry()))
        return await sweeper.sweep(dry_run=dry_run, grace_seconds=grace_seconds, remember=not dry_run)
    finally:
        await cluster.close()


def render(report: Report, *, dry_run: bool) -> str:
    """Return the table, and a line that sums it up."""
    fate = "would go" if dry_run else "deleted"
    rows = [_row(each, fate) for each in report.deleted] + [
        _row(each, "kept for now") for each in report.waiting
    ]
    told = (
        f"{report.repositories} repositories with {report.manifests} manifests: {len(report.deleted)} "
        f"{'would be deleted' if dry_run else 'deleted'}, {len(report.waiting)} within the grace period"
    )
    return "\n".join([*(_table([HEADINGS, *rows]) if rows else ()), told])


def _row(candidate: Candidate, fate: str) -> tuple[str, ...]:
    digest = candidate.digest.partition(":")[2][:SHOWN_HEX]
    tags = ",".join(_short(tag) for tag in candidate.tags) or "-"
    return candidate.repository, digest, tags, format_time(candidate.since), fate, candidate.why


def _short(tag: str) -> str:
    """Return a tag without most of the digest in it."""
    return tag[: 7 + SHOWN_HEX] + "…" if tag.startswith("sha256-") else tag


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
