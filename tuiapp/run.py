"""Opens the app. Nothing slow stands before its first paint: the engine is imported by the thread that first asks it."""

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine import paths
from engine.errors import StoreError
from tuiapp.app import Services as ServicesProtocol
from tuiapp.app import TuneDeckApp

if TYPE_CHECKING:
    from tuiapp.services import Services


class LateServices:
    """`Services` whose modules (pydantic, SQLite, NVML) are imported when the first of its methods is called."""

    def __init__(self, database: Path) -> None:
        self._database = database

    @functools.cached_property
    def _services(self) -> "Services":
        from tuiapp.services import Services

        return Services(self._database)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._services, name)


def open_app(options: argparse.Namespace) -> int:
    """Run the app until it is left; the exit code. Raises TuneDeckError for what can be known before."""
    database = paths.database(getattr(options, "db", None))
    if getattr(options, "db", None) and not database.parent.exists():
        raise StoreError("There is no such place", f"{database.parent} does not exist.", "Check the path after --db.")
    open_run = None
    if options.verb == "demo":
        from engine import demo

        open_run = demo.start_in_background(database)
    services = cast("ServicesProtocol", LateServices(database))
    TuneDeckApp(services, ascii=options.ascii, theme=options.theme, open_run=open_run).run()
    if open_run:
        from engine import demo

        sys.stdout.write(demo.farewell(database, open_run) + "\n")
    return 0
