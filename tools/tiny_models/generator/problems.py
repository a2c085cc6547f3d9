"""Word problems in GSM8K's format: a question, worked steps with <<a+b=c>> notes, and `#### N`."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from . import voices, words
from .draft import Draft
from .split import held_out


class Reject(Exception):
    """The numbers drawn do not fit; draw again."""


@dataclass(frozen=True)
class Problem:
    family: str
    core: str  # the sentences that matter, and the question
    question: str  # the core with sentences that do not matter
    steps: tuple[str, ...]  # with <<...>> notes
    answer: int

    @property
    def solution(self) -> str:
        """GSM8K's answer field."""
        return "\n".join(self.steps) + f"\n#### {self.answer}"

    @property
    def plain_steps(self) -> str:
        """The same steps for people to read."""
        return "\n".join(_without_notes(step) for step in self.steps)


Family = Callable[[random.Random], Draft]
FAMILIES: dict[str, Family] = {}
NOISE: dict[str, frozenset[str]] = {}  # kinds of irrelevant sentence that would not be irrelevant in this family


def family(*ambiguous: str) -> Callable[[Family], Family]:
    """Registers a family function under its own name."""

    def register(function: Family) -> Family:
        FAMILIES[function.__name__] = function
        NOISE[function.__name__] = frozenset(ambiguous)
        return function

    return register


def compute(a: int, sign: str, b: int, unit: str = "") -> tuple[str, int]:
    """("3 + 4 = <<3+4=7>>7", 7). The model sees each result once inside the note and once outside."""
    if sign == "/":
        if b == 0 or a % b:
            raise Reject
        value = a // b
    else:
        value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    if not 0 <= value <= 999:
        raise Reject
    return f"{a} {sign} {b} = {unit}<<{a}{sign}{b}={value}>>{value}", value


def _without_notes(step: str) -> str:
    while "<<" in step:
        before, rest = step.split("<<", 1)
        step = before + rest.split(">>", 1)[1]
    return step


def _noise(rng: random.Random, draft: Draft, kinds: list[str]) -> str:
    """One sentence with nothing to do with the question."""
    kind = rng.choice(kinds)
    name = rng.choice([n for n in words.PEOPLE if n not in draft.names])
    place = rng.choice(words.PLACES)
    if kind == "owns":
        thing = rng.choice([t for t in words.THINGS if t not in draft.things])
        return f"{name} has {rng.randint(2, 99)} {thing}."
    if kind == "age":
        return f"{name} is {rng.randint(5, 80)} years old."
    if kind == "time":
        return rng.choice([f"The {place} opens at {rng.randint(6, 11)} in the morning.", f"The walk to the {place} takes {rng.randint(4, 55)} minutes."])
    if kind == "people":
        return f"There are {rng.randint(11, 99)} people at the {place} today."
    if kind == "number":
        return rng.choice([f"The bus to the {place} has the number {rng.randint(2, 99)}.", f"{name} lives in house {rng.randint(2, 199)}."])
    return rng.choice([f"It is {rng.choice(words.DAYS)} and the {place} is busy.", f"The sun shines over the {place}.", f"{name} likes the {place} very much."])


def draw(rng: random.Random, name: str | None = None, evaluation: bool = False) -> Problem:
    """A problem of one family (any, if none is named) from the training or the evaluation side of the split."""
    while True:
        chosen = name or rng.choice(list(FAMILIES))
        try:
            draft = FAMILIES[chosen](rng)
        except Reject:
            continue
        draft = voices.retell(rng, draft)
        core = f"{draft.story} {draft.ask}"
        if held_out(core) != evaluation or not 0 <= draft.answer <= 999:
            continue
        kinds = [k for k in ("owns", "age", "time", "people", "number", "none") if k not in NOISE[chosen]]
        front, middle = (rng.choice((0, 0, 1, 1, 2, 3)), rng.choice((0, 0, 0, 1, 2))) if rng.random() < 0.65 else (0, 0)
        if draft.one_subject and draft.names[0] not in draft.ask:
            middle = 0  # another name before the question would make `he` ambiguous
        sentences = [_noise(rng, draft, kinds) for _ in range(front)] + [draft.story] + [_noise(rng, draft, kinds) for _ in range(middle)] + [draft.ask]
        return Problem(chosen, core, " ".join(sentences), tuple(draft.steps), draft.answer)


def as_text(problem: Problem) -> tuple[str, str]:
    """The few-shot format, as prompt and completion."""
    return f"Question: {problem.question}\nAnswer:", f" {problem.solution}\n\n"
