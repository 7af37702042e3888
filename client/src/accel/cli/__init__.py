"""`kubectl accel`: a kubectl plugin is an executable named kubectl-accel on PATH."""

from accel.cli.app import main

__all__ = ["main"]
