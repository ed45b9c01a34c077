"""The wizard under test: opened at a step with a draft that was kept."""

from dataclasses import asdict
from pathlib import Path

from tests.tuiapp.conftest import Driver
from tests.tuiapp.fakes import FakeServices
from tuiapp import draft as drafts
from tuiapp.draft import STEPS, RunDraft

LLAMA = "meta-llama/Llama-3.1-8B"


def kept(services: FakeServices, **fields: object) -> FakeServices:
    """With a draft that an earlier app left behind."""
    drafts.save(services.drafts / "new.json", RunDraft(**fields))  # type: ignore[arg-type]
    return services


def draft_of(services: FakeServices) -> RunDraft | None:
    """What is in the draft's file now."""
    return drafts.load(services.drafts / "new.json")


async def at_step(deck: Driver, step: int) -> None:
    """Wait for a step."""
    await deck.until(lambda: deck.place == f"{STEPS[step]}Step")


async def until_kept(deck: Driver, **fields: object) -> None:
    """Wait until the draft's file says so."""

    def said() -> bool:
        draft = draft_of(deck.services)
        return draft is not None and fields.items() <= asdict(draft).items()

    await deck.until(said)


def write_rows(folder: Path, count: int = 64) -> Path:
    """Rows of alpaca, two of which are the same."""
    import json

    path = folder / "rows.jsonl"
    rows = [{"instruction": f"What is {i} plus {i}?", "output": f"It is {2 * i}, of course."} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    return path
