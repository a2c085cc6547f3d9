"""Text that must be read again to be answered: directories of numbers, and codes mentioned long before they are asked for."""

import random

from . import words
from .split import held_out

Piece = tuple[str, float]  # text and the weight of its tokens in the loss


def entries(rng: random.Random, count: int, evaluation: bool = False) -> list[tuple[str, str]]:
    """Names and three-digit numbers. Directories headed by a held-out line are for evaluation only."""
    while True:
        names = words.invented_names(rng, count)
        rows = [(name, str(rng.randint(100, 999))) for name in names]
        if held_out(f"{rows[0][0]}: {rows[0][1]}") == evaluation:
            return rows


def directory(rows: list[tuple[str, str]]) -> str:
    return "Directory\n" + "".join(f"{name}: {number}\n" for name, number in rows) + "\nLook-ups\n"


def directory_document(rng: random.Random, count: int, questions: int) -> list[Piece]:
    """A directory, then look-ups as `Name: 482` lines."""
    rows = entries(rng, count)
    pieces: list[Piece] = [(directory(rows), 0.02)]
    for name, number in rng.choices(rows, k=questions):
        pieces += [(f"{name}:", 0.0), (f" {number}\n", 2.0)]
    return pieces


def codes(rng: random.Random, count: int) -> list[tuple[str, str]]:
    """("the red box", "4821"), all different."""
    keys: dict[str, None] = {}
    while len(keys) < count:
        keys[f"the {rng.choice(words.COLORS)} {rng.choice(words.OBJECTS)}"] = None
    return [(key, str(rng.randint(1000, 9999))) for key in keys]


def notes_document(rng: random.Random, count: int, filler: list[str]) -> list[Piece]:
    """Codes between paragraphs of something else, and at the end a question about each."""
    pairs = codes(rng, count)
    pieces: list[Piece] = [(f"Remember: the code of {key} is {code}.\n\n", 0.02) for key, code in pairs]
    for text in filler:
        # Most notes come early, so that the questions reach far back.
        pieces.insert(rng.randint(min(len(pieces), rng.randint(0, count)), len(pieces)), (text.strip() + "\n\n", 0.3))
    for key, code in rng.sample(pairs, len(pairs)):
        pieces += [(f"What is the code of {key}?\nThe code of {key} is", 0.05), (f" {code}.\n", 2.0)]
    return pieces
