#!/usr/bin/env python3
"""Served workloads on a GPU: models x attention backends x workloads, over HTTP, as Markdown tables.

    python3 tools/serving_grid.py run --bifocal build/cuda/bifocal --out serving.jsonl --minutes 8
    python3 tools/serving_grid.py tables serving.jsonl

`run` starts a server for each entry of PLAN (28 minutes in all), random weights, and sends it its workloads by `bifocal
bench serving`; every result is a JSON line, with the GPU's clock and power right after it. An entry that would not end
within --minutes (by the seconds in PLAN) is left out and says so. `tables` needs no GPU.
"""
import argparse
import contextlib
import dataclasses
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time

COLD_READ_BYTES_PER_S = 4.66e12
GEMM_FLOPS = 778e12  # cuBLASLt, bf16, 8192 in each direction


@dataclasses.dataclass(frozen=True)
class Model:
    directory: str
    weights_ms: float  # every matrix that a decode step reads, each in the time of a cold read of its size
    num_layers: int
    num_heads: int  # of 128 dims; 8 KV heads
    layer_weights: int  # parameters of a layer's matrices

    def kv_bytes(self):  # of a token, all layers
        return self.num_layers * 2 * 8 * 128 * 2

    def prompt_flops(self, tokens):
        products = 2 * self.layer_weights * tokens
        return self.num_layers * (products + 4 * self.num_heads * 128 * tokens * tokens / 2)


@dataclasses.dataclass(frozen=True)
class Workload:
    input_len: int
    output_len: int
    concurrency: int
    request_rate: str = "inf"
    waves: int = 1  # requests, in multiples of concurrency

    def num_requests(self):
        return self.concurrency * self.waves

    def mean_context(self):
        return self.input_len + self.output_len / 2


MODELS = {
    "qwen3-8b": Model("models/configs/qwen3-8b", 3.50, 36, 32, 4096 * (6144 + 4096 + 3 * 12288)),
    "qwen3-32b": Model("models/configs/qwen3-32b", 14.15, 64, 64, 5120 * (10240 + 8192 + 3 * 25600)),
}
WORKLOADS = {
    "mixed-32": Workload(3500, 1500, 32, request_rate="32"),
    "mixed-128": Workload(3500, 1500, 32, request_rate="32", waves=4),
    "decode-1": Workload(500, 8000, 1),
    "decode-4": Workload(500, 8000, 4),
    "decode-16": Workload(500, 8000, 16),
    "balanced-8": Workload(2000, 2000, 8),
    "prefill-8": Workload(8000, 500, 8),
}
CONFIGS = {  # flags of the server beside those of all
    "auto": [],
    "hybrid": ["--prefill-attention-backend", "prefill_ws", "--decode-attention-backend", "decode_mma"],
    "prefill_ws": ["--attention-backend", "prefill_ws"],
    "decode_mma": ["--attention-backend", "decode_mma"],
    "auto, deterministic": ["--deterministic"],
}
SERVER_FLAGS = ["--load-format", "dummy", "--device", "cuda", "--skip-tokenizer-init", "--chunked-prefill-size", "8192"]
CLIENT_FLAGS = ["--tokenizer", "models/tiny-qwen3", "--tokenize-prompt", "--random-range-ratio", "1", "--flush-cache"]
# Model, configuration, workloads in order, about how many seconds they take.
PLAN = [
    ("qwen3-8b", "auto", ["mixed-128", "decode-1", "decode-4", "decode-16", "prefill-8", "balanced-8"], 210),
    ("qwen3-8b", "prefill_ws", ["mixed-128", "decode-1", "decode-4", "decode-16", "prefill-8", "balanced-8"], 265),
    ("qwen3-8b", "decode_mma", ["mixed-128", "decode-1", "decode-4", "decode-16", "prefill-8", "balanced-8"], 260),
    ("qwen3-8b", "hybrid", ["mixed-128"], 70),
    ("qwen3-8b", "auto, deterministic", ["mixed-128"], 80),
    ("qwen3-32b", "auto", ["decode-4", "mixed-32", "decode-1", "decode-16", "prefill-8", "balanced-8"], 500),
    ("qwen3-32b", "prefill_ws", ["mixed-32", "decode-4"], 230),
    ("qwen3-32b", "decode_mma", ["mixed-32"], 80),
]


def gpu_state(gpu):
    query = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    try:
        out = subprocess.run(["nvidia-smi", "-i", gpu, f"--query-gpu={query}", "--format=csv,noheader"],
                             capture_output=True, text=True, check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "no nvidia-smi"
    return out.stdout.strip().splitlines()[0]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def server(bifocal, model, config, log):
    """Yields its port once it listens; None when it refused to start."""
    port = free_port()
    command = [bifocal, "serve", MODELS[model].directory, *SERVER_FLAGS, "--port", str(port), *CONFIGS[config]]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield port if process.poll() is None else None
    finally:
        process.terminate()
        process.wait()


def last_line(path):
    with open(path) as f:
        lines = f.read().strip().splitlines()
    return lines[-1] if lines else ""


def run_client(bifocal, port, workload):
    """The printed block and the result of one run."""
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        command = [bifocal, "bench", "serving", "--base-url", f"http://127.0.0.1:{port}", *CLIENT_FLAGS,
                   "--num-prompts", str(workload.num_requests()), "--max-concurrency", str(workload.concurrency),
                   "--request-rate", workload.request_rate, "--random-input-len", str(workload.input_len),
                   "--random-output-len", str(workload.output_len), "--output-file", result]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return {"error": done.stderr.strip().splitlines()[-1:]}
        with open(result) as f:
            return {"block": done.stdout, "result": json.loads(f.read())}


def run(args):
    os.environ["CUDA_VISIBLE_DEVICES"] = args.gpu
    end = time.monotonic() + 60 * args.minutes
    with open(args.out, "w") as out:

        def write(line):
            line["utc"] = time.strftime("%H:%M:%S", time.gmtime())
            line["gpu"] = gpu_state(args.gpu)
            print(json.dumps({k: v for k, v in line.items() if k not in ("result", "block")}), flush=True)
            out.write(json.dumps(line) + "\n")
            out.flush()

        write({"event": "start"})
        plan = [(model, config, workloads.split(","), 0) for model, config, workloads in args.only or []]
        for model, config, workloads, seconds in plan or PLAN:
            where = {"model": model, "config": config}
            if time.monotonic() + seconds > end:
                write({**where, "event": f"left out: takes {seconds} s"})
                continue
            log_path = args.out + ".log"
            with open(log_path, "a") as log, server(args.bifocal, model, config, log) as port:
                if port is None:
                    write({**where, "event": "refused", "message": last_line(log_path)})
                    continue
                for name in workloads:
                    line = run_client(args.bifocal, port, WORKLOADS[name])
                    if "block" in line:
                        r = line["result"]
                        line["seen"] = [round(r[k], 2) for k in ("duration", "output_throughput", "median_itl_ms")]
                    write({**where, "workload": name, **line})
        write({"event": "end"})


def step_limit_ms(model, workload):
    """A decode step at the mean context: weights, keys and values once, at the rate of a cold read."""
    kv = workload.concurrency * workload.mean_context() * model.kv_bytes()
    return model.weights_ms + kv / COLD_READ_BYTES_PER_S * 1e3


def run_limit_s(model, workload):
    """Of each wave of requests the prompts' products at the GEMM rate, then the decode steps."""
    prompts = workload.num_requests() * model.prompt_flops(workload.input_len) / GEMM_FLOPS
    return prompts + workload.waves * workload.output_len * step_limit_ms(model, workload) / 1e3


def table_row(name, workload, config, results):
    model = MODELS[name]

    def mean(key):
        return statistics.mean(r[key] for r in results)

    rates = [r["total_throughput"] for r in results]
    spread = f"{100 * (max(rates) - min(rates)) / statistics.mean(rates):.1f}" if len(rates) > 1 else "–"
    timed = [r for r in results if r["median_itl_ms"] > 0]
    ttft, itl, of_step = "–", "–", "–"
    if timed:
        median_itl_ms = statistics.mean(r["median_itl_ms"] for r in timed)
        ttft = f"{statistics.mean(r['mean_ttft_ms'] for r in timed):,.0f}"
        itl = f"{median_itl_ms:.2f}"
        of_step = f"{step_limit_ms(model, workload) / median_itl_ms:.2f}"
    cells = [
        name, f"{workload.input_len}/{workload.output_len}", workload.concurrency, workload.num_requests(), config,
        f"{mean('total_throughput'):,.0f}", f"{mean('output_throughput'):,.0f}", ttft, itl,
        f"{step_limit_ms(model, workload):.2f}", of_step, f"{mean('duration'):.2f}",
        f"{run_limit_s(model, workload):.2f}", f"{run_limit_s(model, workload) / mean('duration'):.2f}",
        f"{len(rates)}, {spread}",
    ]  # fmt: skip
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def tables(args):
    lines = []
    for path in args.results:
        with open(path) as f:
            lines += [json.loads(line) for line in f]
    found = {}  # (model, workload, config) to results
    for line in lines:
        if "result" in line:
            found.setdefault((line["model"], line["workload"], line["config"]), []).append(line["result"])
    head = ("Shape", "In/out", "At a time", "Requests", "Backends", "Input + output tokens/s", "Output tokens/s",
            "Mean TTFT ms", "Median ITL ms", "Step limit ms", "Of step limit", "Run s", "Run limit s", "Of run limit",
            "Runs, spread %")  # fmt: skip
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for name in MODELS:
        for key, workload in WORKLOADS.items():
            for config in CONFIGS:
                if (name, key, config) in found:
                    print(table_row(name, workload, config, found[name, key, config]))
    for line in lines:
        if line.get("event") == "refused":
            print(f"\n{line['model']}, {line['config']}: `{line['message']}`")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("run")
    verb.add_argument("--bifocal", default="build/cuda/bifocal")
    verb.add_argument("--out", default="serving.jsonl")
    verb.add_argument("--minutes", type=float, default=10)
    verb.add_argument("--gpu", default="0", help="index of the one to use")
    verb.add_argument("--only", nargs=3, action="append", metavar=("MODEL", "CONFIG", "WORKLOADS"),
                      help="instead of PLAN; workloads with commas between")  # fmt: skip
    verb.set_defaults(do=run)
    verb = verbs.add_parser("tables")
    verb.add_argument("results", nargs="+")
    verb.set_defaults(do=tables)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
