"""Optimizers that a step of Setun is compared with, in NumPy, each from its paper and with the settings of its authors' code.

All work on one flat vector of float32, in place, a piece at a time that stays in the cache. `step(w, g, rate, t)` takes the
t-th step (from 1) of the weights w along the gradient g at the learning rate of the schedule; `weights(w)` are those that
the method is judged by.
"""

import math

import numpy as np

PIECE = 1 << 15


class Space:
    """Where the parameters lie: tensors one after the other in a vector, and what each is."""

    def __init__(self, shapes, linear, weight_decay):
        """`linear` says of each tensor whether it is the matrix of a linear layer; weight decay is for all matrices."""
        self.shapes, self.linear, self.slices, self.size = shapes, linear, [], 0
        for shape in shapes:
            self.slices.append(slice(self.size, self.size + math.prod(shape)))
            self.size += math.prod(shape)
        self.decay = self.vector()
        for shape, where in zip(shapes, self.slices):
            self.decay[where] = weight_decay if len(shape) > 1 else 0
        self.pieces = [slice(at, min(at + PIECE, self.size)) for at in range(0, self.size, PIECE)]

    def vector(self):
        return np.zeros(self.size, np.float32)

    def views(self, vector):
        return [vector[where].reshape(shape) for where, shape in zip(self.slices, self.shapes)]


def norm(vectors):
    """The Euclidean norm of vectors of float32, summed as Setun sums: see "canonical" in its sources. Blocks of 4096 add into 32
    lanes, which fold in halves; blocks add in f64, in their order."""
    total = 0.0
    for vector in vectors:
        squares = np.zeros((-(-vector.size // 4096), 128, 32), np.float32)
        np.multiply(vector, vector, out=squares.reshape(-1)[: vector.size])
        lanes = squares.sum(axis=1)
        for half in (16, 8, 4, 2, 1):
            lanes = lanes[:, :half] + lanes[:, half:]
        total += sum(lanes[:, 0].tolist())
    return math.sqrt(total)


class Adam:
    """m_hat / (sqrt(v_hat) + epsilon), Kingma & Ba, arXiv 1412.6980, algorithm 1; with `nesterov` m_hat looks one step ahead
    (Dozat, ICLR 2016 workshop, without his schedule of beta1, as in optax)."""

    def __init__(self, size, beta1, beta2, epsilon, nesterov=False):
        self.m, self.v = np.zeros(size, np.float32), np.zeros(size, np.float32)
        # As float32 has them, because the means decay by that.
        self.beta1, self.beta2 = float(np.float32(beta1)), float(np.float32(beta2))
        self.epsilon, self.nesterov = epsilon, nesterov

    def direction(self, g, where, t, out, spare):
        """Of the elements `where`, whose gradient is g; into `out`."""
        m, v, beta1, beta2 = self.m[where], self.v[where], self.beta1, self.beta2
        np.subtract(g, m, out=spare)
        spare *= 1 - beta1
        m += spare
        np.multiply(g, g, out=out)
        out -= v
        out *= 1 - beta2
        v += out
        # By the inverse, as Setun's kernels do it.
        np.multiply(v, 1 / (1 - beta2**t), out=out)
        np.sqrt(out, out=out)
        out += self.epsilon
        if self.nesterov:
            np.multiply(g, (1 - beta1) / (1 - beta1**t), out=spare)
            spare += m * (beta1 / (1 - beta1 ** (t + 1)))
        else:
            np.multiply(m, 1 / (1 - beta1**t), out=spare)
        np.divide(spare, out, out=out)


class Method:
    """`schedule` is "cosine": 100 steps of warm-up, then half a cosine to a tenth; or what the authors have instead."""

    schedule = "cosine"
    settings = {}

    def __init__(self, space):
        self.space = space
        self.spare = np.empty((2, min(PIECE, space.size)), np.float32)

    def pieces(self):
        for where in self.space.pieces:
            yield where, *self.spare[:, : where.stop - where.start]

    def weights(self, w):
        return w


class AdamW(Method):
    """Loshchilov & Hutter, arXiv 1711.05101, algorithm 2; beta2 as Setun's trainer has it."""

    settings = {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}

    def __init__(self, space):
        super().__init__(space)
        self.adam = Adam(space.size, **self.settings)

    def step(self, w, g, rate, t):
        for where, a, b in self.pieces():
            self.adam.direction(g[where], where, t, a, b)
            np.multiply(w[where], self.space.decay[where], out=b)
            a += b
            a *= rate
            w[where] -= a


class NAdamW(AdamW):
    """AdamW with Nesterov's momentum."""

    settings = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "nesterov": True}


class Lamb(Method):
    """You et al., arXiv 1904.00962, algorithm 2, with phi(z) = z. Vectors have no trust ratio and no decay, as in the authors'
    code."""

    settings = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-6}

    def __init__(self, space):
        super().__init__(space)
        self.adam, self.u = Adam(space.size, **self.settings), space.vector()

    def step(self, w, g, rate, t):
        for where, _, b in self.pieces():
            u = self.u[where]
            self.adam.direction(g[where], where, t, u, b)
            np.multiply(w[where], self.space.decay[where], out=b)
            u += b
        for where, shape in zip(self.space.slices, self.space.shapes):
            u, of, trust = self.u[where], w[where], 1.0
            if len(shape) > 1:
                weight, update = math.sqrt(np.dot(of, of)), math.sqrt(np.dot(u, u))
                trust = weight / update if weight > 0 and update > 0 else 1.0
            u *= rate * trust
            of -= u


class ScheduleFree(Method):
    """Defazio et al., arXiv 2405.15682, algorithm 1 (AdamW): gradients at y, judged at x, a warm-up of its own and no schedule."""

    schedule = "warm-up of its own"
    settings = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "warmup": 100}

    def __init__(self, space):
        super().__init__(space)
        self.v, self.z, self.x, self.sum = space.vector(), None, None, 0.0

    def step(self, w, g, rate, t):
        """w is y."""
        beta1, beta2, epsilon, warmup = self.settings.values()
        if self.z is None:
            self.z, self.x = w.copy(), w.copy()
        rate = rate * math.sqrt(1 - beta2**t) * min(1, t / warmup)
        self.sum += rate * rate
        share = rate * rate / self.sum if self.sum > 0 else 0.0
        for where, a, b in self.pieces():
            y, z, x, v, slope = w[where], self.z[where], self.x[where], self.v[where], g[where]
            np.multiply(slope, slope, out=a)
            a *= 1 - beta2
            v *= beta2
            v += a
            np.sqrt(v, out=a)
            a += epsilon
            np.divide(slope, a, out=a)
            np.multiply(y, self.space.decay[where], out=b)
            a += b
            a *= rate
            z -= a
            # x = (1 - c) x + c z, then y = (1 - beta1) z + beta1 x.
            np.subtract(z, x, out=a)
            a *= share
            x += a
            np.multiply(x, beta1, out=y)
            np.multiply(z, 1 - beta1, out=a)
            y += a

    def weights(self, w):
        return w if self.x is None else self.x


class Prodigy(Method):
    """Mishchenko & Defazio, arXiv 2306.06101, algorithm 4 as in the authors' code: d is estimated, the learning rate is a
    multiplier of it. Half a cosine to 0 without a warm-up, as they recommend."""

    schedule = "cosine to 0, no warm-up"
    settings = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "d0": 1e-6}

    def __init__(self, space):
        super().__init__(space)
        self.m, self.v, self.s = space.vector(), space.vector(), space.vector()
        self.start, self.numerator, self.d = None, 0.0, self.settings["d0"]

    def step(self, w, g, rate, t):
        beta1, beta2, epsilon, d0 = self.settings.values()
        if self.start is None:
            self.start = w.copy()
        d, beta3 = self.d, math.sqrt(beta2)  # of the steps before; that of this one is for the next
        along, size = 0.0, 0.0
        for where, a, _ in self.pieces():
            slope, m, v, s = g[where], self.m[where], self.v[where], self.s[where]
            np.subtract(self.start[where], w[where], out=a)
            along += float(np.dot(slope, a))
            np.multiply(slope, d * (1 - beta1), out=a)
            m *= beta1
            m += a
            np.multiply(slope, slope, out=a)
            a *= d * d * (1 - beta2)
            v *= beta2
            v += a
            np.multiply(slope, d / d0 * d * rate, out=a)
            s *= beta3
            s += a
            np.abs(s, out=a)
            size += float(a.sum(dtype=np.float64))
        self.numerator = beta3 * self.numerator + d / d0 * d * rate * along
        if size > 0:
            self.d = max(d, self.numerator / size)
        for where, a, b in self.pieces():
            np.sqrt(self.v[where], out=a)
            a += self.d * epsilon
            np.divide(self.m[where], a, out=a)
            np.multiply(w[where], self.space.decay[where], out=b)
            a += b
            a *= rate * d
            w[where] -= a


class Lion(Method):
    """Chen et al., arXiv 2302.06675, program 1."""

    settings = {"beta1": 0.9, "beta2": 0.99}

    def __init__(self, space):
        super().__init__(space)
        self.m = space.vector()

    def step(self, w, g, rate, t):
        beta1, beta2 = self.settings.values()
        for where, a, b in self.pieces():
            slope, m = g[where], self.m[where]
            np.multiply(m, beta1, out=a)
            np.multiply(slope, 1 - beta1, out=b)
            a += b
            np.sign(a, out=a)
            m *= beta2
            np.multiply(slope, 1 - beta2, out=b)
            m += b
            np.multiply(w[where], self.space.decay[where], out=b)
            a += b
            a *= rate
            w[where] -= a


def orthogonal(matrices, steps=5):
    """About U V^T of each of matrices [n, r, c], r <= c, whose singular value decompositions are U S V^T: the quintic
    Newton-Schulz iteration of Jordan et al. 2024 (kellerjordan.github.io/posts/muon), in float32."""
    a, b, c = 3.4445, -4.7750, 2.0315
    norms = np.sqrt(np.einsum("nij,nij->n", matrices, matrices))
    x = matrices / (norms + 1e-7)[:, None, None]
    for _ in range(steps):
        squares = x @ x.transpose(0, 2, 1)
        x = a * x + (b * squares + c * (squares @ squares)) @ x
    return x


class Muon(Method):
    """Momentum of Nesterov made orthogonal, for the matrices of linear layers, with the scale 0.2 sqrt(max(r, c)) of Moonlight
    (Liu et al., arXiv 2502.16982); AdamW at the same learning rate for embedding, head and vectors, as in their code."""

    settings = {"momentum": 0.95, "iterations": 5, "scale": "0.2 sqrt(max(r, c))", "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8}

    def __init__(self, space):
        super().__init__(space)
        self.buffer = space.vector()
        others = [where for where, linear in zip(space.slices, space.linear) if not linear]
        self.others = np.concatenate([np.arange(where.start, where.stop) for where in others])
        self.adam = Adam(len(self.others), *(self.settings[name] for name in ("beta1", "beta2", "epsilon")))
        self.room = np.empty((2, len(self.others)), np.float32)
        # Matrices of one shape together, lying.
        self.groups = {}
        for where, shape, linear in zip(space.slices, space.shapes, space.linear):
            if linear:
                self.groups.setdefault((min(shape), max(shape)), []).append((where, shape))

    def scale(self, o):
        """Of orthogonal matrices [n, r, c], r <= c."""
        return 0.2 * math.sqrt(o.shape[2])

    def step(self, w, g, rate, t):
        momentum = self.settings["momentum"]
        self.buffer *= momentum
        self.buffer += g
        for members in self.groups.values():
            ahead = [(g[where] + momentum * self.buffer[where]).reshape(shape) for where, shape in members]
            o = orthogonal(np.stack([m if m.shape[0] <= m.shape[1] else m.T for m in ahead]), self.settings["iterations"])
            o *= self.scale(o)
            for (where, shape), update in zip(members, o):
                update = (update if update.shape == shape else update.T).ravel()
                w[where] -= rate * (update + self.space.decay[where] * w[where])
        a, b = self.room
        self.adam.direction(g[self.others], slice(None), t, a, b)
        w[self.others] -= rate * (a + self.space.decay[self.others] * w[self.others])


class MuonRms(Muon):
    """The same scaled to a root mean square of 1: a step that is the learning rate, whatever the shape."""

    settings = {**Muon.settings, "scale": "rms = 1"}

    def scale(self, o):
        return 1 / np.sqrt(np.mean(o * o, axis=(1, 2), keepdims=True) + 1e-30)


METHODS = {
    "adamw": AdamW,
    "nadamw": NAdamW,
    "lamb": Lamb,
    "schedule_free": ScheduleFree,
    "prodigy": Prodigy,
    "lion": Lion,
    "muon": Muon,
    "muon_rms": MuonRms,
}


def factor(schedule, t, steps, warmup=100):
    """The part of the learning rate that step t of 1 .. steps takes; "cosine" is that of Setun's trainer."""
    if schedule == Prodigy.schedule:
        return 0.5 * (1 + math.cos(math.pi * (t - 1) / steps))
    if schedule == ScheduleFree.schedule:
        return 1.0
    if t <= warmup:
        return t / warmup
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min((t - warmup) / max(steps - warmup, 1), 1)))
