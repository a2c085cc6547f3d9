"""A word problem before it is told: what a family function returns."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Draft:
    story: str
    ask: str
    steps: list[str]
    answer: int
    names: tuple[str, ...]
    things: tuple[str, ...] = ()
    one_subject: bool = False  # the first name is the subject of every sentence
