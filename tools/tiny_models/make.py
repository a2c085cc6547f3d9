"""Trains a bundled model from nothing: tokenizer, one network per seed, evaluation; keeps the best seed.

    python tools/tiny_models/make.py --arch qwen3 --out models/tiny-qwen3 --data models/data --seeds 1 2
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent


def one_seed(options: argparse.Namespace, seed: int, folder: pathlib.Path) -> None:
    """Trains, exports and measures; runs in a process of its own, so that every seed may have its own GPU."""
    import torch

    import evaluate
    import evaluate_chat
    import export
    import shards
    import train
    import train_tokenizer
    from architectures import ARCHITECTURES
    from generation import Greedy
    from network import Network

    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    shape = ARCHITECTURES[options.arch].Shape()
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        tokenizer = train_tokenizer.train()  # the same for every seed
        tokenizer.save(f"{scratch}/tokenizer.json")
        stream = shards.Stream(shards.plan(seed, scratch, f"tiny-{options.arch}", options.short_steps, options.long_steps), options.workers)

        def save(network: Network) -> None:
            torch.save(network.state_dict(), folder / "network.pt")

        network, short, long = train.train(seed, shape, stream, options.short_steps, options.long_steps, options.seconds, save, lambda line: print(line, flush=True))
        stream.close()
    (folder / "network.pt").unlink(missing_ok=True)
    trained = time.monotonic()
    export.write(folder, options.arch, network, shape, tokenizer)
    figures: dict = {
        "seed": seed,
        "steps": {"rows_of_2048": short, "rows_of_8192": long},
        "tokens": (short + long) * shards.STEP_TOKENS,
        "parameters": sum(p.numel() for p in network.parameters()),
        "training_seconds": round(trained - begun),
    }

    def note(part: str, measured: dict) -> None:
        """Written at once: a run that is cut short keeps what it has."""
        figures[part] = figures.get(part, {}) | measured
        (folder / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
        main = {name: value for name, value in measured.items() if "/" not in name}
        print(f"{time.monotonic() - trained:.0f} s {part} {main}, missed: {evaluate.missed(measured)}", flush=True)

    data = pathlib.Path(options.data)
    wide = Greedy(folder, torch.float32, "cuda")
    note("float32", evaluate.core(wide, data))
    if options.quick:
        return
    note("bfloat16", evaluate.core(Greedy(folder, torch.bfloat16, "cuda"), data))
    note("float32", evaluate.more(wide, f"tiny-{options.arch}"))
    figures["missed"] = evaluate.missed(figures["float32"]) + [f"bf16 {miss}" for miss in evaluate.missed(figures["bfloat16"])]
    figures["weak"] = evaluate.weak(figures["float32"])
    (folder / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (folder / "samples.json").write_text(json.dumps(evaluate_chat.samples(wide), indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"seed {seed} trained in {trained - begun:.0f} s, measured in {time.monotonic() - trained:.0f} s, missed: {figures['missed']}, weak: {figures['weak']}", flush=True)


def merit(figures: dict) -> tuple[int, int, float]:
    """Fewer missed bars first, then fewer weak chores, then the mean of the main figures."""
    main = [v for k, v in figures["float32"].items() if "/" not in k]
    return -len(figures["missed"]), -len(figures["weak"]), sum(main) / len(main)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--arch", choices=("qwen3", "deepseek", "gptoss"), default="qwen3")
    parser.add_argument("--out", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--short-steps", type=int, default=4800)
    parser.add_argument("--long-steps", type=int, default=1800)
    parser.add_argument("--seconds", type=float, default=3600.0, help="training ends then, whatever steps are left")
    parser.add_argument("--workers", type=int, default=14, help="data processes per seed")
    parser.add_argument("--gpus", type=int, default=1, help="seeds trained at the same time")
    parser.add_argument("--machine", default="one NVIDIA H200", help="kind of machine, as figures.json names it")
    parser.add_argument("--scratch", default=None)
    parser.add_argument("--quick", action="store_true", help="stop after the first figures; for trying the script out")
    parser.add_argument("--only-seed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    out = pathlib.Path(options.out)
    if options.only_seed is not None:
        one_seed(options, options.only_seed, out)
        return

    begun, running, folders = time.monotonic(), {}, {seed: out.with_name(f"{out.name}-seed{seed}") for seed in options.seeds}
    for number, seed in enumerate(options.seeds):
        if len(running) >= options.gpus:
            running.pop(next(iter(running))).wait()
        arguments = [sys.executable, __file__, *sys.argv[1:], "--only-seed", str(seed), "--out", str(folders[seed])]
        running[seed] = subprocess.Popen(arguments, env={**os.environ, "CUDA_VISIBLE_DEVICES": str(number % options.gpus)})
    failed = [seed for seed, process in running.items() if process.wait() != 0]
    if options.quick or failed:
        sys.exit(f"seeds that failed: {failed}" if failed else 0)
    results = {seed: json.loads((folder / "figures.json").read_text(encoding="utf-8")) for seed, folder in folders.items() if (folder / "figures.json").exists()}
    best = max(results, key=lambda seed: merit(results[seed]))
    shutil.copytree(folders[best], out, dirs_exist_ok=True)
    (out / "figures.json").unlink()
    figures = {
        "model": out.name, "date": datetime.date.today().isoformat(), "machine": options.machine, "decoding": "greedy, weights rounded to bf16; float32 and bfloat16 name the arithmetic",
        **results[best], "other_seeds": {str(seed): {"missed": r["missed"], "weak": r["weak"], "mean": round(merit(r)[2], 2)} for seed, r in results.items() if seed != best},
    }
    (pathlib.Path(options.data) / f"figures-{out.name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"kept seed {best} after {time.monotonic() - begun:.0f} s: {results[best]['missed'] or 'every bar passed'}")
    sys.exit(1 if results[best]["missed"] else 0)


if __name__ == "__main__":
    main()
