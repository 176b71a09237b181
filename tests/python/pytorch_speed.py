"""Training speed beside the trainers that users of PyTorch have: the same sizes on the same text, in turns in one run.

    python3 tests/python/pytorch_speed.py --text corpus.txt --size S
    python3 tests/python/pytorch_speed.py --text corpus.txt --size M --pytorch-batch 16 --json speed.json

Size S: 4 layers x 128, 4 heads, context 64, batch 12; size M: 6 x 384, 6 heads, context 256, batch 64. Both have a
feed-forward of 4 x width without a gate, a tied embedding, characters as tokens, AdamW (.9, .99), weight decay .1, clipping
at 1. On the PyTorch side:

    ternary   BitNet b1.58 by fake quantization: weights by absmean, activations to 8 bits per token, straight-through
              gradients
    f32       the same model without quantization
    nanogpt   the public nanoGPT in f32: LayerNorm, learned positions, GELU, dropout 0

They are eager, with fused AdamW and fused attention; --compile adds torch.compile of the first and the last. Every measurement
is a process of its own, so that peak memory is its own and no run leaves anything to the next.
"""

import argparse
import json
import math
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as reason:
    print(f"skipped: the comparison needs PyTorch ({reason})")
    raise SystemExit(0)

import train_program

EPSILON = 1e-5


class Size(NamedTuple):
    layers: int
    width: int
    heads: int
    context: int
    batch: int
    warm_up: int  # steps before the clock starts, on both sides
    steps: int  # timed

    def operations(self, vocabulary):
        """Floating-point operations that training takes per token: what the GFLOP/s of every row are counted by.

        6 for each element of a matrix, the tied embedding once (as the head): a product and a sum in the forward pass and
        twice in the backward one. Attention, two products of context x head, is 12 x layers x width x context / 2: half,
        as it is causal. All else, quantization among it, is not counted.
        """
        matrices = self.layers * 12 * self.width**2 + vocabulary * self.width
        return 6 * matrices + 12 * self.layers * self.width * self.context / 2


SIZES = {
    "S": Size(layers=4, width=128, heads=4, context=64, batch=12, warm_up=20, steps=200),
    "M": Size(layers=6, width=384, heads=6, context=256, batch=64, warm_up=1, steps=3),
}


def quantized_activations(x):
    """8 bits per token; the gradient passes straight through."""
    with torch.no_grad():
        scale = 127 / x.abs().amax(-1, keepdim=True).clamp_(min=EPSILON)
        change = (x * scale).round_().clamp_(-127, 127).div_(scale).sub_(x)
    return x + change


def quantized_weights(weight, matrices):
    """Ternary by absmean, each of the `matrices` stacked in `weight` with its own scale; straight through."""
    with torch.no_grad():
        stacked = weight.view(matrices, -1)
        scale = stacked.abs().mean(1, keepdim=True).clamp_(min=EPSILON)
        change = (stacked / scale).round_().clamp_(-1, 1).mul_(scale).sub_(stacked).view_as(weight)
    return weight + change


class Norm(nn.Module):
    """RMSNorm. On CPUs, nn.RMSNorm is made of the same parts with a power where a square does, and measured slower."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * self.weight


class Linear(nn.Module):
    """One or several linear layers on the same input, as one product."""

    def __init__(self, inputs, outputs, ternary, matrices=1, shrink=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs * matrices, inputs) * (shrink / math.sqrt(inputs)))
        self.ternary, self.matrices = ternary, matrices

    def forward(self, x):
        if not self.ternary:
            return F.linear(x, self.weight)
        return F.linear(quantized_activations(x), quantized_weights(self.weight, self.matrices))


def rotated(x, cosine, sine):
    """Rotary positions, half-rotation: x [batch, heads, length, head]."""
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


class Block(nn.Module):
    def __init__(self, size, ternary):
        super().__init__()
        width, shrink = size.width, 1 / math.sqrt(2 * size.layers)
        self.heads, self.head = size.heads, width // size.heads
        self.attention_norm = Norm(width)
        self.qkv = Linear(width, width, ternary, matrices=3)
        self.attention_sub_norm = Norm(width)
        self.output = Linear(width, width, ternary, shrink=shrink)
        self.feed_forward_norm = Norm(width)
        self.up = Linear(width, 4 * width, ternary)
        self.feed_forward_sub_norm = Norm(4 * width)
        self.down = Linear(4 * width, width, ternary, shrink=shrink)

    def forward(self, x, cosine, sine):
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3 * self.heads, self.head).transpose(1, 2)
        query_key, value = qkv.split((2 * self.heads, self.heads), 1)
        query, key = rotated(query_key, cosine, sine).chunk(2, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        x = x + self.output(self.attention_sub_norm(mixed))
        inner = F.relu(self.up(self.feed_forward_norm(x))).square()
        return x + self.down(self.feed_forward_sub_norm(inner))


class Transformer(nn.Module):
    """The architecture that Setun trains."""

    def __init__(self, size, vocabulary, ternary):
        super().__init__()
        head = size.width // size.heads
        self.embedding = nn.Parameter(torch.randn(vocabulary, size.width) * 0.02)
        self.blocks = nn.ModuleList(Block(size, ternary) for _ in range(size.layers))
        self.norm = Norm(size.width)
        angles = torch.outer(torch.arange(size.context), 10000 ** (-torch.arange(0, head, 2) / head)).repeat(1, 2)
        self.register_buffer("cosine", angles.cos())
        self.register_buffer("sine", angles.sin())

    def forward(self, tokens, targets):
        x = F.embedding(tokens, self.embedding)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        logits = F.linear(self.norm(x), self.embedding)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class NanoBlock(nn.Module):
    def __init__(self, size):
        super().__init__()
        width = size.width
        self.heads = size.heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.feed_forward_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).split(width, 2)
        query, key, value = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in qkv)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x))))


class NanoGPT(nn.Module):
    """The layout of github.com/karpathy/nanoGPT as its character example configures it, without biases and dropout."""

    def __init__(self, size, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size.width)
        self.positions = nn.Embedding(size.context, size.width)
        self.blocks = nn.ModuleList(NanoBlock(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width, bias=False)
        self.head = nn.Linear(size.width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                shrink = math.sqrt(2 * size.layers) if name.endswith(("output.weight", "down.weight")) else 1
                nn.init.normal_(parameter, std=0.02 / shrink)

    def forward(self, tokens, targets):
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


TRAINERS = {
    "ternary": lambda size, vocabulary: Transformer(size, vocabulary, ternary=True),
    "f32": lambda size, vocabulary: Transformer(size, vocabulary, ternary=False),
    "nanogpt": NanoGPT,
}


def adamw(model):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    gains = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    try:
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    except (RuntimeError, TypeError):  # versions without the fused one for CPUs
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))


def train(asked):
    """What the process of one trainer does: trains, and says how fast, as JSON on the last line of its output."""
    size, batch, steps = SIZES[asked["size"]], asked["batch"], asked["steps"]
    import_megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    torch.set_num_threads(asked["threads"])
    torch.manual_seed(0)
    text = Path(asked["text"]).read_text(encoding="utf-8")
    number = {character: i for i, character in enumerate(sorted(set(text)))}
    data = torch.tensor([number[character] for character in text])
    model = TRAINERS[asked["trainer"]](size, len(number))
    optimizer = adamw(model)
    parameters = list(model.parameters())
    window = torch.arange(size.context + 1)
    forward = torch.compile(model) if asked["compiled"] else model

    def step():
        tokens = data[torch.randint(len(data) - size.context, (batch, 1)) + window]
        loss = forward(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss

    began = time.perf_counter()
    try:
        step()
    except Exception as reason:  # of several kinds, one for each part of the compiler that may be missing
        if not asked["compiled"]:
            raise
        print(json.dumps({"failed": str(reason).strip().split("\n")[0]}))
        return
    first = time.perf_counter() - began
    to_first_step = time.time() - asked["started"]
    for _ in range(asked["warm_up"] - 1):
        step()
    began = time.perf_counter()
    for _ in range(steps):
        loss = step()
    seconds = time.perf_counter() - began
    if not math.isfinite(loss.item()):
        raise SystemExit("the PyTorch model diverged")
    result = {"tokens_per_second": steps * batch * size.context / seconds, "seconds_to_first_step": to_first_step}
    result["import_megabytes"] = import_megabytes
    if asked["compiled"]:
        result["compile_seconds"] = first - seconds / steps
    print(json.dumps(result))


def pytorch(asked, trainer, compiled):
    """What a trainer of PyTorch measured, in a process of its own."""
    batch = asked.pytorch_batch or asked.batch
    question = {"trainer": trainer, "compiled": compiled, "size": asked.size, "batch": batch, "threads": asked.threads}
    question |= {"text": str(asked.text), "warm_up": asked.warm_up, "started": time.time()}
    question["steps"] = math.ceil(asked.steps * asked.batch / batch)  # as many tokens as Setun's
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        command = [sys.executable, __file__, "--process", json.dumps(question)]
        peak = train_program.peak_megabytes(command, stdout=printed)
        printed.seek(0)
        result = json.loads(printed.read().splitlines()[-1])
    return result | {"peak_megabytes": peak, "batch": batch, "steps": question["steps"]}


def setun_arguments(asked, kind, steps):
    """Without a validation, which would count as time of the last step; the plain way, which is what PyTorch is given."""
    size = SIZES[asked.size]
    arguments = ["--layers", size.layers, "--width", size.width, "--heads", size.heads, "--context", size.context]
    arguments += ["--batch", asked.batch, *train_program.PLAIN, "--tokenizer", "character", "--validation", 0]
    arguments += ["--threads", asked.threads, "--steps", steps, *(["--f32"] if kind == "f32" else [])]
    return [*map(str, arguments), *shlex.split(asked.setun_arguments)]


def setun(asked, kind):
    """What Setun measured."""
    total = asked.warm_up + asked.steps
    interval = math.gcd(asked.warm_up, asked.steps)
    seconds_to_first_step, about = setun_first_step(asked, kind)
    run = train_program.Run(asked.text, [*setun_arguments(asked, kind, total), "--log-interval", interval])
    tokens = asked.steps * asked.batch * SIZES[asked.size].context
    return {
        "tokens_per_second": tokens / run.seconds_between(asked.warm_up, total),
        "seconds_to_first_step": seconds_to_first_step,
        "peak_megabytes": run.peak_megabytes,
        "batch": asked.batch,
        "steps": asked.steps,
        "about": about,
    }


def setun_first_step(asked, kind):
    """Seconds from the start of the process to the end of its first step, and how the program describes itself.

    The program tells of its first step at once, and is ended there: a run of a single step would also save and export.
    """
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        command = [train_program.PROGRAM, "--text", asked.text, "--out", folder + "/run", "--sample", "0"]
        command += setun_arguments(asked, kind, steps=2)
        began = time.perf_counter()
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
            about = process.stdout.readline().strip()
            ended = next((time.perf_counter() for line in process.stdout if line.startswith("step")), None)
            process.kill()
    if ended is None:
        raise SystemExit("Setun's train program ended before its first step")
    return ended - began, about


def processor():
    """A model name alone may stand for several generations, which family and model tell apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    said = dict([part.strip() for part in line.split(":", 1)] for line in reversed(lines) if ":" in line)
    return f"{said.get('model name')} (family {said.get('cpu family')}, model {said.get('model')})"


def print_table(asked, runs):
    operations = SIZES[asked.size].operations(len(set(asked.text.read_text(encoding="utf-8"))))
    print("\n                         tokens/s                    GFLOP/s  peak    start to the end of")
    print("                         lowest   median   highest   median   MiB     the first step, s")
    for name, results in runs.items():
        speeds = [result["tokens_per_second"] for result in results]
        middle = statistics.median(speeds)
        first = [result["seconds_to_first_step"] for result in results]
        line = f"{name:24} {min(speeds):<8.0f} {middle:<8.0f} {max(speeds):<9.0f} {middle * operations / 1e9:<8.1f} "
        line += f"{max(result['peak_megabytes'] for result in results):<7.0f} "
        print(line + f"{min(first):.2f} to {max(first):.2f}, median {statistics.median(first):.2f}")
    imports = [result["import_megabytes"] for results in runs.values() for result in results if "import_megabytes" in result]
    if imports:
        print(f"of PyTorch's peaks, {max(imports):.0f} MiB are there once it is imported")
    for name, results in runs.items():
        if "compile_seconds" in results[0]:
            seconds = ", ".join(f"{result['compile_seconds']:.1f}" for result in results)
            print(f"{name}: compiled in {seconds} s, which its speed leaves out")


def print_ratios(runs):
    """Pair by pair: the ratio of two speeds of the same repeat."""
    speeds = {name: [result["tokens_per_second"] for result in results] for name, results in runs.items()}
    others = {name: them for name, them in speeds.items() if name.startswith("PyTorch")}
    if not others or len(others) == len(speeds):
        return
    others = {"fastest PyTorch": [max(them) for them in zip(*others.values())]} | others
    print("\nratios, repeat by repeat                     lowest   median   highest")
    for ours, us in speeds.items():
        for theirs, them in others.items() if ours.startswith("Setun") else ():
            ratios = [a / b for a, b in zip(us, them)]
            name = f"{ours} / {theirs}"
            print(f"{name:44} {min(ratios):<8.2f} {statistics.median(ratios):<8.2f} {max(ratios):.2f}")


def one_of(known):
    """For `type`: a list of names with commas between."""

    def read(text):
        names = [name for name in text.lower().split(",") if name]
        if not set(names) <= set(known):
            raise argparse.ArgumentTypeError(f"{text} has names other than {', '.join(known)}")
        return names

    return read


def at_least_one(text):
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="a UTF-8 file")
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--batch", type=at_least_one, help="windows a step instead of the size's, on both sides")
    parser.add_argument("--pytorch-batch", type=at_least_one, help="and on the PyTorch side alone; it takes more steps then")
    parser.add_argument("--warm-up", type=at_least_one, help="steps before the clock starts")
    parser.add_argument("--steps", type=at_least_one, help="timed steps a repeat, of Setun's batch")
    parser.add_argument("--repeats", type=at_least_one, default=5)
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count())
    parser.add_argument("--trainers", type=one_of(TRAINERS), default=list(TRAINERS), help="of PyTorch: ternary,f32,nanogpt")
    parser.add_argument("--compile", action="store_true", help="torch.compile of ternary and nanogpt as well")
    parser.add_argument("--setun", type=one_of(("ternary", "f32")), default=["ternary", "f32"], help="ternary,f32; '' is none")
    parser.add_argument("--setun-arguments", default="", help="more for its train program: --setun-arguments='--backend simd'")
    parser.add_argument("--json", type=Path, help="a file for all numbers")
    asked = parser.parse_args()
    size = SIZES[asked.size]
    asked.batch, asked.warm_up = asked.batch or size.batch, asked.warm_up or size.warm_up
    asked.steps = asked.steps or size.steps
    return asked


def measurements(asked):
    """By name, what takes a turn in every repeat."""
    turns = {}
    for trainer in asked.trainers:
        name = f"PyTorch {'nanoGPT' if trainer == 'nanogpt' else trainer}"
        turns[name] = lambda trainer=trainer: pytorch(asked, trainer, compiled=False)
        if asked.compile and trainer != "f32":
            turns[name + " compiled"] = lambda trainer=trainer: pytorch(asked, trainer, compiled=True)
    for kind in asked.setun:
        turns[f"Setun {kind}"] = lambda kind=kind: setun(asked, kind)
    return turns


def others_seconds():
    """Core time that all but this script and its processes have used, since any fixed moment; other machines' share too."""
    try:
        fields = Path("/proc/stat").read_text(encoding="utf-8").split(maxsplit=9)[1:9]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, *more = map(int, fields)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK") - sum(use.ru_utime + use.ru_stime for use in used)


def watched(turn):
    """The result of a turn, and how many cores others used meanwhile: a little of that costs PyTorch much of its speed."""
    began, before = time.perf_counter(), others_seconds()
    result = turn()
    return result | {"others_cores": (others_seconds() - before) / (time.perf_counter() - began)}


def repeat_all(asked, turns):
    """The results by name, a list of one a repeat each, and the loads."""
    runs, loads = {name: [] for name in turns}, []
    for repeat in range(asked.repeats):
        for name in list(runs):
            result = watched(turns[name])
            if "failed" in result:
                print(f"{name}: left out, {result['failed']}", flush=True)
                del runs[name]
            else:
                runs[name].append(result)
        loads.append(os.getloadavg()[0])
        latest = ", ".join(f"{name} {results[-1]['tokens_per_second']:.0f}" for name, results in runs.items())
        others = max((results[-1]["others_cores"] for results in runs.values()), default=0)
        print(f"repeat {repeat + 1}, load {loads[-1]:.1f}, others up to {others:.1f} cores: {latest}", flush=True)
    return runs, loads


def main():
    if sys.argv[1:2] == ["--process"]:
        return train(json.loads(sys.argv[2]))
    asked = arguments()
    if asked.setun:
        train_program.build()
    size, theirs = SIZES[asked.size], asked.pytorch_batch or asked.batch
    sizes = f"size {asked.size}: {size.layers} layers x {size.width}, "
    sizes += f"{asked.steps} steps of {asked.batch} x {size.context} tokens after {asked.warm_up}"
    print(sizes + (f" (PyTorch: as many tokens in batches of {theirs})" if theirs != asked.batch else ""), flush=True)
    with tempfile.TemporaryDirectory(prefix="setun-") as folder:
        # What torch.compile made is kept from repeat to repeat, as users keep it, but not from an earlier run.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        runs, loads = repeat_all(asked, measurements(asked))
    print_table(asked, runs)
    print_ratios(runs)
    about = {result["about"] for results in runs.values() for result in results if "about" in result}
    level = torch.backends.cpu.get_cpu_capability()
    versions = [f"PyTorch {torch.__version__} ({level})", *about, f"Python {platform.python_version()}", processor()]
    print(f"\n{'; '.join(versions)}; {asked.threads} threads, load {min(loads):.1f} to {max(loads):.1f}")
    if asked.json:
        everything = {"asked": vars(asked), "versions": versions, "loads": loads, "runs": runs}
        asked.json.write_text(json.dumps(everything, default=str, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
