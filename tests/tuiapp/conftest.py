"""The app under test with fake services, and waiting for conditions in place of sleeping."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot
from textual.widget import Widget

from tests.tuiapp.fakes import FakeServices
from tuiapp import background
from tuiapp.app import TuneDeckApp
from tuiapp.widgets.rows import Rows

SIZES = [(80, 24), (160, 48)]


@pytest.fixture(params=SIZES, ids=["80x24", "160x48"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    """The two sizes at which everything has to work."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _quick_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot every 50 ms: what is tested is that they are drawn, not that a second is long."""
    monkeypatch.setattr(background, "PERIOD", 0.05)


class Driver:
    """A running app as a person has it: keys in, text out."""

    def __init__(self, app: TuneDeckApp, pilot: Pilot[None], services: FakeServices) -> None:
        self.app = app
        self.pilot = pilot
        self.services = services

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    async def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        """Wait until it is true."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"never became true; the screen shows\n{self.screen()}")
            await self.pilot.pause()
            await asyncio.sleep(0.01)

    async def shows(self, *texts: str, seconds: float = 20) -> None:
        """Wait until the screen shows all of these."""
        await self.until(lambda: all(text in self.screen() for text in texts), seconds)

    def screen(self) -> str:
        """What the terminal shows, as text."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)

    def text(self, selector: str) -> str:
        """What one block of lines says."""
        return self.app.screen.query_one(selector, Rows).text

    def widget(self, selector: str) -> Widget:
        """A widget of the screen in front."""
        return self.app.screen.query_one(selector)

    @property
    def place(self) -> str:
        """Which screen is in front."""
        return type(self.app.screen).__name__


@asynccontextmanager
async def running(
    services: FakeServices | None = None, size: tuple[int, int] = (80, 24), **options: object
) -> AsyncIterator[Driver]:
    """The app, its first snapshot drawn."""
    services = services or FakeServices()
    app = TuneDeckApp(services, **options)  # type: ignore[arg-type]
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot, services)
        await driver.until(lambda: app.last is not None)
        yield driver
