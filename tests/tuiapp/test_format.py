"""Numbers, times and foreign text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.geometry import Region

from tuiapp import format as f
from tuiapp.glyphs import to_ascii
from tuiapp.layout import home_places, live_places, stack
from tuiapp.widgets.strip import short_name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (45.4, "45 s"),
        (59.7, "1 min"),
        (1980, "33 min"),
        (15840, "4.4 h"),
        (9e5, "10.4 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert f.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(-5, "now"), (59, "now"), (250, "4 min"), (7300, "2 h"), (6e5, "6 d")])
def test_ages_do_not_tick(seconds: float, text: str) -> None:
    assert f.age(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (6.3e-5, "6.3e-5"), (2e-4, "2e-4"), (0, "0"), (0.1, "1e-1"), (float("nan"), "–")],
)
def test_learning_rates(value: float | None, text: str) -> None:
    assert f.rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.41, "0.41"),
        (12.5, "12.5"),
        (412, "412"),
        (2236, "2236"),
        (25000, "25k"),
        (1.2e6, "1.2M"),
        (3e-5, "3e-5"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert f.short(value) == text


def test_numbers_and_sizes() -> None:
    assert f.number(1.1419) == "1.142"
    assert f.number(float("nan")) == "NaN"
    assert f.count(2236.4) == "2,236"
    assert f.of_total(19.31, 24) == "19.3 of 24.0 GiB"
    assert f.of_total(None, 24) == "– of 24.0 GiB"
    assert f.of_total(None, None) == "–"
    assert f.percent(None) == "–"


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ('"lora"', "lora"),
        ("0.0002", "2e-4"),
        ("null", ""),
        ("3.0", "3"),
        ("16", "16"),
        ("0.05", "0.05"),
        ("1e-05", "1e-5"),
    ],
)
def test_values_of_the_specification(stored: str, text: str) -> None:
    assert f.plain(stored) == text


@given(st.text())
def test_clean_text_has_no_control_characters(text: str) -> None:
    cleaned = f.clean(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E for c in cleaned)
    assert f.clean(cleaned) == cleaned


def test_escape_sequences_go_as_a_whole() -> None:
    assert f.clean("a\x1b[31mb\x1b]0;title\x07c\x1bPx\x1b\\d\ne") == "abcd e"


@given(st.text(max_size=60), st.integers(0, 30))
def test_clipping_and_padding_are_exact(text: str, width: int) -> None:
    text = f.clean(text)
    assert cell_len(f.clip(text, width)) <= width
    assert cell_len(f.left(text, width)) == width
    assert cell_len(f.right(text, width)) == width
    assert cell_len(f.clip_left(text, width)) <= max(width, 0) or width == 0


@given(st.text(max_size=200), st.integers(1, 40), st.integers(0, 5))
def test_wrapped_lines_fit(text: str, width: int, rows: int) -> None:
    lines = f.wrap(f.clean(text), width, rows)
    assert len(lines) <= rows
    assert all(cell_len(line) <= width for line in lines)


@given(st.text(max_size=60))
def test_ascii_text_is_ascii_of_the_same_length(text: str) -> None:
    assert to_ascii(text).isascii()
    assert len(to_ascii(text)) == len(text)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("12th Gen Intel(R) Core(TM) i7-1260P", "i7-1260P"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "Xeon"),
        ("NVIDIA", "NVIDIA"),
    ],
)
def test_device_names(name: str, short: str) -> None:
    assert short_name(name) == short


sizes = st.integers(1, 240), st.integers(1, 90)


lines = st.dictionaries(st.sampled_from(["samples", "health", "checkpoints", "events", "log"]), st.integers(0, 30))


@given(*sizes, st.sampled_from([None, "loss", "log"]), st.booleans(), lines)
def test_panes_of_a_live_run_never_overlap(
    width: int, height: int, zoom: str | None, error: bool, lines: dict[str, int]
) -> None:
    places = live_places(width, height, zoom=zoom, error=error, lines=lines)
    assert fits(places, width, height)
    assert "narrow" in places or zoom or "error" in places or {"loss", "memory", "health"} <= set(places)


@given(*sizes, st.booleans())
def test_panes_of_home_never_overlap(width: int, height: int, empty: bool) -> None:
    assert fits(home_places(width, height, empty), width, height)


def fits(places: dict[str, Region], width: int, height: int) -> bool:
    """All within the screen, none over another."""
    screen = Region(0, 0, width, height)
    regions = [region for region in places.values() if region.area]
    apart = all(not a.overlaps(b) for i, a in enumerate(regions) for b in regions[i + 1 :])
    return apart and all(screen.contains_region(region) for region in regions)


@given(st.integers(0, 80), st.lists(st.tuples(st.integers(1, 12), st.integers(0, 10)), max_size=6))
def test_stacked_panes_use_the_room(height: int, panes: list[tuple[int, int]]) -> None:
    wanted = [(str(i), least, least + more) for i, (least, more) in enumerate(panes)]
    places = stack(height, wanted)
    assert all(places[name][1] >= least for name, least, _ in wanted if name in places)
    if places:
        y, rows = list(places.values())[-1]
        assert y + rows == height
