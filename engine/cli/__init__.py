"""The command line: `tilewright run|show|compile|compare|bench|profile|look|list|export|demo`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from .. import plugins
from . import bench, catalog, compare, compile, demo, export, failure, look, profile, run, show
from .arguments import Parser

COMMANDS = {
    "run": run,
    "show": show,
    "compile": compile,
    "compare": compare,
    "bench": bench,
    "profile": profile,
    "look": look,
    "list": catalog,
    "export": export,
    "demo": demo,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 a check failed, 2 the input was wrong, 3 a bug of Tilewright, 130 interrupted."""
    return failure.guarded(lambda: _dispatch(sys.argv[1:] if arguments is None else list(arguments)))


def _dispatch(arguments: list[str]) -> int:
    parser = make_parser()
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return failure.WRONG_INPUT
    return COMMANDS[parsed.command].main(parsed)


def make_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog="tilewright", description="Compile a trained convolutional network and run it.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=importlib.import_module(plugins.ROOT).__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, module in COMMANDS.items():
        purpose = (module.__doc__ or "").partition("\n")[0]
        module.configure(commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False))
    return parser
