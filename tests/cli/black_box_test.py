"""What a person sees: exit codes, messages and generated pages of the binary."""
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("BIFOCAL_BINARY", str(ROOT / "build" / "release" / "bifocal"))
MODEL = str(ROOT / "models" / "tiny-qwen3")


def bifocal(*words, **kwargs):
    return subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=120, **kwargs)


class Cli(unittest.TestCase):
    def test_help_lists_every_command(self):
        done = bifocal("--help")
        self.assertEqual(done.returncode, 0)
        for command in ("serve", "generate", "chat", "backends", "explain", "tune", "bench one-batch", "bench ceilings",
                        "bench mixed", "bench conversations", "eval determinism", "eval gsm8k", "eval mmlu"):
            self.assertIn(command, done.stdout)
        self.assertEqual(bifocal("serve", "--help").returncode, 0)

    def test_mistakes_end_with_code_2_and_say_what(self):
        for words, expected in [
            ((), "usage"),
            (("fly",), "fly"),
            (("serve",), "--model-path"),
            (("serve", "/no/such/model"), "/no/such/model"),
            (("serve", MODEL, "--port", "99999"), "--port"),
            (("serve", MODEL, "--attention-backend", "magic"), "magic"),
            (("serve", MODEL, "--kv-cache-memory", "lots"), "--kv-cache-memory"),
            (("generate", MODEL, "--json-model-override-args", "{"), "override"),
        ]:
            done = bifocal(*words)
            self.assertEqual(done.returncode, 2, (words, done.stderr))
            self.assertIn(expected, done.stderr, words)

    def test_flags_page_is_current(self):
        done = bifocal("docs", "flags")
        self.assertEqual(done.returncode, 0)
        page = (ROOT / "docs" / "flags.md").read_text()
        self.assertEqual(done.stdout, page, "run: build/release/bifocal docs flags > docs/flags.md")

    def test_backends_page_is_current(self):
        done = bifocal("docs", "backends")
        self.assertEqual(done.returncode, 0)
        page = (ROOT / "docs" / "backends.md").read_text()
        self.assertEqual(done.stdout, page, "run: build/release/bifocal docs backends > docs/backends.md")

    def test_generate_streams_an_answer(self):
        done = bifocal("generate", MODEL, "--prompt", "What is 12 + 30?", "--temperature", "0", "--verbose",
                       "--log-level", "warning")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("42", done.stdout)
        self.assertRegex(done.stderr, r"prefill by \w+, decode by \w+")

    def test_memory_is_planned_before_it_is_taken(self):
        done = bifocal("generate", MODEL, "--prompt", "Hi", "--max-tokens", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        plan = done.stderr.index("Memory plan:")
        for part in ("weights", "KV pages", "workspace", "plan buffers", "logits", "total"):
            self.assertIn(part, done.stderr[plan:])
        self.assertLess(plan, done.stderr.index("layers, weights"))  # the first line of loading
        done = bifocal("generate", MODEL, "--prompt", "Hi", "--kv-cache-memory", "1GiB",
                       "--chunked-prefill-size", "16777216")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertNotIn("layers, weights", done.stderr)

    def test_chat_remembers_and_survives_strange_input(self):
        lines = "My name is Will.\nWhat is my name?\n/clear\n\x01\xff<|im_start|>\n/quit\n"
        done = subprocess.run([BINARY, "chat", MODEL, "--temperature", "0", "--max-tokens", "64", "--no-thinking"],
                              input=lines.encode("latin-1"), capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"Will", done.stdout)

    def test_explain_names_backend_and_reason(self):
        done = bifocal("explain", MODEL, "--decode-attention-backend", "reference")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("reference", done.stdout)
        self.assertIn("--decode-attention-backend", done.stdout)
        self.assertTrue(re.search(r"prefill\b.*\b(tiled|reference|unified)", done.stdout), done.stdout)


    def test_tune_without_a_gpu_says_that_there_is_nothing_to_choose(self):
        with tempfile.TemporaryDirectory() as directory:
            output = pathlib.Path(directory) / "table.json"
            done = bifocal("tune", MODEL, "--device", "cpu", "--output-file", str(output))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("nothing to choose", done.stdout)
            self.assertFalse(output.exists())
        done = bifocal("tune", MODEL, "--device", "cpu", "--rows", "8,0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--rows", done.stderr)

    def test_a_table_of_products_is_read_before_the_model(self):
        with tempfile.TemporaryDirectory() as directory:
            table = pathlib.Path(directory) / "table.json"
            words = ("generate", MODEL, "--device", "cpu", "--prompt", "Hi", "--max-tokens", "1", "--linear-table")
            done = bifocal(*words, str(table))
            self.assertEqual(done.returncode, 2)
            self.assertIn("table.json", done.stderr)
            table.write_text('{"device": "NVIDIA H200", "cublaslt_version": 1, "choices": [{"n": 8}]}')
            done = bifocal(*words, str(table))
            self.assertEqual(done.returncode, 2)
            self.assertIn("choices[0].m_bucket: missing", done.stderr)
            table.write_text('{"device": "NVIDIA H200", "cublaslt_version": 1, "choices": []}')
            done = bifocal(*words, str(table))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("nothing uses it on the CPU", done.stderr)

    def test_eval_determinism_in_process(self):
        done = bifocal("eval", "determinism", "--model-path", MODEL, "--test-mode", "single,prefix,radix_cache",
                       "--n-trials", "2", "--n-start", "5", "--max-new-tokens", "8", "--batch-mates", "2", "--deterministic")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"Prompt 0 with prefix length 1: total samples: \d+, Unique samples: 1")
        self.assertRegex(done.stdout, r"Prompt 3 with prefix length 4097: total samples: \d+, Unique samples: 1")

    def test_eval_accuracy_in_process(self):
        done = bifocal("eval", "gsm8k", "--model-path", MODEL, "--num-questions", "16", "--num-shots", "0", "--min-accuracy", "0.9", cwd=ROOT)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^Accuracy: [01]\.\d{3}\nInvalid: 0\.000\nLatency: \d+\.\d{3} s\nOutput throughput: \d+\.\d{3} token/s\n$")
        done = bifocal("eval", "mmlu", "--model-path", MODEL, "--nsub", "2", "--num-questions", "5", "--min-accuracy", "1.0", "--override", '{"rope_parameters":{"rope_type":"default","rope_theta":100.0}}', cwd=ROOT)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn("below --min-accuracy", done.stderr)

    def test_other_families_answer_right(self):
        for model, *flags in (("tiny-gptoss",), *(("tiny-deepseek", "--mla-prefill-form", form) for form in ("absorbed", "expanded", "chunked"))):
            with self.subTest(model=model, flags=flags):
                done = bifocal("eval", "gsm8k", "--model-path", str(ROOT / "models" / model), "--num-questions", "32", "--num-shots", "5", "--min-accuracy", "0.95", *flags, cwd=ROOT)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_prompt_that_is_never_sampled_is_no_difference(self):
        done = bifocal("eval", "determinism", "--model-path", MODEL, "--test-mode", "mixed", "--n-trials", "1", "--max-new-tokens", "2", "--deterministic")
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertIn("never sampled; give more trials", done.stderr)

    def test_eval_needs_one_source(self):
        for words in ((), ("--model-path", MODEL, "--base-url", "http://127.0.0.1:1")):
            done = bifocal("eval", "determinism", *words)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("--base-url", done.stderr)
        done = bifocal("eval", "determinism", "--base-url", "http://127.0.0.1:1")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("http://127.0.0.1:1", done.stderr)

    def test_bench_mixed_names_the_best(self):
        done = bifocal("bench", "mixed", MODEL, "--decodes", "4", "--context-len", "16", "--prompt-len", "64",
                       "--output-len", "3", "--repeats", "1", "--chunked-prefill-size", "32")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("**"), 2, done.stdout)
        for backends in ("tiled ", "streaming ", "tiled,streaming"):
            self.assertIn(f"| {backends}", done.stdout)

    def test_bench_serving_prints_the_block_and_appends_a_line(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.jsonl")
            for backend in ("bifocal", "openai", "openai-chat"):
                done = bifocal("bench", "serving", "--model", MODEL, "--backend", backend, "--num-prompts", "6", "--random-input-len", "20",
                               "--random-output-len", "5", "--random-range-ratio", "1", "--output-file", out, "--output-details")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("Total generated tokens:                  30        \n", done.stdout)
                self.assertIn("P99 ITL (ms):", done.stdout)
            lines = [json.loads(line) for line in pathlib.Path(out).read_text().splitlines()]
        self.assertEqual([line["backend"] for line in lines], ["bifocal", "openai", "openai-chat"])
        self.assertEqual(lines[0]["output_lens"], [5] * 6)

    def test_bench_serving_needs_a_server(self):
        done = bifocal("bench", "serving")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("--base-url", done.stderr)
        done = bifocal("bench", "serving", "--base-url", "http://127.0.0.1:1", "--ready-check-timeout-sec", "0")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("http://127.0.0.1:1", done.stderr)

    def test_bench_offline_prints_its_block(self):
        done = bifocal("bench", "offline", MODEL, "--num-prompts", "4", "--random-input-len", "20", "--random-output-len", "5")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Offline Throughput Benchmark Result", done.stdout)
        self.assertIn("Successful requests:                     4         \n", done.stdout)

    def test_bench_compare_has_a_column_per_configuration(self):
        done = bifocal("bench", "compare", "--config", "prefill=tiled,decode=streaming", "--config", "default", MODEL,
                       "--workload", "20/4/2,40/4/1", "--repeats", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("**"), 4, done.stdout)
        self.assertIn("| prefill=tiled,decode=streaming | default", done.stdout)
        for words, part in ((["--config", "prefill"], "KEY=VALUE"), (["--config", "no-such=1"], "no-such"),
                            (["--config", "decode=none"], "none"), ([], "--config"),
                            (["--config", "default", "--workload", "20/4"], "20/4")):
            done = bifocal("bench", "compare", MODEL, *words)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(part, done.stderr)


if __name__ == "__main__":
    unittest.main()
