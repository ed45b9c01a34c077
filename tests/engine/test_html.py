"""The HTML reports: axes and paths, what is in a page, that nothing foreign becomes markup, and how a browser takes it."""

import itertools
import math
import re
import sqlite3
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import cli
from engine.pages.axes import horizontal, vertical
from engine.pages.chart import HEIGHT, Chart, Line, apart, draw, path
from engine.pages.comparison_page import COLOURS, DASHES, comparison_page, style
from engine.pages.curves import average
from engine.pages.run_page import run_page
from engine.store import metrics, records, runs
from engine.store.connection import transaction
from tests.browser import Browser, browser
from tests.engine.real_runs import NASTY, copied, make_nasty

NAN, INF = math.nan, math.inf
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    _, db = copied(tmp_path)
    yield db
    db.close()


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        self.text += " " if tag in ("td", "th", "li", "dt", "dd", "p") else ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.text += data


class TestAxes:
    @pytest.mark.parametrize(
        ("values", "labels"),
        [
            ([1.1, 2.3], ["1.0", "1.5", "2.0", "2.5"]),
            ([0.1, 3.93], ["0.1", "0.2", "0.5", "1", "2", "5"]),
            ([0, 2e-4], ["0", "5e-5", "1e-4", "1.5e-4", "2e-4"]),
            ([5, 5], ["4.5", "5.0", "5.5"]),
            ([2290, 2300], ["2,290", "2,295", "2,300"]),
            ([NAN, INF], ["0", "0.5", "1.0"]),
        ],
    )
    def test_ticks_are_round_and_say_no_more_than_they_must(self, values: list[float], labels: list[str]) -> None:
        assert [text for _, text in vertical(values).ticks] == labels

    def test_far_reaching_values_above_zero_have_a_logarithmic_axis(self) -> None:
        assert vertical([0.1, 40]).log
        assert not vertical([0.1, 40], from_zero=True).log
        assert not vertical([0.0, 40]).log
        assert not vertical([1, 2]).log

    @given(st.lists(FINITE, min_size=1, max_size=6), st.booleans())
    def test_every_value_has_a_place_on_the_axis(self, values: list[float], from_zero: bool) -> None:
        for axis in (vertical(values, from_zero), horizontal(values)):
            assert axis.low < axis.high
            assert all(0 <= axis.place(value) <= 1 for value in values)
            assert len(axis.ticks) < 20
        if max(values) > min(values):
            assert vertical(values, from_zero).place(max(values)) >= vertical(values, from_zero).place(min(values))


class TestPaths:
    def test_what_is_no_number_breaks_the_line_and_a_point_alone_is_a_dot(self) -> None:
        points = [(0, 0.0), (1, 1.0), (2, NAN), (3, 0.5), (4, INF), (5, 0.0), (6, 1.0)]
        x, y = horizontal([0, 6]), vertical([0, 1])
        assert path(points, x, y) == "M0 1000L166.7 0M500 500h0M833.3 1000L1000 0"

    def test_each_stretch_that_is_no_number_is_marked_with_its_steps(self) -> None:
        line = Line("train loss", [(0, 1.0), (1, NAN), (2, NAN), (3, 2.0), (4, INF)], "train")
        drawn = draw(Chart("Loss", "", [line]))
        assert drawn is not None
        assert [gap.text for gap in drawn.gaps] == [
            "train loss is NaN at step 1 to 2",
            "train loss is infinite at step 4",
        ]

    def test_a_curve_of_nothing_but_nan_is_drawn_as_a_gap(self) -> None:
        drawn = draw(Chart("Loss", "", [Line("loss", [(1, NAN), (2, NAN)], "train")]))
        assert drawn is not None
        assert (drawn.paths[0].d, len(drawn.gaps)) == ("", 1)
        assert draw(Chart("Loss", "", [Line("loss", [], "train")])) is None

    @given(st.lists(st.floats(0, HEIGHT), max_size=12))
    def test_letters_stay_apart_and_inside(self, tops: list[float]) -> None:
        placed = apart(sorted(tops), 13, HEIGHT)
        assert all(0 <= top <= HEIGHT for top in placed)
        assert all(b - a >= 13 - 1e-6 for a, b in itertools.pairwise(placed))

    def test_runs_look_each_like_no_other(self) -> None:
        looks = [style(i).rpartition(" ")[0] for i in range(COLOURS * DASHES)]
        assert len(set(looks)) == len(looks)

    def test_smoothing_keeps_gaps_and_starts_at_the_first_value(self) -> None:
        smooth = average([(1, 4.0), (2, NAN), (3, 2.0)], 0.5)
        assert smooth[0] == (1, 4.0)
        assert math.isnan(smooth[1][1])
        assert 2.0 < smooth[2][1] < 4.0


class TestRunPage:
    def test_it_says_how_the_run_went(self, db: sqlite3.Connection) -> None:
        page = Page(run_page(db, "captain-lora-r16"))
        text = " ".join(page.text.split())
        best = runs.one(db, "captain-lora-r16")["latest"]["eval_loss"]["best"]
        assert f"Eval loss {best:.3f} at best" in text
        for part in ("✓ finished", "LoRA r16", "captain.jsonl", "loss falls", "How do I boil an egg?", "training.learning_rate",
                     "2 x rank: the usual scale for adapters", "transformers", "checkpoint"):  # fmt: skip
            assert part in text

    def test_a_failed_run_says_why_and_what_helps(self, db: sqlite3.Connection) -> None:
        text = " ".join(Page(run_page(db, "captain-too-long")).text.split())
        assert "It failed" in text
        assert "No training row is left" in text
        assert "Raise training.max_length" in text

    def test_predicted_memory_stands_beside_measured_where_a_card_trained(self, db: sqlite3.Connection) -> None:
        run_id = runs.find(db, "captain-lora-r16")["id"]
        db.execute(
            "UPDATE runs SET environment = json_set(environment, '$.device', 'cuda', '$.memory_components', json('{\"weights\": 0.31}')),"
            ' plan = json_set(plan, \'$.memory\', json(\'{"peak_gib": 1.5, "device_gib": 2, "components": {"weights": 0.3}}\')) WHERE id = ?',
            (run_id,),
        )
        for second in range(3):
            records.add_gpu_samples(db, run_id, 1e9 + second, [{"gpu": 0, "memory_used": 2.5, "utilization": 90.0}])
        text = " ".join(Page(run_page(db, run_id)).text.split())
        assert "whole card 2.00 2.50 +25.0 %" in text
        assert "Load of the cards" in text
        peak = runs.one(db, run_id)["latest"]["memory_allocated_gib"]["max"]
        assert "weights 0.30 0.31 +3.3 %" in text
        assert f"allocator peak 1.50 {peak:.2f} {100 * (peak / 1.5 - 1):+.1f} %" in text

    def test_a_spike_and_a_nan_among_many_points_are_drawn(self, db: sqlite3.Connection) -> None:
        run_id = runs.find(db, "captain-full")["id"]
        points = [(step, 1, 1e9 + step, 1.0 + step % 2 / 10) for step in range(1, 20_001)]
        points[7_000] = (7_001, 1, 1e9, 900.0)
        points[9_000] = (9_001, 1, 1e9, NAN)
        with transaction(db):
            metrics.add(db, run_id, "loss", points)
        page = run_page(db, run_id)
        assert "20,000 points, drawn in short" in page
        assert "train loss is NaN at step 9,001" in page
        drawn = max(re.findall(r'data-name="train loss" d="([^"]*)"', page), key=len)
        heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", drawn)]
        assert min(heights) < 200 < sorted(heights)[5]
        assert len(page) < 200_000

    def test_a_fork_says_what_it_comes_from_and_what_changed(self, db: sqlite3.Connection) -> None:
        ids = {row[1]: row[0] for row in db.execute("SELECT id, name FROM runs")}
        db.execute("UPDATE runs SET parent_id = ? WHERE name = 'captain-lora-r16'", (ids["captain-lora-r2"],))
        for page in (
            run_page(db, "captain-lora-r16"),
            comparison_page(db, [ids["captain-lora-r16"], ids["captain-lora-r2"]]),
        ):
            lines = Page(page).text.split("\n")
            (child,) = [line for line in lines if "└ " in line]
            assert "captain-lora-r16" in child
            assert "rank 2 → 16" in child
        assert "└ " not in run_page(db, "captain-full")

    def test_a_run_that_has_not_begun(self, db: sqlite3.Connection) -> None:
        db.execute(
            "INSERT INTO runs (id, name, project, status, created_at, spec) VALUES ('zz', 'new', 'p', 'queued', 1e9, '{}')"
        )
        assert "It has not begun to train." in Page(run_page(db, "zz")).text


class TestForeignText:
    def pages(self, db: sqlite3.Connection) -> list[str]:
        nasty = make_nasty(db, "captain-lora-r16")
        others = [runs.find(db, name)["id"] for name in ("captain-full", "captain-too-long")]
        make_nasty(db, "captain-full")
        return [run_page(db, nasty), comparison_page(db, [nasty, *others])]

    def test_it_becomes_no_markup_and_keeps_no_control_characters(self, db: sqlite3.Connection) -> None:
        for text in self.pages(db):
            page = Page(text)
            assert "onerror=alert(1)" in page.text
            assert not any(tag in ("img", "iframe", "base") for tag, _ in page.tags)
            assert [tag for tag, _ in page.tags].count("script") == 1
            assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert "שלום" in text

    def test_nothing_is_loaded_from_anywhere(self, db: sqlite3.Connection) -> None:
        for text in self.pages(db):
            tags = Page(text).tags
            (policy,) = [a["content"] or "" for _, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; img-src data:;")
            assert "unsafe" not in policy
            links = [a.get("src") or a.get("href") for _, a in tags if a.get("src") or a.get("href")]
            assert links == ["data:,"]


class TestComparisonPage:
    def test_what_differs_what_came_of_it_and_the_answers(self, db: sqlite3.Connection) -> None:
        ids = [runs.find(db, name)["id"] for name in ("captain-lora-r2", "captain-lora-r16", "captain-full")]
        text = " ".join(Page(comparison_page(db, ids)).text.split())
        for part in ("3 runs compared", "best eval loss", "method.rank 2 16", "B captain-lora-r2", "Eval loss by tokens", "Peak memory",
                     "parameters are the same", "before training", "* best"):  # fmt: skip
            assert part in text
        assert "training.max_length 256" not in text.split("What is the same")[0]

    def test_the_baseline_is_the_one_that_is_named(self, db: sqlite3.Connection) -> None:
        ids = [runs.find(db, name)["id"] for name in ("captain-lora-r2", "captain-lora-r16")]
        assert "B captain-lora-r16" in " ".join(Page(comparison_page(db, ids, ids[1])).text.split())


class TestVerb:
    def run(self, place: Path, *arguments: str) -> int:
        return cli.main(["--db", str(place / "experiments.db"), "export", *arguments])

    def test_it_writes_one_file_and_never_over_another(
        self, db: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = tmp_path / "new" / "report.html"
        assert self.run(tmp_path, "captain-lora-r16", "--to", "html", str(target)) == 0
        first = target.read_text()
        assert [p.name for p in target.parent.iterdir()] == ["report.html"]
        assert self.run(tmp_path, "captain-full", "--to", "html", str(target)) == 2
        assert "there already" in capsys.readouterr().err
        assert target.read_text() == first
        assert self.run(tmp_path, "captain-full", "captain-lora-r16", "--to", "html", str(target), "--force") == 0
        assert "2 runs compared" in target.read_text()

    def test_a_disk_that_fails_leaves_what_was_there(
        self,
        db: sqlite3.Connection,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        target = tmp_path / "out" / "report.html"
        target.parent.mkdir()
        target.write_text("before")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        assert self.run(tmp_path, "captain-full", "--to", "html", str(target), "--force") == 2
        assert "No space left" in capsys.readouterr().err
        assert target.read_text() == "before"
        assert [p.name for p in target.parent.iterdir()] == ["report.html"]

    def test_a_mistake_is_a_word_and_no_traceback(
        self, db: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, "nobody", "--to", "html", str(tmp_path / "x.html")) == 2
        assert "no such run" in capsys.readouterr().err
        assert self.run(tmp_path, "captain-full", "--to", "html", str(tmp_path)) == 2
        assert "Name a file." in capsys.readouterr().err


SIZES = "[...document.querySelectorAll('.charts:not(details .charts) .plot path')].map(p => p.getBoundingClientRect().width)"


class TestBrowser:
    @pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
    def test_it_draws_the_curves_asks_nobody_and_complains_of_nothing(
        self, db: sqlite3.Connection, tmp_path: Path, chrome: Browser, width: int, dark: bool
    ) -> None:
        make_nasty(db, "captain-lora-lr")
        ids = [row[0] for row in db.execute("SELECT id FROM runs ORDER BY id")]
        for name, text in (
            ("run.html", run_page(db, ids[0])),
            ("nasty.html", run_page(db, ids[1])),
            ("all.html", comparison_page(db, ids)),
        ):
            (tmp_path / name).write_text(text)
            chrome.open(tmp_path / name, width, dark)
            drawn = chrome.value(SIZES)
            assert len(drawn) > 5
            assert sum(one > width / 5 for one in drawn) > len(drawn) / 2
            assert chrome.value("document.documentElement.scrollWidth") <= width
            assert chrome.value("getComputedStyle(document.body).backgroundColor") == (
                "rgb(28, 28, 28)" if dark else "rgb(255, 255, 255)"
            )
            assert chrome.requests() == []
            assert chrome.complaints() == []

    def test_the_browser_would_say_so_if_it_were_not_so(self, tmp_path: Path, chrome: Browser) -> None:
        page = tmp_path / "bad.html"
        page.write_text("<script>fetch('http://127.0.0.1:9/x').catch(() => {}); undefined.y</script>")
        chrome.open(page)
        assert chrome.requests() == ["http://127.0.0.1:9/x"]
        assert "TypeError" in " ".join(chrome.complaints())

    def test_pointing_reads_values_and_a_run_can_be_hidden(
        self, db: sqlite3.Connection, tmp_path: Path, chrome: Browser
    ) -> None:
        ids = [runs.find(db, name)["id"] for name in ("captain-lora-r16", "captain-full")]
        (tmp_path / "two.html").write_text(comparison_page(db, ids))
        chrome.open(tmp_path / "two.html")
        box = "(() => { const p = document.querySelector('.plot'); p.scrollIntoView(); const r = p.getBoundingClientRect();"
        left, top, width = chrome.value(f"{box} return [r.left, r.top, r.width]; }})()")
        chrome.point(left + width - 2, top + 60)
        best = [runs.one(db, one)["latest"]["eval_loss"]["last"] for one in ids]
        reading = chrome.value("document.querySelector('.reading').textContent")
        assert reading.startswith("step 20:")
        assert [float(v) for v in re.findall(r"captain-\S+ ([\d.]+)", reading)] == pytest.approx(best, rel=0.02)
        chrome.value("document.querySelector('#run1').click()")
        shown = "[...document.querySelectorAll('.plot path')].filter(p => getComputedStyle(p).display !== 'none').map(p => p.dataset.name)"
        assert {name[0] for name in chrome.value(shown)} == {"B"}

    def test_a_script_that_slips_in_does_not_run(self, db: sqlite3.Connection, tmp_path: Path, chrome: Browser) -> None:
        text = run_page(db, "captain-full").replace("<main>", "<main><script>document.title = 'run'</script>")
        (tmp_path / "slipped.html").write_text(text)
        chrome.open(tmp_path / "slipped.html")
        assert chrome.value("document.title") != "run"
        assert "Content Security Policy" in " ".join(chrome.complaints())


def test_the_name_is_hostile_enough() -> None:
    assert {"\x1b", "\u202e", "<", "|"} <= set(NASTY)
