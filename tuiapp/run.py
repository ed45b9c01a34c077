"""Opens the app: reads its few flags, makes its services, and for the demo starts the demo's runs."""

from engine import cli, demo
from engine.errors import StoreError
from engine.store.connection import open_database


def open_app(arguments: list[str]) -> int:
    """Run the app until it is left; the exit code. Raises TuneDeckError for what can be known before."""
    options = cli.build_parser().parse_args(arguments)
    database = cli.database(options)
    open_run = None
    if getattr(options, "verb", None) is cli.demo:
        open_run = demo.start_in_background(database)
    elif getattr(options, "db", None) and not database.exists() and not database.parent.exists():
        raise StoreError("There is no such place", f"{database.parent} does not exist.", "Check the path after --db.")
    elif database.exists():
        open_database(database).close()  # a database that cannot be opened is said before the screen is taken

    from tuiapp.app import TuneDeckApp
    from tuiapp.services import Services

    TuneDeckApp(Services(database), ascii=options.ascii, theme=options.theme, open_run=open_run).run()
    return 0
