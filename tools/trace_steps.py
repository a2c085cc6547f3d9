#!/usr/bin/env python3
"""What a GPU did in the steps of a profile (docs/profiling.md).

    python3 tools/trace_steps.py TRACE.json.gz [--last 20] [--kernels 10]

A row per step: its kernels and copies, the time from its first kernel to its last, how long kernels kept the GPU busy
meanwhile, and how long it was idle before the step. Copies may run beside the kernels of another step. Then the kernels that took longest; a kernel that is launched before the one before it
ends counts from there on. Exit 1: the trace has no GPU kernels.
"""
import argparse
import collections
import gzip
import json
import statistics
import sys


def load(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as file:
        return json.load(file)


def own_us(events):
    """[(event, time by which it prolongs what the GPU does)]: one that is launched early waits for the one before it."""
    own, until = [], float("-inf")
    for event in sorted(events, key=lambda e: e["ts"] + e["dur"]):
        end = event["ts"] + event["dur"]
        own.append((event, end - max(event["ts"], until)))
        until = end
    return own


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--last", type=int, default=20, help="so many steps from the end")
    parser.add_argument("--kernels", type=int, default=10, help="so many kernels of these steps")
    args = parser.parse_args()
    trace = load(args.trace)
    for note in trace["otherData"]["notes"]:
        print(f"note: {note}")
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    host = {e["args"]["step"]: e for e in events if e["cat"] == "step"}
    by_step = collections.defaultdict(list)
    for event in sorted((e for e in events if e["cat"] in ("kernel", "copy")), key=lambda e: e["ts"]):
        by_step[event["args"]["step"]].append(event)
    steps = sorted(step for step in by_step if step in host)
    kernels_of = {step: [e for e in by_step[step] if e["cat"] == "kernel"] for step in steps}
    steps = [step for step in steps if kernels_of[step]]
    if not steps:
        sys.exit("no GPU kernels within steps")

    print("| step | rows | host ms | kernels | copies | GPU ms | busy ms | busy | idle before, us | starts after host, us |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    idles, previous, previous_end = [], None, None
    shown = steps[-args.last :]
    for step in steps:
        mine = kernels_of[step]
        begin, end = mine[0]["ts"], max(e["ts"] + e["dur"] for e in mine)
        follows = previous == step - 1  # not every step has its kernels recorded
        idle = f"{begin - previous_end:.1f}" if follows else ""
        if step in shown:
            if follows:
                idles.append(begin - previous_end)
            busy = sum(us for _, us in own_us(mine))
            print(f"| {step} | {host[step]['args']['rows']} | {host[step]['dur'] / 1e3:.3f} | {len(mine)} "
                  f"| {len(by_step[step]) - len(mine)} | {(end - begin) / 1e3:.3f} | {busy / 1e3:.3f} | {busy / (end - begin):.3f} "
                  f"| {idle} | {begin - host[step]['ts']:.1f} |")  # fmt: skip
        previous, previous_end = step, end
    if idles:
        print(f"\nidle between steps: median {statistics.median(idles):.1f} us, "
              f"from {min(idles):.1f} to {max(idles):.1f}\n")  # fmt: skip

    names = collections.defaultdict(list)
    for step in shown:
        for event, us in own_us(kernels_of[step]):
            names[event["name"]].append(us)
    total = sum(sum(durations) for durations in names.values())
    print("| kernel | per step | us each, median | share |")
    print("|---|---|---|---|")
    for name, durations in sorted(names.items(), key=lambda item: -sum(item[1]))[: args.kernels]:
        print(f"| {name} | {len(durations) / len(shown):.1f} | {statistics.median(durations):.2f} "
              f"| {100 * sum(durations) / total:.1f} % |")  # fmt: skip


if __name__ == "__main__":
    main()
