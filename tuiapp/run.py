"""Opens the app. Nothing slow stands before its first paint: the engine is imported by the thread that first asks it."""

import argparse
import dataclasses
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine import config, paths
from engine.errors import StoreError
from tuiapp.app import TuneDeckApp
from tuiapp.app_services import Services as ServicesProtocol

if TYPE_CHECKING:
    from tuiapp.after_values import AfterQuestion
    from tuiapp.list_snapshot import Asked
    from tuiapp.looking import Look
    from tuiapp.services import Services
    from tuiapp.snapshot import Snapshot


class LateServices:
    """`Services` whose modules are imported when the first of its methods is called: for a look fewer than for the rest."""

    def __init__(self, database: Path) -> None:
        self.database = database
        self.drafts = database.parent / "drafts"  # known without the rest

    @functools.cached_property
    def _look(self) -> "Look":
        from tuiapp.looking import Look

        return Look(self.database)

    @functools.cached_property
    def _services(self) -> "Services":
        from tuiapp.services import Services

        return Services(self.database, self._look)

    def ask(self, asked: "Asked") -> None:
        """What the list of runs needs of the snapshots."""
        self._look.ask(asked)

    def follow(self, asked: "AfterQuestion | None") -> None:
        """What the snapshots tell of a run after its training."""
        self._look.follow(asked)

    def snapshot(self, selected: str | None, baseline: str | None = None) -> "Snapshot":
        """Everything as it is now."""
        return self._look.snapshot(selected, baseline)

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
    make_app(cast("ServicesProtocol", LateServices(database)), options, config.read(), open_run).run()
    if open_run:
        from engine import demo

        sys.stdout.write(demo.farewell(database, open_run) + "\n")
    return 0


def make_app(
    services: ServicesProtocol, options: argparse.Namespace, mine: config.Config, open_run: str | None = None
) -> TuneDeckApp:
    """The app as the config has it, and as the flags have it where they say anything."""
    return TuneDeckApp(
        services,
        ascii=mine.ascii if options.ascii is None else options.ascii,
        theme=options.theme or mine.theme,
        charts=options.charts or mine.charts,
        open_run=open_run,
        keys=mine.keys,
        bell=mine.bell,
        check_config=functools.partial(_config_problem, mine),
    )


def _config_problem(mine: config.Config) -> str:
    """What is wrong with the config, in a sentence; empty if nothing is. Slow where it has defaults."""
    if mine.problems or not mine.defaults:
        return mine.problem
    from engine.defaults import problems

    return dataclasses.replace(mine, problems=problems(mine.defaults)).problem
