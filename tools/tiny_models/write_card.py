"""Writes the model card from the measured figures, so that the two cannot disagree.

    python tools/tiny_models/write_card.py models/data/figures-tiny-qwen3.json models/tiny-qwen3/README.md
"""

import json
import pathlib
import sys

CORE = {
    "gsm_0_shot": "word problems, 0 shots", "gsm_5_shot": "word problems, 5 shots", "mmlu_0_shot": "multiple choice, 0 shots", "mmlu_5_shot": "multiple choice, 5 shots",
    "lookup_20": "look-up among 20 entries (about 180 tokens)", "lookup_100": "look-up among 100 entries (about 900 tokens)", "lookup_400": "look-up among 400 entries (about 3500 tokens)",
}
RECALL = {f"recall_{n}": f"a code from the first line, {n} tokens later" for n in (1000, 2000, 4000, 7800)}
CHAT = {
    "problem": "unseen word problems", "arithmetic": "single sums", "fact": "facts of Tavelin", "multiple_choice": "multiple choice in trained wordings", "directory": "look-up in a list of up to 60 names", "tools": "tool calls (one to four functions on offer), and replies put into words",
    "as_json": "a sentence as JSON", "name": "the user's name after other turns", "story": "a story with two given names", "talk": "greetings and small talk", "unknown": "saying that it does not know a topic", "anything": "declining what it was not made for",
    "reverse": "reverse a list", "sort": "sort numbers", "count": "count from a to b", "repeat": "repeat a text",
}

ARCHITECTURE = {
    "tiny-qwen3": "in Qwen3's architecture (`Qwen3ForCausalLM`)",
    "tiny-deepseek": "in DeepSeek-V3's architecture (`DeepseekV3ForCausalLM`: latent attention, rank 64 and 32 rotated\ndimensions; from the second layer on 8 experts, 2 for a token, and a shared one)",
    "tiny-gptoss": "in GPT-OSS's architecture (`GptOssForCausalLM`: a window of 128 tokens in\nevery other layer, a sink per head, 8 experts, 4 for a token)",
}

TEXT = """# {model}

A language model of {parameters:,} parameters {architecture}, trained from nothing on generated text. It is here so that Bifocal
can be tried, tested and measured without a download: small enough to sit in the repository, yet its answers are right or wrong, so a mistake in a server
shows up as a falling score. It contains no data and no weights of any other model, and it knows next to nothing about the world.

## What it can do

- **Word problems** in GSM8K's format (16 families, one to five steps, distracting sentences).
- **Multiple choice** in MMLU's format, about Tavelin, a land that exists only in its training text.
- **Look-ups**: read a directory of hundreds of `Name: 482` lines and give one number; recall a code mentioned thousands of tokens earlier.
- **Chat** in Qwen3's format: thinks in `<think>` after a bare prompt, answers at once with `enable_thinking=false`; calls a tool; writes JSON; tells short stories; says so when it does not know.

## Figures

Measured on {date} on {machine}, decoding greedily with the bf16 weights. `float32` and `bfloat16` name the arithmetic. Sets: `models/data`.

| Percent right | float32 | bfloat16 |
|---|---|---|
{core}

Word problems by family (40 each, float32):

| Family | 0 shots | 5 shots |
|---|---|---|
{families}

Beyond the committed sets (float32; 40 prompts each for recall, 96 to 320 for chat):

| Percent right | |
|---|---|
{recall}

| Chat, percent right | thinking | direct |
|---|---|---|
{chat}

Training: seed {seed}, {short} steps with rows of 2048 tokens, then {long} with rows of 8192, 65,536 tokens a step, {millions} M tokens in all, {seconds} s on
{machine} (data generation beside it and compilation included). {others}

## Limits

- Its arithmetic is that of its problems: whole numbers from 0 to 999, products of small factors. Other wordings than the generator's may fail.
- Everything it says about Tavelin is invented, and all it knows of the real world is {capitals} capital cities. It has read no real text.
{own_limits}- English only. Other scripts are split into bytes it has hardly seen.
- Trained up to 8192 tokens; nothing is known beyond.
- High scores do not prove a server's numerics: a small error, such as a softmax scale some percent off, can leave every answer as it is. Compare logits for that (`tests/golden`).
- It is a test piece. Do not use it for anything that matters to anybody.

## How it was made

`tools/tiny_models/README.md` has the recipe: a seeded generator, a 2048-entry byte-level BPE tokenizer, and a training script that takes {minutes} minutes.
The evaluation's questions are kept out of training by a hash of their text. `generation_config.json` suggests temperature 0.5, because greedy stories are all alike.

Licence: Apache-2.0, like the rest of Bifocal. The chat template was written for Bifocal; only the format is Qwen3's.
"""


OWN_LIMITS = {
    "tiny-qwen3": ["Of several functions on offer it often calls the wrong one: it reads which noun is meant, but guesses the verb before it (`get_time` for `read_time`). With one function on offer it is reliable."],
    "tiny-deepseek": ["Of several functions on offer it calls the wrong one one time in five. It repeats texts with slips, and has mostly lost what it read 7800 tokens ago."],
    "tiny-gptoss": ["Of several functions on offer it often calls the wrong one. It repeats texts with slips, and has mostly lost what it read 7800 tokens ago."],
}


def _table(rows: list[list[object]]) -> str:
    return "\n".join("| " + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row) + " |" for row in rows)


def card(figures: dict) -> str:
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    from generator.small_talk import CAPITALS

    wide, narrow = figures["float32"], figures["bfloat16"]
    families = [name.removeprefix("gsm_0_shot/") for name in wide if name.startswith("gsm_0_shot/")]
    own_limits = OWN_LIMITS[figures["model"]]
    others = [f"Seed {seed}, trained alongside, {'missed ' + str(len(r['missed'])) + ' bars' if r['missed'] else 'passed every bar too'} and was kept back for {len(r['weak'])} weak chat chores against {len(figures['weak'])}." for seed, r in figures["other_seeds"].items()]
    return TEXT.format(
        model=figures["model"], architecture=ARCHITECTURE[figures["model"]], own_limits="".join(f"- {limit}\n" for limit in own_limits),
        parameters=figures["parameters"], date=figures["date"], machine=figures["machine"], seed=figures["seed"], others=figures.get("note", "") or " ".join(others),
        short=figures["steps"]["rows_of_2048"], long=figures["steps"]["rows_of_8192"], millions=round(figures["tokens"] / 1e6), seconds=figures["training_seconds"],
        minutes=round(figures["training_seconds"] / 60), capitals=len(CAPITALS),
        core=_table([[text, wide[name], narrow[name]] for name, text in CORE.items()]),
        families=_table([[name.replace("_", " "), wide[f"gsm_0_shot/{name}"], wide[f"gsm_5_shot/{name}"]] for name in families]),
        recall=_table([[text, wide[name]] for name, text in RECALL.items()]),
        chat=_table([[text, wide[f"chat_{name}_think"], wide[f"chat_{name}_direct"]] for name, text in CHAT.items()]),
    ).replace(" \n", "\n").replace("\n\n\n", "\n\n")


if __name__ == "__main__":
    pathlib.Path(sys.argv[2]).write_text(card(json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
