"""The flags that every verb and the app take. Light to import: the app's first paint waits for it."""

import argparse

from engine.config import CHARTS, THEMES


def everywhere() -> argparse.ArgumentParser:
    """Flags that may stand before or behind a verb."""
    flags = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    flags.add_argument("--db", metavar="PATH", help="the database; its runs/ lies beside it")
    flags.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return flags


def app() -> argparse.ArgumentParser:
    """Flags of the app; what is not given is as the config has it."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--theme", choices=THEMES, help="colours of the app: dark unless the config says otherwise")
    flags.add_argument(
        "--charts", choices=CHARTS, help="what curves are drawn with: braille unless the config says otherwise"
    )
    flags.add_argument(
        "--ascii",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the app without braille and box characters",
    )
    return flags
