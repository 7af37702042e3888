"""Progress lines: their form, and that they are few."""

import io

from accel_toolchain.progress import Progress


def test_at_most_one_line_in_five_seconds() -> None:
    stream, now = io.StringIO(), [100.0]
    progress = Progress(stream, lambda: now[0])
    for second in range(12):
        now[0] = 100.0 + second
        progress.moved("fetched", 1_000_000 * second, 480_000_000)
    assert stream.getvalue().splitlines() == [
        "accel: fetched 0.0 MB of 480 MB",
        "accel: fetched 5.0 MB of 480 MB",
        "accel: fetched 10 MB of 480 MB",
    ]


def test_without_a_total() -> None:
    stream = io.StringIO()
    Progress(stream).moved("copied", 12_345_678, None)
    assert stream.getvalue() == "accel: copied 12 MB\n"
