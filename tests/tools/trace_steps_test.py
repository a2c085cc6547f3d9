"""tools/trace_steps.py on a profile of two steps."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/trace_steps.py")


def span(category, name, ts, dur, **args):
    return {"ph": "X", "pid": 1, "tid": 1, "cat": category, "name": name, "ts": ts, "dur": dur, "args": args}


STEPS = [span("step", "step", 0, 900, step=1, rows=4), span("step", "step", 1000, 900, step=2, rows=4)]
KERNELS = [
    span("copy", "copy to GPU", 100, 10, step=1),
    span("copy", "copy to GPU", 150, 10, step=2),  # beside the kernels of the step before
    span("kernel", "product", 110, 100, step=1),
    span("kernel", "norm", 200, 60, step=1),  # begins before the product ends
    span("kernel", "product", 1300, 200, step=2),  # 1040 after the last of the step before
    span("kernel", "warm-up", 5, 1, step=0),
]


class TraceSteps(unittest.TestCase):
    def run_tool(self, events, notes=()):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "trace.json")
            with open(path, "w") as file:
                json.dump({"otherData": {"notes": list(notes)}, "traceEvents": events}, file)
            return subprocess.run([sys.executable, TOOL, path], capture_output=True, text=True)

    def test_steps(self):
        done = self.run_tool(STEPS + KERNELS)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("| 1 | 4 | 0.900 | 2 | 1 | 0.150 | 0.150 | 1.000 |  | 110.0 |", done.stdout)
        self.assertIn("| 2 | 4 | 0.900 | 1 | 1 | 0.200 | 0.200 | 1.000 | 1040.0 | 300.0 |", done.stdout)
        self.assertIn("idle between steps: median 1040.0 us", done.stdout)
        self.assertIn("| product | 1.0 | 150.00 | 85.7 % |", done.stdout)

    def test_steps_without_kernels_between(self):
        later = [span("step", "step", 9000, 900, step=8, rows=4), span("kernel", "product", 9100, 100, step=8)]
        done = self.run_tool(STEPS + KERNELS + later)
        self.assertIn("| 8 | 4 | 0.900 | 1 | 0 | 0.100 | 0.100 | 1.000 |  | 100.0 |", done.stdout)
        self.assertIn("from 1040.0 to 1040.0", done.stdout)

    def test_without_kernels(self):
        done = self.run_tool(STEPS, ["no libcupti"])
        self.assertEqual(done.returncode, 1)
        self.assertIn("note: no libcupti", done.stdout)
        self.assertIn("no GPU kernels", done.stderr)


if __name__ == "__main__":
    unittest.main()
