// Gradients in few bits, one scale a block: int8 codes rounded at random, and trits whose error is kept.
#include "canonical.cuh"
#include "philox.cuh"
#include "rows.cuh"
#include "scan.cuh"

constexpr int WARPS = THREADS / 32;

/// x[0 .. 4], of which `left` are there; what is not is 0.
__device__ __forceinline__ float4 load_some(const float *x, u64 left, bool vector) {
    if (vector && left >= 4) return load4(x);
    return make_float4(left > 0 ? x[0] : 0.0f, left > 1 ? x[1] : 0.0f, left > 2 ? x[2] : 0.0f, left > 3 ? x[3] : 0.0f);
}

__device__ __forceinline__ void store_some(signed char *to, u64 left, unsigned codes, bool vector) {
    if (vector && left >= 4) {
        *reinterpret_cast<unsigned *>(to) = codes;
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (left > i) to[i] = static_cast<signed char>(codes >> 8 * i);
}

// --- int8 codes ------------------------------------------------------------------------------------------------------

/// max(largest, |x|) of four, where NaN counts as nothing.
__device__ __forceinline__ float larger(float largest, float4 x) {
    return fmaxf(fmaxf(fmaxf(fmaxf(largest, fabsf(x.x)), fabsf(x.y)), fabsf(x.z)), fabsf(x.w));
}

/// At least the least normal number; at most the largest whose 127-fold is finite.
__device__ __forceinline__ float scale_of(float absmax) {
    const float largest = __uint_as_float(__float_as_uint(3.40282347e+38f / 127.0f) - 1);
    return fminf(fmaxf(__fdiv_rn(absmax, 127.0f), 1.17549435e-38f), largest);
}

__device__ __forceinline__ int rounded(float g, float scale, unsigned word) {
    const float magnitude = fminf(fabsf(__fdiv_rn(g, scale)), 127.0f), below = floorf(magnitude);
    const int code = __float2int_rz(below) + (uniform(word) < __fsub_rn(magnitude, below));
    return g < 0.0f ? -code : code;
}

/// The lowest bytes of four numbers.
__device__ __forceinline__ unsigned lowest_bytes(unsigned x, unsigned y, unsigned z, unsigned w) {
    return __byte_perm(__byte_perm(x, y, 0x0040), __byte_perm(z, w, 0x0040), 0x5410);
}

/// A byte for each of four numbers: all its bits are the sign.
__device__ __forceinline__ unsigned sign_bytes(float x, float y, float z, float w) {
    const unsigned low = bytes_or_signs(__float_as_uint(x), __float_as_uint(y), 0x00FB);
    return __byte_perm(low, bytes_or_signs(__float_as_uint(z), __float_as_uint(w), 0x00FB), 0x5410);
}

__device__ __forceinline__ unsigned rounded_four_exactly(float4 g, float scale, uint4 words) {
    return lowest_bytes(rounded(g.x, scale, words.x), rounded(g.y, scale, words.y), rounded(g.z, scale, words.z),
                        rounded(g.w, scale, words.w));
}

/// A scale in units of 2^-24, which is what random numbers are in. The fast way takes words of `least` and more: none where the
/// scale is below 2^-75.
struct Units {
    float scale, unit, inverse;
    unsigned least;

    __device__ __forceinline__ explicit Units(float s) : scale(s) {
        unit = __fmul_rn(s, 1.0f / 16777216.0f);
        inverse = __frcp_rn(unit);
        least = s >= 2.64697796e-23f ? 256u : 0xFFFFFFFFu;
    }

    /// |g| / unit. From 1/2 on, it is rounded as IEEE 754 demands: with the inverse rounded to nearest, what is rounded at the
    /// end differs from the true quotient by so little that a midpoint can lie between only where 2^24 or 2^25 times the first
    /// mantissa is within 5 of the second times an odd number, and all such pairs have been tried. Smaller quotients stay below
    /// any random number but 0, whatever their last bits are.
    __device__ __forceinline__ float quotient(float g) const {
        const float first = __fmul_rn(g, inverse);
        return fabsf(fused(fused(-first, unit, g), inverse, first));
    }

    /// The codes of four numbers that are finite, by random numbers none of which is 0.
    __device__ __forceinline__ unsigned fast(float4 g, uint4 words) const {
        // The last place of 2^47 is worth 2^24, so that a sum that is rounded down ends in the whole part.
        constexpr float WHOLE = 140737488355328.0f;
        const float q[4] = {quotient(g.x), quotient(g.y), quotient(g.z), quotient(g.w)};
        const unsigned random[4] = {words.x, words.y, words.z, words.w};
        float sum[4], difference[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            sum[i] = __fadd_rd(q[i], WHOLE);
            const float rest = __fsub_rn(q[i], __fsub_rn(sum[i], WHOLE));
            // Below 0 where the random number is less.
            difference[i] = __fsub_rn(__uint2float_rn(random[i] >> 8), rest);
        }
        unsigned codes = lowest_bytes(__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                                      __float_as_uint(sum[3]));
        codes += sign_bytes(difference[0], difference[1], difference[2], difference[3]) & 0x01010101u;
        // The largest quotient may be a little above 127. Then ~c + 1 of the negative ones, without a carry between bytes.
        codes -= codes >> 7 & 0x01010101u;
        const unsigned negative = sign_bytes(g.x, g.y, g.z, g.w);
        return ((codes ^ negative) & 0x7F7F7F7Fu) + (negative & 0x01010101u) ^ (negative & 0x80808080u);
    }
};

__device__ __forceinline__ unsigned least_of(uint4 words) { return min(min(words.x, words.y), min(words.z, words.w)); }

/// max(largest, |x|) of four, where NaN is the largest.
__device__ __forceinline__ float larger_or_nan(float largest, float4 x) {
    largest = max_or_nan(max_or_nan(largest, fabsf(x.x)), fabsf(x.y));
    return max_or_nan(max_or_nan(largest, fabsf(x.z)), fabsf(x.w));
}

constexpr unsigned INFINITE = 0x7F800000u;

/// Of elements i .. i + 4 of all, i being a multiple of 4.
__device__ __forceinline__ unsigned rounded_four(float4 g, const Units &by, const Stream &stream, u64 i) {
    const uint4 words = philox(stream, i / 4);
    if (least_of(words) >= by.least && __float_as_uint(larger_or_nan(0.0f, g)) < INFINITE) return by.fast(g, words);
    return rounded_four_exactly(g, by.scale, words);
}

/// One block, elements start .. start + count of g, by `threads` threads of which this one is number `thread`; `largest` gives
/// all of them the largest of their values, none below 0. A thread keeps KEPT fours; what is beyond them is read twice.
template <int KEPT, class Largest>
__device__ __forceinline__ void quantize_block(const float *g, const Stream &stream, u64 start, u64 count, signed char *codes,
                                               float *scale, unsigned thread, unsigned threads, Largest largest) {
    const bool vector = is_aligned(g, 16), codes_vector = is_aligned(codes, 4);
    const float *const from = g + start;
    signed char *const to = codes + start;
    const u64 step = static_cast<u64>(4) * threads;
    const auto left = [=](u64 i) { return i < count ? count - i : 0; };
    float4 kept[KEPT];
#pragma unroll
    for (int v = 0; v < KEPT; ++v) {
        const u64 i = 4 * thread + v * step;
        kept[v] = load_some(from + i, left(i), vector);
    }
    float absmax = 0.0f;
#pragma unroll
    for (int v = 0; v < KEPT; ++v) absmax = larger(absmax, kept[v]);
    for (u64 i = 4 * thread + KEPT * step; i < count; i += step) absmax = larger(absmax, load_some(from + i, left(i), vector));
    const Units s(scale_of(__uint_as_float(largest(__float_as_uint(absmax)))));
#pragma unroll
    for (int v = 0; v < KEPT; ++v) {
        const u64 i = 4 * thread + v * step;
        if (i < count) store_some(to + i, left(i), rounded_four(kept[v], s, stream, start + i), codes_vector);
    }
    for (u64 i = 4 * thread + KEPT * step; i < count; i += step) {
        const float4 four = load_some(from + i, left(i), vector);
        store_some(to + i, left(i), rounded_four(four, s, stream, start + i), codes_vector);
    }
    if (thread == 0) *scale = s.scale;
}

/// A warp for each block of at most 256 elements, which are whole vectors: two of a lane.
__device__ __forceinline__ void quantize_fours(const float4 *g, const Stream &stream, u64 fours, unsigned block_fours, u64 blocks,
                                               unsigned *codes, float *scales) {
    const u64 warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 b = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); b < blocks; b += warps) {
        const u64 start = b * block_fours, first = start + lane_number(), second = first + 32;
        const unsigned here = static_cast<unsigned>(min(static_cast<u64>(block_fours), fours - start));
        const bool has_first = lane_number() < here, has_second = lane_number() + 32 < here;
        const float4 zeros = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        const float4 x = has_first ? g[first] : zeros, y = has_second ? g[second] : zeros;
        const unsigned most = __reduce_max_sync(ALL_LANES, __float_as_uint(larger_or_nan(larger_or_nan(0.0f, x), y)));
        unsigned bits = most;
        if (most > INFINITE) bits = __reduce_max_sync(ALL_LANES, __float_as_uint(larger(larger(0.0f, x), y)));
        const Units by(scale_of(__uint_as_float(bits)));
        const uint4 x_words = philox(stream, first), y_words = philox(stream, second);
        unsigned x_codes, y_codes;
        if (min(least_of(x_words), least_of(y_words)) >= by.least && most < INFINITE) {
            x_codes = by.fast(x, x_words);
            y_codes = by.fast(y, y_words);
        } else {
            x_codes = rounded_four_exactly(x, by.scale, x_words);
            y_codes = rounded_four_exactly(y, by.scale, y_words);
        }
        if (has_first) codes[first] = x_codes;
        if (has_second) codes[second] = y_codes;
        if (lane_number() == 0) scales[b] = by.scale;
    }
}

/// A warp for each of so many blocks of up to 1024.
extern "C" __global__ void __launch_bounds__(THREADS)
quantize_gradients(const float *g, Stream stream, u64 count, u64 block, u64 blocks, signed char *codes, float *scales) {
    if (block <= 256 && count % 4 == 0 && is_aligned(g, 16) && is_aligned(codes, 4)) {
        quantize_fours(reinterpret_cast<const float4 *>(g), stream, count / 4, static_cast<unsigned>(block / 4), blocks,
                       reinterpret_cast<unsigned *>(codes), scales);
        return;
    }
    const u64 warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 b = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); b < blocks; b += warps)
        quantize_block<2>(g, stream, b * block, min(block, count - b * block), codes, scales + b, lane_number(), 32,
                          [](unsigned bits) { return __reduce_max_sync(ALL_LANES, bits); });
}

/// A block of threads for each block.
extern "C" __global__ void __launch_bounds__(THREADS)
quantize_gradients_wide(const float *g, Stream stream, u64 count, u64 block, u64 blocks, signed char *codes, float *scales) {
    for (u64 b = blockIdx.x; b < blocks; b += gridDim.x)
        quantize_block<4>(g, stream, b * block, min(block, count - b * block), codes, scales + b, threadIdx.x, THREADS,
                          [](unsigned bits) { return block_max(bits); });
}

/// A tile of 4 * THREADS elements of a block of `block`, each having `tiles` of them.
struct Tile {
    u64 block, start, count;
};

__device__ __forceinline__ Tile tile_of(u64 number, u64 count, u64 block, u64 tiles, const Divisor &by_tiles) {
    constexpr u64 SIZE = 4 * THREADS;
    const u64 b = quotient(number, by_tiles), in_block = (number - b * tiles) * SIZE, start = b * block + in_block;
    const u64 end = min(count - b * block, block);
    return {b, start, end > in_block ? min(end - in_block, SIZE) : 0};
}

/// The bits of the largest magnitude of each block, 0 before, in place of its scale: for blocks so long that several blocks of
/// threads share one.
extern "C" __global__ void __launch_bounds__(THREADS)
largest_gradients(const float *g, u64 count, u64 block, u64 tiles, Divisor by_tiles, u64 all_tiles, unsigned *largest) {
    const bool vector = is_aligned(g, 16);
    for (u64 number = blockIdx.x; number < all_tiles; number += gridDim.x) {
        const Tile tile = tile_of(number, count, block, tiles, by_tiles);
        const u64 i = 4 * threadIdx.x;
        const float4 four = load_some(g + tile.start + i, i < tile.count ? tile.count - i : 0, vector);
        const unsigned bits = block_max(__float_as_uint(larger(0.0f, four)));
        if (threadIdx.x == 0) atomicMax(largest + tile.block, bits);
    }
}

/// From the bits of the largest magnitudes.
extern "C" __global__ void __launch_bounds__(THREADS) gradient_scales(const unsigned *largest, float *scales, u64 blocks) {
    for (u64 b = global_thread(); b < blocks; b += global_threads()) scales[b] = scale_of(__uint_as_float(largest[b]));
}

/// The codes, where the scales are there.
extern "C" __global__ void __launch_bounds__(THREADS)
quantize_gradients_by(const float *g, Stream stream, u64 count, u64 block, u64 tiles, Divisor by_tiles, u64 all_tiles,
                      const float *scales, signed char *codes) {
    const bool vector = is_aligned(g, 16), codes_vector = is_aligned(codes, 4);
    for (u64 number = blockIdx.x; number < all_tiles; number += gridDim.x) {
        const Tile tile = tile_of(number, count, block, tiles, by_tiles);
        const u64 i = 4 * threadIdx.x;
        if (i >= tile.count) continue;
        const float4 four = load_some(g + tile.start + i, tile.count - i, vector);
        const unsigned found = rounded_four(four, Units(scales[tile.block]), stream, tile.start + i);
        store_some(codes + tile.start + i, tile.count - i, found, codes_vector);
    }
}

/// g[count] = scale * code, by fours, of which a block has `by_fours` many.
extern "C" __global__ void __launch_bounds__(THREADS)
dequantize_gradients(const signed char *codes, const float *scales, u64 count, Divisor by_fours, float *g) {
    const bool vector = is_aligned(codes, 4) && is_aligned(g, 16);
    const Rows fours = {1, count / 4 + (count % 4 > 0), {}};
    struct Four {
        char4 codes;
        float scale;
    };
    each_entry(
        fours,
        [&](Entry four) {
            const signed char *const from = codes + 4 * four.at;
            const u64 left = count - 4 * four.at;
            Four found = {{}, scales[quotient(four.at, by_fours)]};
            found.codes = vector && left >= 4 ? *reinterpret_cast<const char4 *>(from)
                                              : make_char4(from[0], left > 1 ? from[1] : 0, left > 2 ? from[2] : 0,
                                                           left > 3 ? from[3] : 0);
            return found;
        },
        [&](Entry four, const Four &found) {
            const auto value = [&](int code) { return __fmul_rn(found.scale, __int2float_rn(code)); };
            float *const to = g + 4 * four.at;
            const u64 left = count - 4 * four.at;
            if (vector && left >= 4) {
                store4(to, make_float4(value(found.codes.x), value(found.codes.y), value(found.codes.z), value(found.codes.w)));
                return;
            }
            to[0] = value(found.codes.x);
            if (left > 1) to[1] = value(found.codes.y);
            if (left > 2) to[2] = value(found.codes.z);
            if (left > 3) to[3] = value(found.codes.w);
        });
}

// --- trits -----------------------------------------------------------------------------------------------------------

/// A threshold of 0.7 in units of the mean magnitude. A mean that is no number of f32 leaves ~block in `bad`, where the
/// least block wins: the largest ~block.
__device__ __forceinline__ float threshold_of(double sum, u64 count, u64 block, u64 *bad) {
    const float mean = __double2float_rn(__ddiv_rn(sum, __ull2double_rn(count)));
    if (!(mean < __uint_as_float(0x7F800000u))) atomicMax(bad, ~block);
    return __fmul_rn(0.7f, mean);
}

__device__ __forceinline__ float mean_of(double sum, u64 count) {
    return count == 0 ? 0.0f : __double2float_rn(__ddiv_rn(sum, __ull2double_rn(count)));
}

__device__ __forceinline__ float above(float magnitude, float threshold, unsigned &count) {
    const bool is_above = magnitude > threshold;
    count += is_above;
    return is_above ? magnitude : 0.0f;
}

/// Thresholds and scales of blocks of up to 4096: a warp for each.
extern "C" __global__ void __launch_bounds__(THREADS)
measure_gradients(const float *g, const float *error, u64 count, u64 block, float *thresholds, float *scales, u64 *bad) {
    const u64 blocks = count / block + (count % block > 0), warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 b = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); b < blocks; b += warps) {
        const unsigned here = static_cast<unsigned>(min(block, count - b * block));
        const float *const g_here = g + b * block, *const error_here = error + b * block;
        const auto magnitude = [=](unsigned i) { return fabsf(__fadd_rn(g_here[i], error_here[i])); };
        const float all = canonical_block(here, magnitude);
        float threshold = 0.0f;
        if (lane_number() == 0) threshold = threshold_of(all, here, b, bad);
        threshold = __shfl_sync(ALL_LANES, threshold, 0);
        unsigned number = 0;
        const float sum = canonical_block(here, [&](unsigned i) { return above(magnitude(i), threshold, number); });
        number = __reduce_add_sync(ALL_LANES, number);
        if (lane_number() == 0) {
            thresholds[b] = threshold;
            scales[b] = mean_of(sum, number);
        }
    }
}

/// The canonical block `unit` of all, each block of the gradient having `units` of them.
__device__ __forceinline__ Tile unit_of(u64 unit, u64 count, u64 block, u64 units, const Divisor &by_units) {
    const u64 b = quotient(unit, by_units), in_block = (unit - b * units) * CANONICAL_BLOCK, start = b * block + in_block;
    const u64 end = min(count - b * block, block);
    return {b, start, end > in_block ? min(end - in_block, static_cast<u64>(CANONICAL_BLOCK)) : 0};
}

/// sums[blocks, units] of magnitudes above the thresholds, and how many those are: a warp for each canonical block. Without
/// thresholds, of all.
extern "C" __global__ void __launch_bounds__(THREADS)
measure_gradient_blocks(const float *g, const float *error, u64 count, u64 block, u64 units, Divisor by_units, u64 all_units,
                        const float *thresholds, float *sums, unsigned *counts) {
    const u64 warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 i = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); i < all_units; i += warps) {
        const Tile unit = unit_of(i, count, block, units, by_units);
        const float *const g_here = g + unit.start, *const error_here = error + unit.start;
        const float threshold = thresholds ? thresholds[unit.block] : -1.0f;
        unsigned number = 0;
        const float sum = canonical_block(static_cast<unsigned>(unit.count), [&](unsigned i) {
            const float magnitude = fabsf(__fadd_rn(g_here[i], error_here[i]));
            // NaN is to be seen in the sum of all.
            return thresholds ? above(magnitude, threshold, number) : magnitude;
        });
        number = __reduce_add_sync(ALL_LANES, number);
        if (lane_number() == 0) {
            sums[i] = sum;
            counts[i] = number;
        }
    }
}

/// The thresholds from sums[blocks, units] of all magnitudes: a block of threads for each.
extern "C" __global__ void __launch_bounds__(1024)
gradient_thresholds_of_blocks(u64 count, u64 block, u64 blocks, u64 units, const float *sums, float *thresholds, u64 *bad) {
    for (u64 b = blockIdx.x; b < blocks; b += gridDim.x) {
        const double sum = sum_in_order(sums + b * units, units);
        if (threadIdx.x == 0) thresholds[b] = threshold_of(sum, min(block, count - b * block), b, bad);
    }
}

/// The scales from sums and counts[blocks, units] of the magnitudes above: a block of threads for each.
extern "C" __global__ void __launch_bounds__(1024)
gradient_scales_of_blocks(u64 blocks, u64 units, const float *sums, const unsigned *counts, float *scales) {
    for (u64 b = blockIdx.x; b < blocks; b += gridDim.x) {
        const double sum = sum_in_order(sums + b * units, units);
        u64 number = 0, total;
        for (u64 i = threadIdx.x; i < units; i += blockDim.x) number += counts[b * units + i];
        block_sums(number, total);
        if (threadIdx.x == 0) scales[b] = mean_of(sum, total);
    }
}

/// The trits, and what is left of x = g + error after them; nothing where a block was `bad`. By fours, of which a block has
/// `by_fours` many.
extern "C" __global__ void __launch_bounds__(THREADS)
ternarize_gradients(const float *g, u64 count, Divisor by_fours, const float *thresholds, const float *found_scales,
                    const u64 *bad, float *error, unsigned char *packed) {
    if (*bad) return;
    const bool vector = is_aligned(g, 16) && is_aligned(error, 16);
    const Rows fours = {1, count / 4 + (count % 4 > 0), {}};
    struct Four {
        float4 g, error;
        float threshold, scale;
    };
    each_entry(
        fours,
        [&](Entry four) {
            const u64 block = quotient(four.at, by_fours), left = count - 4 * four.at;
            return Four{load_some(g + 4 * four.at, left, vector), load_some(error + 4 * four.at, left, vector),
                        thresholds[block], found_scales[block]};
        },
        [&](Entry four, const Four &found) {
            const float x[4] = {__fadd_rn(found.g.x, found.error.x), __fadd_rn(found.g.y, found.error.y),
                                __fadd_rn(found.g.z, found.error.z), __fadd_rn(found.g.w, found.error.w)};
            float rest[4];
            unsigned codes = 0;
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int t = (x[i] > found.threshold) - (x[i] < -found.threshold);
                rest[i] = __fsub_rn(x[i], __fmul_rn(found.scale, __int2float_rn(t)));
                codes |= static_cast<unsigned>(t + 1) << 2 * i;
            }
            packed[four.at] = static_cast<unsigned char>(codes);
            float *const to = error + 4 * four.at;
            const u64 left = count - 4 * four.at;
            if (vector && left >= 4) {
                store4(to, make_float4(rest[0], rest[1], rest[2], rest[3]));
                return;
            }
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (i < static_cast<int>(min(left, 4ull))) to[i] = rest[i];
        });
}

/// scales[blocks], where no block was `bad`.
extern "C" __global__ void __launch_bounds__(THREADS)
copy_gradient_scales(const float *found_scales, u64 blocks, const u64 *bad, float *scales) {
    if (*bad) return;
    for (u64 b = global_thread(); b < blocks; b += global_threads()) scales[b] = found_scales[b];
}
