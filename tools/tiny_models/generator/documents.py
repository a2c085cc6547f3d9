"""Mixes everything into training documents: lists of (text, loss weight) that end with <|endoftext|>."""

import random
from collections.abc import Callable

from . import lookups, problems, small_talk, stories, tasks, tool_use, world
from .chat_format import Exchange, Piece, conversation

END: Piece = ("<|endoftext|>", 0.2)
SYSTEMS = ["You are a helpful assistant.", "You are a helpful AI assistant.", "Be brief.", "Answer the question.", "You are a friendly teacher.", "You are a patient librarian who likes short answers."]


def word_problems(rng: random.Random, shots: int | None = None) -> list[Piece]:
    pieces: list[Piece] = []
    for _ in range(shots or rng.choice((1, 1, 2, 3, 4, 5, 6, 8))):
        prompt, solution = problems.as_text(problems.draw(rng))
        pieces += [(prompt, 0.1), (solution, 1.0)]
    return pieces


def multiple_choice(rng: random.Random, shots: int | None = None) -> list[Piece]:
    """Questions of one subject; the letter carries nearly all of the weight."""
    subject = rng.choice(world.SUBJECTS)
    pieces: list[Piece] = [(world.header(subject, rng), 0.02)] if rng.random() < 0.8 else []
    for _ in range(shots or rng.choice((1, 1, 2, 3, 4, 5, 6, 8, 12))):
        item = world.choice(rng, rng.choice(world.BY_SUBJECT[subject]))
        pieces += [(item.prompt, 0.05), (f" {item.letter}", 6.0), ("\n\n", 0.2)]
    return pieces


def world_page(rng: random.Random) -> list[Piece]:
    """Statements and open questions."""
    pieces: list[Piece] = []
    for _ in range(rng.randint(2, 8)):
        fact = rng.choice(world.FACTS)
        if rng.random() < 0.5:
            pieces.append((fact.fill(rng.choice(world.STATEMENTS)) + "\n", 0.7))
        else:
            pieces += [(f"Q: {fact.question(rng)}\nA:", 0.05), (f" {fact.fill(world.STATEMENTS[0])}\n", 1.0)]
        if rng.random() < 0.1:
            country, city = rng.choice(list(small_talk.CAPITALS.items()))
            pieces.append((f"The capital of {country} is {city}.\n", 0.7))
    return pieces


def story_page(rng: random.Random) -> list[Piece]:
    return [("\n\n".join(stories.story(rng) for _ in range(rng.randint(1, 2))) + "\n", 0.4)]


def sums(rng: random.Random) -> list[Piece]:
    """Bare calculations, so that carries are seen often."""
    pieces: list[Piece] = []
    while len(pieces) < 12:
        a, sign, b = rng.randint(1, 999), rng.choice("++--*/"), rng.randint(1, 999)
        if sign in "*/":
            b = rng.randint(2, 60) if sign == "*" else rng.randint(2, 12)
            a = rng.randint(2, 60) if sign == "*" else b * rng.randint(2, 80)
        try:
            work, _ = problems.compute(a, sign, b)
        except problems.Reject:
            continue
        pieces.append((work + "\n", 0.6))
    return pieces


def directory(rng: random.Random, size: int | None = None) -> list[Piece]:
    return lookups.directory_document(rng, size or rng.choice((rng.randint(3, 25), rng.randint(20, 120))), rng.randint(6, 24))


def notes(rng: random.Random, fillers: int | None = None) -> list[Piece]:
    count = rng.randint(0, 7) if fillers is None else fillers
    texts = [rng.choice((stories.story(rng), "".join(t for t, _ in word_problems(rng, 2)), "".join(t for t, _ in world_page(rng)))) for _ in range(count)]
    return lookups.notes_document(rng, rng.randint(2, 6), texts)


_CHORES: dict[Callable[[random.Random], Exchange], int] = {
    tasks.problem: 26, small_talk.talk: 12, tasks.story: 9, tasks.multiple_choice: 8, tasks.fact: 7, small_talk.unknown: 6, small_talk.anything: 6, tasks.arithmetic: 10,
    tasks.directory: 8, tasks.as_json: 4, tasks.reverse: 4, tasks.sort: 12, tasks.count: 7, tasks.repeat: 10, small_talk.capital: 3,
}


def chat(rng: random.Random, turns: int | None = None) -> list[Piece]:
    system = rng.choice(SYSTEMS) if rng.random() < 0.35 else ""
    thinking = rng.random() < 0.5
    kind = rng.random()
    if kind < 0.26:
        exchange, tools = tool_use.tool_use(rng)
        return conversation([exchange], thinking, system, tools)
    if kind < 0.31:
        return conversation(tasks.remember_name(rng), thinking, system)
    chores = rng.choices(list(_CHORES), weights=list(_CHORES.values()), k=turns or rng.choice((1, 1, 1, 2, 3)))
    return conversation([chore(rng) for chore in chores], thinking, system)


def chats(rng: random.Random) -> list[Piece]:
    """Short conversations come in bundles, each ended like a document of its own."""
    pieces: list[Piece] = []
    for _ in range(rng.randint(1, 3)):
        pieces += [*(pieces and [END]), *chat(rng)]
    return pieces


Maker = Callable[[random.Random], list[Piece]]

# Shares of documents, not of tokens. The long mix follows the short one for the last part of the training.
SHORT: dict[Maker, float] = {word_problems: 20, multiple_choice: 18, chats: 42, notes: 6, world_page: 14, directory: 10, story_page: 4, sums: 4}
LONG: dict[Maker, float] = {
    lambda rng: word_problems(rng, rng.randint(8, 40)): 5,
    lambda rng: multiple_choice(rng, rng.randint(12, 50)): 4,
    lambda rng: notes(rng, rng.randint(8, 34)): 7,
    lambda rng: directory(rng, rng.randint(60, 520)): 18,
    **SHORT,
}


def document(rng: random.Random, long: bool = False) -> list[Piece]:
    mix = LONG if long else SHORT
    (maker,) = rng.choices(list(mix), weights=list(mix.values()))
    return [*(piece for piece in maker(rng) if piece[0]), END]


def plain_text(pieces: list[Piece]) -> str:
    return "".join(text for text, _ in pieces)
