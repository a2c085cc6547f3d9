#!/usr/bin/env python3
"""Beside SGLang's bench_serving: does `bifocal bench serving` measure the same?

    python3 tools/peers/sglang_bench.py --bifocal build/release/bifocal --model models/tiny-qwen3
    python3 tools/peers/sglang_bench.py --bifocal build/release/bifocal --paced       # a server of fixed times
    python3 tools/peers/sglang_bench.py --bifocal build/release/bifocal --arithmetic  # no clocks at all

Both clients send the same requests (same seed) to one server, in turns, and the medians of their figures stand side by
side. --arithmetic hands what our client recorded to SGLang's calculate_metrics and compares to nine digits.
Flags behind -- go to both clients. Exit 1: a figure differs by more than --tolerance; 77: SGLang isn't installed.
"""
import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import sglang_client  # noqa: E402

BACKENDS = ("sglang", "sglang-oai", "sglang-oai-chat")
COUNTS = ("completed", "total_input_tokens", "total_output_tokens", "total_output_tokens_retokenized")
FIGURES = (
    "duration", "request_throughput", "input_throughput", "output_throughput", "total_throughput", "concurrency",
    "mean_e2e_latency_ms", "median_e2e_latency_ms", "p99_e2e_latency_ms",
    "mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms",
    "mean_tpot_ms", "median_tpot_ms", "p99_tpot_ms",
    "mean_itl_ms", "median_itl_ms", "p95_itl_ms", "p99_itl_ms",
)  # fmt: skip
DEFAULT_LOAD = {"--dataset-name": "random-ids", "--num-prompts": "16", "--random-input-len": "256",
                "--random-output-len": "32", "--random-range-ratio": "1", "--max-concurrency": "4"}  # fmt: skip
PACED_TTFT_S, PACED_GAP_S = 0.25, 0.02


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(url, process):
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"the server ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url + "/v1/models", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("the server didn't become ready")


@contextlib.contextmanager
def server(args):
    port = free_port()
    if args.paced or args.arithmetic:
        command = [sys.executable, f"{HERE}/paced_server.py", str(port), str(PACED_TTFT_S), str(PACED_GAP_S), args.model]
    else:
        command = [args.bifocal, "serve", args.model, "--port", str(port), "--log-level", "warning"]
        command += args.server_flags.split()
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def run_client(command, backend, url, args, *more):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.jsonl")
        command = command + ["--backend", backend, "--base-url", url, "--tokenizer", args.model, "--flush-cache",
                             "--output-file", out, *args.load, *more]  # fmt: skip
        # The model's name is no repository to be looked for.
        environment = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        with open(out) as file:
            return json.loads(file.readlines()[-1])


def ours(backend, url, args, *more):
    return run_client([args.bifocal, "bench", "serving", "--quiet-progress"], backend, url, args, *more)


def theirs(backend, url, args):
    return run_client([sys.executable, f"{HERE}/sglang_client.py", "--disable-tqdm"], backend, url, args)


def print_rows(title, rows, tolerance):
    """rows: (name, theirs, ours), a list of runs each. Prints medians and how far either's runs lie apart; returns how
    many medians differ too much."""
    bad = 0
    print(f"\n{title}\n\n| figure | SGLang's client | its runs | bifocal | its runs | ratio |\n|---|---|---|---|---|---|")
    for name, *runs in rows:
        (a, b), cells = [statistics.median(values) for values in runs], []
        for median, values in zip((a, b), runs):
            cells += [f"{median:.6g}", f"±{50 * (max(values) - min(values)) / median:.1f} %" if median else ""]
        ratio = b / a if a else float(b == a)
        wrong = abs(ratio - 1) > tolerance
        bad += wrong
        print(f"| {name} | {' | '.join(cells)} | {ratio:.4f}{' **differs**' if wrong else ''} |")
    return bad


def compare_runs(url, args):
    bad = 0
    for backend in args.backends.split(","):
        runs = {"theirs": [], "ours": []}
        for _ in range(args.repeats):
            runs["theirs"].append(theirs(backend, url, args))
            runs["ours"].append(ours(backend, url, args))
        rows = [(name, *([run[name] for run in runs[who]] for who in ("theirs", "ours"))) for name in COUNTS + FIGURES]
        bad += print_rows(f"{backend}, medians of {args.repeats} runs", rows, args.tolerance)
    return bad


def compare_arithmetic(url, args):
    """Our client's record, through SGLang's arithmetic and through ours."""
    serving = sglang_client.load()
    from sglang.benchmark.datasets.common import DatasetRow
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    bad = 0
    for backend in args.backends.split(","):
        run = ours(backend, url, args, "--output-details")
        requests = [DatasetRow(prompt="", prompt_len=n, output_len=0) for n in run["input_lens"]]
        records = [
            serving.RequestFuncOutput(generated_text=text, success=not error, latency=latency, ttft=ttft, itl=itl,
                                      prompt_len=prompt_len, output_len=output_len)
            for text, error, latency, ttft, itl, prompt_len, output_len in zip(
                run["generated_texts"], run["errors"], run["latencies"], run["ttfts"], run["itls"],
                run["input_lens"], run["output_lens"])
        ]  # fmt: skip
        metrics, _ = serving.calculate_metrics(requests, records, run["duration"], tokenizer, backend)
        names = {"total_input_tokens": "total_input", "total_output_tokens": "total_output",
                 "total_output_tokens_retokenized": "total_output_retokenized"}  # fmt: skip
        rows = [(name, [getattr(metrics, names.get(name, name))], [run[name]])
                for name in COUNTS + FIGURES if name != "duration"]  # fmt: skip
        bad += print_rows(f"{backend}, one run", rows, 1e-9)
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bifocal", default="build/release/bifocal", help="the binary")
    parser.add_argument("--model", default="models/tiny-qwen3", help="directory to serve")
    parser.add_argument("--server-flags", default="", help="further flags of bifocal serve, in one word")
    parser.add_argument("--backends", default=",".join(BACKENDS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--paced", action="store_true", help="ask a server that answers at fixed times")
    parser.add_argument("--arithmetic", action="store_true", help="compare the arithmetic alone")
    parser.add_argument("load", nargs="*", default=[], help="flags of both clients, behind --")
    args = parser.parse_args()
    for flag, value in DEFAULT_LOAD.items():
        if flag not in args.load:
            args.load += [flag, value]
    if sglang_client.missing():
        print(f"skip: {sglang_client.missing()}")
        return 77
    with server(args) as url:
        bad = (compare_arithmetic if args.arithmetic else compare_runs)(url, args)
    print(f"\n{bad} figures differ" if bad else "\nno figure differs")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
