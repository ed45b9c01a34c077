"""`python -P -m engine.judging.work JOB_DIR`: asks the judge row by row, several at once; what is answered is not asked again."""

import asyncio
import json
import sys
import time
from collections import deque

from engine.after import job as jobs
from engine.after.results import Results
from engine.errors import RunError
from engine.events import Done
from engine.files import write_private
from engine.judging import order
from engine.judging.client import Client, EndpointError
from engine.judging.endpoint import Endpoint
from engine.judging.prepare import choose, endpoint
from engine.judging.prompts import Pair
from engine.judging.tally import count, summarise
from engine.worker.job import Job, StopAsked, main

CHOSEN = "pairs.json"
"""The numbers of the rows that are judged: one that goes on judges the same."""
PATIENCE = 10
"""Rows in a row without a verdict after which it is of no use to go on."""
GRACE = 2.0
"""Seconds that calls which are on their way get when somebody asks to stop: they are paid for."""
TICK = 0.2
QUIET = 60.0
"""Seconds between two reports of the same kind."""


def judge(job: Job) -> Done:
    """The whole job. Raises TuneDeckError, StopAsked."""
    began = time.monotonic()
    pairs = chosen(job)
    asked = endpoint(job.ask)
    results = Results(job.folder / jobs.ROWS)
    work = Work(job, asked, pairs, results)
    job.reporter.phase("judge", work.calm)
    try:
        asyncio.run(work.all())
    finally:
        results.close()
    rows = [results.rows[pair.row] for pair in pairs if pair.row in results.rows]
    if not rows:
        raise work.failed[0][1]
    ask = job.ask
    summary = summarise(rows, ask["pairwise"], ask.get("price_in"), ask.get("price_out"))
    failed = {"failed": len(work.failed), "failure": str(work.failed[0][1]) if work.failed else ""}
    text = str(summary["verdict"])
    if work.failed:
        text += f" {count(len(work.failed), 'row')} could not be asked; let it go on to ask again."
    return Done(summary | failed | {"verdict": text, "seconds": round(time.monotonic() - began, 1)}, text)


def chosen(job: Job) -> list[Pair]:
    """The pairs of this job, the same ones each time that it goes on. Raises RunError."""
    file = job.folder / CHOSEN
    evaluation = Results(job.folder.parent / job.ask["eval"] / jobs.ROWS)
    evaluation.close()
    rows = sorted(evaluation.rows.values(), key=lambda row: int(row["row"]))
    try:
        if file.exists():
            numbers = set(json.loads(file.read_text(encoding="utf-8")))
            return choose([row for row in rows if row["row"] in numbers], None)
        pairs = choose(rows, job.ask.get("rows"))
        write_private(file, json.dumps([pair.row for pair in pairs]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError("The rows cannot be read", f"{job.ask['eval']}: {error}.", "Evaluate the run again.") from None
    if not pairs:
        raise RunError("There is nothing to judge", f"{job.ask['eval']} has no rows with answers of both models.", "Evaluate the run again.")  # fmt: skip
    return pairs


class Work:
    """The rows that are still to be judged, by several at once. `failed`: pairs that could not be asked, and why."""

    def __init__(self, job: Job, asked: Endpoint, pairs: list[Pair], results: Results) -> None:
        self.job, self.asked, self.results, self.total = job, asked, results, len(pairs)
        self.open = deque(pair for pair in pairs if pair.row not in results.rows)
        self.failed: list[tuple[Pair, EndpointError]] = []
        self.calm = f"{asked.model} at {asked.host}, {count(len(pairs), 'row')}"
        self._in_a_row, self._quiet_until = 0, 0.0

    async def all(self) -> None:
        """Judge them; those that failed once more at the end. Raises StopAsked, EndpointError."""
        self._progress()
        await self._open_ones()
        self.open.extend(pair for pair, _ in self.failed)
        self.failed, self._in_a_row = [], 0
        await self._open_ones()

    async def _open_ones(self) -> None:
        ask = self.job.ask
        async with Client(self.asked, ask["timeout"], ask["max_tokens"], self._waits) as client:
            tasks = [asyncio.create_task(self._some(client)) for _ in range(min(ask["concurrency"], len(self.open)))]
            try:
                await self._watch(tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, tasks: list[asyncio.Task[None]]) -> None:
        """Until all are through. Raises what one of them raised, and StopAsked."""
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, timeout=TICK, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            if self._stop_asked():
                if waiting:
                    await asyncio.wait(waiting, timeout=GRACE)
                raise StopAsked

    def _stop_asked(self) -> bool:
        try:
            self.job.stop()
        except StopAsked:
            return True
        return False

    async def _some(self, client: Client) -> None:
        """Rows, one after the other, as long as there are any."""
        ask = self.job.ask
        while self.open and not self._stop_asked():
            pair = self.open.popleft()
            try:
                row = await order.judge(client, pair, ask["criteria"], ask["pairwise"])
            except EndpointError as error:
                if error.fatal:
                    raise
                self.failed.append((pair, error))
                self._no_verdict(error)
                continue
            self.results.append([row])
            self._progress()
            if row["unusable"]:
                self._no_verdict(EndpointError("Its replies are no verdicts", f"The last one: {row['reasons'][-1]}.",
                                               "Take a more able model with --model; one that was cut off: more with --max-tokens."))  # fmt: skip
            elif row["calls"]:
                self._in_a_row = 0
                self.job.reporter.phase("judge", self.calm)

    def _no_verdict(self, error: EndpointError) -> None:
        """Raises EndpointError if there were too many of them: it would cost more and bring nothing."""
        self._in_a_row += 1
        if self._in_a_row >= PATIENCE:
            raise EndpointError(
                f"No verdict on {PATIENCE} rows in a row", f"{error.title}. {error.message}", error.hint
            )

    def _progress(self) -> None:
        self.job.progress(len(self.results.rows), self.total)

    def _waits(self, text: str) -> None:
        """Said now and then only: it all goes into the run's history."""
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + QUIET
            self.job.reporter.phase("judge", text)


if __name__ == "__main__":
    sys.exit(main(judge))
