"""Rows of training tokens, made by worker processes while the GPU trains. Row i is the same however many workers there are."""

import multiprocessing
import os
import pathlib
import random
import time
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from generator import documents, small_talk

STEP_TOKENS = 65536
SHARD_STEPS = 16


@dataclass(frozen=True)
class Job:
    seed: int
    length: int  # tokens per row
    index: int
    folder: str  # holds tokenizer.json and the finished shards
    long: bool  # which mix of documents
    name: str  # what the model calls itself

    @property
    def rows(self) -> int:
        return STEP_TOKENS // self.length * SHARD_STEPS

    @property
    def path(self) -> pathlib.Path:
        return pathlib.Path(self.folder) / f"{self.seed}-{self.length}-{self.index}.npy"


def _encode(tokenizer: Tokenizer, pieces: list[list[documents.Piece]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ids and weights. The whole text is encoded at once: cut at the pieces it could give other tokens."""
    encodings = tokenizer.encode_batch([documents.plain_text(p) for p in pieces], add_special_tokens=False)
    result = []
    for parts, encoding in zip(pieces, encodings):
        starts = np.cumsum([0] + [len(text) for text, _ in parts[:-1]])
        weights = np.array([weight for _, weight in parts], dtype=np.float16)
        begins = np.array(encoding.offsets, dtype=np.int64)[:, 0]
        result.append((np.array(encoding.ids, dtype=np.uint16), weights[np.searchsorted(starts, begins, side="right") - 1]))
    return result


def make(job: Job) -> None:
    """Half of the rows begin where a document begins, half go on where the last row stopped."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = Tokenizer.from_file(f"{job.folder}/tokenizer.json")
    rng = random.Random(f"{job.seed}/{job.length}/{job.index}")
    width = job.length + 1  # inputs and targets overlap
    ids, weights = np.zeros((job.rows, width), np.uint16), np.zeros((job.rows, width), np.float16)
    queue: list[tuple[np.ndarray, np.ndarray]] = []
    for row in range(job.rows):
        filled = 0
        while filled < width:
            if not queue:
                drawn = [documents.document(rng, job.long) for _ in range(64)]
                queue = _encode(tokenizer, [[(text.replace(small_talk.NAME, job.name), weight) for text, weight in pieces] for pieces in drawn])[::-1]
            tokens, shares = queue.pop()
            taken = min(width - filled, len(tokens))
            ids[row, filled : filled + taken], weights[row, filled : filled + taken] = tokens[:taken], shares[:taken]
            filled += taken
            if taken < len(tokens) and rng.random() < 0.5:
                queue.append((tokens[taken:], shares[taken:]))
    temporary = job.path.with_suffix(".tmp.npy")
    np.save(temporary, np.stack([ids, weights.view(np.uint16)]))
    temporary.rename(job.path)  # a reader sees whole files only


class Stream:
    """The batches of one training run, in order."""

    def __init__(self, jobs: list[Job], workers: int) -> None:
        self._jobs = jobs
        self._shortest = 0
        self._pool = multiprocessing.get_context("spawn").Pool(workers)
        self._result = self._pool.map_async(make, jobs, chunksize=1)

    def __iter__(self):
        for job in self._jobs:
            if job.length < self._shortest:
                continue
            while not job.path.exists():
                if self._result.ready():
                    self._result.get()  # raises what a worker raised
                time.sleep(0.05)
            packed = np.load(job.path)
            job.path.unlink()
            ids, weights = packed[0].astype(np.int64), packed[1].view(np.float16).astype(np.float32)
            rows = job.rows // SHARD_STEPS
            for step in range(SHARD_STEPS):
                part = slice(step * rows, (step + 1) * rows)
                if job.length >= self._shortest:
                    yield ids[part], weights[part]

    def leave_out_below(self, length: int) -> None:
        """From now on rows have at least this length: time is running out for the shorter ones."""
        self._shortest = length

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()


def plan(seed: int, folder: str, name: str, short_steps: int, long_steps: int) -> list[Job]:
    """2048-token rows, then 8192-token rows."""
    short = [Job(seed, 2048, i, folder, False, name) for i in range(-(-short_steps // SHARD_STEPS))]
    return short + [Job(seed, 8192, i, folder, True, name) for i in range(-(-long_steps // SHARD_STEPS))]
