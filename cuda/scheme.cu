// From weights to trits and scales, and back. The two schemes that rank magnitudes: magnitudes.cu.
//
// A group of up to 4096 weights is one canonical block: a warp does it from the first weight to the scale. The canonical blocks
// of longer groups are summed apart, a warp for each, and then added up group by group.
#include "canonical.cuh"
#include "philox.cuh"
#include "rows.cuh"
#include "scan.cuh"

constexpr int WARPS = THREADS / 32;

__device__ __forceinline__ float mean_of(double sum, u64 count) {
    return __double2float_rn(__ddiv_rn(sum, __ull2double_rn(max(count, 1ull))));
}

/// max(mean, 1e-5), where NaN stays NaN; the threshold is half of it.
__device__ __forceinline__ void set_absmean(float *thresholds, float *scales, u64 group, double sum, u64 count) {
    const float mean = mean_of(sum, count);
    const float scale = mean < 1e-5f ? 1e-5f : mean;
    scales[group] = scale;
    thresholds[group] = __fmul_rn(0.5f, scale);
}

/// What a weight adds to `mean_above`. NaN is not at most the threshold, and stays in the sum.
__device__ __forceinline__ float magnitude_above(float weight, float threshold, unsigned &above) {
    const bool at_most = fabsf(weight) <= threshold;
    above += !at_most;
    return at_most ? 0.0f : fabsf(weight);
}

// --- short groups ----------------------------------------------------------------------------------------------------

/// Groups of a warp, where they are so short that the loads of one would not fill the time it waits for them.
constexpr int TOGETHER = 4;
constexpr unsigned FEW = 256;

/// The sums of TOGETHER groups of at most FEW weights, of which ranges[g] says where they lie: term(g, weight).
template <class Term>
__device__ __forceinline__ void short_blocks(const float *w, const Range (&ranges)[TOGETHER], float (&sums)[TOGETHER],
                                             Term term) {
    u64 longest = 0;
#pragma unroll
    for (int g = 0; g < TOGETHER; ++g) {
        sums[g] = 0.0f;
        longest = max(longest, ranges[g].count);
    }
    for (unsigned i = lane_number(); i < longest; i += 32) {
        float weights[TOGETHER];
#pragma unroll
        for (int g = 0; g < TOGETHER; ++g)
            if (i < ranges[g].count) weights[g] = w[ranges[g].start + i];
#pragma unroll
        for (int g = 0; g < TOGETHER; ++g)
            if (i < ranges[g].count) sums[g] = __fadd_rn(sums[g], term(g, weights[g]));
    }
#pragma unroll
    for (int g = 0; g < TOGETHER; ++g) sums[g] = fold_lanes(sums[g]);
}

/// The ranges of TOGETHER groups from `first` on; there are none after the last.
__device__ __forceinline__ void short_ranges(const Groups &groups, u64 first, Range (&ranges)[TOGETHER]) {
#pragma unroll
    for (int g = 0; g < TOGETHER; ++g) {
        ranges[g] = {0, 0};
        if (first + g < groups.rows * groups.per_row) ranges[g] = weights_of(groups, first + g);
    }
}

/// Groups of at most 4096 weights: a warp for each, or for TOGETHER.
extern "C" __global__ void __launch_bounds__(THREADS)
absmean_groups(const float *w, Groups groups, float *thresholds, float *scales) {
    const u64 count = groups.rows * groups.per_row, warps = static_cast<u64>(gridDim.x) * WARPS;
    const u64 warp = static_cast<u64>(blockIdx.x) * WARPS + warp_number();
    if (groups.width > FEW) {
        for (u64 group = warp; group < count; group += warps) {
            const Range range = weights_of(groups, group);
            const float *const from = w + range.start;
            const float sum =
                canonical_block(static_cast<unsigned>(range.count), [=](unsigned i) { return fabsf(from[i]); });
            if (lane_number() == 0) set_absmean(thresholds, scales, group, sum, range.count);
        }
        return;
    }
    for (u64 first = warp * TOGETHER; first < count; first += warps * TOGETHER) {
        Range ranges[TOGETHER];
        float sums[TOGETHER];
        short_ranges(groups, first, ranges);
        short_blocks(w, ranges, sums, [](int, float weight) { return fabsf(weight); });
        if (lane_number() != 0) continue;
#pragma unroll
        for (int g = 0; g < TOGETHER; ++g)
            if (first + g < count) set_absmean(thresholds, scales, first + g, sums[g], ranges[g].count);
    }
}

/// Groups of at most 4096 weights: a warp for each, or for TOGETHER.
extern "C" __global__ void __launch_bounds__(THREADS)
mean_above_groups(const float *w, Groups groups, const float *thresholds, float *scales) {
    const u64 count = groups.rows * groups.per_row, warps = static_cast<u64>(gridDim.x) * WARPS;
    const u64 warp = static_cast<u64>(blockIdx.x) * WARPS + warp_number();
    if (groups.width > FEW) {
        for (u64 group = warp; group < count; group += warps) {
            const Range range = weights_of(groups, group);
            const float *const from = w + range.start;
            const float threshold = thresholds[group];
            unsigned above = 0;
            const float sum = canonical_block(static_cast<unsigned>(range.count), [&](unsigned i) {
                return magnitude_above(from[i], threshold, above);
            });
            above = __reduce_add_sync(ALL_LANES, above);
            if (lane_number() == 0) scales[group] = mean_of(sum, above);
        }
        return;
    }
    for (u64 first = warp * TOGETHER; first < count; first += warps * TOGETHER) {
        Range ranges[TOGETHER];
        float sums[TOGETHER], h[TOGETHER];
        unsigned above[TOGETHER] = {};
        short_ranges(groups, first, ranges);
#pragma unroll
        for (int g = 0; g < TOGETHER; ++g) h[g] = first + g < count ? thresholds[first + g] : 0.0f;
        short_blocks(w, ranges, sums, [&](int g, float weight) { return magnitude_above(weight, h[g], above[g]); });
#pragma unroll
        for (int g = 0; g < TOGETHER; ++g) {
            above[g] = __reduce_add_sync(ALL_LANES, above[g]);
            if (lane_number() == 0 && first + g < count) scales[first + g] = mean_of(sums[g], above[g]);
        }
    }
}

// --- long groups -----------------------------------------------------------------------------------------------------

/// The canonical block number `unit` of all, each group having `units` of them: which of its group's it is, how long it is, 0
/// past the end of a short last group, and where it begins.
struct Unit {
    u64 group, start;
    unsigned count;
};

__device__ __forceinline__ Unit unit_of(const Groups &groups, u64 unit, u64 units, const Divisor &by_units) {
    const u64 group = quotient(unit, by_units), skipped = (unit - group * units) * CANONICAL_BLOCK;
    const Range range = weights_of(groups, group);
    const u64 left = range.count > skipped ? range.count - skipped : 0;
    return {group, range.start + skipped, static_cast<unsigned>(min(left, static_cast<u64>(CANONICAL_BLOCK)))};
}

/// sums[groups, units]: a warp for each canonical block, in blocks of up to THREADS threads.
extern "C" __global__ void __launch_bounds__(THREADS)
absmean_blocks(const float *w, Groups groups, u64 units, Divisor by_units, float *sums) {
    const u64 count = groups.rows * groups.per_row * units, warps = global_threads() / 32;
    for (u64 i = global_thread() / 32; i < count; i += warps) {
        const Unit unit = unit_of(groups, i, units, by_units);
        const float *const from = w + unit.start;
        const float sum = canonical_block_of_few(unit.count, [=](unsigned i) { return fabsf(from[i]); });
        if (lane_number() == 0) sums[i] = sum;
    }
}

/// From sums[groups, units]: a block of threads for each group.
extern "C" __global__ void __launch_bounds__(1024)
absmean_of_blocks(Groups groups, u64 units, const float *sums, float *thresholds, float *scales) {
    for (u64 group = blockIdx.x; group < groups.rows * groups.per_row; group += gridDim.x) {
        const double sum = sum_in_order(sums + group * units, units);
        if (threadIdx.x == 0) set_absmean(thresholds, scales, group, sum, weights_of(groups, group).count);
    }
}

/// sums and counts[groups, units] of the magnitudes above the threshold of their group: a warp for each canonical block.
extern "C" __global__ void __launch_bounds__(THREADS)
mean_above_blocks(const float *w, Groups groups, u64 units, Divisor by_units, const float *thresholds, float *sums,
                  unsigned *counts) {
    const u64 count = groups.rows * groups.per_row * units, warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 i = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); i < count; i += warps) {
        const Unit unit = unit_of(groups, i, units, by_units);
        const float *const from = w + unit.start;
        const float threshold = thresholds[unit.group];
        unsigned above = 0;
        const float sum =
            canonical_block(unit.count, [&](unsigned i) { return magnitude_above(from[i], threshold, above); });
        above = __reduce_add_sync(ALL_LANES, above);
        if (lane_number() == 0) {
            sums[i] = sum;
            counts[i] = above;
        }
    }
}

/// From sums and counts[groups, units]: a block of threads for each group.
extern "C" __global__ void __launch_bounds__(1024)
mean_above_of_blocks(Groups groups, u64 units, const float *sums, const unsigned *counts, float *scales) {
    for (u64 group = blockIdx.x; group < groups.rows * groups.per_row; group += gridDim.x) {
        const double sum = sum_in_order(sums + group * units, units);
        u64 above = 0, total;
        for (u64 i = threadIdx.x; i < units; i += blockDim.x) above += counts[group * units + i];
        block_sums(above, total);
        if (threadIdx.x == 0) scales[group] = mean_of(sum, total);
    }
}

// --- trits -----------------------------------------------------------------------------------------------------------

/// The values (thresholds or scales) of the groups of w[rows, columns]: `whole` of one group, else `per_row` in a row.
struct Shared {
    const float *values;
    u64 width, per_row;
    Divisor by_width;
    unsigned whole;
};

/// Whether all weights, which are those of one row, are fours that have one value each and can be vectors.
__device__ __forceinline__ bool are_fours(const Shared &shared, const void *w, u64 rows, u64 columns) {
    return rows == 1 && columns % 4 == 0 && is_aligned(w, 16) &&
           (shared.whole || (shared.width % 4 == 0 && shared.width < 1u << 28));
}

/// Calls store(i, load(i), their value) for so many of them.
template <class Load, class Store>
__device__ __forceinline__ void each_four(const Shared &shared, u64 fours, Load load, Store store) {
    constexpr int STEP = 4;
    constexpr u64 TILE = static_cast<u64>(THREADS) * STEP;
    const float whole = shared.whole ? shared.values[0] : 0.0f;
    // ceil(2^(31 + shift) / width), with which the quotients of numbers below 2^31 are exact as those of 64 bits are.
    const unsigned magic = static_cast<unsigned>(shared.by_width.magic + 0xFFFFFFFFull >> 32);
    for (u64 base = blockIdx.x * TILE; base < fours; base += gridDim.x * TILE) {
        const u64 first = shared.whole ? 0 : quotient(4 * base, shared.by_width);
        const unsigned from = static_cast<unsigned>(4 * base - first * shared.width);
        decltype(load(0)) loaded[STEP] = {};
        float values[STEP];
#pragma unroll
        for (int s = 0; s < STEP; ++s) {
            const u64 i = base + s * THREADS + threadIdx.x;
            const unsigned past = from + 4 * (s * THREADS + threadIdx.x);
            values[s] = whole;
            if (i < fours) loaded[s] = load(i);
            if (i < fours && !shared.whole)
                values[s] = shared.values[first + (__umulhi(2 * past, magic) >> shared.by_width.shift)];
        }
#pragma unroll
        for (int s = 0; s < STEP; ++s) {
            const u64 i = base + s * THREADS + threadIdx.x;
            if (i < fours) store(i, loaded[s], values[s]);
        }
    }
}

/// The values for the four weights of a row from `column` on; past the last column any.
__device__ __forceinline__ float4 shared_by_four(const Shared &shared, u64 row, u64 column, u64 columns) {
    if (shared.whole) {
        const float one = shared.values[0];
        return make_float4(one, one, one, one);
    }
    const float *const values = shared.values + row * shared.per_row;
    const u64 first = quotient(column, shared.by_width);
    if (column - first * shared.width + 4 <= shared.width) {
        const float one = values[first];
        return make_float4(one, one, one, one);
    }
    const u64 last = columns - 1;
    return make_float4(values[first], values[quotient(min(column + 1, last), shared.by_width)],
                       values[quotient(min(column + 2, last), shared.by_width)],
                       values[quotient(min(column + 3, last), shared.by_width)]);
}

struct Four {
    float4 weights, values;
};

/// t + 1 with t = (w > h) - (w < -h).
__device__ __forceinline__ unsigned code_of(float weight, float threshold) {
    return 1u + (weight > threshold) - (weight < -threshold);
}

/// The codes of four weights that share a threshold.
__device__ __forceinline__ unsigned codes_of(float4 weights, float threshold) {
    return code_of(weights.x, threshold) | code_of(weights.y, threshold) << 2 | code_of(weights.z, threshold) << 4 |
           code_of(weights.w, threshold) << 6;
}

/// packed[rows, ceil(columns / 4)]: a byte a thread, `bytes` being its rows. Rows that fill their bytes and their groups are
/// given as one.
extern "C" __global__ void __launch_bounds__(THREADS)
ternarize(const float *w, Rows bytes, u64 columns, Shared thresholds, unsigned char *packed) {
    if (are_fours(thresholds, w, bytes.rows, columns)) {
        each_four(
            thresholds, bytes.length, [&](u64 i) { return load4(w + 4 * i); },
            [&](u64 i, float4 weights, float h) { packed[i] = static_cast<unsigned char>(codes_of(weights, h)); });
        return;
    }
    const bool vector = is_aligned(w, 16) && columns % 4 == 0;
    each_entry<1>(
        bytes,
        [&](Entry byte) {
            // Past the last column 0, of which every rule makes t = 0.
            return Four{read_four(w, byte.row, 4 * byte.at, columns, vector),
                        shared_by_four(thresholds, byte.row, 4 * byte.at, columns)};
        },
        [&](Entry byte, const Four &four) {
            const unsigned codes = code_of(four.weights.x, four.values.x) | code_of(four.weights.y, four.values.y) << 2 |
                                   code_of(four.weights.z, four.values.z) << 4 | code_of(four.weights.w, four.values.w) << 6;
            packed[byte.row * bytes.length + byte.at] = static_cast<unsigned char>(codes);
        });
}

/// t + 1 with t = sign(w) * (u * s < |w|).
__device__ __forceinline__ unsigned rounded_code(float weight, float scale, unsigned word) {
    const bool up = __fmul_rn(uniform(word), scale) < fabsf(weight);
    return 1u + (up && weight > 0.0f) - (up && weight < 0.0f);
}

/// The words of elements i .. i + 4.
__device__ __forceinline__ uint4 four_words(const Stream &stream, u64 i) {
    const uint4 first = philox(stream, i / 4);
    if (i % 4 == 0) return first;
    const uint4 second = philox(stream, i / 4 + 1);
    if (i % 4 == 1) return make_uint4(first.y, first.z, first.w, second.x);
    if (i % 4 == 2) return make_uint4(first.z, first.w, second.x, second.y);
    return make_uint4(first.w, second.x, second.y, second.z);
}

/// The codes of four weights that share a scale.
__device__ __forceinline__ unsigned rounded_codes(float4 weights, float scale, uint4 words) {
    return rounded_code(weights.x, scale, words.x) | rounded_code(weights.y, scale, words.y) << 2 |
           rounded_code(weights.z, scale, words.z) << 4 | rounded_code(weights.w, scale, words.w) << 6;
}

extern "C" __global__ void __launch_bounds__(THREADS)
ternarize_stochastic(const float *w, Rows bytes, u64 columns, Shared scales, Stream stream, unsigned char *packed) {
    if (are_fours(scales, w, bytes.rows, columns)) {
        each_four(
            scales, bytes.length, [&](u64 i) { return load4(w + 4 * i); },
            [&](u64 i, float4 weights, float s) {
                packed[i] = static_cast<unsigned char>(rounded_codes(weights, s, philox(stream, i)));
            });
        return;
    }
    const bool vector = is_aligned(w, 16) && columns % 4 == 0;
    each_entry<1>(
        bytes,
        [&](Entry byte) {
            // Past the last column 0, of which every rule makes t = 0.
            return Four{read_four(w, byte.row, 4 * byte.at, columns, vector),
                        shared_by_four(scales, byte.row, 4 * byte.at, columns)};
        },
        [&](Entry byte, const Four &four) {
            const uint4 words = four_words(stream, byte.row * columns + 4 * byte.at);
            const unsigned codes =
                rounded_code(four.weights.x, four.values.x, words.x) |
                rounded_code(four.weights.y, four.values.y, words.y) << 2 |
                rounded_code(four.weights.z, four.values.z, words.z) << 4 |
                rounded_code(four.weights.w, four.values.w, words.w) << 6;
            packed[byte.row * bytes.length + byte.at] = static_cast<unsigned char>(codes);
        });
}

struct FourTrits {
    unsigned codes;
    float4 scales;
};

extern "C" __global__ void __launch_bounds__(THREADS)
deternarize(const unsigned char *packed, Rows bytes, u64 columns, Shared scales, float *w) {
    if (are_fours(scales, w, bytes.rows, columns)) {
        each_four(
            scales, bytes.length, [&](u64 i) -> unsigned { return packed[i]; },
            [&](u64 i, unsigned codes, float s) {
                const auto weight = [&](int i) { return __fmul_rn(s, __int2float_rn(static_cast<int>(codes >> 2 * i & 3) - 1)); };
                store4(w + 4 * i, make_float4(weight(0), weight(1), weight(2), weight(3)));
            });
        return;
    }
    const bool vector = is_aligned(w, 16) && columns % 4 == 0;
    each_entry<1>(
        bytes,
        [&](Entry byte) {
            return FourTrits{packed[byte.row * bytes.length + byte.at],
                             shared_by_four(scales, byte.row, 4 * byte.at, columns)};
        },
        [&](Entry byte, const FourTrits &four) {
            const auto weight = [&](int i, float scale) {
                return __fmul_rn(scale, __int2float_rn(static_cast<int>(four.codes >> 2 * i & 3) - 1));
            };
            const float4 found = make_float4(weight(0, four.scales.x), weight(1, four.scales.y), weight(2, four.scales.z),
                                             weight(3, four.scales.w));
            write_four(w, byte.row, 4 * byte.at, columns, vector, found);
        });
}
