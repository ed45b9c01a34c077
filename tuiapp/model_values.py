"""The second step's models: what is known of each, in what order they stand, and which one is meant. Pure functions."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tuiapp import format as f

HERE = ("directory", "file", "package", "hub cache")
"""Places from which nothing has to be downloaded."""
DOWNLOAD, HUB = "download", "hub"
"""In the catalog and not here; in neither."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
ORDERS = ("best that fits first", "largest first", "smallest first", "by name", "by place")
BEST = 0
SLOW = 50.0
"""Tokens a second below which a CPU is called slow: 1,000 rows of 300 tokens, three times, take five hours."""
WITHOUT_TEMPLATE = ("domain",)
"""Goals for which plain text is enough; for the others the rows are conversations, and want a chat template."""
BYTES, GIB = 2, 2**30
"""Of a parameter in bfloat16; of a GiB."""
USUAL_ROW, ROWS = 300, 1000
"""Tokens of a row and rows, where a duration stands for data that is not known yet."""


@dataclass(frozen=True)
class Fit:
    """One way to train a model on cards of one kind, or in main memory. GiB of one card; `fits` is yes, close, no or unknown."""

    method: str
    fits: str
    gib: float | None = None
    tokens_per_second: float | None = None
    cards: int = 1


@dataclass(frozen=True)
class FitRow:
    """A way to train on every kind of card there is, in the order of `ModelPage.cards`."""

    name: str
    fits: tuple[Fit, ...]


@dataclass(frozen=True)
class CardColumn:
    """Equal cards, or the CPU with its main memory. GiB of one."""

    name: str
    gib: float
    count: int = 1


@dataclass(frozen=True)
class ModelLine:
    """A model. `path` is what a run is given; `fits` by card, then by method; None is not known, `problem` why it cannot be used."""

    path: str
    name: str
    where: str
    fits: tuple[tuple[Fit, ...], ...] = ()
    parameters: int | None = None
    context: int | None = None
    licence: str = ""
    template: bool | None = None
    gated: bool = False
    size: int = 0
    """Bytes of the weights on this disk."""
    architecture: str = ""
    layers: int | None = None
    hidden: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    vocab: int | None = None
    experts: int = 0
    dtype: str = ""
    revision: str = ""
    source: str = ""
    """What the facts were read in."""
    place: str = ""
    """Where its files lie."""
    quantised: str = ""
    """How its weights are quantised already."""
    own_code: bool = False
    """Whether it brings Python code without which it cannot be loaded."""
    known: bool = True
    """Whether its facts were looked at."""
    problem: str = ""

    @property
    def is_here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return self.where in HERE


@dataclass(frozen=True)
class ModelPage:
    """All models that are known, and what they are judged for: `cards` has one entry, the CPU, where there is no card."""

    lines: tuple[ModelLine, ...]
    cards: tuple[CardColumn, ...] = ()
    cpu: bool = False
    disk_free: float | None = None
    """GiB where downloads go."""


def best(fits: Sequence[Fit]) -> Fit | None:
    """The best method that fits: on one card before several; else the one that lacks least; None where nothing is known.

    `fits` are in the order of quality.
    """
    for several in (False, True):
        for state in ("yes", "close"):
            for one in fits:
                if one.fits == state and (one.cards > 1) == several:
                    return one
    lacking = [one for one in fits if one.gib is not None and one.cards == 1]
    return min(lacking, key=lambda one: one.gib or 0.0, default=None)


def verdict(line: ModelLine, card: int = 0) -> Fit | None:
    """The best on the cards of a column."""
    return best(line.fits[card]) if card < len(line.fits) else None


def is_slow(fit: Fit | None, cpu: bool) -> bool:
    """Whether it would fit a CPU's memory and yet take days."""
    return cpu and fit is not None and fit.fits in ("yes", "close") and (fit.tokens_per_second or SLOW) < SLOW


FITS, UNKNOWN, TOO_LARGE, BROKEN = range(4)


def standing(line: ModelLine) -> int:
    """Whether it fits at all on the first cards."""
    if line.problem:
        return BROKEN
    fit = verdict(line)
    if fit is None:
        return UNKNOWN
    return FITS if fit.fits in ("yes", "close") else TOO_LARGE


def is_good(line: ModelLine, cpu: bool) -> bool:
    """Whether it trains with 16-bit weights on one card with room to spare, at a pace that one can wait for."""
    fit = verdict(line)
    if line.problem or fit is None or line.own_code or line.quantised:
        return False
    return fit.fits == "yes" and fit.method != "QLoRA" and fit.cards == 1 and not is_slow(fit, cpu)


def suggested(page: ModelPage, goal: str) -> ModelLine | None:
    """The largest that fits with LoRA and is on this disk already; with a chat template where the goal wants one.

    Where none is, the best of what fits otherwise, and only then a download, which should not ask for consent first.
    """
    templated = goal not in WITHOUT_TEMPLATE
    here = [one for one in page.lines if one.is_here and standing(one) == FITS and not one.own_code]
    good = [one for one in here if is_good(one, page.cpu)]
    if found := _largest(good, templated):
        return found
    if here:  # on a CPU what is smaller is less slow
        return min(here, key=lambda one: one.parameters or 0) if page.cpu else _largest(here, templated)
    free = [one for one in page.lines if one.where == DOWNLOAD and not one.gated and is_good(one, page.cpu)]
    return _largest(free, templated)


def _largest(lines: Sequence[ModelLine], templated: bool) -> ModelLine | None:
    with_template = [one for one in lines if one.template] if templated else []
    found = with_template or lines
    return min(found, key=_by_size, default=None)


def _by_size(line: ModelLine) -> tuple[int, bool, str]:
    return (-(line.parameters or 0), not line.template, line.name.casefold())


def suggestion_words(line: ModelLine, cpu: bool) -> str:
    """Why this one was chosen, in a sentence."""
    fit = verdict(line)
    if fit is None:
        return ""
    if not line.is_here:
        return f"The largest that fits with {fit.method} and needs no consent; none here does."
    if is_good(line, cpu):
        what = "the largest with a template" if line.template else "the largest"
        return f"Chosen as {what} that {'trains fast enough' if cpu else 'fits with LoRA'} and is here."
    return f"Chosen as {'the least slow of those here' if cpu else f'the largest here; it fits with {fit.method}'}."


def likely(line: ModelLine, cpu: bool = False) -> str:
    """What fits of a model, in two words."""
    fit = verdict(line)
    if fit is None:
        return ""
    if fit.fits not in ("yes", "close"):
        return "does not fit"
    method = "LoRA" if fit.method == "full" else fit.method
    if is_slow(fit, cpu):
        return f"{method}, slow"
    return f"{method} on {fit.cards} cards" if fit.cards > 1 else f"{method} likely"


def matches(line: ModelLine, text: str) -> bool:
    """Whether every word is somewhere in the name."""
    name = f"{line.name} {line.path}".casefold()
    return all(word in name for word in text.casefold().split())


def in_order(
    lines: Iterable[ModelLine], order: int, turned: bool = False, first: ModelLine | None = None, cpu: bool = False
) -> list[ModelLine]:
    """The lines in one of `ORDERS`; `first` is the one that is suggested."""
    return sorted(lines, key=lambda one: _key(one, order, first, cpu), reverse=turned)


def _key(line: ModelLine, order: int, first: ModelLine | None, cpu: bool) -> tuple[object, ...]:
    size = line.parameters or 0
    name = line.name.casefold()
    if order == BEST:
        suggested_one = first is not None and line.path == first.path
        slow = is_slow(verdict(line), cpu)  # the smaller, the less slow
        return (not suggested_one, standing(line), not line.is_here, slow, _worth(line), size * slow, *_by_size(line))
    if ORDERS[order] == "largest first":
        return (-size, name)
    if ORDERS[order] == "smallest first":
        return (size or 10**15, name)
    return (name,) if ORDERS[order] == "by name" else ((*HERE, DOWNLOAD, HUB).index(line.where), name)


def _worth(line: ModelLine) -> int:
    """What fits with 16-bit weights on one card comes before what has to be quantised or shared out."""
    fit = verdict(line)
    return 2 if fit is None or fit.cards > 1 else int(fit.method == "QLoRA" or fit.fits == "close")


def typed_kind(text: str) -> str:
    """What a text may be beside a filter: the path of a directory or file, the id of a model on the hub, or neither."""
    text = text.strip()
    if text.startswith(("/", ".", "~")) or text.endswith(".gguf") or text.count("/") > 1:
        return "path"
    return HUB if HUB_ID.fullmatch(text) else ""


def shown(
    page: ModelPage,
    text: str,
    typed: ModelLine | None,
    order: int,
    turned: bool = False,
    first: ModelLine | None = None,
) -> list[ModelLine]:
    """The lines for what is typed: those that match, in order, the one that is meant exactly at their head.

    `first` is what is suggested, `typed` what is known of the text as a path or a hub id of its own; a hub id comes after what the filter finds.
    """
    text = text.strip()
    lines = in_order((one for one in page.lines if matches(one, text)), order, turned, first, page.cpu)
    if not text:
        return lines
    exact = next((one for one in lines if is_named(one, text)), None)
    if exact is not None:
        return [exact, *(one for one in lines if one is not exact)]
    if typed is None:
        return lines
    same = [one for one in lines if one.path != typed.path]
    return [*same, typed] if typed.where == HUB or typed.problem else [typed, *same]


def is_named(line: ModelLine, text: str) -> bool:
    """Whether a text is a model's whole name, with or without who made it."""
    names = (line.name, line.path, f.model_name(line.name))
    return text.casefold().rstrip("/") in [name.casefold() for name in names]


def smaller(page: ModelPage, line: ModelLine) -> tuple[ModelLine, float] | None:
    """The largest of the same family that trains half as fast again or more, and fits, and how many times as fast."""
    here = verdict(line)
    if here is None or not here.tokens_per_second:
        return None
    found: list[tuple[ModelLine, float]] = []
    for one in page.lines:
        fit = verdict(one)
        if fit is None or not fit.tokens_per_second or fit.fits != "yes" or one.problem or one.path == line.path:
            continue
        ratio = fit.tokens_per_second / here.tokens_per_second
        if ratio >= 1.5 and family(one) == family(line) and one.template == line.template:
            found.append((one, ratio))
    return min(found, key=lambda pair: (*_by_size(pair[0])[:1], not pair[0].is_here), default=None)


def family(line: ModelLine) -> str:
    """What a model's name begins with: llama, qwen."""
    found = re.match(r"(?:meta-)?([a-z]+)", f.model_name(line.name).casefold())
    return found[1] if found else ""


_MADE = re.compile(r"(?i)^meta-|-(instruct|it|chat|pt|base|hf)\b")


def sibling(page: ModelPage, line: ModelLine) -> ModelLine | None:
    """The base of an instruct model, or the other way round."""
    name = _MADE.sub("", line.name.casefold())
    found = [one for one in page.lines if one.template != line.template and _MADE.sub("", one.name.casefold()) == name]
    return min(found, key=lambda one: not one.is_here, default=None)


def seconds_for(tokens_per_second: float | None) -> float | None:
    """How long 1,000 rows of 300 tokens take."""
    return ROWS * USUAL_ROW / tokens_per_second if tokens_per_second else None


def weights_gib(line: ModelLine) -> float | None:
    """The weights in bfloat16, GiB."""
    return line.parameters * BYTES / GIB if line.parameters else None


LICENCES = {
    "apache-2.0": ("Apache 2.0", "any use; its notices stay with it"),
    "mit": ("MIT", "any use; its notice stays with it"),
    "gemma": ("Gemma", "Gemma terms: what they forbid goes on with the trained model"),
    "llama2": ("Llama 2", "Llama 2: above 700 million users a month it has to be asked for"),
    "llama3": ("Llama 3", 'Llama 3: show "Built with Meta Llama 3"; names begin with Llama 3'),
    "qwen-research": ("Qwen research", "Qwen Research: not for commercial use"),
    "qwen": ("Qwen", "Tongyi Qianwen: above 100 million users a month it has to be asked for"),
    "cc-by-sa-4.0": ("CC BY-SA 4.0", "its authors are named, and what is made of it is shared alike"),
    **{f"llama3.{n}": (f"Llama 3.{n}", f'Llama 3.{n}: show "Built with Llama"; names begin with Llama') for n in (1, 2, 3)},
}  # fmt: skip
"""By the hub's names: a short one, and what to mind."""


def licence_name(line: ModelLine) -> str:
    """In few characters."""
    return LICENCES.get(line.licence, (f.clean(line.licence), ""))[0] or f.DASH


def licence_words(line: ModelLine) -> str:
    """With what to mind."""
    name, about = LICENCES.get(line.licence, (f.clean(line.licence), ""))
    if not name:
        return f"{f.DASH}   it is not said in its files" if line.known else f.DASH
    return about if about.startswith(name) or line.licence == "qwen" else f"{name}: {about}" if about else name


def obstacle(line: ModelLine | None) -> str:
    """Why one cannot go on with a model; empty if one can."""
    if line is None:
        return "No such model is known: type a hub id (organisation/name) or a directory."
    return line.problem
