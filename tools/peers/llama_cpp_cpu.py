#!/usr/bin/env python3
"""Beside llama.cpp: prefill of 512 tokens, decode at batch 1 and 8, ours over theirs in one run.

    python3 tools/peers/llama_cpp_cpu.py                          # bf16
    python3 tools/peers/llama_cpp_cpu.py --variants bf16 f16

Writes GGUF files with the shape of --model's config.json (dense Qwen3) and random weights, and drives llama.cpp through
llama-cpp-python's low-level interface. Prompts are computed up to 2048 tokens a step, as ours are; keys and values are
f16, llama.cpp's default. Exit 77: llama-cpp-python or gguf isn't installed.
"""
import ctypes
import json
import os
import sys

import one_batch

try:
    import gguf
    import llama_cpp
    import numpy
except ImportError as error:
    print(f"skipped: {error}; tools/peers/README.md says what to install")
    sys.exit(77)

VARIANTS = {"bf16": gguf.GGMLQuantizationType.BF16, "f16": gguf.GGMLQuantizationType.F16,
            "q8_0": gguf.GGMLQuantizationType.Q8_0}  # fmt: skip
FILE_TYPES = {"bf16": gguf.LlamaFileType.MOSTLY_BF16, "f16": gguf.LlamaFileType.MOSTLY_F16,
              "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}  # fmt: skip
TILE_ROWS = 256  # random rows that a matrix repeats
MAX_BATCH = 8
STEP_TOKENS = 2048


def matrices(shape):
    """(name, rows, columns) of everything that is multiplied with."""
    hidden, wide, depth = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    heads, kv_heads = shape["num_attention_heads"] * depth, shape["num_key_value_heads"] * depth
    yield "token_embd.weight", shape["vocab_size"], hidden
    if not shape["tie_word_embeddings"]:
        yield "output.weight", shape["vocab_size"], hidden
    for i in range(shape["num_hidden_layers"]):
        yield f"blk.{i}.attn_q.weight", heads, hidden
        yield f"blk.{i}.attn_k.weight", kv_heads, hidden
        yield f"blk.{i}.attn_v.weight", kv_heads, hidden
        yield f"blk.{i}.attn_output.weight", hidden, heads
        yield f"blk.{i}.ffn_gate.weight", wide, hidden
        yield f"blk.{i}.ffn_up.weight", wide, hidden
        yield f"blk.{i}.ffn_down.weight", hidden, wide


def norms(shape):
    """(name, size)"""
    yield "output_norm.weight", shape["hidden_size"]
    for i in range(shape["num_hidden_layers"]):
        yield f"blk.{i}.attn_norm.weight", shape["hidden_size"]
        yield f"blk.{i}.ffn_norm.weight", shape["hidden_size"]
        yield f"blk.{i}.attn_q_norm.weight", shape["head_dim"]
        yield f"blk.{i}.attn_k_norm.weight", shape["head_dim"]


def write_gguf(path, shape, variant):
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_file_type(FILE_TYPES[variant])
    writer.add_context_length(shape["max_position_embeddings"])
    writer.add_embedding_length(shape["hidden_size"])
    writer.add_block_count(shape["num_hidden_layers"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(shape["num_attention_heads"])
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_layer_norm_rms_eps(shape["rms_norm_eps"])
    writer.add_rope_freq_base(float(shape["rope_theta"]))
    writer.add_vocab_size(shape["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    rng = numpy.random.default_rng(1)
    tiles = {}
    for name, rows, columns in matrices(shape):
        if columns not in tiles:
            values = rng.standard_normal((TILE_ROWS, columns), numpy.float32) * 0.02
            tiles[columns] = gguf.quants.quantize(values, VARIANTS[variant])
        tile = tiles[columns]
        data = numpy.resize(tile, (rows, tile.shape[1]))
        # f16 is a type of numpy's; the others are bytes that stand for values.
        writer.add_tensor(name, data, raw_dtype=None if variant == "f16" else VARIANTS[variant])
    for name, size in norms(shape):
        writer.add_tensor(name, numpy.ones(size, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def model_path(args, variant):
    return os.path.join(args.work_dir, f"{os.path.basename(os.path.normpath(args.model))}-{variant}.gguf")


def require(ok, what):
    if not ok:
        sys.exit(f"llama.cpp: {what}")


class Runner:
    """Sequences of equal length side by side in one context."""

    def __init__(self, path, threads, vocab_size):
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_load_model_from_file(path.encode(), llama_cpp.llama_model_default_params())
        require(self.model, f"{path} doesn't load")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = MAX_BATCH * (one_batch.INPUT_LEN + one_batch.OUTPUT_LEN)
        params.n_batch = params.n_ubatch = STEP_TOKENS
        params.n_seq_max = MAX_BATCH
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_new_context_with_model(self.model, params)
        require(self.context, "no context")
        self.batch = llama_cpp.llama_batch_init(STEP_TOKENS, 0, 1)
        self.vocab_size = vocab_size

    def compute(self, rows):
        """rows: (sequence, position, wants logits)"""
        self.batch.n_tokens = len(rows)
        for i, (sequence, position, wants_logits) in enumerate(rows):
            self.batch.token[i] = (1 + sequence * 7919 + position * 104729) % self.vocab_size
            self.batch.pos[i] = position
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = sequence
            self.batch.logits[i] = wants_logits
        require(llama_cpp.llama_decode(self.context, self.batch) == 0, "llama_decode failed")
        llama_cpp.llama_get_logits(self.context)  # waits until they are there

    def prefill(self, batch):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)
        length = one_batch.INPUT_LEN
        rows = [(s, p, p + 1 == length) for s in range(batch) for p in range(length)]
        for first in range(0, len(rows), STEP_TOKENS):
            self.compute(rows[first : first + STEP_TOKENS])

    def decode(self, batch, i):
        self.compute([(s, one_batch.INPUT_LEN + i, True) for s in range(batch)])


def main():
    args = one_batch.parse_arguments(__doc__, list(VARIANTS), ["bf16"])
    shape = one_batch.model_shape(args.model)
    if args.worker:
        callback = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
        runner = Runner(model_path(args, args.worker), args.threads, shape["vocab_size"])
        print(json.dumps(one_batch.time_works(runner.prefill, runner.decode)))
        return
    os.makedirs(args.work_dir, exist_ok=True)
    for variant in args.variants:
        if not os.path.exists(model_path(args, variant)):
            write_gguf(model_path(args, variant) + ".part", shape, variant)
            os.replace(model_path(args, variant) + ".part", model_path(args, variant))
    print(f"llama-cpp-python {llama_cpp.__version__}, {args.threads} threads")
    print(llama_cpp.llama_print_system_info().decode().strip() + "\n")
    one_batch.print_table(one_batch.run_rounds(args, "llama.cpp"))


if __name__ == "__main__":
    main()
