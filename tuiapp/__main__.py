"""The console script: bare `tunedeck` and `tunedeck demo` open the app, every other verb goes to the engine."""

import sys


def main() -> int:
    """Run the app or a verb; the exit code."""
    from engine import cli

    arguments = sys.argv[1:]
    if not _opens_app(arguments):
        return cli.main(arguments)
    from engine.errors import TuneDeckError
    from tuiapp.run import open_app

    try:
        return open_app(arguments)
    except TuneDeckError as error:
        cli.print_error(error)
        return error.exit_code


def _opens_app(arguments: list[str]) -> bool:
    """Whether these arguments mean the app, and there is a terminal to show it on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    positional = [
        a for i, a in enumerate(arguments) if not a.startswith("-") and (i == 0 or arguments[i - 1] != "--db")
    ]
    if {"-h", "--help", "--headless", "--json"} & set(arguments):
        return False
    return positional in ([], ["demo"])


if __name__ == "__main__":
    sys.exit(main())
