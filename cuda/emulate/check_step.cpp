// The kernels of steps against plain loops, as check_kernels.cpp does for other kernels: every direction with every form of its
// states, aligned and not, to the bit.
#include "numbers.hpp"

using namespace testing;

namespace {

#include "step.cu"

constexpr float TINY = 0x1p-126f;

/// Floats, or codes and their scales.
struct Values {
    unsigned kind = NOTHING;
    std::vector<float> floats, scales;
    std::vector<unsigned char> bytes;

    int code(size_t i) const { return static_cast<signed char>(bytes[i]); }
};

/// The same on the device, `shift` elements after an aligned address.
struct Placed {
    unsigned kind;
    size_t shift;
    Array<float> floats, scales;
    Array<unsigned char> bytes;

    Placed(const Values &values, size_t shift)
        : kind(values.kind), shift(shift), floats(shifted(values.floats, shift)), scales(values.scales),
          bytes(shifted(values.bytes, shift)) {}
    template <class T>
    static std::vector<T> shifted(std::vector<T> values, size_t shift) {
        if (!values.empty()) values.insert(values.begin(), shift, T(77));
        return values;
    }
    Kept kept() {
        void *const data = kind == BYTES ? static_cast<void *>(bytes.data() + shift) : floats.data() + shift;
        return {kind == NOTHING ? nullptr : data, scales.data(), kind};
    }
    void compare(const char *what, const Values &expected) {
        same(what, shifted(expected.floats, shift), floats.values());
        same(what, shifted(expected.bytes, shift), bytes.values());
        same(what, expected.scales, scales.values());
    }
};

struct Case {
    unsigned direction;
    /// Whether p, m and v are codes.
    bool p, m, v;
    size_t rows, columns, shift;
    unsigned grid;
    size_t count() const { return rows * columns; }
};

/// A gradient and the states of its parameter.
struct Tensor {
    Values g, p, m, v;
};

Values make(Numbers &numbers, const Case &of, bool codes, float size, bool positive) {
    Values made;
    const size_t count = of.count();
    made.kind = codes ? BYTES : FLOATS;
    if (codes) {
        for (size_t i = 0; i < count; ++i) made.bytes.push_back(static_cast<unsigned char>(numbers()));
        for (float scale : normal(numbers, (count + CODES - 1) / CODES)) made.scales.push_back(size * std::fabs(scale));
        return made;
    }
    made.floats = normal(numbers, count);
    for (size_t i = 0; i < count; ++i) {
        float &x = made.floats[i];
        x *= size;
        if (i / CODES % 4 == 1) x *= 1e-38f;
        if (i / CODES % 5 == 2) x = 0.0f;
        if (i % 7 == 3) x *= 1e-8f;
        if (positive) x = std::fabs(x);
    }
    return made;
}

Tensor make(Numbers &numbers, const Case &of) {
    Tensor made;
    made.g = make(numbers, of, false, 1, false);
    made.p = make(numbers, of, of.p, of.p ? 0.02f : 1.0f, false);
    if (of.direction != GIVEN) made.m = make(numbers, of, of.m, 1, false);
    if (of.direction == ADAMW) made.v = make(numbers, of, of.v, 0.5f, true);
    if (of.direction == FACTORED) {
        made.v.kind = FACTORS;
        for (float x : normal(numbers, of.rows + of.columns + 1)) made.v.floats.push_back(std::fabs(x));
    }
    return made;
}

StepRule rule_of(const Case &of) {
    return {of.direction, 0.7f, 0.9f, 0.1f, 0.01f, 3.7f, 50.3f, 1e-8f, 0.05f, 0.02f, -1.25f, 1.5f, 0.5f};
}

// --- what is expected ----------------------------------------------------------------------------------------------------

float p_of(const Values &p, size_t i) { return p.kind == BYTES ? p.scales[i / CODES] * float(p.code(i)) : p.floats[i]; }

float m_of(const Values &m, size_t i) {
    if (m.kind != BYTES) return m.kind == NOTHING ? 0.0f : m.floats[i];
    return float(m.code(i) * std::abs(m.code(i))) * (1.0f / 16129.0f) * m.scales[i / CODES];
}

float v_of(const Case &of, const Values &v, size_t i) {
    if (v.kind == FACTORS) return v.floats[i / of.columns] * v.floats[of.rows + i % of.columns] * v.floats.back();
    if (v.kind != BYTES) return v.kind == NOTHING ? 0.0f : v.floats[i];
    const float square = float(v.bytes[i] * v.bytes[i]) * (1.0f / 65025.0f);
    return square * square * v.scales[i / CODES];
}

Element expected_element(const StepRule &r, float gradient, float p, float m, float v) {
    const float g = gradient * r.gradient_scale;
    float direction = g;
    if (r.direction == ADAMW || r.direction == FACTORED) {
        m = m + r.rate1 * (g - m);
        if (r.direction == ADAMW) v = v + r.rate2 * (g * g - v);
        direction = (m * r.inverse1) / (sqrtf(v * r.inverse2) + r.epsilon);
    } else if (r.direction != GIVEN) {
        m = r.beta * m + g;
        direction = r.direction == NESTEROV ? g + r.beta * m : m;
    }
    return {direction + r.weight_decay * p, m, v};
}

int expected_trit(const StepRule &r, float p) { return (p > r.threshold) - (p < -r.threshold); }

float rounding(const Stream &stream, size_t i) {
    const uint4 words = philox(stream, i / 8);
    const unsigned word = i % 8 < 2 ? words.x : i % 8 < 4 ? words.y : i % 8 < 6 ? words.z : words.w;
    return (float(word >> 16 * (i % 2) & 0xFFFF) + 0.5f) * (1.0f / 65536.0f);
}

float largest(const std::vector<float> &x, size_t start) {
    float most = 0.0f;
    for (size_t i = start; i < std::min(x.size(), start + CODES); ++i)
        if (!(std::fabs(x[i]) <= most) && most == most) most = std::fabs(x[i]);
    return most;
}

float or_tiny(float scale) { return scale < TINY ? TINY : scale; }

/// min(floor(x), limit), and the limit for NaN.
int whole(float x, float limit) { return int(std::fmin(std::floor(x), limit)); }

/// Codes of x, by the scales of `scale(largest, scale before)`; code(x, scale, i) gives one.
template <class Scale, class Code>
void encode(Values &to, const std::vector<float> &x, Scale scale, Code code) {
    if (to.kind == FLOATS) to.floats = x;
    if (to.kind != BYTES) return;
    for (size_t i = 0; i < x.size(); ++i) {
        float &of_block = to.scales[i / CODES];
        if (i % CODES == 0) of_block = scale(largest(x, i), of_block);
        to.bytes[i] = static_cast<unsigned char>(code(x[i], of_block, i));
    }
}

void encode_m(Values &to, const std::vector<float> &m) {
    encode(to, m, [](float most, float) { return or_tiny(most); }, [](float x, float scale, size_t) {
        const int code = whole(sqrtf(std::fabs(x) / scale) * 127.0f + 0.5f, 127.0f);
        return x < 0 ? -code : code;
    });
}

std::vector<unsigned> take(const Case &of, const StepRule &r, const Stream &stream, Tensor &tensor) {
    std::vector<unsigned> counts = {3, 4};
    const size_t count = of.count();
    std::vector<float> p(count), m(count), v(count);
    std::vector<int> before(count);
    for (size_t i = 0; i < count; ++i) {
        const float old = p_of(tensor.p, i);
        const Element found = expected_element(r, tensor.g.floats[i], old, m_of(tensor.m, i), v_of(of, tensor.v, i));
        const float there = old - r.rate * found.direction;
        counts[0] += there < r.lower || there > r.upper;
        p[i] = there < r.lower ? r.lower : there > r.upper ? r.upper : there;
        m[i] = found.m;
        v[i] = found.v;
        before[i] = expected_trit(r, old);
    }
    encode(tensor.p, p, [](float most, float old) {
        return old >= TINY && most <= old * 127 && most >= old * 90 ? old : or_tiny(most * (1.0f / 120.0f));
    }, [&](float x, float scale, size_t i) {
        const int code = whole(std::fabs(x) / scale + rounding(stream, i), 127.0f);
        return x < 0 ? -code : code;
    });
    encode_m(tensor.m, m);
    encode(tensor.v, v, [](float most, float) { return or_tiny(most); }, [&](float x, float scale, size_t i) {
        const int code = whole(sqrtf(sqrtf(x / scale)) * 255.0f + rounding(stream, i), 255.0f);
        return x > 0 ? std::max(code, 1) : code;
    });
    for (size_t i = 0; i < count; ++i) counts[1] += before[i] != expected_trit(r, p_of(tensor.p, i));
    return counts;
}

/// The share of the step from p until its trit changes, as src/backend/scalar/step.rs has it.
float share_of(const StepRule &r, float p, float direction) {
    const float h = r.threshold, by = r.rate * direction;
    float distance = INFINITY;
    if (p > h) distance = by > 0 ? p - h : INFINITY;
    else if (p < -h) distance = by < 0 ? -h - p : INFINITY;
    else distance = by > 0 ? p + h : h - p;
    return by == 0 ? INFINITY : distance / std::fabs(by);
}

template <class Term>
double canonical_sum(size_t count, Term term) {
    double total = 0;
    for (size_t start = 0; start < count; start += 4096) {
        float lanes[32] = {};
        for (size_t i = start; i < std::min(count, start + 4096); ++i) lanes[i % 32] += term(i);
        for (int width = 16; width > 0; width /= 2)
            for (int j = 0; j < width; ++j) lanes[j] += lanes[j + width];
        total += lanes[0];
    }
    return total;
}

// --- and found -------------------------------------------------------------------------------------------------------------

/// As src/backend/cuda/rows.rs makes it.
Divisor divisor(u64 by) {
    unsigned bits = 0;
    while (1ull << bits < by) ++bits;
    return {u64((((unsigned __int128)1 << (63 + bits)) + by - 1) / by), bits};
}

struct PlacedTensor {
    Placed g, p, m, v;

    PlacedTensor(const Tensor &tensor, size_t shift)
        : g(tensor.g, shift), p(tensor.p, shift), m(tensor.m, shift), v(tensor.v, shift) {}
    const float *gradient() { return g.floats.data() + g.shift; }
    States states(const Case &of) {
        return {gradient(), p.kept(), m.kept(), v.kept(), of.count(), of.rows, of.columns, divisor(of.columns)};
    }
};

void check_steps(const Case &of, const StepRule &rule, Tensor tensor) {
    const Stream stream = {0x123456789ABCDEFull, 10, 7, 3};
    PlacedTensor placed(tensor, of.shift);
    Array<unsigned> counts(std::vector<unsigned>{3, 4});
    if (of.direction == ADAMW && !of.p && !of.m && !of.v) {
        LAUNCH(step_adamw, of.grid, THREADS, 0, rule, placed.gradient(), placed.p.floats.data() + of.shift,
               placed.m.floats.data() + of.shift, placed.v.floats.data() + of.shift, counts.data(), of.count());
    } else {
        LAUNCH(step_blocks, of.grid, THREADS, 0, rule, stream, placed.states(of), counts.data());
    }
    const auto expected = take(of, rule, stream, tensor);
    same("counts", expected, counts.values());
    placed.p.compare("p", tensor.p);
    placed.m.compare("m", tensor.m);
    placed.v.compare("v", tensor.v);
}

void check_measures(const Case &of, const StepRule &rule, const Tensor &tensor) {
    PlacedTensor placed(tensor, of.shift);
    const size_t count = of.count(), blocks = (count + 4095) / 4096;
    const auto direction = [&](size_t i) {
        return expected_element(rule, tensor.g.floats[i], p_of(tensor.p, i), m_of(tensor.m, i), v_of(of, tensor.v, i)).direction;
    };
    const auto square = [](float x) { return x * x; };
    const auto m = [&](size_t i) { return m_of(tensor.m, i); };
    const std::vector<double> totals = {
        0.5 + canonical_sum(count, [&](size_t i) { return square(direction(i)); }),
        1.5 + canonical_sum(count, [&](size_t i) { return square(p_of(tensor.p, i)); }),
        2.5 + canonical_sum(count, [&](size_t i) { return tensor.g.floats[i] * rule.gradient_scale * m(i); }),
        3.5 + canonical_sum(count, [&](size_t i) { return square(m(i)); }),
        4.5 + canonical_sum(count, [&](size_t i) { return v_of(of, tensor.v, i); }),
    };
    Array<float> sums(SUMS * blocks);
    Array<double> found(std::vector<double>{0.5, 1.5, 2.5, 3.5, 4.5});
    LAUNCH(step_sums_blocks, of.grid, THREADS, 0, rule, placed.states(of), sums.data());
    LAUNCH(step_sums, of.grid, 64, 0, sums.data(), found.data(), blocks);
    same("sums", totals, found.values());

    std::vector<unsigned> bins(FLIP_BINS, 7);
    for (size_t i = 0; i < count; ++i) {
        const float share = share_of(rule, p_of(tensor.p, i), direction(i));
        if (!(share < 1)) continue;
        // Eight an octave from 2^-16 on: by the exponent, and what is above it.
        int exponent;
        const float fraction = std::frexp(share, &exponent);
        bins[share < 0x1p-16f ? 0 : size_t(1 + 8 * (exponent + 15) + int((2 * fraction - 1) * 8))] += 1;
    }
    Array<unsigned> on_bins(std::vector<unsigned>(FLIP_BINS, 7));
    LAUNCH(step_flips, of.grid, THREADS, 0, rule, placed.states(of), on_bins.data());
    same("bins", bins, on_bins.values());
}

void check_momentum(const Case &of, const StepRule &rule, Tensor tensor) {
    Placed g(tensor.g, of.shift), m(tensor.m, of.shift);
    const size_t count = of.count();
    Array<float> direction(of.shift + count);
    LAUNCH(step_momentum, of.grid, THREADS, 0, rule, g.floats.data() + of.shift, m.kept(), direction.data() + of.shift, count);
    std::vector<float> now(count), expected(of.shift + count);
    for (size_t i = 0; i < count; ++i) {
        const Element found = expected_element(rule, tensor.g.floats[i], 0.0f, m_of(tensor.m, i), 0.0f);
        now[i] = found.m;
        expected[of.shift + i] = found.direction;
    }
    encode_m(tensor.m, now);
    same("direction", expected, direction.values());
    m.compare("m of momentum", tensor.m);
}

void factors(Numbers &numbers, size_t rows, size_t columns, unsigned grid) {
    const float size = 0.7f, rate = 0.05f;
    auto gradient = normal(numbers, rows * columns), v = normal(numbers, rows + columns + 1);
    for (auto &x : v) x = std::fabs(x);
    std::vector<float> expected(v.size());
    const auto square = [&](size_t i, size_t j) {
        const float g = gradient[i * columns + j] * size;
        return g * g;
    };
    const auto mean = [&](size_t at, double sum, size_t count) {
        expected[at] = v[at] + rate * (float(sum / double(std::max<size_t>(count, 1))) - v[at]);
    };
    for (size_t i = 0; i < rows; ++i) mean(i, canonical_sum(columns, [&](size_t j) { return square(i, j); }), columns);
    for (size_t j = 0; j < columns; ++j) mean(rows + j, canonical_sum(rows, [&](size_t i) { return square(i, j); }), rows);
    const double all = canonical_sum(rows, [&](size_t i) { return expected[i]; });
    expected.back() = all > 0 ? float(double(rows) / all) : 0.0f;

    const u64 row_units = (columns + 4095) / 4096, column_units = (rows + 4095) / 4096, tiles = (columns + 15) / 16;
    Array<float> on_gradient(gradient), on_v(v), sums(rows * row_units + columns * column_units), now(v.size());
    if (rows * columns > 0) {
        LAUNCH(step_factors_rows, grid, THREADS, 0, size, on_gradient.data(), rows, columns, row_units, divisor(row_units),
               sums.data());
        LAUNCH(step_factors_columns, grid, 32 * COLUMNS, 0, size, on_gradient.data(), rows, columns, column_units, tiles,
               divisor(tiles), sums.data() + rows * row_units);
    }
    LAUNCH(step_factors_means, grid, THREADS, 0, rate, on_v.data(), sums.data(), rows, columns, row_units, column_units,
           now.data());
    LAUNCH(step_factors_whole, 1, 64, 0, now.data(), rows, columns);
    same("factors", expected, now.values());
}

}  // namespace

int main() {
    for (uint64_t seed = 0; seed < 3; ++seed) {
        Numbers numbers(seed);
        emulate::seed(seed);
        for (unsigned form = 0; form < 5 * 8; ++form) {
            const unsigned direction = form / 8;
            const bool p = form & 1, m = form & 2, v = form & 4;
            if ((m && direction == GIVEN) || (v && direction != ADAMW)) continue;
            const size_t shapes[][2] = {{5, 7}, {17, 16}, {1, 3000 + 77 * seed}, {37, 64}, {260, 33}};
            for (const auto &shape : shapes) {
                const size_t shift = (form + seed) % 3;
                const Case of = {direction, p, m, v, shape[0], shape[1], shift, 1 + unsigned(seed)};
                Tensor tensor = make(numbers, of);
                StepRule rule = rule_of(of);
                // Divisions of 0 by 0, which are seen in elements past the last; and a box without 0.
                if (form % 2 == seed % 2) rule.epsilon = 0, rule.lower = 0.25f;
                check_steps(of, rule, tensor);
                check_measures(of, rule, tensor);
                if (direction == MOMENTUM || direction == NESTEROV) check_momentum(of, rule, tensor);
                tensor.g.floats[of.count() / 2] = NAN;
                check_steps(of, rule, tensor);
            }
        }
        factors(numbers, 1, 1, 1);
        factors(numbers, 70, 37 + seed, 2);
        factors(numbers, 3, 4100 + 9000 * seed, 3);
        factors(numbers, 4200 + 300 * seed, 5, 1);
        factors(numbers, 17000, 1, 3);
        factors(numbers, 0, 7, 1);
        factors(numbers, 7, 0, 1);
    }
    return testing::failures != 0;
}
