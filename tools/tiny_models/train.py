"""Trains one network: fixed steps and tokens, one seed, one GPU."""

import time
from collections.abc import Callable

import torch

from muon import Muon
from network import Network, Shape
from shards import STEP_TOKENS, Stream

WARM_UP = 150
FLAT = 0.25  # share of the steps at the full rate; then it falls to zero in a line


def rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps * (1 - FLAT)))


def train(seed: int, shape: Shape, stream: Stream, steps: int, say: Callable[[str], None] = print) -> Network:
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    network = Network(shape).cuda()
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in network.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True)]
    base = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    loss_of = torch.compile(network.loss, dynamic=False)
    begun = last = time.monotonic()
    total = torch.zeros((), device="cuda")
    for step, (ids, weights) in enumerate(stream):
        if step == steps:
            break
        scale = rate(step, steps)
        for group, lr in zip((g for o in optimizers for g in o.param_groups), base):
            group["lr"] = lr * scale
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(torch.from_numpy(ids).cuda(), torch.from_numpy(weights).cuda())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        total += loss.detach()
        if (step + 1) % 200 == 0:
            now = time.monotonic()
            say(f"seed {seed} step {step + 1}/{steps} loss {total.item() / 200:.4f} {200 * STEP_TOKENS / (now - last) / 1e6:.2f} M tokens/s {now - begun:.0f} s")
            total.zero_()
            last = now
    torch.set_float32_matmul_precision("highest")  # measuring comes next
    return network.eval()
