"""Scoring pictures one at a time, as a camera would, and what the answers amount to."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from accel import PredictionClient
from numpy.typing import NDArray

Answers = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """The answers to N pictures and how long they took; times in seconds."""

    answers: Answers  # [N, classes], probabilities
    latency: NDArray[np.float64]  # at the client
    simulated: NDArray[np.float64]  # the FPGA's own time by its cycle model
    device_wall: NDArray[np.float64]  # the emulator's time
    model_digest: str

    def percentile(self, share: float) -> float:
        """Return the latency that `share` percent of the calls stay within."""
        return float(np.percentile(self.latency, share))


def score(client: PredictionClient, jpegs: Sequence[bytes], told: Callable[[str], None]) -> Scores:
    """Score `jpegs` one by one; `told` gets a line every five seconds."""
    answers, latency, simulated, wall, digest = [], [], [], [], ""
    last = time.monotonic()
    client.score_image(jpegs[0], "images", "output_alias", timeout=120)  # connects; not part of the figures
    for i, jpeg in enumerate(jpegs):
        answer = client.score_image(jpeg, "images", "output_alias", timeout=120)
        assert isinstance(answer, np.ndarray)
        answers.append(answer)
        call = client.last_call
        latency.append(call.seconds)
        simulated.append(call.simulated_seconds or 0.0)
        wall.append(call.device_wall_seconds or 0.0)
        digest = call.model_digest or digest
        if time.monotonic() - last > 5:
            last = time.monotonic()
            told(f"{i + 1} of {len(jpegs)} pictures")
    return Scores(np.stack(answers), np.array(latency), np.array(simulated), np.array(wall), digest)


def agreement(answers: Answers, float32: Answers) -> float:
    """Return the share of pictures on which both name the same class."""
    return float((answers.argmax(axis=1) == float32.argmax(axis=1)).mean())


def logits(answers: Answers) -> NDArray[np.float64]:
    """Return log-probabilities without their mean: what the network said before softmax, up to a constant."""
    logs = np.log(np.maximum(answers.astype(np.float64), 1e-30))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def deviation(answers: Answers, float32: Answers) -> float:
    """Return the relative L2 distance of what both said before softmax."""
    ours, theirs = logits(answers), logits(float32)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
