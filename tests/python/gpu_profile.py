"""Where the time of a training step on a GPU goes: kernel by kernel, and between them, as torch.profiler sees all of a process.

    python3 gpu_profile.py text.txt            size M, ternary, without the options that are on by default
    python3 gpu_profile.py text.txt --f32 --default

It takes PyTorch, and setun.py beside it or on PYTHONPATH. The first line has the time of a step without the profiler, which adds
to every launch.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SIZE = {"layers": 6, "width": 384, "heads": 6, "context_length": 256}
BATCH, WARM_UP = 64, 5
PLAIN = {"use_adaptive_lr": 0, "quantize_gradients": 0, "n_clusters": 0}


def trainer_of(setun, asked):
    """A trainer that is past its first steps, in which kernels are compiled."""
    tokenizer = setun.Tokenizer.train("character", asked.text)
    data = setun.Dataset.open(asked.text, tokenizer)
    ternary = int(not asked.f32)
    model = setun.Model(setun.Context(backend="cuda"), vocabulary=len(set(asked.text.read_text(encoding="utf-8"))),
                        quantize_weights=ternary, **SIZE)
    options = {} if asked.default else PLAIN
    trainer = setun.Trainer(model, data, batch_size=BATCH, max_steps=1000, quantize_weights=ternary, log_interval=1000, **options)
    for _ in range(WARM_UP):
        trainer.step()
    return trainer


def seconds_a_step(trainer, steps):
    began = time.perf_counter()
    for _ in range(steps):
        trainer.step()
    return (time.perf_counter() - began) / steps


def trace_of(trainer, steps):
    """The events of so many steps, in the form of chrome's tracer."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        seconds_a_step(trainer, steps)
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        path = Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        return json.loads(path.read_text(encoding="utf-8"))["traceEvents"]


def gaps_of(events):
    """Microseconds in which something ran, and those between one event and the next, by their names."""
    busy, end, before, gaps = 0.0, None, "", Counter()
    for event in sorted(events, key=lambda event: event["ts"]):
        start, stop = event["ts"], event["ts"] + event["dur"]
        if end is not None and start > end:
            gaps[before, event["name"]] += start - end
        busy += max(0.0, stop - (start if end is None else max(start, end)))
        end, before = stop if end is None else max(end, stop), event["name"]
    return busy, gaps


def print_profile(trace, steps, alone):
    events = [event for event in trace if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    busy, gaps = gaps_of(events)
    print(f"{1e3 * alone:.3f} ms a step, {busy / steps / 1e3:.3f} of them busy, {len(events) / steps:.0f} kernels and copies")
    total, calls = Counter(), Counter()
    for event in events:
        total[event["name"]] += event["dur"]
        calls[event["name"]] += 1
    for name, time_of in total.most_common():
        print(f"  {name[:44]:44} {time_of / steps:9.1f} us {calls[name] / steps:7.1f} calls {time_of / calls[name]:9.2f} us each")
    print("between two of them:")
    for (before, after), time_of in gaps.most_common(20):
        print(f"  {time_of / steps:9.1f} us  {before[:36]} -> {after[:36]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--f32", action="store_true", help="the f32 twin")
    parser.add_argument("--default", action="store_true", help="with the options that are on by default")
    asked = parser.parse_args()
    try:
        import torch
    except ImportError as why:
        print(f"PyTorch is not here ({why})")
        return 3
    if not torch.cuda.is_available():
        print("PyTorch sees no GPU")
        return 3
    torch.zeros(1, device="cuda")  # the profiler begins to listen with PyTorch's own context
    import setun

    trainer = trainer_of(setun, asked)
    alone = seconds_a_step(trainer, 3 * asked.steps)
    print_profile(trace_of(trainer, asked.steps), asked.steps, alone)
    return 0


if __name__ == "__main__":
    sys.exit(main())
