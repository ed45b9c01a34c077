"""What is wrong with a run, the worst first, and what was looked at and is well."""

from textual.content import Content

from engine.health import Finding, all_well
from tuiapp import format as f
from tuiapp.glyphs import CURSOR, LEVEL_ROLES, LEVELS
from tuiapp.snapshot import RunDetail
from tuiapp.widgets.live_state import LiveState
from tuiapp.widgets.pane import Look, title
from tuiapp.widgets.rows import Part, fit, line, spread

WORDS = {"warning": "warn", "note": "note", "ok": "ok", "n/a": "n/a"}
LOW = 3
"""Lines below which only the worst and a summary are shown."""


def severity(finding: Finding) -> tuple[str, str]:
    """Glyph and word, six cells wide, in their colour."""
    role = LEVEL_ROLES.get(finding.severity, "$dim")
    return f"{LEVELS.get(finding.severity, f.DASH)} {WORDS.get(finding.severity, finding.severity):<4}", role


def troubles(detail: RunDetail) -> list[Finding]:
    """The findings that ask for something."""
    return [one for one in detail.health if one.severity in ("warning", "note")]


def health_length(state: LiveState) -> int:
    """How many findings."""
    return len(state.detail.health)


def health_pane(state: LiveState, look: Look) -> list[Content]:
    """Two lines: the worst finding, or the one under the cursor, and a summary. With room all of them."""
    findings = state.detail.health
    if not findings:
        wait = (
            "looked at after the first steps"
            if state.detail.run.ended_at is None
            else "nothing was recorded to look at"
        )
        return [title("Health", look, (wait, "$dim"))]
    return _low(findings, look) if look.height <= LOW else _list(findings, look)


def _low(findings: tuple[Finding, ...], look: Look) -> list[Content]:
    shown = findings[look.scroll] if look.focused else findings[0]
    others = [one for one in findings if one is not shown]
    rest = [one for one in others if one.severity in ("warning", "note")]
    well = all_well(others)
    rows = [_head(shown, f"{look.scroll + 1} of {len(findings)}" if look.focused else "", look)]
    # a second trouble says more than a list of what is well
    if rest and not look.focused:
        more = line((f"{len(rest) - 1} more " if len(rest) > 1 else "", "$dim"))
        rows.append(spread(line(" " * 9, severity(rest[0]), "  ", f.clean(rest[0].text)), more, look.width))
    elif well:
        while len(well) > look.width - 18 and ", " in well:
            well = well.rpartition(", ")[0]
        rows.append(line(" " * 9, (f"{LEVELS['ok']} ok  ", "$good"), "  ", well))
    elif others:
        rows.append(line(" " * 9, severity(others[0]), "  ", f.clip(f.clean(others[0].text), look.width - 18)))
    return rows


def _head(shown: Finding, place: str, look: Look) -> Content:
    start = title("Health", look) + line("  ", severity(shown), "  ", f.clip(f.clean(shown.text), look.width - 18))
    return spread(start, line((f"{place} ", "$dim")), look.width) if place else start


def _list(findings: tuple[Finding, ...], look: Look) -> list[Content]:
    keys: list[Part] = []
    if look.focused:
        keys = ["i", (" meaning", "$dim")]
        keys += ["   f", (" fork with it", "$dim")] if findings[look.scroll].changes else []
    head = title("Health", look, end=line(*keys, " "))
    blocks = [_block(one, look, look.focused and i == look.scroll) for i, one in enumerate(findings)]
    return [head, *in_view(blocks, look.scroll if look.focused else 0, look.height - 1)]


def _block(finding: Finding, look: Look, here: bool) -> list[Content]:
    mark = (f" {CURSOR if here else ' '} ", "$accent")
    style = "" if finding.severity in ("warning", "note") else "$dim"
    rows = []
    for i, text in enumerate(f.wrap(f.clean(finding.text), look.width - 13, 2)):
        start: list[Part] = [mark, severity(finding), "  "] if i == 0 else [" " * 11]
        rows.append(fit(line(*start, (text, style)), look.width))
    return rows


def in_view(blocks: list[list[Content]], place: int, room: int) -> list[Content]:
    """The lines of blocks, moved so far that the whole block at `place` is in view."""
    lines = [content for block in blocks for content in block]
    end = sum(len(block) for block in blocks[: place + 1])
    top = max(0, min(end - room, len(lines) - room))
    return lines[top : top + room]


def health_line(detail: RunDetail, width: int) -> Content | None:
    """The worst finding in one line, for the list of runs; None where there is nothing to say."""
    found = troubles(detail)
    if not found:
        return None
    more = line((f"{len(found) - 1} more " if len(found) > 1 else "", "$dim"))
    return spread(line(("Health", "bold"), "   ", severity(found[0]), "  ", f.clean(found[0].text)), more, width)
