"""Subcommands of `npu` that live on their own: each module registers its parser and the function that runs it."""

from argparse import ArgumentParser
from typing import Protocol

__all__ = ["Subparsers", "register"]


class Subparsers(Protocol):
    """What `ArgumentParser.add_subparsers` gives."""

    def add_parser(self, name: str, *, help: str) -> ArgumentParser:  # noqa: A002  # argparse's word
        """Add one command."""


def register(commands: Subparsers) -> None:
    """Add every module's command; its parser's default `execute` takes the options."""
    from npu.commands import compare, compiling, estimate, listing, run

    for module in (estimate, compiling, listing, run, compare):
        module.register(commands)
