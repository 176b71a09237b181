"""The problems on which the solver is measured: Moré, Garbow and Hillstrom (ACM TOMS 7, 1981), Hock and Schittkowski (Lecture
Notes in Economics and Mathematical Systems 187, 1981). A problem is its formula, on numbers that carry derivatives."""

import math
from math import pi

INF = math.inf


class Jet:
    """f, its gradient g, its derivative d along a direction, and the derivative h of the gradient along it."""

    __slots__ = ("f", "g", "d", "h")

    def __init__(self, f, g=None, d=0.0, h=None):
        self.f, self.g, self.d, self.h = f, g, d, h

    def chain(self, f, first, second):
        if self.g is None:
            return Jet(f)
        if self.h is None:
            return Jet(f, [first * g for g in self.g])
        return Jet(f, [first * g for g in self.g], first * self.d,
                   [first * h + second * self.d * g for g, h in zip(self.g, self.h)])

    def __add__(self, other):
        if not isinstance(other, Jet):
            return Jet(self.f + other, self.g, self.d, self.h)
        if self.g is None or other.g is None:
            one = self if self.g is not None else other
            return Jet(self.f + other.f, one.g, one.d, one.h)
        h = None if self.h is None else [a + b for a, b in zip(self.h, other.h)]
        return Jet(self.f + other.f, [a + b for a, b in zip(self.g, other.g)], self.d + other.d, h)

    def __mul__(self, other):
        if not isinstance(other, Jet):
            return self.chain(self.f * other, other, 0.0)
        if self.g is None or other.g is None:
            one, factor = (self, other.f) if self.g is not None else (other, self.f)
            return one.chain(self.f * other.f, factor, 0.0)
        a, b = self, other
        g = [a.f * v + b.f * u for u, v in zip(a.g, b.g)]
        if a.h is None:
            return Jet(a.f * b.f, g)
        h = [a.f * t + b.f * s + a.d * v + b.d * u for u, v, s, t in zip(a.g, b.g, a.h, b.h)]
        return Jet(a.f * b.f, g, a.f * b.d + b.f * a.d, h)

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -other

    def __rsub__(self, other):
        return -self + other

    def __pow__(self, p):
        x, q = self.f, float(p)
        second = 0.0 if p == 1 else q * (q - 1) * x ** (p - 2)
        return self.chain(x**p, q * x ** (p - 1), second)

    def __truediv__(self, other):
        return self * other**-1 if isinstance(other, Jet) else self * (1.0 / other)

    def __rtruediv__(self, other):
        return self**-1 * other

    __radd__, __rmul__ = __add__, __mul__


def guarded(function):
    def safe(x):
        try:
            return function(x)
        except (OverflowError, ValueError, ZeroDivisionError):
            return math.nan

    return safe


def exp(x):
    e = guarded(math.exp)(x.f)
    return x.chain(e, e, e)


def log(x):
    inverse = guarded(lambda v: 1 / v)(x.f)
    return x.chain(guarded(math.log)(x.f), inverse, -inverse * inverse)


def sin(x):
    s, c = math.sin(x.f), math.cos(x.f)
    return x.chain(s, c, -s)


def cos(x):
    s, c = math.sin(x.f), math.cos(x.f)
    return x.chain(c, -s, -c)


def atan(x):
    d = 1 / (1 + x.f * x.f)
    return x.chain(math.atan(x.f), d, -2 * x.f * d * d)


def product(values):
    whole = Jet(1.0)
    for value in values:
        whole = whole * value
    return whole


def squares(terms):
    return sum(((t * t) for t in terms), Jet(0.0))


def total(terms):
    return sum(terms, Jet(0.0))


# Without constraints.

def rosenbrock(x):
    return total((b - a * a) ** 2 * 100 + (1 - a) ** 2 for a, b in zip(x[::2], x[1::2]))


def freudenstein_roth(x):
    a, b = x
    return (a - 13 + ((5 - b) * b - 2) * b) ** 2 + (a - 29 + ((b + 1) * b - 14) * b) ** 2


def powell_badly_scaled(x):
    return (x[0] * x[1] * 1e4 - 1) ** 2 + (exp(-x[0]) + exp(-x[1]) - 1.0001) ** 2


def brown_badly_scaled(x):
    return (x[0] - 1e6) ** 2 + (x[1] - 2e-6) ** 2 + (x[0] * x[1] - 2) ** 2


def beale(x):
    return squares(y - x[0] * (1 - x[1] ** i) for i, y in enumerate((1.5, 2.25, 2.625), 1))


def jennrich_sampson(x):
    return squares((2 + 2 * i) - exp(x[0] * i) - exp(x[1] * i) for i in range(1, 11))


def helical_valley(x):
    theta = atan(x[1] / x[0]) / (2 * pi) + (0.0 if x[0].f > 0 else 0.5)
    radius = (x[0] * x[0] + x[1] * x[1]) ** 0.5
    return (x[2] - theta * 10) ** 2 * 100 + (radius - 1) ** 2 * 100 + x[2] * x[2]


def bard(x):
    y = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)
    return squares(y - (x[0] + u / (x[1] * (16 - u) + x[2] * min(u, 16 - u))) for u, y in enumerate(y, 1))


def gaussian(x):
    y = (9e-4, 4.4e-3, 0.0175, 0.054, 0.1295, 0.242, 0.3521, 0.3989, 0.3521, 0.242, 0.1295, 0.054, 0.0175, 4.4e-3, 9e-4)
    return squares(x[0] * exp(-(x[1] * ((8 - i) / 2 - x[2]) ** 2) / 2) - y for i, y in enumerate(y, 1))


def meyer(x):
    y = (34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872)
    return squares(x[0] * exp(x[1] / (x[2] + (45.0 + 5 * i))) - y for i, y in enumerate(y, 1))


def gulf(x):
    def term(t):
        far = (25 + (-50 * math.log(t)) ** (2 / 3)) - x[1]
        far = -far if far.f < 0 else far
        return exp(-exp(log(far) * x[2]) / x[0]) - t

    return squares(term(i / 100) for i in range(1, 100))


def box_three(x):
    def term(t):
        return exp(-x[0] * t) - exp(-x[1] * t) - x[2] * (math.exp(-t) - math.exp(-10 * t))

    return squares(term(0.1 * i) for i in range(1, 11))


def powell_singular(x):
    return total(
        (a + b * 10) ** 2 + (c - d) ** 2 * 5 + (b - c * 2) ** 4 + (a - d) ** 4 * 10
        for a, b, c, d in zip(x[::4], x[1::4], x[2::4], x[3::4])
    )


def wood(x):
    a, b, c, d = x
    return ((b - a * a) ** 2 * 100 + (1 - a) ** 2 + (d - c * c) ** 2 * 90 + (1 - c) ** 2 + (b + d - 2) ** 2 * 10
            + (b - d) ** 2 * 0.1)


def kowalik_osborne(x):
    y = (0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
    u = (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)
    return squares(y - x[0] * (x[1] * u + u * u) / (x[2] * u + x[3] + u * u) for y, u in zip(y, u))


def brown_dennis(x):
    return total(
        ((x[0] + x[1] * t - math.exp(t)) ** 2 + (x[2] + x[3] * math.sin(t) - math.cos(t)) ** 2) ** 2
        for t in (i / 5 for i in range(1, 21))
    )


def osborne_1(x):
    y = (0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.85, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603, 0.58,
         0.558, 0.538, 0.522, 0.506, 0.49, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.42, 0.414, 0.411, 0.406)
    return squares(y - (x[0] + x[1] * exp(-x[3] * (10.0 * i)) + x[2] * exp(-x[4] * (10.0 * i))) for i, y in enumerate(y))


def biggs_6(x):
    def term(t):
        y = math.exp(-t) - 5 * math.exp(-10 * t) + 3 * math.exp(-4 * t)
        return x[2] * exp(-x[0] * t) - x[3] * exp(-x[1] * t) + x[5] * exp(-x[4] * t) - y

    return squares(term(0.1 * i) for i in range(1, 14))


def osborne_2(x):
    y = (1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606, 0.602,
         0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.5, 0.423, 0.395, 0.375,
         0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632,
         0.591, 0.559, 0.597, 0.625, 0.739, 0.71, 0.729, 0.72, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054)

    def term(t, y):
        return y - (x[0] * exp(-x[4] * t) + total(x[k] * exp(-((t - x[k + 7]) ** 2 * x[k + 4])) for k in (1, 2, 3)))

    return squares(term(i / 10, y) for i, y in enumerate(y))


def watson(x):
    def term(t):
        rise = total(v * (k * t ** (k - 1)) for k, v in enumerate(x) if k > 0)
        value = total(v * t**k for k, v in enumerate(x))
        return rise - value * value - 1

    return squares(term(i / 29) for i in range(1, 30)) + x[0] * x[0] + (x[1] - x[0] * x[0] - 1) ** 2


def penalty_1(x):
    return squares(v - 1 for v in x) * 1e-5 + (squares(x) - 0.25) ** 2


def penalty_2(x):
    n, terms = len(x), [x[0] - 0.2]
    for i in range(1, n):
        y = math.exp((i + 1) / 10) + math.exp(i / 10)
        terms.append((exp(x[i] / 10) + exp(x[i - 1] / 10) - y) * 1e-5**0.5)
        terms.append((exp(x[i] / 10) - math.exp(-0.1)) * 1e-5**0.5)
    return squares(terms) + (total(v * v * float(n - i) for i, v in enumerate(x)) - 1) ** 2


def variably_dimensioned(x):
    t = total((v - 1) * float(i) for i, v in enumerate(x, 1))
    return squares(v - 1 for v in x) + t * t + t**4


def trigonometric(x):
    cosines = total(cos(v) for v in x)
    return squares(len(x) - cosines + (1 - cos(v)) * float(i) - sin(v) for i, v in enumerate(x, 1))


def brown_almost_linear(x):
    whole = total(x)
    return squares(v + whole - (len(x) + 1.0) for v in x[:-1]) + (product(x) - 1) ** 2


def beside(x, i):
    return (x[i - 1] if i > 0 else Jet(0.0)), (x[i + 1] if i + 1 < len(x) else Jet(0.0))


def boundary_value(x):
    h = 1 / (len(x) + 1)

    def term(i):
        before, after = beside(x, i)
        return x[i] * 2.0 - before - after + (x[i] + (h * (i + 1) + 1)) ** 3 * (h * h / 2)

    return squares(term(i) for i in range(len(x)))


def broyden_tridiagonal(x):
    def term(i):
        before, after = beside(x, i)
        return (3 - x[i] * 2.0) * x[i] - before - after * 2.0 + 1

    return squares(term(i) for i in range(len(x)))


def broyden_banded(x):
    def term(i):
        band = total(x[k] * (x[k] + 1) for k in range(max(0, i - 5), min(len(x), i + 2)) if k != i)
        return x[i] * (x[i] * x[i] * 5.0 + 2) + 1 - band

    return squares(term(i) for i in range(len(x)))


def linear_full_rank(x):
    m, whole = 2 * len(x), total(x)
    return squares((x[i] if i < len(x) else Jet(0.0)) - whole * (2 / m) - 1 for i in range(m))


def chebyquad(x):
    def term(i):
        values = []
        for v in x:
            t = v * 2.0 - 1
            last, now = Jet(1.0), t
            for _ in range(1, i):
                last, now = now, t * now * 2.0 - last
            values.append(now)
        return total(values) / len(x) - (-1 / (i * i - 1) if i % 2 == 0 else 0.0)

    return squares(term(i) for i in range(1, len(x) + 1))


# With bounds and linear constraints.

def hs3(x):
    return x[1] + (x[1] - x[0]) ** 2 * 1e-5


def hs4(x):
    return (x[0] + 1) ** 3 / 3 + x[1]


def hs5(x):
    return sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - x[0] * 1.5 + x[1] * 2.5 + 1


def hs21(x):
    return x[0] * x[0] * 0.01 + x[1] * x[1] - 100


def hs24(x):
    return ((x[0] - 3) ** 2 - 9) * x[1] ** 3 / (27 * 3**0.5)


def hs28(x):
    return (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2


def hs35(x):
    a, b, c = x
    return a * a * 2.0 + b * b * 2.0 + c * c + a * b * 2.0 + a * c * 2.0 - a * 8.0 - b * 6.0 - c * 4.0 + 9


def volume(x):
    return -(x[0] * x[1] * x[2])


def hs41(x):
    return volume(x) + 2


def hs44(x):
    a, b, c, d = x
    return a - b - c - a * c + a * d + b * c - b * d


def hs45(x):
    return 2 - product(x) / 120


def hs48(x):
    return (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2


def hs49(x):
    return (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6


def hs50(x):
    return (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 2


def hs51(x):
    return (x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2


def hs52(x):
    return (x[0] * 4.0 - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2


def hs55(x):
    return x[0] + x[1] * 2.0 + x[4] * 4.0 + exp(x[0] * x[3])


def hs62(x):
    a, b, c = x[0], x[1], x[2] + 0.03
    return (log((a + b + c) / (a * 0.09 + b + c)) * 255.0 + log((b + c) / (b * 0.07 + c)) * 280.0
            + log(c / (x[2] * 0.13 + 0.03)) * 290.0) * -32.174


def hs76(x):
    a, b, c, d = x
    return a * a + b * b * 0.5 + c * c + d * d * 0.5 - a * c + c * d - a - b * 3.0 + c - d


def hs86(x):
    e, d = (-15.0, -27.0, -36.0, -18.0, -12.0), (4.0, 8.0, 10.0, 6.0, 2.0)
    c = ((30, -20, -10, 32, -10), (-20, 39, -6, -31, 32), (-10, -6, 10, -6, -10), (32, -31, -6, 39, -20),
         (-10, 32, -10, -20, 30))
    return total(x[i] * e[i] + total(x[i] * x[k] * float(c[i][k]) for k in range(5)) + x[i] ** 3 * d[i] for i in range(5))


def hs110(x):
    return total(log(v - 2) ** 2 + log(10 - v) ** 2 for v in x) - product(x) ** 0.2


def hs112(x):
    c = (-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.1, -10.708, -26.662, -22.179)
    whole = total(x)
    return total(v * (log(v / whole) + c) for v, c in zip(x, c))


def hs118(x):
    return total(
        a * 2.3 + a * a * 1e-4 + b * 1.7 + b * b * 1e-4 + c * 2.2 + c * c * 1.5e-4 for a, b, c in zip(x[::3], x[1::3], x[2::3])
    )


def hs119(x):
    pairs = ((1, 4, 7, 8, 16), (2, 3, 7, 10), (3, 7, 9, 10, 14), (4, 7, 11, 15), (5, 6, 10, 12, 16), (6, 8, 15), (7, 11, 13),
             (8, 10, 15), (9, 12, 16), (10, 14), (11, 13), (12, 14), (13, 14), (14,), (15,), (16,))
    q = [v * v + v + 1 for v in x]
    return total(q[i] * q[k - 1] for i, row in enumerate(pairs) for k in row)


def hs86_rows():
    rows = ((-16, 2, 0, 1, 0), (0, -2, 0, 4, 2), (-3.5, 0, 2, 0, 0), (0, -2, 0, -4, -1), (0, -9, -2, 1, -2.8), (2, 0, -4, 0, 0),
            (-1, -1, -1, -1, -1), (-1, -2, -3, -2, -1), (1, 2, 3, 4, 5), (1, 1, 1, 1, 1))
    return [(row, least, INF) for row, least in zip(rows, (-40, -2, -0.25, -4, -4, -1, -40, -60, 5, 1))]


def hs118_rows():
    rows = []
    for i in range(3, 15):
        rows.append(([1.0 if k == i else -1.0 if k == i - 3 else 0.0 for k in range(15)], -7, 7 if i % 3 == 1 else 6))
    for group, least in enumerate((60, 50, 70, 85, 100)):
        rows.append(([1.0 if k // 3 == group else 0.0 for k in range(15)], least, INF))
    return rows


def hs119_rows():
    b = ((0.22, 0.20, 0.19, 0.25, 0.15, 0.11, 0.12, 0.13), (-1.46, 0, -1.30, 1.82, -1.15, 0, 0.80, 0),
         (1.29, -0.89, 0, 0, -1.16, -0.96, 0, -0.49), (-1.10, -1.06, 0.95, -0.54, 0, -1.78, -0.41, 0),
         (0, 0, 0, -1.43, 1.51, 0.59, -0.33, -0.43), (0, -1.72, -0.33, 0, 1.62, 1.24, 0.21, -0.26),
         (1.12, 0, 0, 0.31, 0, 0, 1.12, 0), (0, 0.45, 0.26, -1.10, 0.58, 0, -1.03, 0.10))
    rows = []
    for i, side in enumerate((2.5, 1.1, -3.1, -3.5, 1.3, 2.1, 2.3, -1.5)):
        row = list(b[i]) + [1.0 if k == i else 0.0 for k in range(8)]
        if i == 6:
            row[8] = -0.36
        rows.append((row, side, side))
    return rows


class Case:
    """A problem: its formula, a start, the minima that count as solved, bounds, rows (a, lower, upper), and a ball."""

    def __init__(self, name, formula, start, optima, lower=None, upper=None, rows=(), ball=None):
        self.name, self.formula, self.start, self.optima = name, formula, [float(x) for x in start], optima
        n = len(start)
        self.lower = [-INF] * n if lower is None else [float(x) for x in lower]
        self.upper = [INF] * n if upper is None else [float(x) for x in upper]
        self.rows = [([float(a) for a in row], float(low), float(high)) for row, low, high in rows]
        self.ball = ball

    def is_free(self):
        return not self.rows and self.ball is None and all(map(math.isinf, self.lower + self.upper))

    def objective(self, x):
        return guarded(lambda x: self.formula([Jet(float(v)) for v in x]).f)(x)

    def derivatives(self, x, direction=None):
        n = len(x)

        def axis(i):
            return [1.0 if k == i else 0.0 for k in range(n)]

        if direction is None:
            jets = [Jet(float(v), axis(i)) for i, v in enumerate(x)]
        else:
            jets = [Jet(float(v), axis(i), float(direction[i]), [0.0] * n) for i, v in enumerate(x)]
        try:
            jet = self.formula(jets)
        except (OverflowError, ValueError, ZeroDivisionError):
            return [math.nan] * n
        return jet.g if direction is None else jet.h

    def error(self, f):
        return min(abs(f - best) / max(1.0, abs(best)) for best in self.optima)


def cases():
    root, inf = 3**0.5, INF
    three = [((1, 3, 0, 0, 0), 4, 4), ((0, 0, 1, 1, -2), 0, 0), ((0, 1, 0, 0, -1), 0, 0)]
    from_zero = [(three[0][0], 0, 0), three[1], three[2]]
    a, b = (598 / 1200) ** 0.5, 400 * (598 / 1200) ** 1.5
    roots = [2 * a * math.cos(math.acos(1 / b) / 3 + turn) for turn in (0, 2 * pi / 3)]
    hs2 = [100 * (1.5 - x * x) ** 2 + (1 - x) ** 2 for x in roots]
    hs55_rows = [((1, 2, 0, 0, 5, 0), 6, 6), ((1, 1, 1, 0, 0, 0), 3, 3), ((0, 0, 0, 1, 1, 1), 2, 2), ((1, 0, 0, 1, 0, 0), 1, 1),
                 ((0, 1, 0, 0, 1, 0), 2, 2), ((0, 0, 1, 0, 0, 1), 2, 2)]
    hs44_rows = [((1, 2, 0, 0), -inf, 8), ((4, 1, 0, 0), -inf, 12), ((3, 4, 0, 0), -inf, 12), ((0, 0, 2, 1), -inf, 8),
                 ((0, 0, 1, 2), -inf, 8), ((0, 0, 1, 1), -inf, 5)]
    hs112_rows = [((1, 2, 2, 0, 0, 1, 0, 0, 0, 1), 2, 2), ((0, 0, 0, 1, 2, 1, 1, 0, 0, 0), 1, 1),
                  ((0, 0, 1, 0, 0, 0, 1, 1, 2, 1), 1, 1)]
    wood_start, two = (-3, -1, -3, -1), [inf] * 2
    return [
        Case("rosenbrock", rosenbrock, (-1.2, 1), [0]),
        Case("freudenstein roth", freudenstein_roth, (0.5, -2), [0, 48.98425367924]),
        Case("powell badly scaled", powell_badly_scaled, (0, 1), [0]),
        Case("brown badly scaled", brown_badly_scaled, (1, 1), [0]),
        Case("beale", beale, (1, 1), [0]),
        Case("jennrich sampson", jennrich_sampson, (0.3, 0.4), [124.36218235561]),
        Case("helical valley", helical_valley, (-1, 0, 0), [0]),
        Case("bard", bard, (1, 1, 1), [8.214877306578e-3]),
        Case("gaussian", gaussian, (0.4, 1, 0), [1.1279327696e-8]),
        Case("meyer", meyer, (0.02, 4000, 250), [87.945855171]),
        Case("gulf", gulf, (5, 2.5, 0.15), [0]),
        Case("box 3-d", box_three, (0, 10, 20), [0]),
        Case("powell singular", powell_singular, (3, -1, 0, 1), [0]),
        Case("wood", wood, wood_start, [0]),
        Case("kowalik osborne", kowalik_osborne, (0.25, 0.39, 0.415, 0.39), [3.075056038e-4]),
        Case("brown dennis", brown_dennis, (25, 5, -5, -1), [85822.201626356]),
        Case("osborne 1", osborne_1, (0.5, 1.5, -1, 0.01, 0.02), [5.464894697e-5]),
        Case("biggs exp6", biggs_6, (1, 2, 1, 1, 1, 1), [0, 5.6556499255e-3]),
        Case("osborne 2", osborne_2, (1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5), [4.013773629e-2]),
        Case("watson 6", watson, [0] * 6, [2.287670053552e-3]),
        Case("watson 9", watson, [0] * 9, [1.399760138e-6]),
        Case("extended rosenbrock", rosenbrock, (-1.2, 1) * 5, [0]),
        Case("extended powell", powell_singular, (3, -1, 0, 1) * 3, [0]),
        Case("penalty 1", penalty_1, range(1, 5), [2.2499775e-5]),
        Case("penalty 1 of 10", penalty_1, range(1, 11), [7.0876515e-5]),
        Case("penalty 2", penalty_2, [0.5] * 4, [9.3762939e-6]),
        Case("penalty 2 of 10", penalty_2, [0.5] * 10, [2.9366054e-4]),
        Case("variably dimensioned", variably_dimensioned, [1 - i / 10 for i in range(1, 11)], [0]),
        Case("trigonometric", trigonometric, [0.1] * 10, [0, 2.795056122e-5]),
        Case("brown almost linear", brown_almost_linear, [0.5] * 10, [0, 1]),
        Case("boundary value", boundary_value, [i / 11 * (i / 11 - 1) for i in range(1, 11)], [0]),
        Case("broyden tridiagonal", broyden_tridiagonal, [-1] * 10, [0]),
        Case("broyden banded", broyden_banded, [-1] * 10, [0, 3.0572784324258]),
        Case("linear full rank", linear_full_rank, [1] * 10, [10]),
        Case("chebyquad 8", chebyquad, [i / 9 for i in range(1, 9)], [3.51687372568e-3]),
        Case("chebyquad 9", chebyquad, [i / 10 for i in range(1, 10)], [0]),
        Case("hs 1", rosenbrock, (-2, 1), [0], (-inf, -1.5)),
        Case("hs 2", rosenbrock, (-2, 1), hs2, (-inf, 1.5)),
        Case("hs 3", hs3, (10, 1), [0], (-inf, 0)),
        Case("hs 4", hs4, (1.125, 0.125), [8 / 3], (1, 0)),
        Case("hs 5", hs5, (0, 0), [-root / 2 - pi / 3], (-1.5, -3), (4, 3)),
        Case("hs 21", hs21, (-1, -1), [-99.96], (2, -50), (50, 50), [((10, -1), 10, inf)]),
        Case("hs 24", hs24, (1, 0.5), [-1], (0, 0), two, [((1 / root, -1), 0, inf), ((1, root), 0, 6)]),
        Case("hs 28", hs28, (-4, 1, 1), [0], rows=[((1, 2, 3), 1, 1)]),
        Case("hs 35", hs35, [0.5] * 3, [1 / 9], [0] * 3, rows=[((1, 1, 2), -inf, 3)]),
        Case("hs 36", volume, [10] * 3, [-3300], [0] * 3, (20, 11, 42), [((1, 2, 2), -inf, 72)]),
        Case("hs 37", volume, [10] * 3, [-3456], [0] * 3, [42] * 3, [((1, 2, 2), 0, 72)]),
        Case("hs 38", wood, wood_start, [0], [-10] * 4, [10] * 4),
        Case("hs 41", hs41, [2] * 4, [52 / 27], [0] * 4, (1, 1, 1, 2), [((1, 2, 2, -1), 0, 0)]),
        Case("hs 44", hs44, [0] * 4, [-15, -13], [0] * 4, rows=hs44_rows),
        Case("hs 45", hs45, [2] * 5, [1], [0] * 5, range(1, 6)),
        Case("hs 48", hs48, (3, 5, -3, 2, -2), [0], rows=[([1] * 5, 5, 5), ((0, 0, 1, -2, -2), -3, -3)]),
        Case("hs 49", hs49, (10, 7, 2, -3, 0.8), [0], rows=[((1, 1, 1, 4, 0), 7, 7), ((0, 0, 1, 0, 5), 6, 6)]),
        Case("hs 50", hs50, (35, -31, 11, 5, -5), [0],
             rows=[((1, 2, 3, 0, 0), 6, 6), ((0, 1, 2, 3, 0), 6, 6), ((0, 0, 1, 2, 3), 6, 6)]),
        Case("hs 51", hs51, (2.5, 0.5, 2, -1, 0.5), [0], rows=three),
        Case("hs 52", hs52, [2] * 5, [1859 / 349], rows=from_zero),
        Case("hs 53", hs51, [2] * 5, [176 / 43], [-10] * 5, [10] * 5, from_zero),
        Case("hs 55", hs55, (1, 2, 0, 0, 0, 2), [19 / 3, 20 / 3], [0] * 6, (1, inf, inf, 1, inf, inf), hs55_rows),
        Case("hs 62", hs62, (0.7, 0.2, 0.1), [-26272.5144873], [0] * 3, [1] * 3, [((1, 1, 1), 1, 1)]),
        Case("hs 76", hs76, [0.5] * 4, [-103 / 22], [0] * 4,
             rows=[((1, 2, 1, 1), -inf, 5), ((3, 1, 2, -1), -inf, 4), ((0, 1, 4, 0), 1.5, inf)]),
        Case("hs 86", hs86, (0, 0, 0, 0, 1), [-32.348678966], [0] * 5, rows=hs86_rows()),
        Case("hs 110", hs110, [9] * 10, [-45.778469707], [2.001] * 10, [9.999] * 10),
        Case("hs 112", hs112, [0.1] * 10, [-47.761090859], [1e-6] * 10, rows=hs112_rows),
        Case("hs 118", hs118, [20, 55, 15] + [20, 60, 20] * 4, [664.82045], [8, 43, 3] + [0] * 12, [21, 57, 16] + [90, 120, 60] * 4,
             hs118_rows()),
        Case("hs 119", hs119, [10] * 16, [244.8996975168], [0] * 16, [5] * 16, hs119_rows()),
        Case("rosenbrock, x <= 0.5", rosenbrock, (-1.2, 1), [0.25], None, (0.5, inf)),
        Case("beale in bounds", beale, (1, 1), [0], (0.6, 0.5), (10, 100)),
        Case("helical valley in bounds", helical_valley, (-1, 0, 0), [0.99042212096], (-100, -1, -1), (0.8, 1, 1)),
        Case("bard in bounds", bard, (1, 1, 1), [8.214877306578e-3], [0] * 3, (0.5, inf, inf)),
        Case("wood in bounds", wood, wood_start, [1.5567008], [-10] * 4, (0, 10, 10, 10)),
        Case("rosenbrock in a ball", rosenbrock, (-0.5, 0.5), [0.0456748087], ball=((0, 0), 1)),
        Case("beale in a ball and bounds", beale, (1, 1), [0.5340597692], (0, 0), ball=((0, 0), 2)),
    ]
