#!/usr/bin/env python3
"""PyTorch's attention and matrix product with the method of attention_gpu: the peers' side of the table.

Prefill (`peers.py prefill`): causal SDPA over contiguous sequences of equal length, each timing after a rest.

Decode: SDPA over contiguous, equal lengths (no pages: an easier problem than attention_gpu's), cuDNN and flash
backends, CUDA graphs over rotating caches larger than the L2, medians. GEMM: bf16, 8192 x 8192 x 8192, random data.
Prints Markdown. Usage: peers.py [prefill | H,HK,B,LEN ...]
"""
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HEAD_DIM = 128
SHAPES = ["64,8,1,512", "64,8,1,2048", "64,8,1,8192", "64,8,16,512", "64,8,16,4096", "64,8,64,512", "64,8,64,4096",
          "64,8,64,8192", "8,1,1,8192", "8,1,1,32768", "8,1,16,8192", "32,4,4,4096"]

PREFILL_SHAPES = [(32, 8, 128, 32, 1024), (32, 8, 128, 8, 4096), (32, 8, 128, 2, 16384), (32, 8, 128, 64, 512),
                  (32, 8, 128, 1, 32768), (64, 8, 128, 32, 1024), (64, 8, 128, 8, 4096), (32, 32, 128, 8, 4096),
                  (32, 8, 64, 8, 4096), (16, 4, 256, 8, 4096)]


def time_graph(call, calls):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call(0)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(calls):
            call(i)
    times = []
    for _ in range(9):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / calls)
    return statistics.median(times[2:])


def decode_row(heads, kv_heads, batch, length):
    size = batch * length * kv_heads * HEAD_DIM * 4
    sets = max(2, min(640, (1 << 30) // size + 1))
    k = torch.randn(sets, batch, kv_heads, length, HEAD_DIM, device="cuda", dtype=torch.bfloat16)
    v = torch.randn_like(k)
    q = torch.randn(batch, heads, 1, HEAD_DIM, device="cuda", dtype=torch.bfloat16)
    cells = []
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        try:
            with sdpa_kernel(backend):
                us = time_graph(lambda i: F.scaled_dot_product_attention(q, k[i % sets], v[i % sets], enable_gqa=True),
                                max(4, sets))
            cells.append(f"{us:.2f}")
        except RuntimeError as error:
            cells.append("refused: " + str(error).splitlines()[0][:40])
    print(f"| {heads},{kv_heads} | {batch} x {length} | {size / 1e6:.1f} | {cells[0]} | {cells[1]} |")


def time_rested(call):
    """One call to warm up and the median of six, right after half a second's rest; the mean of two such medians."""
    medians = []
    for _ in range(2):
        torch.cuda.synchronize()
        time.sleep(0.5)
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(6)]
        call()
        for begin, end in events:
            begin.record()
            call()
            end.record()
        torch.cuda.synchronize()
        medians.append(statistics.median(begin.elapsed_time(end) for begin, end in events))
    return sum(medians) / 2


def prefill_row(heads, kv_heads, head_dim, batch, length):
    k = torch.randn(batch, kv_heads, length, head_dim, device="cuda", dtype=torch.bfloat16)
    v = torch.randn_like(k)
    q = torch.randn(batch, heads, length, head_dim, device="cuda", dtype=torch.bfloat16)
    flops = 2 * batch * heads * length * length * head_dim
    cells = []
    for backend in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        try:
            with sdpa_kernel(backend):
                ms = time_rested(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
            cells.append(f"{flops / ms / 1e9:.0f}")
        except RuntimeError as error:
            cells.append("refused: " + str(error).splitlines()[0][:40])
    print(f"| {heads},{kv_heads} | {head_dim} | {batch} x {length} | {cells[0]} | {cells[1]} |", flush=True)


def prefill():
    print(f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}\n")
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    print(f"bf16 GEMM 8192^3, rested: {2 * 8192**3 / time_rested(lambda: a @ b) / 1e9:.0f} TFLOP/s\n")
    print("| heads | head dim | tokens | SDPA cuDNN TFLOP/s | SDPA flash TFLOP/s |\n|---|---|---|---|---|")
    for shape in PREFILL_SHAPES:
        prefill_row(*shape)


def main():
    if sys.argv[1:] == ["prefill"]:
        return prefill()
    print(f"PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}\n")
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(7):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        a @ b
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    print(f"bf16 GEMM 8192^3: {2 * 8192**3 / statistics.median(times[2:]) / 1e9:.0f} TFLOP/s\n")
    print("| heads | batch x len | KV MB | SDPA cuDNN us | SDPA flash us |\n|---|---|---|---|---|")
    for shape in sys.argv[1:] or SHAPES:
        decode_row(*map(int, shape.split(",")))


if __name__ == "__main__":
    main()
