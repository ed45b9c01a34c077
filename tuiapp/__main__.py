"""The console script: bare `tunedeck` and `tunedeck demo` open the app, every other verb goes to the engine."""

import argparse
import os
import sys

from engine import options


def main() -> int:
    """Run the app or a verb; the exit code."""
    chosen = _app_options(sys.argv[1:])
    if chosen is None:
        from engine import cli

        return cli.main(sys.argv[1:])

    from engine.errors import TuneDeckError
    from tuiapp.run import open_app

    try:
        return open_app(chosen)
    except TuneDeckError as error:
        from engine import cli

        cli.print_error(error)
        return error.exit_code


def _app_options(arguments: list[str]) -> argparse.Namespace | None:
    """The app's options, or None if these arguments mean a verb, or if there is no terminal to show the app on."""
    shown = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if not shown or {"-h", "--help", "--headless", "--json"} & set(arguments):
        return None
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, parents=[options.everywhere(), options.app()])
    parser.add_argument("verb", nargs="?")
    try:
        chosen, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return None  # the verbs' parser says what is wrong
    return chosen if chosen.verb in (None, "demo") and not rest else None


if __name__ == "__main__":
    sys.exit(main())
