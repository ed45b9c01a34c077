"""What the data page draws: frozen values made of the engine's report, and the rows as the model sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tuiapp.snapshot import NewRun


@dataclass(frozen=True)
class FindingLine:
    """One kind of finding. `count` is None where it is about the whole and not about rows."""

    kind: str
    severity: str
    """fatal, warning or note"""
    count: int | None
    lines: tuple[int, ...]
    """The first of them."""
    unit: str
    """What those count: lines of a file, or rows of a list or a table."""
    where: str
    """In words: `lines 41, 77 …`; empty where it is about none in particular."""
    means: str
    """What is the matter, to follow a number of rows."""
    message: str
    hint: str


@dataclass(frozen=True)
class Quantiles:
    """How long something is over all rows."""

    name: str
    least: int
    low: int
    half: int
    high: int
    higher: int
    most: int
    mean: float
    """The others are the least, 5, 50, 95 and 99 percent, and the most."""


@dataclass(frozen=True)
class DataPage:
    """A data set as it was looked at for `form`, with the filters that are among what the form has chosen."""

    form: NewRun
    file: str
    size: int
    """Bytes of its files."""
    rows: int
    format: str
    """Empty where it is none that is known."""
    evidence: str
    objective: str
    unit: str
    """tokens, or characters where there is no tokenizer"""
    lengths: tuple[int, ...]
    """Of the rows, or of a sample, in order."""
    quantiles: tuple[Quantiles, ...]
    tokenized: int
    """Of how many rows the tokens were counted."""
    kept: int
    """Rows that would be used, whatever their length."""
    validation: int
    """Rows that are held out of those."""
    max_length: int | None = None
    """What the run would be given; None without a tokenizer: then nothing is too long."""
    most_length: int = 0
    """The longest that the model can read."""
    long_rows: str = "drop"
    packing: bool = False
    no_tokens: str = ""
    """Why the rows cannot be shown token by token; empty if they can."""
    counted: str = "line"
    """What rows are numbered by: line or row."""
    seconds: float = 0.0
    """How long it took to look."""
    texts: Mapping[int, str] = field(default_factory=dict)
    """The beginning of rows by their line, of as many as are remembered."""


@dataclass(frozen=True)
class DataCounts:
    """What follows from a length: everything here is arithmetic over a page."""

    max_length: int | None
    long_rows: str
    kept: int
    dropped: tuple[tuple[str, int], ...]
    """(reason, rows)"""
    findings: tuple[FindingLine, ...]
    tokens: int | None = None
    """Of an epoch."""
    trained: int | None = None
    packed_rows: int | None = None
    full: float | None = None
    """Share of a packed row that holds tokens."""
    padding: float | None = None
    """Share of a batch that would be padding without packing."""


@dataclass(frozen=True)
class TokenSequence:
    """Tokens in order, each with its id, text and whether it is trained. What stands from `cut` on is not used."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    trained: tuple[bool, ...]
    name: str = ""
    """chosen or rejected, where a row has both."""
    cut: int | None = None


@dataclass(frozen=True)
class Packed:
    """The packed row that a row is in: its neighbours by the number of their first token, from 0; None is the row itself."""

    tokens: int
    size: int
    parts: tuple[tuple[int, TokenSequence | None], ...]


@dataclass(frozen=True)
class RowView:
    """A row as it is trained on, by its number among those (from 1) and its line in the file."""

    number: int
    line: int
    problem: str
    """Why it is left out; empty if it is not."""
    sequences: tuple[TokenSequence, ...]
    packed: Packed | None = None


@dataclass(frozen=True)
class RowsSeen:
    """Some rows that follow each other, of `total`."""

    total: int
    rows: tuple[RowView, ...]
    problem: str = ""
    """Why there are none."""


@dataclass(frozen=True)
class FileLine:
    """A file or a directory that can be chosen: `path` as one would type it, `size` in bytes."""

    path: str
    size: int | None
    is_data: bool = False
    """Whether its name looks like one of data."""


@dataclass(frozen=True)
class Browsed:
    """What can follow a text that is typed as a path."""

    files: tuple[FileLine, ...] = ()
    more: int = 0
    """How many there are beside those."""
    common: str = ""
    """As far as all of them agree."""
    preview: tuple[str, ...] = ()
    """The first lines of the file that the text names."""
