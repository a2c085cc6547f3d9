"""One batch in `bifocal bench one-batch` and in a peer, in turns on the same threads: rounds, medians, ratios.

A figure is tokens per second of one of WORKS. A peer's figures come from a process of its own, as ours do, so that
nobody inherits threads, caches or memory.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INPUT_LEN, OUTPUT_LEN = 512, 32  # tokens of each prompt, decode steps
PREFILLS = 3  # timed prefills of a round; their median counts
WARM_UP_S = 1.0
WORKS = ("prefill, 512 tokens", "decode, batch 1", "decode, batch 8")
OURS = "bifocal bf16"


def parse_arguments(description, variants, default_variants):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bifocal", default=os.path.join(ROOT, "build/release/bifocal"), help="our program")
    parser.add_argument("--model", default=os.path.join(ROOT, "models/configs/qwen3-0.6b"), help="holds config.json")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3, help="runs of everybody, in turns; 0: print what --results has")
    parser.add_argument("--results", help="JSON lines with a figure each: kept, and added to by later calls")
    parser.add_argument("--variants", nargs="+", choices=variants, default=default_variants)
    parser.add_argument("--work-dir", default=os.path.join(ROOT, "build/peers"), help="where models are written")
    parser.add_argument("--worker", choices=variants, help=argparse.SUPPRESS)
    return parser.parse_args()


def model_shape(directory):
    with open(os.path.join(directory, "config.json")) as file:
        return json.load(file)


def rate(tokens, call):
    since = time.perf_counter()
    call()
    return tokens / (time.perf_counter() - since)


def time_works(prefill, decode):
    """Figures of a peer. prefill(batch) starts over with prompts; decode(batch, i) is the i-th step after it."""
    figures = {}
    for batch in (1, 8):
        warm_until = time.perf_counter() + WARM_UP_S
        prefill(batch)
        while time.perf_counter() < warm_until:
            prefill(batch)
        if batch == 1:
            rates = [rate(INPUT_LEN, lambda: prefill(1)) for _ in range(PREFILLS)]
            figures[WORKS[0]] = statistics.median(rates)
        steps = [rate(batch, lambda i=i: decode(batch, i)) for i in range(OUTPUT_LEN)]
        figures[f"decode, batch {batch}"] = statistics.median(steps)
    return figures


def time_bifocal(args):
    command = [args.bifocal, "bench", "one-batch", args.model, "--load-format", "dummy", "--dtype", "bfloat16",
               "--batch", "1,8", "--input-len", str(INPUT_LEN), "--output-len", str(OUTPUT_LEN),
               "--threads", str(args.threads), "--format", "json", "--quiet-progress", "--device", "cpu"]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    rows = {int(row["batch"]): row for row in json.loads(done.stdout)}
    return {WORKS[0]: float(rows[1]["prefill tokens/s"]), WORKS[1]: float(rows[1]["decode tokens/s"]),
            WORKS[2]: float(rows[8]["decode tokens/s"])}  # fmt: skip


def time_worker(args, variant):
    command = [sys.executable, os.path.abspath(sys.argv[0]), "--worker", variant, "--model", args.model,
               "--threads", str(args.threads), "--work-dir", args.work_dir]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode < 0:
        sys.exit(f"{variant}: the peer was ended by {signal.Signals(-done.returncode).name}; see tools/peers/README.md")
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def run_rounds(args, peer):
    """[(who, figures)] of all rounds; everybody starts a round as often as the others."""
    runs = []
    if args.results and os.path.exists(args.results):
        with open(args.results) as file:
            runs = [tuple(json.loads(line)) for line in file]
    for number in range(args.rounds):
        turns = [(OURS, lambda: time_bifocal(args))]
        turns += [(f"{peer} {v}", lambda v=v: time_worker(args, v)) for v in args.variants]
        first = number % len(turns)
        for who, call in turns[first:] + turns[:first]:
            runs.append((who, call()))
            print(f"round {number + 1} of {args.rounds}: {who}", file=sys.stderr)
            if args.results:
                with open(args.results, "a") as file:
                    file.write(json.dumps(runs[-1]) + "\n")
    return runs


def print_table(runs):
    """Tokens per second, median (best) of the rounds; in a peer's cell, before it, ours over theirs."""
    by_whom = {}
    for who, figures in runs:
        by_whom.setdefault(who, []).append(figures)
    peers = [who for who in by_whom if who != OURS]
    print("| work | " + " | ".join([OURS] + [f"{p} | ratio" for p in peers]) + " |")
    print("|---" * (2 + 2 * len(peers)) + "|")
    for work in WORKS:
        cells = []
        rates = {who: [f[work] for f in figures] for who, figures in by_whom.items()}
        for who in [OURS] + peers:
            cells.append(f"{statistics.median(rates[who]):.1f} ({max(rates[who]):.1f})")
            if who != OURS:
                median = statistics.median(rates[OURS]) / statistics.median(rates[who])
                cells.append(f"{median:.2f} ({max(rates[OURS]) / max(rates[who]):.2f})")
        print(f"| {work} | " + " | ".join(cells) + " |")
    print(f"\ntokens/s: median (best) of {len(by_whom[OURS])} runs; ratio: ours over theirs, of medians (of bests)")
