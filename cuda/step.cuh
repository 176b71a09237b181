// A step of an optimizer: what an element becomes, and states in blocks of codes. src/backend/scalar/step.rs says what they are;
// roundings are as they are there.
#pragma once
#include "codes.cuh"
#include "philox.cuh"
#include "rows.cuh"

// --- an element --------------------------------------------------------------------------------------------------------

enum Direction : unsigned { ADAMW, FACTORED, MOMENTUM, NESTEROV, GIVEN };

struct StepRule {
    unsigned direction;
    float gradient_scale, beta, rate1, rate2, inverse1, inverse2, epsilon, weight_decay, rate, lower, upper, threshold;
};

/// The direction of a parameter, weight decay in it, and the new m and v.
struct Element {
    float direction, m, v;
};

/// From old towards new.
__device__ __forceinline__ float towards(float before, float rate, float now) {
    return __fadd_rn(before, __fmul_rn(rate, __fsub_rn(now, before)));
}

__device__ __forceinline__ float by_root(const StepRule &rule, float m, float v) {
    const float root = __fsqrt_rn(__fmul_rn(v, rule.inverse2));
    return __fdiv_rn(__fmul_rn(m, rule.inverse1), __fadd_rn(root, rule.epsilon));
}

__device__ __forceinline__ Element decayed(const StepRule &rule, float p, Element element) {
    element.direction = __fadd_rn(element.direction, __fmul_rn(rule.weight_decay, p));
    return element;
}

__device__ __forceinline__ Element adamw_element(const StepRule &rule, float gradient, float p, float m, float v) {
    const float g = __fmul_rn(gradient, rule.gradient_scale);
    m = towards(m, rule.rate1, g);
    v = towards(v, rule.rate2, __fmul_rn(g, g));
    return decayed(rule, p, {by_root(rule, m, v), m, v});
}

__device__ __forceinline__ Element element(const StepRule &rule, float gradient, float p, float m, float v) {
    if (rule.direction == ADAMW) return adamw_element(rule, gradient, p, m, v);
    const float g = __fmul_rn(gradient, rule.gradient_scale);
    float direction = g;
    if (rule.direction == FACTORED) {
        m = towards(m, rule.rate1, g);
        direction = by_root(rule, m, v);
    } else if (rule.direction != GIVEN) {
        m = __fadd_rn(__fmul_rn(rule.beta, m), g);
        direction = rule.direction == NESTEROV ? __fadd_rn(g, __fmul_rn(rule.beta, m)) : m;
    }
    return decayed(rule, p, {direction, m, v});
}

/// p after the step, in the box, where NaN stays; counts it if the box held it.
__device__ __forceinline__ float moved(const StepRule &rule, float p, float direction, unsigned &clamped) {
    const float there = __fsub_rn(p, __fmul_rn(rule.rate, direction));
    clamped += there < rule.lower || there > rule.upper;
    const float inside = there < rule.lower ? rule.lower : there;
    return inside > rule.upper ? rule.upper : inside;
}

/// t + 1 with the trit t of p.
__device__ __forceinline__ unsigned trit(const StepRule &rule, float p) {
    return 1u + (p > rule.threshold) - (p < -rule.threshold);
}

/// Bins of shares of a step: eight an octave, over sixteen octaves; number 0 takes what is below.
constexpr unsigned FLIP_BINS = 8 * 16 + 1;

/// The bin of the share of the step from p that it takes until the trit of p changes; FLIP_BINS of one that takes all of it.
__device__ __forceinline__ unsigned flip_bin(const StepRule &rule, float p, float direction) {
    const float h = rule.threshold, move_by = __fmul_rn(rule.rate, direction), infinity = __uint_as_float(0x7F800000u);
    // The numbers' mirror image where p goes up: then all go down.
    const float q = move_by > 0.0f ? p : -p;
    const float distance = q > h ? __fsub_rn(q, h) : q < -h ? infinity : __fadd_rn(q, h);
    const float share = move_by == 0.0f ? infinity : __fdiv_rn(distance, fabsf(move_by));
    if (!(share < 1.0f)) return FLIP_BINS;
    // The bits of what comes below the first octave.
    constexpr unsigned BELOW = ((127 - 16) << 23) - (1 << 20);
    return min(max(__float_as_uint(share), BELOW) - BELOW >> 20, FLIP_BINS - 1);
}

// --- codes -------------------------------------------------------------------------------------------------------------

/// Elements that share a scale.
constexpr unsigned CODES = 256;
/// The least normal number.
constexpr float LEAST_SCALE = 1.17549435e-38f;

/// max(scale, the least), where NaN stays.
__device__ __forceinline__ float at_least(float scale) { return scale < LEAST_SCALE ? LEAST_SCALE : scale; }

__device__ __forceinline__ float decode_p(unsigned byte, float scale) {
    return __fmul_rn(scale, __int2float_rn(static_cast<signed char>(byte)));
}

__device__ __forceinline__ float decode_m(unsigned byte, float scale) {
    const int code = static_cast<signed char>(byte);
    return __fmul_rn(__fmul_rn(__int2float_rn(code < 0 ? -code * code : code * code), 1.0f / 16129.0f), scale);
}

__device__ __forceinline__ float decode_v(unsigned byte, float scale) {
    const float square = __fmul_rn(__uint2float_rn(byte * byte), 1.0f / 65025.0f);
    return __fmul_rn(__fmul_rn(square, square), scale);
}

/// floor(x), at most `limit`, which NaN becomes; x is not negative.
__device__ __forceinline__ int floor_up_to(float x, float limit) { return __float2int_rz(fminf(floorf(x), limit)); }

__device__ __forceinline__ unsigned signed_byte(int code, float of) {
    return static_cast<unsigned>(of < 0.0f ? -code : code) & 255u;
}

__device__ __forceinline__ unsigned encode_p(float p, float scale, float random) {
    return signed_byte(floor_up_to(__fadd_rn(__fdiv_rn(fabsf(p), scale), random), 127.0f), p);
}

__device__ __forceinline__ unsigned encode_m(float m, float scale) {
    const float root = __fsqrt_rn(__fdiv_rn(fabsf(m), scale));
    return signed_byte(floor_up_to(__fadd_rn(__fmul_rn(root, 127.0f), 0.5f), 127.0f), m);
}

__device__ __forceinline__ unsigned encode_v(float v, float scale, float random) {
    const float root = __fsqrt_rn(__fsqrt_rn(__fdiv_rn(v, scale)));
    const int code = floor_up_to(__fadd_rn(__fmul_rn(root, 255.0f), random), 255.0f);
    return static_cast<unsigned>(v > 0.0f ? max(code, 1) : code);
}

/// It stays where it fits well.
__device__ __forceinline__ float parameter_scale(float largest, float before) {
    if (before >= LEAST_SCALE && largest <= __fmul_rn(before, 127.0f) && largest >= __fmul_rn(before, 90.0f)) return before;
    return at_least(__fmul_rn(largest, 1.0f / 120.0f));
}

// --- a block of states, by a warp ----------------------------------------------------------------------------------------

enum Kind : unsigned { NOTHING, FLOATS, BYTES, FACTORS };

/// The numbers of all elements: none, which are 0; floats; codes, with a scale for each block of them; of v, factors.
struct Kept {
    void *data;
    float *scales;
    unsigned kind;
};

/// A gradient of `count` elements and the states of its parameter; v of factors has those of `rows`, of `columns`, and one of all.
struct States {
    const float *gradient;
    Kept p, m, v;
    u64 count, rows, columns;
    Divisor by_columns;
};

/// What a lane has of a block: four elements from 4 * lane on, and four 128 further on.
struct Share {
    u64 block;
    /// Elements of the block.
    unsigned here;

    __device__ __forceinline__ Share(u64 block, u64 count)
        : block(block), here(static_cast<unsigned>(min(count - block * CODES, static_cast<u64>(CODES)))) {}
    __device__ __forceinline__ u64 start() const { return block * CODES; }
    /// Where in the block its element k is.
    __device__ __forceinline__ unsigned at(int k) const { return k / 4 * 128 + 4 * lane_number() + k % 4; }
    __device__ __forceinline__ bool has(int k) const { return at(k) < here; }
    /// Whether its elements can be had four at a time.
    __device__ __forceinline__ bool in_fours(const void *data, unsigned bytes) const {
        return here == CODES && is_aligned(data, bytes);
    }
};

typedef float Eight[8];

__device__ __forceinline__ void fetch_floats(const float *data, const Share &share, Eight &x) {
    const float *const from = data + share.start();
    if (share.in_fours(data, 16)) {
#pragma unroll
        for (int k = 0; k < 8; k += 4) {
            const float4 four = load4(from + share.at(k));
            x[k] = four.x, x[k + 1] = four.y, x[k + 2] = four.z, x[k + 3] = four.w;
        }
        return;
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = share.has(k) ? from[share.at(k)] : 0.0f;
}

__device__ __forceinline__ void put_floats(float *data, const Share &share, const Eight &x) {
    float *const to = data + share.start();
    if (share.in_fours(data, 16)) {
#pragma unroll
        for (int k = 0; k < 8; k += 4) store4(to + share.at(k), make_float4(x[k], x[k + 1], x[k + 2], x[k + 3]));
        return;
    }
#pragma unroll
    for (int k = 0; k < 8; ++k)
        if (share.has(k)) to[share.at(k)] = x[k];
}

/// Codes as they are, four in the bits of x[0] and four in those of x[4]; 0 past the last.
__device__ __forceinline__ void fetch_bytes(const unsigned char *data, const Share &share, Eight &x) {
    const unsigned char *const from = data + share.start();
#pragma unroll
    for (int k = 0; k < 8; k += 4) {
        unsigned word = 0;
        if (share.in_fours(data, 4)) {
            word = *reinterpret_cast<const unsigned *>(from + share.at(k));
        } else {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (share.has(k + i)) word |= static_cast<unsigned>(from[share.at(k + i)]) << 8 * i;
        }
        x[k] = __uint_as_float(word);
    }
}

/// Puts encode(k), a byte, for element k.
template <class Encode>
__device__ __forceinline__ void put_bytes(void *data, const Share &share, Encode encode) {
    unsigned char *const to = static_cast<unsigned char *>(data) + share.start();
#pragma unroll
    for (int k = 0; k < 8; k += 4) {
        const unsigned word = encode(k) | encode(k + 1) << 8 | encode(k + 2) << 16 | encode(k + 3) << 24;
        if (share.in_fours(data, 4)) {
            *reinterpret_cast<unsigned *>(to + share.at(k)) = word;
            continue;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (share.has(k + i)) to[share.at(k + i)] = static_cast<unsigned char>(word >> 8 * i);
    }
}

/// v[i / columns] * v[rows + i % columns] * v[rows + columns] of the elements.
__device__ __forceinline__ void fetch_factors(const States &states, const Share &share, Eight &x) {
    const float *const of_rows = static_cast<const float *>(states.v.data), *const of_columns = of_rows + states.rows;
    const float all = of_columns[states.columns];
    const bool in_fours = share.in_fours(of_columns, 16) && states.columns % 4 == 0;
#pragma unroll
    for (int k = 0; k < 8; k += 4) {
        const u64 i = share.start() + share.at(k);
        u64 row = quotient(i, states.by_columns), column = i - row * states.columns;
        if (in_fours) {
            const float of_row = of_rows[row];
            const float4 four = load4(of_columns + column);
            x[k] = __fmul_rn(__fmul_rn(of_row, four.x), all), x[k + 1] = __fmul_rn(__fmul_rn(of_row, four.y), all);
            x[k + 2] = __fmul_rn(__fmul_rn(of_row, four.z), all), x[k + 3] = __fmul_rn(__fmul_rn(of_row, four.w), all);
            continue;
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            x[k + j] = share.has(k + j) ? __fmul_rn(__fmul_rn(of_rows[row], of_columns[column]), all) : 0.0f;
            if (++column == states.columns) ++row, column = 0;
        }
    }
}

/// Floats, or bytes as `fetch_bytes` leaves them, and their scale: loads alone, so that all of a block are in flight together.
__device__ __forceinline__ float fetch(const Kept &kept, const Share &share, Eight &x) {
    if (kept.kind == FLOATS) fetch_floats(static_cast<const float *>(kept.data), share, x);
    if (kept.kind != BYTES) return 0.0f;
    fetch_bytes(static_cast<const unsigned char *>(kept.data), share, x);
    return kept.scales[share.block];
}

/// What `fetch` left becomes numbers.
template <class Decode>
__device__ __forceinline__ void decode(const Kept &kept, float scale, Eight &x, Decode value) {
    if (kept.kind != BYTES) return;
    const unsigned words[2] = {__float_as_uint(x[0]), __float_as_uint(x[4])};
#pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = value(words[k / 4] >> 8 * (k % 4) & 255u, scale);
}

/// The largest magnitude of a block, in every lane; NaN where there is one. What is past the last must be 0.
__device__ __forceinline__ float largest_of(const Eight &x) {
    unsigned bits = 0;
#pragma unroll
    for (int k = 0; k < 8; ++k) bits = larger(bits, x[k]);
    return __uint_as_float(__reduce_max_sync(ALL_LANES, bits));
}

__device__ __forceinline__ void put_scale(const Kept &kept, const Share &share, float scale) {
    if (lane_number() == 0) kept.scales[share.block] = scale;
}

__device__ __forceinline__ void put_m(const Kept &kept, const Share &share, const Eight &m) {
    if (kept.kind == FLOATS) put_floats(static_cast<float *>(kept.data), share, m);
    if (kept.kind != BYTES) return;
    const float scale = at_least(largest_of(m));
    put_scale(kept, share, scale);
    put_bytes(kept.data, share, [&](int k) { return encode_m(m[k], scale); });
}

/// A lane's part of a block.
struct Part {
    Eight g, p, m, v;
    float p_scale;
};

__device__ __forceinline__ void gather(const States &states, const Share &share, Part &part) {
    fetch_floats(states.gradient, share, part.g);
#pragma unroll
    for (int k = 0; k < 8; ++k) part.m[k] = part.v[k] = 0.0f;
    part.p_scale = fetch(states.p, share, part.p);
    const float m_scale = fetch(states.m, share, part.m), v_scale = fetch(states.v, share, part.v);
    if (states.v.kind == FACTORS) fetch_factors(states, share, part.v);
    decode(states.p, part.p_scale, part.p, decode_p);
    decode(states.m, m_scale, part.m, decode_m);
    decode(states.v, v_scale, part.v, decode_v);
}

/// What rounds the elements of a block at random: half a word each, so that a block of Philox is enough for eight. Each lane
/// makes eight of them, not always its own.
struct Random {
    unsigned words[4];

    __device__ __forceinline__ Random(const Stream &stream, const Share &share) {
        const uint4 made = philox(stream, share.start() / 8 + lane_number());
        const bool odd = lane_number() % 2 == 1;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int from = static_cast<int>(16 * half + lane_number() / 2);
            const unsigned x = __shfl_sync(ALL_LANES, made.x, from), y = __shfl_sync(ALL_LANES, made.y, from);
            const unsigned z = __shfl_sync(ALL_LANES, made.z, from), w = __shfl_sync(ALL_LANES, made.w, from);
            words[2 * half] = odd ? z : x;
            words[2 * half + 1] = odd ? w : y;
        }
    }

    /// In (0, 1), of element k.
    __device__ __forceinline__ float of(int k) const {
        return __fmul_rn(__fadd_rn(__uint2float_rn(words[k / 2] >> 16 * (k % 2) & 0xFFFFu), 0.5f), 1.0f / 65536.0f);
    }
};
