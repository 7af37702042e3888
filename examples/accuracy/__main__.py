"""Run the whole study and write results.json, the table in docs/accuracy.md and docs/accuracy.svg:
`python -m examples.accuracy`. With `--report`, only table and picture, from the results that are there.
"""

import argparse
import sys
import time

from examples.accuracy import plot, report, results


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.accuracy", description=__doc__)
    parser.add_argument("--report", action="store_true", help="train nothing; write table and picture anew")
    options = parser.parse_args(arguments)
    if not options.report:
        from examples.accuracy.networks import NETWORKS
        from examples.accuracy.study import study
        from examples.accuracy.training import load, quiet_tensorflow

        quiet_tensorflow()
        started, data = time.monotonic(), load()

        def say(line: str) -> None:
            print(f"{time.monotonic() - started:5.0f} s  {line}", flush=True)

        results.write([study(name, data, say) for name in NETWORKS])
    found = results.read()
    report.DOCS.write_text(report.in_page(report.DOCS.read_text(), report.table(found)))
    plot.FILE.write_text(plot.svg(found))
    print(report.table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
