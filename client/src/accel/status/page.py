"""A report as a page: one line per object in the order of the flow, what is the matter below it. Pure."""

from collections.abc import Iterator
from datetime import datetime

from accel.status.entry import Device, Entry
from accel.status.jobs import Progress
from accel.status.pods import Pod
from accel.status.report import Report
from accel.status.words import WIDTH, age, clip, short_digest, size, wrapped

__all__ = ["page"]

HOST_OPERATORS = 4  # of a page; -o json has all that the status has
DEPTH = {"FpgaModel": 0, "AccelImage": 1, "AccelService": 2}


def page(report: Report, now: datetime) -> list[str]:
    """Return the lines."""
    shallowest = min(DEPTH[entry.kind] for entry in report.entries)
    rows = [(2 * (DEPTH[entry.kind] - shallowest), entry) for entry in report.entries]
    left = max(indent + len(entry.title) for indent, entry in rows)
    lines: list[str] = []
    for indent, entry in rows:
        lines += _entry(entry, indent, left + 2, now)
    if report.events:
        ages = [age(event.time, now) for event in report.events]
        names = [event.about for event in report.events]
        widths = max(map(len, ages)), max(map(len, names))
        lines += ["", "Last events"]
        for event, when, name in zip(report.events, ages, names, strict=True):
            repeated = f" ({event.count} times)" if event.count > 1 else ""
            text = f"  {when:>{widths[0]}}  {name:<{widths[1]}}  {event.reason}: {event.message}"
            lines.append(_cut(text, WIDTH - len(repeated)) + repeated)
    if report.lacking:
        lines += ["", *wrapped(f"Not all is shown: you may not {', '.join(report.lacking)}.", 0)]
    return lines


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def _entry(entry: Entry, indent: int, left: int, now: datetime) -> Iterator[str]:
    head = f"{' ' * indent}{entry.title}".ljust(left)
    yield from _columns(head, entry.state, _facts(entry))
    inner = indent + 4
    if entry.device is not None and entry.device.host_reasons:
        yield from wrapped(f"on the host: {_on_host(entry.device)}", inner, 2)
    yield from _matter(entry, inner, now)
    for note in entry.notes:
        yield from wrapped(note, inner, 2)
    if entry.more:
        yield f"{' ' * inner}{entry.more}"
    several = len({pod.revision for pod in entry.pods}) > 1
    left = max((indent + 6 + len(pod.name) for pod in entry.pods), default=0) + 2
    for pod in entry.pods:
        yield from _columns(f"{' ' * (indent + 2)}pod {pod.name}".ljust(left), pod.state, _pod(pod, several))


def _columns(head: str, state: str, facts: Iterator[str]) -> list[str]:
    """Return name, state and facts side by side; facts that do not fit go on below the others."""
    start = f"{head}{state:<11}"
    lines = [""]
    for fact in facts:
        joined = f"{lines[-1]}, {fact}" if lines[-1] else fact
        if lines[-1] and len(start) + len(joined) > WIDTH:
            lines[-1] += ","
            lines.append(fact)
        else:
            lines[-1] = joined
    return [f"{start}{lines[0]}".rstrip(), *(" " * len(start) + line for line in lines[1:])]


def _facts(entry: Entry) -> Iterator[str]:
    """Yield what is true of it now, whatever its state."""
    if entry.kind == "FpgaModel":
        if entry.version is not None:
            yield f"version {entry.version}"
        yield from _bytes(entry)
        if entry.device is not None:
            yield from _device(entry.device)
    elif entry.kind == "AccelImage":
        if entry.version is not None:
            yield f"image {entry.version}"
        if entry.model_version is not None:
            yield f"model version {entry.model_version}{_asked(entry, entry.model_version)}"
        yield from _bytes(entry)
    else:
        if entry.replicas is not None and (entry.ready or "replicas serve" not in entry.message):
            yield f"{entry.ready_replicas} of {entry.replicas} replicas serve"
        if entry.model_version is not None:
            yield f"model version {entry.model_version}"
        if entry.pinned is not None:
            there = entry.version
            yield (
                f"asks for image {entry.pinned}" if there is None else f"image {there}{_asked(entry, there)}"
            )
        if not entry.follows and entry.digest:
            yield short_digest(entry.digest)
        if entry.revision:
            yield f"revision {entry.revision}"
        if entry.address:
            yield entry.address


def _device(device: Device) -> Iterator[str]:
    """Yield what the compiler said: the figures of a program that fits, or that it does not."""
    if device.fits is False:
        yield f"does not fit {device.sku or 'the FPGA'}"
        return
    if device.latency_ms is None:
        yield "the host computes everything"
        return
    yield f"{device.offloaded_ops} of {device.offloaded_ops + device.host_ops} operators on the FPGA" + (
        f" ({device.sku})" if device.sku else ""
    )
    if device.tiles is not None and device.vectors is not None:
        yield f"fits with {device.tiles} tiles and {device.vectors} vectors"
    yield f"{device.latency_ms:.3g} ms simulated" + (
        f" (bound by {device.bound_by})" if device.bound_by else ""
    )
    if device.inferences_per_second is not None:
        rate = device.inferences_per_second
        yield f"{rate:,.0f} pictures/s" if rate >= 10 else f"{rate:.3g} pictures/s"


def _on_host(device: Device) -> str:
    """Return which operators stay on the host, and why: the most frequent first, what has one reason together."""
    shown = device.host_reasons[:HOST_OPERATORS]
    by_reason: dict[str, list[str]] = {}
    for entry in shown:
        by_reason.setdefault(entry.reason, []).append(f"{entry.count} {entry.operator}")
    told = [f"{', '.join(operators)} ({reason})" for reason, operators in by_reason.items()]
    more = len(device.host_reasons) - len(shown)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _asked(entry: Entry, there: int | None) -> str:
    """Return what the spec says of a version where it names one: that it is held, or which other is asked for."""
    if entry.pinned is None:
        return ""
    return " (pinned)" if entry.pinned == there else f" ({entry.pinned} is asked for)"


def _bytes(entry: Entry) -> Iterator[str]:
    if entry.digest:
        yield short_digest(entry.digest)
    if entry.size_bytes is not None:
        yield size(entry.size_bytes)


def _matter(entry: Entry, indent: int, now: datetime) -> Iterator[str]:
    """Yield why it is not Ready: the progress of its Job where one runs, else the operator's words."""
    if entry.ready:
        return
    progress = entry.progress
    if progress is not None and progress.container and entry.state == "Working":
        yield from wrapped(_progress(progress, now), indent, 2)
        if progress.attempt == 1 or not entry.message:
            return
    elif progress is not None and progress.waits and progress.waits not in entry.message:
        yield from wrapped(f"pod {progress.pod}: {progress.waits}", indent, 2)
    text = f"{entry.reason}: {entry.message}" if entry.message else entry.reason
    yield from wrapped(entry.message if entry.state in ("New", "Edited") else text, indent, 2)


def _progress(progress: Progress, now: datetime) -> str:
    text = f"{progress.container}"
    if progress.steps > 1:
        text += f" (step {progress.step} of {progress.steps})"
    if progress.since:
        text += f" runs for {age(progress.since, now)}"
    if progress.attempt > 1:
        text += f", attempt {progress.attempt}"
    return text + (f": {clip(progress.line, 200)}" if progress.line else "")


def _pod(pod: Pod, several: bool) -> Iterator[str]:
    held = pod.device
    if held is not None:
        yield f"{held.node}/{held.device}"
        yield held.health + (f" ({held.reason})" if held.reason and held.health != "Healthy" else "")
        if held.state:
            yield f"device {held.state}"
    if several and pod.revision:
        yield f"revision {pod.revision}"
    if pod.trouble:
        yield clip(pod.trouble, 200)
    if pod.restarts and pod.state != "stopping":
        yield f"restarted {pod.restarts} times" if pod.restarts > 1 else "restarted once"
