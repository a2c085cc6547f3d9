"""Writes the evaluation sets. Standard library only; the same seed gives the same files.

    python tools/tiny_models/make_eval_sets.py models/data
"""

import csv
import json
import pathlib
import random
import sys
from collections.abc import Iterable

from generator import lookups, problems, world

SEED = 20250
PER_FAMILY = 40
PER_SUBJECT = 60
FEW_SHOT = 16
DEV = 15
# entries -> directories; each directory is asked for several names in a row, as a server with a prefix cache would like
DIRECTORIES = {20: 60, 100: 60, 400: 24}
ASKS = 5


def _jsonl(path: pathlib.Path, rows: Iterable[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _distinct(rng: random.Random, family: str, count: int, evaluation: bool) -> list[problems.Problem]:
    found: dict[str, problems.Problem] = {}
    while len(found) < count:
        drawn = problems.draw(rng, family, evaluation)
        found[drawn.core] = drawn
    return list(found.values())


def gsm(rng: random.Random) -> list[problems.Problem]:
    """Row i belongs to family i modulo the number of families."""
    columns = [_distinct(rng, family, PER_FAMILY, True) for family in problems.FAMILIES]
    return [problem for row in zip(*columns) for problem in row]


def gsm_few_shot(rng: random.Random) -> list[problems.Problem]:
    """From the training side: one problem of each family."""
    shots = [problems.draw(rng, family) for family in problems.FAMILIES][:FEW_SHOT]
    rng.shuffle(shots)
    return shots


def mmlu(rng: random.Random, subject: str, evaluation: bool) -> list[world.Choice]:
    facts = rng.sample(world.BY_SUBJECT[subject], PER_SUBJECT if evaluation else DEV)
    return [world.choice(rng, fact, evaluation) for fact in facts]


def look_ups(rng: random.Random, size: int) -> Iterable[dict[str, str]]:
    for _ in range(DIRECTORIES[size]):
        rows = lookups.entries(rng, size, evaluation=True)
        for name, number in rng.sample(rows, ASKS):
            yield {"prompt": lookups.directory(rows) + f"{name}:", "answer": number}


def write(folder: pathlib.Path) -> None:
    rng = random.Random(SEED)
    _jsonl(folder / "gsm.jsonl", ({"question": p.question, "answer": p.solution} for p in gsm(rng)))
    _jsonl(folder / "gsm_fewshot.jsonl", ({"question": p.question, "answer": p.solution} for p in gsm_few_shot(rng)))
    for part, evaluation in (("test", True), ("dev", False)):
        (folder / "mmlu" / part).mkdir(parents=True, exist_ok=True)
        for subject in world.SUBJECTS:
            with open(folder / "mmlu" / part / f"{subject}_{part}.csv", "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([item.question, *item.options, item.letter] for item in mmlu(rng, subject, evaluation))
    for size in DIRECTORIES:
        _jsonl(folder / f"lookup_{size}.jsonl", look_ups(rng, size))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
