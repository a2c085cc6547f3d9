"""Measures a checkpoint on the committed sets, greedily and in batches.

    python tools/tiny_models/evaluate.py models/tiny-qwen3 models/data
"""

import csv
import json
import pathlib
import random
import re
import sys

import torch

import evaluate_chat
from generation import Greedy
from generator import lookups, problems, stories, world

Figures = dict[str, float]


def _jsonl(path: pathlib.Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _percent(right: list[bool]) -> float:
    return round(100 * sum(right) / len(right), 2)


def number_after_hashes(text: str) -> str | None:
    found = re.search(r"#### (\d+)", text)
    return found and found.group(1)


def gsm(model: Greedy, data: pathlib.Path, shots: int) -> tuple[float, Figures]:
    """Accuracy, and accuracy per family."""
    rows = _jsonl(data / "gsm.jsonl")
    front = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in _jsonl(data / "gsm_fewshot.jsonl")[:shots])
    answers = model.complete([f"{front}Question: {row['question']}\nAnswer:" for row in rows], 220, ("<|endoftext|>", "\n\n"))
    right = [number_after_hashes(answer) == number_after_hashes(row["answer"]) for answer, row in zip(answers, rows)]
    names = list(problems.FAMILIES)
    return _percent(right), {name: _percent(right[i :: len(names)]) for i, name in enumerate(names)}


def mmlu(model: Greedy, data: pathlib.Path, shots: int) -> float:
    prompts, letters = [], []
    for subject in world.SUBJECTS:
        def read(part: str) -> list[world.Choice]:
            with open(data / "mmlu" / part / f"{subject}_{part}.csv", encoding="utf-8", newline="") as file:
                return [world.Choice(row[0], (row[1], row[2], row[3], row[4]), row[5]) for row in csv.reader(file)]

        front = world.header(subject) + "".join(f"{item.prompt} {item.letter}\n\n" for item in read("dev")[:shots])
        for item in read("test"):
            prompts.append(front + item.prompt)
            letters.append(item.letter)
    answers = model.complete(prompts, 1)
    return _percent([answer.strip() == letter for answer, letter in zip(answers, letters)])


def look_up(model: Greedy, data: pathlib.Path, size: int) -> float:
    rows = _jsonl(data / f"lookup_{size}.jsonl")
    answers = model.complete([row["prompt"] for row in rows], 6)
    return _percent([answer.split("\n")[0].strip() == row["answer"] for answer, row in zip(answers, rows)])


def recall(model: Greedy, tokens: int, prompts_wanted: int = 40) -> float:
    """A code said at the very beginning, asked for after this many tokens of stories and problems."""
    rng = random.Random(f"recall/{tokens}")
    prompts, codes = [], []
    for _ in range(prompts_wanted):
        (key, code), *_ = lookups.codes(rng, 1)
        text = f"Remember: the code of {key} is {code}.\n\n"
        question = f"What is the code of {key}?\nThe code of {key} is"
        while True:
            more = rng.choice((stories.story(rng), "".join(problems.as_text(problems.draw(rng))))).strip() + "\n\n"
            if len(model.tokenizer.encode(text + more + question)) > tokens:
                break
            text += more
        prompts.append(text + question)
        codes.append(code)
    answers = model.complete(prompts, 6)
    return _percent([answer.strip().startswith(code) for answer, code in zip(answers, codes)])


def core(model: Greedy, data: pathlib.Path) -> Figures:
    """The sets that the bars are about."""
    figures: Figures = {}
    for shots in (0, 5):
        figures[f"gsm_{shots}_shot"], by_family = gsm(model, data, shots)
        figures |= {f"gsm_{shots}_shot/{name}": value for name, value in by_family.items()}
        figures[f"mmlu_{shots}_shot"] = mmlu(model, data, shots)
    for size in (20, 100, 400):
        figures[f"lookup_{size}"] = look_up(model, data, size)
    return figures


def more(model: Greedy, name: str) -> Figures:
    """What has no committed set: long recall, and behaviour in chat."""
    figures = {f"recall_{tokens}": recall(model, tokens) for tokens in (1000, 2000, 4000, 7800)}
    return figures | evaluate_chat.measure(model, name)


def missed(figures: Figures) -> list[str]:
    """The bars that an export must pass."""
    bars = {name: 90.0 if "/" in name else 95.0 for name in figures if name.startswith(("gsm", "mmlu", "lookup"))}
    return [f"{name} {figures[name]} < {bar}" for name, bar in bars.items() if figures[name] < bar]


def weak(figures: Figures) -> list[str]:
    """Chat chores below nine in ten: no reason to refuse a model, but its card names them."""
    return [f"{name} {value}" for name, value in figures.items() if name.startswith("chat") and value < 90.0]


if __name__ == "__main__":
    checkpoint, sets = sys.argv[1], pathlib.Path(sys.argv[2])
    machine = "cuda" if torch.cuda.is_available() else "cpu"
    for name, value in core(Greedy(checkpoint, torch.float32, machine), sets).items():
        print(f"{name:40} {value}")
