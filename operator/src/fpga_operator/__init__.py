"""Kubernetes operator that serves deep networks on FPGAs.

Layers, from the inside out: `api` (the four kinds), `plan` (pure decisions), `run` (queue, executor, watches).
An outer layer imports inner ones, never the other way round.
"""

__version__ = "0.1.0"
