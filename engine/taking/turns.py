"""What a chat template writes between the words of a conversation, found out by rendering conversations with it.

Most templates are regular: whatever is said, the same stands before the first question, between a question and its answer,
between an answer and the next question, and behind the last question. Then these few texts are all of it.
"""

from dataclasses import dataclass
from itertools import pairwise

from engine.data.template import Template
from engine.data.turns import Turn

SYSTEM, USERS, ANSWERS = "quexsystem", ("quexfirst", "quexsecond", "quexthird"), ("quexanswer", "quexreply")
NEEDED = "the template is not regular"


class Irregular(ValueError):
    """The template cannot be told in a few texts; why."""


@dataclass(frozen=True)
class Turns:
    """`lead` stands before the first question, `asked` between a question and its answer, `answered` between an answer and the
    next question, `prompt` behind the last question. `system` stands before and behind the system prompt, which is in front of
    the first question or (`late`) of the last one; with it in front, its second text replaces `lead`'s end."""

    lead: str
    asked: str
    answered: str
    prompt: str


@dataclass(frozen=True)
class Family:
    """`plain` without a system prompt; with one in front `led` is what stands before and behind it, and `then` the turns after
    it. `late`: it stands before the last question, where `first` is what comes before and behind it if that is the only
    question, and `later` if answers came before."""

    plain: Turns
    then: Turns | None = None
    led: tuple[str, str] = ("", "")
    late: bool = False
    first: tuple[str, str] = ("", "")
    later: tuple[str, str] = ("", "")

    @property
    def takes_system(self) -> bool:
        return self.then is not None or self.late


def conversation(questions: int, system: str = "") -> list[Turn]:
    """A conversation of so many questions of the probing words, the last one without its answer."""
    found: list[Turn] = [{"role": "system", "content": system}] if system else []
    for i in range(questions):
        found.append({"role": "user", "content": USERS[i]})
        if i + 1 < questions:
            found.append({"role": "assistant", "content": ANSWERS[i]})
    return found


def family(template: Template) -> Family:
    """The texts between the turns. Raises Irregular; ValueError if the template refuses a plain conversation."""
    plain = _turns(template, "")
    try:
        pieces = [_pieces(template, n, SYSTEM) for n in (1, 2, 3)]
    except ValueError:  # no room for a system prompt, or it is left out
        return Family(plain)
    order = [word for word, _ in pieces[1]]
    if order.index(SYSTEM) == 1:
        led, then = (pieces[0][0][1], pieces[0][1][1]), _with_system(pieces)
        return Family(plain, then, led)
    return _late(plain, pieces)


def _turns(template: Template, system: str) -> Turns:
    one, two, three = (_pieces(template, n, system) for n in (1, 2, 3))
    turns = Turns(two[0][1], two[1][1], two[2][1], two[3][1])
    _same(turns, one, two, three)
    return turns


def _pieces(template: Template, questions: int, system: str) -> list[tuple[str, str]]:
    """Each probing word with what follows it, in order as they stand; the first pair is ("", what stands before all)."""
    messages = conversation(questions, system)
    text = template.render(messages, add_generation_prompt=True).text
    words = [m["content"] for m in messages]
    places = sorted((text.find(word), word) for word in words)
    if places[0][0] < 0 or any(text.count(word) != 1 for word in words):
        raise Irregular("it leaves words of a conversation out, or writes them twice")
    if [word for _, word in places if word != system] != [word for word in words if word != system]:
        raise Irregular("it changes the order of a conversation")
    edges = [(0, 0, ""), *((at, at + len(word), word) for at, word in places), (len(text), len(text), "")]
    return [(word, text[end:start]) for (_, end, word), (start, _, _) in pairwise(edges)]


def _same(turns: Turns, *conversations: list[tuple[str, str]]) -> None:
    """Raises Irregular unless each conversation is made of these texts."""
    for pieces in conversations:
        texts = [text for _, text in pieces]
        middle = [turns.asked, turns.answered] * ((len(texts) - 2) // 2)
        if texts != [turns.lead, *middle, turns.prompt]:
            raise Irregular("later turns are written in another way than earlier ones")


def _with_system(conversations: list[list[tuple[str, str]]]) -> Turns:
    """The turns behind a system prompt that stands in front."""
    texts = [text for _, text in conversations[1]]
    turns = Turns("", texts[2], texts[3], texts[4])
    led = texts[:2]
    for pieces in conversations:
        if [text for _, text in pieces[:2]] != led:
            raise Irregular("the system prompt is written in another way in longer conversations")
    _same(turns, *([("", ""), *pieces[2:]] for pieces in conversations))
    return turns


def _late(plain: Turns, conversations: list[list[tuple[str, str]]]) -> Family:
    """A system prompt that stands before the last question, as Mistral's does."""
    one, two, three = ([text for _, text in pieces] for pieces in conversations)
    if [word for word, _ in conversations[2]][-2] != SYSTEM:
        raise Irregular("the system prompt stands neither in front nor before the last question")
    found = Family(plain, late=True, first=(one[0], one[1]), later=(two[2], two[3]))
    wanted = [plain.lead, plain.asked, *found.later, plain.prompt]
    longer = [plain.lead, plain.asked, plain.answered, plain.asked, *found.later, plain.prompt]
    if one[2] != plain.prompt or two != wanted or three != longer:
        raise Irregular("with a system prompt the turns are written in another way")
    return found
