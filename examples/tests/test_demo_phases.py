"""How the demo runs its programs: what it shows, what it tells of a failure, and that it leaves nothing open."""

import gc
import sys

import pytest

from examples.demo.phases import Phases, StepFailed

TALKS = "import sys; print('shown'); print('told', file=sys.stderr); sys.exit(int(sys.argv[1]))"


@pytest.mark.parametrize(("errors", "lines"), [(True, {"shown", "told"}), (False, {"shown"})])
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_program_is_shown_and_its_pipes_are_closed(errors: bool, lines: set[str]) -> None:
    assert set(Phases().run([sys.executable, "-c", TALKS, "0"], errors=errors)) == lines
    gc.collect()  # a pipe that is open says so here


@pytest.mark.parametrize("errors", [True, False])
def test_a_failure_tells_what_was_said(errors: bool) -> None:
    with pytest.raises(StepFailed, match=r"ended with 3:\n(?s:.*)told"):
        Phases().run([sys.executable, "-c", TALKS, "3"], errors=errors)
    gc.collect()
