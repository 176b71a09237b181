"""Trains a network of its own with Setun's step, at rates too low, right and too high: python3 step.py [STEPS]

The twin of step.c, in the standard library alone: y = b2 + w2 . tanh(w1 x + b1) learns sin(3 x) + x / 2.
"""

import math
import random
import sys
from array import array

import setun

POINTS, HIDDEN = 64, 32
SHAPES = {"w1": (HIDDEN, 1), "b1": (HIDDEN,), "w2": (1, HIDDEN), "b2": (1,)}


def loss_and_gradient(network):
    """The mean squared error, and its gradient by each parameter."""
    w1, b1, w2, b2 = network.values()
    d1, e1, d2, e2 = (array("f", bytes(4 * math.prod(shape))) for shape in SHAPES.values())
    loss = 0.0
    for i in range(POINTS):
        x = -2 + 4 * i / (POINTS - 1)
        h = [math.tanh(w * x + b) for w, b in zip(w1, b1)]
        error = b2[0] + sum(w * h for w, h in zip(w2, h)) - (math.sin(3 * x) + x / 2)
        loss += error * error / POINTS
        dy = 2 * error / POINTS
        e2[0] += dy
        for j in range(HIDDEN):
            dh = dy * w2[j] * (1 - h[j] * h[j])
            d2[j] += dy * h[j]
            d1[j] += dh * x
            e1[j] += dh
    return loss, [d1, e1, d2, e2]


def train(steps, show=False, **options):
    """Trains, always from the same start; the loss at the end."""
    draw = random.Random(1)
    ranges = {"w1": 2, "b1": 2, "w2": 0.15, "b2": 0}
    network = {
        name: array("f", [draw.uniform(-most, most) for _ in range(math.prod(SHAPES[name]))])
        for name, most in ranges.items()
    }
    optimizer = setun.Optimizer(**options)
    for name, values in network.items():
        kind = "matrix" if len(SHAPES[name]) == 2 else "vector"
        optimizer.add(name, memoryview(values).cast("B").cast("f", SHAPES[name]), kind=kind)
    for step in range(steps):
        loss, gradients = loss_and_gradient(network)
        report = optimizer.step(gradients)
        if show and step % (steps // 5 + 1) == 0:
            moved = report.step_rms / report.weight_rms
            print(f"step {step:4}: loss {loss:.6f}, moved by {moved:.4f} of the weights, the radius held {report.held} of 4")
    return loss_and_gradient(network)[0]


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    train(steps, show=True, learning_rate=1e-2)
    print(f"\nloss after {steps} steps, by learning rate\n   rate   AdamW      with a cap")
    for rate in (1e-3, 1e-2, 1e-1, 1):
        plain, capped = (train(steps, learning_rate=rate, radius_mode=mode) for mode in ("off", "cap"))
        print(f"{rate:7g}   {plain:.2e}   {capped:.2e}")


if __name__ == "__main__":
    main()
