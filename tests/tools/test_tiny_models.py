"""The generator behind the bundled models: deterministic, right, and without the evaluation's questions in training."""

import json
import pathlib
import random
import re
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "tiny_models"))

import make_eval_sets  # noqa: E402
import write_card  # noqa: E402
from generator import documents, problems, split, world  # noqa: E402

DATA = ROOT / "models" / "data"


def sample(seed: int, count: int, long: bool = False) -> str:
    rng = random.Random(seed)
    return "\n".join(documents.plain_text(documents.document(rng, long)) for _ in range(count))


def evaluation_questions() -> list[str]:
    questions = [json.loads(line)["question"] for line in (DATA / "gsm.jsonl").read_text(encoding="utf-8").splitlines()]
    rng = random.Random(0)
    return questions + [fact.question(rng, evaluation=True) for fact in world.FACTS]


class Generator(unittest.TestCase):
    def test_same_seed_same_text(self) -> None:
        self.assertEqual(sample(7, 50), sample(7, 50))
        self.assertEqual(sample(7, 5, long=True), sample(7, 5, long=True))
        self.assertNotEqual(sample(7, 50), sample(8, 50))

    def test_no_evaluation_question_is_trained_on(self) -> None:
        text = sample(1, 4000) + sample(2, 100, long=True)
        found = [question for question in evaluation_questions() if question in text]
        self.assertEqual(found, [])

    def test_the_split_is_by_core_sentences(self) -> None:
        rng = random.Random(3)
        for _ in range(300):
            self.assertFalse(split.held_out(problems.draw(rng).core))
            self.assertTrue(split.held_out(problems.draw(rng, evaluation=True).core))

    def test_committed_sets_are_what_the_generator_writes(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            make_eval_sets.write(pathlib.Path(folder))
            for path in sorted(pathlib.Path(folder).rglob("*.*")):
                committed = DATA / path.relative_to(folder)
                self.assertEqual(path.read_text(encoding="utf-8"), committed.read_text(encoding="utf-8"), committed.name)


def bundled() -> list[pathlib.Path]:
    return sorted(path for path in (ROOT / "models").iterdir() if path.name.startswith("tiny-"))


class Card(unittest.TestCase):
    def test_the_cards_show_the_measured_figures(self) -> None:
        for model in bundled():
            with self.subTest(model.name):
                figures = json.loads((DATA / f"figures-{model.name}.json").read_text(encoding="utf-8"))
                self.assertEqual(figures["model"], model.name)
                self.assertEqual(write_card.card(figures), (model / "README.md").read_text(encoding="utf-8"))
                self.assertEqual(figures["missed"], [])

    def test_the_shipped_tokenizers_and_templates_are_the_recipe_s(self) -> None:
        template = (ROOT / "tools/tiny_models/chat_template.jinja").read_text(encoding="utf-8")
        tokenizer = (ROOT / "models/tiny-qwen3/tokenizer.json").read_bytes()
        for model in bundled():
            with self.subTest(model.name):
                self.assertEqual(json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"], template)
                self.assertEqual((model / "tokenizer.json").read_bytes(), tokenizer)

    def test_bundled_models_are_small(self) -> None:
        for model in bundled():
            self.assertLess(sum(path.stat().st_size for path in model.iterdir()), 6_000_000, model.name)


class Problems(unittest.TestCase):
    def test_every_note_is_right_and_the_last_number_is_the_answer(self) -> None:
        rng = random.Random(4)
        for family in problems.FAMILIES:
            for _ in range(100):
                problem = problems.draw(rng, family)
                notes = re.findall(r"<<(\d+)([-+*/])(\d+)=(\d+)>>(\d+)", problem.solution)
                self.assertTrue(notes, family)
                for a, sign, b, noted, shown in notes:
                    value = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": int(a) / max(int(b), 1)}[sign]
                    self.assertEqual((value, noted), (int(noted), shown), problem.solution)
                self.assertEqual(int(notes[-1][-1]), problem.answer)
                self.assertNotIn("<<", problem.plain_steps)

    def test_choices_hold_the_right_value_once(self) -> None:
        rng = random.Random(5)
        for fact in world.FACTS:
            item = world.choice(rng, fact, evaluation=True)
            self.assertEqual(item.options.count(fact.value), 1)
            self.assertEqual(item.options["ABCD".index(item.letter)], fact.value)
            self.assertEqual(len(set(item.options)), 4)


class ChatFormat(unittest.TestCase):
    def test_conversations_read_as_the_template_renders_them(self) -> None:
        try:
            import jinja2.sandbox
        except ImportError:
            self.skipTest("jinja2 is not installed")
        from generator import chat_format, tool_use

        def fail(message: str) -> None:
            raise ValueError(message)

        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
        environment.globals["raise_exception"] = fail
        template = environment.from_string((ROOT / "tools/tiny_models/chat_template.jinja").read_text(encoding="utf-8"))
        for seed in range(40):
            exchange, tools = tool_use.tool_use(random.Random(seed))
            thinking, system = seed % 2 == 0, "Be brief." if seed % 3 else ""
            messages: list[dict] = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": exchange.user})
            if exchange.replies:
                thoughts = f"The function {exchange.calls[0][0]} can answer this."
                call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": n, "arguments": a}} for n, a in exchange.calls]}
                messages.append({**call, **({"reasoning_content": thoughts} if thinking else {})})
                messages += [{"role": "tool", "content": reply} for reply in exchange.replies]
            prompt = template.render(messages=messages, tools=tools, add_generation_prompt=True, **({} if thinking else {"enable_thinking": False}))
            written = documents.plain_text(chat_format.conversation([exchange], thinking, system, tools))
            self.assertTrue(written.startswith(prompt), f"seed {seed}:\n{prompt}\n---\n{written}")


if __name__ == "__main__":
    unittest.main()
