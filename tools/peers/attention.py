#!/usr/bin/env python3
"""Bifocal's attention on a GPU beside others, on the same tensors in the same run.

    cmake --preset cuda && cmake --build --preset cuda --target bifocal_capi peers_limits
    python3 tools/peers/attention.py [--what decode,prefill] [--shapes H,HK,B,LEN ...] [--quick]

Ours runs through its C interface. Beside it: PyTorch's SDPA (cuDNN and flash backends, contiguous keys and values: an
easier problem), FlashInfer and FlashAttention 3 on the same pages, where installed. Each result is compared with the
definition in f32 before it is timed; all are timed in turns. Decode: CUDA graphs of calls over caches that together
exceed the L2, medians; the limit is a cold read of the same bytes. Prefill: after a rest; the limit is cuBLAS at 8192^3
after the same rest. Prints Markdown; exits with 77 where PyTorch or a GPU is missing.
"""
import argparse
import ctypes
import importlib.util
import os
import pathlib
import statistics
import subprocess
import sys
import time

PAGE_SIZE = 64
DECODE_SHAPES = ["64,8,1,512", "64,8,1,2048", "64,8,1,8192", "64,8,16,512", "64,8,16,4096", "64,8,64,512",
                 "64,8,64,4096", "32,8,4,2048", "32,8,64,2048", "8,1,1,8192", "8,1,16,8192", "32,4,4,4096"]  # fmt: skip
PREFILL_SHAPES = ["32,8,32,1024", "32,8,8,4096", "32,8,2,16384", "64,8,32,1024", "64,8,8,4096", "32,32,8,4096"]
HEAD_DIM = 128
ROTATION_BYTES = 1 << 30  # of caches: an H200's L2 has 60 MB
NUM_TURNS = 2
MAX_ERROR = 2e-2  # of an output of standard normal values, bf16


def missing(why):
    print(f"skipped: {why}")
    sys.exit(77)


class Problem:
    """Sequences of equal length over several layers: pages in random order, and the same contiguous."""

    def __init__(self, torch, shape, decode):
        self.heads, self.kv_heads, self.batch, self.length = map(int, shape.split(","))
        self.decode = decode
        self.rows = 1 if decode else self.length  # query rows of a sequence
        self.layer_bytes = self.batch * self.length * self.kv_heads * HEAD_DIM * 4
        self.num_layers = max(2, min(640, ROTATION_BYTES // self.layer_bytes + 1)) if decode else 1
        pages_each = self.length // PAGE_SIZE
        self.layer_pages = self.batch * pages_each
        dense = (self.num_layers, self.batch, self.kv_heads, self.length, HEAD_DIM)
        generator = torch.Generator("cuda").manual_seed(7)

        def normal(*size):
            return torch.randn(*size, device="cuda", dtype=torch.bfloat16, generator=generator)

        self.k, self.v = normal(*dense), normal(*dense)
        self.q = normal(self.batch * self.rows, self.heads, HEAD_DIM)
        order = torch.randperm(self.layer_pages, device="cuda", generator=generator)

        def paged(x):
            x = x.view(self.num_layers, self.batch, self.kv_heads, pages_each, PAGE_SIZE, HEAD_DIM).transpose(2, 3)
            pages = torch.empty(self.num_layers, self.layer_pages, self.kv_heads, PAGE_SIZE, HEAD_DIM, device="cuda",
                                dtype=torch.bfloat16)  # fmt: skip
            pages[:, order] = x.reshape(self.num_layers, self.layer_pages, self.kv_heads, PAGE_SIZE, HEAD_DIM)
            return pages

        self.k_pages, self.v_pages = paged(self.k), paged(self.v)
        int32 = {"device": "cuda", "dtype": torch.int32}
        self.page_table = order.view(self.batch, pages_each).to(torch.int32)
        self.kv_len = torch.full((self.batch,), self.length, **int32)
        self.q_len = torch.full((self.batch,), self.rows, **int32)
        self.q_begin = torch.arange(self.batch, **int32) * self.rows
        self.flops = 2 * self.batch * self.heads * self.length * self.length * HEAD_DIM

    def by_sequence(self):
        """Queries as [batch, heads, rows, head dim]."""
        return self.q.view(self.batch, self.rows, self.heads, HEAD_DIM).transpose(1, 2)

    def expected(self, torch):
        """Layer 0 in f32: the last rows of each sequence, up to 64, as [batch, rows, heads, head dim]."""
        rows = min(self.rows, 64)
        group = self.heads // self.kv_heads
        out = torch.empty(self.batch, rows, self.heads, HEAD_DIM, device="cuda")
        hidden = torch.ones(rows, self.length, device="cuda", dtype=torch.bool).triu(self.length - rows + 1)
        for b in range(self.batch):
            q = self.by_sequence()[b, :, -rows:].float()
            for h in range(self.kv_heads):
                mine = slice(h * group, (h + 1) * group)
                logits = q[mine] @ self.k[0, b, h].float().T / HEAD_DIM**0.5
                weights = logits.masked_fill(hidden, float("-inf")).softmax(-1)
                out[b, :, mine] = (weights @ self.v[0, b, h].float()).transpose(0, 1)
        return out


class Ours:
    name = "Bifocal"

    def __init__(self, torch, interface, backend):
        self.torch, self.interface, self.backend = torch, interface, backend

    def prepare(self, problem):
        import bifocal_attention

        pages = [x.view(-1, *x.shape[2:]) for x in (problem.k_pages, problem.v_pages)]
        attention = bifocal_attention.Attention(
            self.interface, *pages, problem.heads, self.backend, max_tokens=problem.batch * problem.rows,
            max_seqs=problem.batch, max_kv_len=problem.length)  # fmt: skip
        attention.plan(problem.q_begin, problem.q_len, problem.kv_len, problem.page_table,
                       0 if problem.decode else problem.batch)  # fmt: skip
        self.explained = attention.explain(bifocal_attention.DECODE if problem.decode else bifocal_attention.PREFILL)
        out = self.torch.empty_like(problem.q)

        def call(layer):
            attention.run(problem.q, out, layer * problem.layer_pages)
            return out.view(problem.batch, problem.rows, problem.heads, HEAD_DIM)

        return call


class Sdpa:
    def __init__(self, torch, name, backend):
        self.torch, self.name, self.backend = torch, f"SDPA {name}", backend

    def prepare(self, problem):
        from torch.nn.attention import sdpa_kernel

        q = problem.by_sequence().contiguous()

        def call(layer):
            with sdpa_kernel(self.backend):
                out = self.torch.nn.functional.scaled_dot_product_attention(
                    q, problem.k[layer], problem.v[layer], is_causal=not problem.decode, enable_gqa=True)  # fmt: skip
            return out.transpose(1, 2)

        return call


class FlashInfer:
    name = "FlashInfer"

    def __init__(self, torch):
        self.torch = torch

    def prepare(self, problem):
        import flashinfer

        torch = self.torch
        int32 = {"device": "cuda", "dtype": torch.int32}
        pages_each = problem.length // PAGE_SIZE
        indptr = torch.arange(problem.batch + 1, **int32) * pages_each
        last = torch.full((problem.batch,), PAGE_SIZE, **int32)
        indices = problem.page_table.reshape(-1)
        workspace = torch.empty(256 << 20, device="cuda", dtype=torch.uint8)
        what = {"q_data_type": torch.bfloat16, "kv_data_type": torch.bfloat16}
        sizes = (problem.heads, problem.kv_heads, HEAD_DIM, PAGE_SIZE)
        if problem.decode:
            wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
                workspace, "HND", use_cuda_graph=True, use_tensor_cores=True, paged_kv_indptr_buffer=indptr,
                paged_kv_indices_buffer=indices, paged_kv_last_page_len_buffer=last)  # fmt: skip
            wrapper.plan(indptr, indices, last, *sizes, **what)
        else:
            wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "HND")
            rows = torch.arange(problem.batch + 1, **int32) * problem.rows
            wrapper.plan(rows, indptr, indices, last, *sizes, causal=True, **what)
        out = torch.empty_like(problem.q)

        def call(layer):
            wrapper.run(problem.q, (problem.k_pages[layer], problem.v_pages[layer]), out=out)
            return out.view(problem.batch, problem.rows, problem.heads, HEAD_DIM)

        return call


class FlashAttention3:
    name = "FlashAttention 3"

    def __init__(self, torch):
        self.torch = torch

    def prepare(self, problem):
        from flash_attn_interface import flash_attn_with_kvcache

        q = problem.q.view(problem.batch, problem.rows, problem.heads, HEAD_DIM)

        def call(layer):  # [page][token][head][dim], by strides
            return flash_attn_with_kvcache(
                q, problem.k_pages[layer].transpose(1, 2), problem.v_pages[layer].transpose(1, 2),
                cache_seqlens=problem.kv_len, page_table=problem.page_table, causal=True)  # fmt: skip

        return call


def find_peers(torch):
    from torch.nn.attention import SDPBackend

    peers = [Sdpa(torch, "cuDNN", SDPBackend.CUDNN_ATTENTION), Sdpa(torch, "flash", SDPBackend.FLASH_ATTENTION)]
    for module, peer in (("flashinfer", FlashInfer), ("flash_attn_interface", FlashAttention3)):
        if importlib.util.find_spec(module) is None:
            print(f"{peer.name} is not installed: left out.")
        else:
            peers.append(peer(torch))
    return peers


def timed_us(torch, call):
    """Of a call, by events."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e3


def graph_timer(torch, call, problem):
    """What times a graph of calls, each on another layer's cache: microseconds a call, the median of nine replays."""
    calls = max(4, problem.num_layers)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(calls):
            call(i % problem.num_layers)

    def time_us():
        warm_up_end = time.monotonic() + 0.03  # clocks fall while the host prepares
        while time.monotonic() < warm_up_end:
            timed_us(torch, graph.replay)
        return statistics.median(timed_us(torch, graph.replay) for _ in range(9)) / calls

    time_us.call = call  # the graph uses its plans and buffers
    return time_us


def time_rested(torch, call):
    """Microseconds: after half a second's rest one call to warm up, then the median of six."""
    torch.cuda.synchronize()
    time.sleep(0.5)
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(6)]
    call()
    for begin, end in events:
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events) * 1e3


def timer(torch, peer, problem, expected):
    """What gives microseconds a call, or why there is nothing to time."""
    try:
        call = peer.prepare(problem)
        got = call(0)[:, -expected.shape[1] :].float()
        error = (got - expected).abs().max().item()
        if not error < MAX_ERROR:
            return f"wrong by {error:.2g}"
        return graph_timer(torch, call, problem) if problem.decode else lambda: time_rested(torch, lambda: call(0))
    except Exception as error:  # noqa: BLE001 - whatever a peer raises belongs into its cell
        lines = str(error).strip().splitlines()
        return f"refused: {lines[0][:50] if lines else type(error).__name__}"


def measure(torch, all_peers, problem):
    """Of each peer microseconds a call, or why there are none: the mean of medians taken in turns."""
    expected = problem.expected(torch)
    timers = [timer(torch, peer, problem, expected) for peer in all_peers]
    times = [[] for _ in timers]
    for _ in range(NUM_TURNS):
        for time_us, mine in zip(timers, times):
            if not isinstance(time_us, str):
                mine.append(time_us())
    return [time_us if isinstance(time_us, str) else statistics.mean(mine) for time_us, mine in zip(timers, times)]


def cell(value, scale):
    return value if isinstance(value, str) else scale(value)


def table(torch, shapes, decode, ours, peers, limit_us):
    unit, of = ("us", "KV MB") if decode else ("TFLOP/s", "tokens")
    heads = ["heads", "batch x len", of, f"limit {unit}", f"{ours.name} {unit}", "of limit"]
    heads += [f"{peer.name} {unit}" for peer in peers] + ["as fast as the best peer"]
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for shape in shapes:
        problem = Problem(torch, shape, decode)
        mine, *theirs = measure(torch, [ours, *peers], problem)
        limit = limit_us(problem)
        timed = [us for us in theirs if not isinstance(us, str)]

        def scale(us, problem=problem):
            return f"{us:.2f}" if decode else f"{problem.flops / us / 1e6:.0f}"

        ratio, versus = "–", "–"
        if not isinstance(mine, str):
            ratio = f"{limit / mine:.3f}"
            versus = f"{min(timed) / mine:.2f}" if timed else "–"
        size = f"{problem.layer_bytes / 1e6:.1f}" if decode else problem.batch * problem.length
        row = [f"{problem.heads},{problem.kv_heads}", f"{problem.batch} x {problem.length}", size, scale(limit),
               cell(mine, scale), ratio, *(cell(us, scale) for us in theirs), versus]  # fmt: skip
        print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print(f"\n{ours.name}: {ours.explained}")


def gpu_state():
    query = "name,driver_version,clocks.sm,clocks.mem,power.draw,temperature.gpu"
    try:
        out = subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], capture_output=True,
                             text=True, check=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "no nvidia-smi"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    lines = out.stdout.strip().splitlines()
    return lines[int(visible)] if visible.isdigit() and int(visible) < len(lines) else lines[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", default="decode,prefill", help="with commas between (%(default)s)")
    parser.add_argument("--build", default="build/cuda", help="where the libraries are")
    parser.add_argument("--backend", default="auto", help="of Bifocal, as --attention-backend")
    parser.add_argument("--shapes", nargs="+", metavar="H,HK,B,LEN", help="LEN a multiple of 64")
    parser.add_argument("--quick", action="store_true", help="every third shape")
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        missing("PyTorch is not installed")
    if not torch.cuda.is_available():
        missing("PyTorch sees no GPU")
    build = pathlib.Path(args.build)
    if not (build / "libbifocal_attention.so").exists():
        parser.error(f"{build}/libbifocal_attention.so is not there: cmake --build --preset cuda --target bifocal_capi "
                     "peers_limits")  # fmt: skip
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import bifocal_attention

    limits = ctypes.CDLL(build / "libpeers_limits.so")
    limits.peers_cold_read_us.restype = ctypes.c_double
    limits.peers_cold_read_us.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    ours = Ours(torch, bifocal_attention.Interface(build / "libbifocal_attention.so"), args.backend)
    print(f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}. {gpu_state()}. PyTorch {torch.__version__}, "
          f"cuDNN {torch.backends.cudnn.version()}, head dim {HEAD_DIM}, pages of {PAGE_SIZE}.")  # fmt: skip
    peers = find_peers(torch)
    step = 3 if args.quick else 1
    if "decode" in args.what.split(","):
        pool = torch.randn(1 << 30, device="cuda", dtype=torch.bfloat16)
        table(torch, args.shapes or DECODE_SHAPES[::step], True, ours, peers,
              lambda problem: limits.peers_cold_read_us(pool.data_ptr(), 2 * pool.numel(), problem.layer_bytes))
        del pool
    if "prefill" in args.what.split(","):
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        rate = 2 * 8192**3 / statistics.mean(time_rested(torch, lambda: a @ b) for _ in range(NUM_TURNS))  # FLOP/us
        table(torch, args.shapes or PREFILL_SHAPES[::step], False, ours, peers, lambda problem: problem.flops / rate)
    print(f"\nAfter: {gpu_state()}")


if __name__ == "__main__":
    main()
