"""A child process that does one thing for the app or a verb, and prints one JSON document."""

import argparse
import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.errors import TuneDeckError
from engine.spec import RunSpec, parse, read_yaml


def say(what: str, make: Callable[[], dict[str, Any]]) -> int:
    """Print what `make` returns, or the error that it raised as title, message and hint; the exit code.

    `what` begins the title of an error that is not TuneDeck's own.
    """
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the one document
        try:
            document, status = make(), 0
        except TuneDeckError as error:
            document, status = {"title": error.title, "message": error.message, "hint": error.hint}, 1
        except Exception as error:  # the libraries' own: of any kind, and for as many reasons
            text = str(error).strip().split("\n")[0][:300]
            message = f"{type(error).__name__}: {text}"
            document, status = {"title": f"{what} failed", "message": message, "hint": ""}, 1
    sys.stdout.write(json.dumps(document) + "\n")
    return status


def answer(
    parser: argparse.ArgumentParser, what: str, measure: Callable[[dict[str, Any], RunSpec, argparse.Namespace], Any]
) -> int:
    """The same for the dataclass that `measure` makes of a model's config and a specification, read from files."""
    parser.add_argument("config", type=Path)
    parser.add_argument("spec", type=Path)
    options = parser.parse_args()

    def make() -> dict[str, Any]:
        config = json.loads(options.config.read_text(encoding="utf-8"))
        return asdict(measure(config, parse(read_yaml(options.spec)), options))

    return say(what, make)
