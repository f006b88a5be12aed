"""``python -m ranvier``: the demo, and what ranvier runs on here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ranvier import _core


def _epochs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1, got {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ranvier", description="Neural networks, run by native code.")
    parser.add_argument("--version", action="version", version=f"ranvier {_core.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a classifier of handwritten digits and draw what it learned")
    demo.add_argument("--epochs", type=_epochs, default=100, help="passes over the training data (default: 100)")
    demo.add_argument("--output", default="ranvier-demo.png", help="the picture to write (default: %(default)s)")
    commands.add_parser("info", help="print version, instruction set, threads and precision")
    options = parser.parse_args(arguments)
    if options.command == "info":
        from ranvier.info import info

        print(info())
        return 0
    from ranvier.demo import run

    try:
        run(options.epochs, options.output)
    except (ImportError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
