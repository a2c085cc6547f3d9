"""The bundled model answers its evaluation sets over HTTP, many at once: a broken kernel, cache or scheduler shows."""
import csv
import json
import re
import unittest

from serving import ROOT, Server

DATA = ROOT / "models" / "data"
BAR = 0.95


def rows(name, count):
    with open(DATA / name) as file:
        return [json.loads(line) for _, line in zip(range(count), file)]


def last_number(text):
    numbers = re.findall(r"\d+", text.replace(",", ""))
    return int(numbers[-1]) if numbers else None


class Accuracy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # A pool far smaller than the load, and chunks that cut prompts, so that retraction and mixed steps take part.
        cls.server = Server("--max-total-tokens", "16384", "--chunked-prefill-size", "512")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def complete(self, prompts, max_new_tokens, stop):
        parameters = {"temperature": 0, "max_new_tokens": max_new_tokens, "stop": stop}
        return [reply["text"] for reply in self.server.post("/generate", {"text": prompts, "sampling_params": parameters})]

    def check(self, right, total):
        self.assertGreaterEqual(right / total, BAR, f"{right} of {total} right")

    def test_word_problems_without_and_with_shots(self):
        shots = "".join(f"Question: {r['question']}\nAnswer: {r['answer']}\n\n" for r in rows("gsm_fewshot.jsonl", 5))
        problems = rows("gsm.jsonl", 100)
        for prefix in ("", shots):
            texts = self.complete([f"{prefix}Question: {r['question']}\nAnswer:" for r in problems], 220, ["Question"])
            right = sum(last_number(t) == last_number(r["answer"]) for t, r in zip(texts, problems))
            self.check(right, len(problems))

    def test_multiple_choice(self):
        prompts, letters = [], []
        for path in sorted((DATA / "mmlu" / "test").glob("*.csv")):
            subject = path.stem.removesuffix("_test").replace("_", " ")
            with open(path, newline="") as file:
                for _, (question, a, b, c, d, letter) in zip(range(20), csv.reader(file)):
                    header = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
                    prompts.append(f"{header}{question}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:")
                    letters.append(letter)
        texts = self.complete(prompts, 1, [])
        self.check(sum(t.strip()[:1] == letter for t, letter in zip(texts, letters)), len(letters))

    def test_look_ups(self):
        for name, count in (("lookup_20.jsonl", 60), ("lookup_100.jsonl", 60), ("lookup_400.jsonl", 20)):
            items = rows(name, count)
            texts = self.complete([r["prompt"] for r in items], 8, ["\n"])
            self.check(sum(t.strip() == str(r["answer"]).strip() for t, r in zip(texts, items)), len(items))


if __name__ == "__main__":
    unittest.main()
