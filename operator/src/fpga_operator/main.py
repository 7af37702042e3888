"""`fpga-operator --config /etc/accel/operator.yaml`: wire everything and run until told to stop."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

import kopf

from fpga_operator import __version__, logs
from fpga_operator.config import Config, load
from fpga_operator.errors import ApiFailure, ConfigError
from fpga_operator.run.background import tended
from fpga_operator.run.cluster import Cluster
from fpga_operator.run.executor import Executor
from fpga_operator.run.exposition import exposed
from fpga_operator.run.glue import identity, register, require_crds
from fpga_operator.run.keys import KeyDeriver
from fpga_operator.run.metrics import Metrics
from fpga_operator.run.queue import WorkQueue
from fpga_operator.run.reconcile import Reconciler
from fpga_operator.run.registrywatch import Lost
from fpga_operator.run.slots import JobSlots
from fpga_operator.run.source import Source
from fpga_operator.run.store import Key, Store
from fpga_operator.run.sweep import Sweeper
from fpga_operator.run.sweepcommand import sweep_once
from fpga_operator.run.sweepmetrics import SweepMetrics
from fpga_operator.run.workers import Engine

log = logging.getLogger(__name__)

CRD_PATIENCE_SECONDS = 30.0  # Helm may install the CRDs in the same breath


async def run(
    config: Config, *, health_port: int, metrics_port: int, stop: asyncio.Event | None = None
) -> None:
    """Run the operator; ports of 0 are not opened.

    Raises:
        ConfigError: the configuration or the cluster lacks something.
        ApiFailure: the API server refuses at start.
    """
    keys = KeyDeriver.from_file(config.master_key_file)
    cluster = await Cluster.connect()
    try:
        await require_crds(cluster, patience_seconds=CRD_PATIENCE_SECONDS)
        metrics = Metrics()
        cluster.requested = metrics.requested
        store = Store()
        slots = JobSlots(store, config.max_concurrent_jobs)
        executor = Executor(cluster, store, keys, metrics, identity())
        reconciler = Reconciler(config, store, executor, slots)
        queue: WorkQueue[Key] = WorkQueue(observer=metrics.queue)
        engine = Engine(config, cluster, store, queue, reconciler, slots, metrics)
        registry = kopf.OperatorRegistry()
        register(registry, engine)
        source = Source(registry, f"http://0.0.0.0:{health_port}/healthz" if health_port else None)
        engine.restart_watches = source.restart
        sweep_metrics = SweepMetrics(metrics.registry)
        lost = Lost(config, store, queue.add, sweep_metrics)
        sweeper = Sweeper(config, cluster, sweep_metrics, lost.look)
        reconciler.lost = lost.of
        engine.listeners += [lost.seen, sweeper.seen]
        log.info("fpga-operator %s starts", __version__)
        async with (
            exposed(metrics.registry, metrics_port),
            tended(sweep=sweeper.run, lost=lost.run),
        ):
            # Before kopf: when it ends it cancels whatever was started in its time.
            engine.start()
            try:
                await source.run(stop or asyncio.Event())
            finally:
                await engine.stop()
    finally:
        await cluster.close()


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, run, and return the exit code."""
    parser = argparse.ArgumentParser(prog="fpga-operator", description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("/etc/accel/operator.yaml"))
    parser.add_argument("--health-port", type=int, default=8080, help="liveness on /healthz; 0: none")
    parser.add_argument("--metrics-port", type=int, default=9090, help="Prometheus on /metrics; 0: none")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING"))
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="sweep")
    sweep = commands.add_parser("sweep", help="sweep the registry once, now, and print what went and why")
    sweep.add_argument("--dry-run", action="store_true", help="delete nothing")
    sweep.add_argument("--grace", type=float, metavar="SECONDS", help="instead of sweep.graceSeconds")
    options = parser.parse_args(arguments)
    logs.configure(options.log_level)
    # kopf asks who runs it, and the image's user has a number but no name.
    os.environ.setdefault("LOGNAME", "fpga-operator")
    try:
        config = load(options.config)
        if options.command == "sweep":
            return sweep_once(config, dry_run=options.dry_run, grace_seconds=options.grace)
        asyncio.run(run(config, health_port=options.health_port, metrics_port=options.metrics_port))
    except (ConfigError, ApiFailure) as error:
        log.error("cannot start: %s", error)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
