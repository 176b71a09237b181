"""Training speed beside PyTorch: the same architecture on the same text, in turns in one run.

    python3 tests/python/pytorch_speed.py --text corpus.txt --threads 2

Size S: 4 layers x 128, 4 heads, context 64, batch 12, squared ReLU of 4 x 128, tied embedding, AdamW, clipping at 1. The
PyTorch side is eager: BitNet b1.58 by fake quantization (weights by absmean, activations to 8 bits per token, straight-
through gradients), and the same model in plain f32. Prints the lowest, the median and the highest tokens/s of the repeats.
"""

import argparse
import math
import os
import resource
import statistics
import sys
import time
from pathlib import Path

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError as reason:
    print(f"skipped: the comparison needs PyTorch ({reason})")
    raise SystemExit(0)

import train_program

LAYERS, WIDTH, HEADS, CONTEXT, BATCH = 4, 128, 4, 64, 12
HEAD = WIDTH // HEADS
EPSILON = 1e-5
WARM_UP = 20  # steps before the clock starts, on both sides


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
    def __init__(self, ternary):
        super().__init__()
        shrink = 1 / math.sqrt(2 * LAYERS)
        self.attention_norm = Norm(WIDTH)
        self.qkv = Linear(WIDTH, WIDTH, ternary, matrices=3)
        self.attention_sub_norm = Norm(WIDTH)
        self.output = Linear(WIDTH, WIDTH, ternary, shrink=shrink)
        self.feed_forward_norm = Norm(WIDTH)
        self.up = Linear(WIDTH, 4 * WIDTH, ternary)
        self.feed_forward_sub_norm = Norm(4 * WIDTH)
        self.down = Linear(4 * WIDTH, WIDTH, ternary, shrink=shrink)

    def forward(self, x, cosine, sine):
        batch, length, _ = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3 * HEADS, HEAD).transpose(1, 2)
        query_key, value = qkv.split((2 * HEADS, HEADS), 1)
        query, key = rotated(query_key, cosine, sine).chunk(2, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, length, WIDTH)
        x = x + self.output(self.attention_sub_norm(mixed))
        inner = F.relu(self.up(self.feed_forward_norm(x))).square()
        return x + self.down(self.feed_forward_sub_norm(inner))


class Transformer(nn.Module):
    def __init__(self, vocabulary, ternary):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(vocabulary, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block(ternary) for _ in range(LAYERS))
        self.norm = Norm(WIDTH)
        angles = torch.outer(torch.arange(CONTEXT), 10000 ** (-torch.arange(0, HEAD, 2) / HEAD)).repeat(1, 2)
        self.register_buffer("cosine", angles.cos())
        self.register_buffer("sine", angles.sin())

    def forward(self, tokens, targets):
        x = F.embedding(tokens, self.embedding)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        logits = F.linear(self.norm(x), self.embedding)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def adamw(model):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    gains = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    try:
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    except (RuntimeError, TypeError):  # versions without the fused one for CPUs
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))


def pytorch(text, steps, ternary):
    """Tokens/s over `steps` steps."""
    torch.manual_seed(0)
    characters = sorted(set(text))
    number = {character: i for i, character in enumerate(characters)}
    data = torch.tensor([number[character] for character in text[: len(text) * 9 // 10]])
    model = Transformer(len(characters), ternary)
    optimizer = adamw(model)
    parameters = list(model.parameters())
    window = torch.arange(CONTEXT + 1)
    started = 0.0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            started = time.perf_counter()
        batch = data[torch.randint(len(data) - CONTEXT, (BATCH, 1)) + window]
        loss = model(batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    seconds = time.perf_counter() - started
    if not math.isfinite(loss.item()):
        raise SystemExit("the PyTorch model diverged")
    return steps * BATCH * CONTEXT / seconds


def setun(path, steps, threads, ternary):
    """Tokens/s over `steps` steps, and the peak memory of the process."""
    arguments = [*train_program.SIZE_S, *train_program.PLAIN, "--tokenizer", "character", "--threads", threads]
    arguments += ["--eval-windows", 1, "--steps", WARM_UP + steps + WARM_UP, "--log-interval", WARM_UP]
    run = train_program.Run(path, arguments + ([] if ternary else ["--f32"]))
    return steps * BATCH * CONTEXT / run.seconds_between(WARM_UP, WARM_UP + steps), run.peak_megabytes


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="a UTF-8 file")
    parser.add_argument("--steps", type=int, default=200, help=f"timed steps a repeat, a multiple of {WARM_UP}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    if asked.steps <= 0 or asked.steps % WARM_UP != 0:
        parser.error(f"--steps is {asked.steps}, expected a multiple of {WARM_UP}")
    return asked


def main():
    asked = arguments()
    train_program.build()
    torch.set_num_threads(asked.threads)
    text = asked.text.read_text(encoding="utf-8")
    print(f"PyTorch {torch.__version__}, {asked.threads} threads, {asked.steps} steps of {BATCH} x {CONTEXT} tokens")
    runs, memory = {}, 0.0
    for repeat in range(asked.repeats):
        for ternary in (True, False):
            kind = "ternary" if ternary else "f32"
            runs.setdefault(("PyTorch", kind), []).append(pytorch(text, asked.steps, ternary))
            speed, peak = setun(asked.text, asked.steps, asked.threads, ternary)
            runs.setdefault(("Setun", kind), []).append(speed)
            memory = max(memory, peak)
        latest = ", ".join(f"{who} {kind} {speeds[-1]:.0f}" for (who, kind), speeds in runs.items())
        print(f"repeat {repeat + 1}, load {os.getloadavg()[0]:.1f}: {latest}", flush=True)
    print("\ntokens/s          lowest   median  highest")
    for (who, kind), speeds in runs.items():
        print(f"{who:8}{kind:8}{min(speeds):8.0f} {statistics.median(speeds):8.0f} {max(speeds):8.0f}")
    for kind in ("ternary", "f32"):
        ratios = [ours / theirs for ours, theirs in zip(runs["Setun", kind], runs["PyTorch", kind])]
        print(f"Setun / PyTorch, {kind}: {min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory: Setun {memory:.0f} MiB, PyTorch {own:.0f} MiB (both its models)")


if __name__ == "__main__":
    main()
