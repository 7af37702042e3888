"""The command line: which commands there are, their options, and how errors leave the process.

Commands print results on standard output and everything else on standard error. Exit codes: 0 done, 1
refused or failed (the message says why), 2 wrong usage. `status` has its own, which its help tells.
"""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from accel.errors import AccelError, WrongUsage

__all__ = ["app", "main"]

app = typer.Typer(
    name="kubectl accel",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """What `status` prints."""

    TEXT = "text"
    JSON = "json"


Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="kubectl's own by default.")]
Context = Annotated[str | None, typer.Option("--context", help="kubectl's own by default.")]


@app.callback()
def common(click: typer.Context, namespace: Namespace = None, context: Context = None) -> None:
    """Score pictures on accelerated services, look at them, push model sources."""
    # As kubectl does, take them before the command too; those after it win.
    given = {"namespace": namespace, "context": context}
    chosen = {name: value for name, value in given.items() if value is not None}
    click.default_map = dict.fromkeys(("predict", "status", "push"), chosen)


@app.command()
def predict(
    service: Annotated[str, typer.Argument(help="Name of the AccelService.")],
    files: Annotated[list[Path], typer.Option("--file", "-f", help="A JPEG or PNG; may be repeated.")],
    top: Annotated[int, typer.Option("--top", help="How many classes to print.", min=1)] = 5,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Class names: a text file (one a line) or a JSON list.")
    ] = None,
    input_name: Annotated[
        str | None, typer.Option("--input", help="Its only string input by default.")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", help="Its only one by default.")] = None,
    port_forward: Annotated[
        bool,
        typer.Option("--port-forward", help="Go through kubectl port-forward; the default for ClusterIP."),
    ] = False,
    ca: Annotated[Path | None, typer.Option("--ca", help="Root certificates (PEM) of the service.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds per picture.")] = 30.0,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Score pictures and print the most likely classes."""
    from accel.cli import scoring
    from accel.kubectl import Kubectl

    scoring.predict(
        Kubectl(namespace, context),
        service,
        files,
        scoring.Wish(top, input_name, output, timeout, scoring.read_labels(labels)),
        port_forward=port_forward,
        ca=ca,
    )


@app.command()
def status(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of a service, image or model, or kind/name. Absent: a table of all."),
    ] = None,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="The table of all namespaces.")
    ] = False,
    events: Annotated[int, typer.Option("--events", help="How many of the last events to show.", min=0)] = 5,
    output: Annotated[
        Format,
        typer.Option("--output", "-o", help="json: for scripts; with --watch one line for each change."),
    ] = Format.TEXT,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show every change until Ctrl-C.")] = False,
    until_ready: Annotated[
        bool,
        typer.Option(
            "--until-ready", help="Watch until it is Ready (0), or a person must act or time is up (1)."
        ),
    ] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", help="Watch no longer than this: 90s, 10m, 1h30m.")
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show the chain from model to FPGAs that an object belongs to, and what it waits for; or all objects.

    Exit codes: 0 Ready (or the table was shown), 1 not Ready, 2 wrong usage, no such object, or no answer.
    """
    from accel.cli import status as command
    from accel.kubectl import Kubectl

    wish = command.Wish(name, everywhere, events, output is Format.JSON, watch, until_ready, timeout)
    raise typer.Exit(command.status(Kubectl(namespace, context), wish))


@app.command()
def push(
    directory: Annotated[Path, typer.Argument(help="A SavedModel folder, or a folder with an .onnx file.")],
    reference: Annotated[str, typer.Argument(help="oci:///sources/NAME:TAG for the cluster's registry.")],
    system_namespace: Annotated[
        str, typer.Option("--system-namespace", help="Where the chart is installed.")
    ] = "accel-system",
    context: Context = None,
) -> None:
    """Push a model's source to the registry, for `spec.source.uri` of an FpgaModel."""
    from accel.cli import sources
    from accel.kubectl import Kubectl

    sources.push(Kubectl(system_namespace, context), directory, reference)


def main() -> None:
    """Run a command; errors become one line and exit code 1, or 2 for wrong usage."""
    os.environ.setdefault(
        "GRPC_VERBOSITY", "NONE"
    )  # its errors come back as statuses; its log says them again
    try:
        app()
    except WrongUsage as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except AccelError as error:
        sys.exit(f"error: {error}")
