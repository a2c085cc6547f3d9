"""Profiles as a person asks for them: --profile, and /start_profile of a running server."""
import collections
import gzip
import json
import pathlib
import subprocess
import tempfile
import time
import unittest

from serving import BINARY, MODEL, Server

KINDS = {"step", "layer", "phase", "plan", "attention", "gemm", "rowwise", "sampling", "engine", "request"}


def read(path):
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        return json.load(file)


def spans_by_thread(trace):
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
    threads = collections.defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            threads[names[event["tid"]]].append(event)
    return threads


class Profile(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.folder = pathlib.Path(directory.name)

    def check(self, trace, kinds):
        """Every span is inside its parent or beside it, and each kind is there."""
        seen = {event["cat"] for event in trace["traceEvents"] if event["ph"] != "M"}
        self.assertLessEqual(kinds, seen)
        for events in spans_by_thread(trace).values():
            open_ends = []
            for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
                end = round((event["ts"] + event["dur"]) * 1000)
                while open_ends and open_ends[-1] <= round(event["ts"] * 1000):
                    open_ends.pop()
                if open_ends:
                    self.assertLessEqual(end, open_ends[-1], event)
                open_ends.append(end)
        ends = collections.Counter((e["id"], e["name"], e["ph"]) for e in trace["traceEvents"] if e["ph"] in "be")
        for (id_, name, _), count in ends.items():
            self.assertEqual(count, ends[id_, name, "b"])

    def test_a_command(self):
        path = self.folder / "run.json"
        command = [BINARY, "generate", MODEL, "--prompt", "What is 2 + 3?", "--max-total-tokens", "512", "--quiet-progress"]
        subprocess.run([*command, "--profile", path], check=True, capture_output=True)
        trace = read(path)
        self.check(trace, KINDS)
        self.assertGreater(trace["otherData"]["steps"], 1)
        refused = subprocess.run([*command, "--profile", self.folder / "none" / "run.json"], capture_output=True, text=True)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("--profile", refused.stderr)

    def test_some_steps_of_a_server(self):
        with Server("--profile-dir", str(self.folder), "--max-total-tokens", "2048") as server:
            started = server.post("/start_profile", {"num_steps": 5, "activities": ["CPU", "GPU"], "output_dir": "here"})
            path = pathlib.Path(started["path"])
            self.assertEqual(path.parent, (self.folder / "here").resolve())
            self.assertEqual(server.request("POST", "/start_profile", {})[0], 400)
            server.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 20, "ignore_eos": True})
            deadline = time.monotonic() + 60
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            trace = read(path)
            self.check(trace, KINDS)
            steps = [e for e in spans_by_thread(trace)["engine"] if e["cat"] == "step"]
            self.assertEqual(len(steps), 5)
            self.assertEqual(server.request("POST", "/stop_profile", {})[0], 400)

            server.post("/start_profile", {})
            server.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 20})
            # A client may have read the whole answer before the thread that wrote it has ended its span; the next
            # answer comes after that.
            server.post("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 20})
            trace = read(pathlib.Path(server.post("/stop_profile", {})["path"]))
            self.check(trace, KINDS | {"http"})
            threads = spans_by_thread(trace)
            self.assertLessEqual({"engine", "output 0"}, set(threads))
            stages = {e["name"] for e in trace["traceEvents"] if e["ph"] == "b"}
            self.assertLessEqual({"request", "queued", "prefill", "decode"}, stages)


if __name__ == "__main__":
    unittest.main()
