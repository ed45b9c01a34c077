"""The flags that every verb and the app take. Light to import: the app's first paint waits for it."""

import argparse


def everywhere() -> argparse.ArgumentParser:
    """Flags that may stand before or behind a verb."""
    flags = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    flags.add_argument("--db", metavar="PATH", help="the database; its runs/ lies beside it")
    flags.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return flags


def app() -> argparse.ArgumentParser:
    """Flags of the app."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--theme", choices=["dark", "light", "high"], default="dark", help="colours of the app")
    flags.add_argument("--ascii", action="store_true", help="the app without braille and box characters")
    return flags
