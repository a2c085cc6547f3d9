#!/usr/bin/env python3
"""Beside transformers on PyTorch's CPU kernels: prefill of 512 tokens, decode at batch 1 and 8, ours over theirs.

    python3 tools/peers/transformers_cpu.py

The model has the shape of --model's config.json and random weights in bf16; attention is PyTorch's SDPA over a dynamic
cache. Exit 77: torch or transformers isn't installed.
"""
import json
import sys

import one_batch

try:
    import torch
    import transformers
except ImportError as error:
    print(f"skipped: {error}; tools/peers/README.md says what to install")
    sys.exit(77)


class Runner:
    def __init__(self, directory):
        config = transformers.AutoConfig.from_pretrained(directory)
        torch.set_default_dtype(torch.bfloat16)
        self.model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        self.vocab_size = config.vocab_size
        self.cache = None

    def compute(self, batch, first, count):
        tokens = (torch.arange(batch * count).reshape(batch, count) * 104729 + first) % self.vocab_size
        with torch.inference_mode():
            self.model(tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=1)

    def prefill(self, batch):
        self.cache = transformers.DynamicCache()
        self.compute(batch, 0, one_batch.INPUT_LEN)

    def decode(self, batch, i):
        self.compute(batch, one_batch.INPUT_LEN + i, 1)


def main():
    args = one_batch.parse_arguments(__doc__, ["bf16"], ["bf16"])
    if args.worker:
        torch.set_num_threads(args.threads)
        runner = Runner(args.model)
        print(json.dumps(one_batch.time_works(runner.prefill, runner.decode)))
        return
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, {args.threads} threads\n")
    one_batch.print_table(one_batch.run_rounds(args, "transformers"))


if __name__ == "__main__":
    main()
