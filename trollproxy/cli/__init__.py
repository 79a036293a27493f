"""The command line. Start at commands.py."""

from trollproxy.cli.commands import main

__all__ = ["main"]
