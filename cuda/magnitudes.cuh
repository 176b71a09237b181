// Magnitudes in order, for the schemes `absmedian` and `least_squares`: src/backend/scalar/scheme.rs defines them.
//
// The bits of a float without its sign, as an integer, are in the order of the magnitudes; those of infinities and NaN are the
// largest. `least_squares` goes by the integers m = trunc(|w| * 2^(31 - e)), where e is the least exponent for which all
// |w| < 2^e: they are in the same order, and their sums are exact.
#pragma once
#include "rows.cuh"
#include "scan.cuh"

constexpr unsigned INFINITE = 0x7F800000u;

__device__ __forceinline__ unsigned magnitude(float weight) { return __float_as_uint(weight) & 0x7FFFFFFFu; }

__device__ __forceinline__ void set_scale(float *thresholds, float *scales, u64 group, float scale) {
    scales[group] = scale;
    thresholds[group] = __fmul_rn(0.5f, scale);
}

/// The scale of a median: NaN where a magnitude is not finite, at least 1e-5.
__device__ __forceinline__ float median_scale(unsigned median, unsigned largest) {
    if (largest >= INFINITE) return __uint_as_float(0x7FC00000u);
    return fmaxf(__uint_as_float(median), 1e-5f);
}

/// Calls f(weight) for the weights of a block of threads: some loads are in flight together.
template <class F>
__device__ __forceinline__ void each_weight(const float *w, u64 count, F f) {
    constexpr int STEP = 8;
    const u64 threads = blockDim.x;
    u64 i = threadIdx.x;
    for (; i + (STEP - 1) * threads < count; i += STEP * threads) {
        float weights[STEP];
#pragma unroll
        for (int s = 0; s < STEP; ++s) weights[s] = w[i + s * threads];
#pragma unroll
        for (int s = 0; s < STEP; ++s) f(weights[s]);
    }
    for (; i < count; i += threads) f(w[i]);
}

// --- sorted ----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ void order(unsigned &a, unsigned &b) {
    const unsigned larger = max(a, b);
    b = min(a, b);
    a = larger;
}

/// Sorts numbers in descending order: Batcher's bitonic network in the form whose comparators all point one way. A merge first
/// compares each number with its mirror image in the other half, then with those half, a quarter, ... as far away as the
/// halves are long.
template <int COUNT>
__device__ __forceinline__ void sort_thread(unsigned (&v)[COUNT]) {
#pragma unroll
    for (int size = 2; size <= COUNT; size *= 2) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            if ((i ^ (size - 1)) > i) order(v[i], v[i ^ (size - 1)]);
#pragma unroll
        for (int distance = size / 4; distance > 0; distance /= 2) {
#pragma unroll
            for (int i = 0; i < COUNT; ++i)
                if ((i ^ distance) > i) order(v[i], v[i ^ distance]);
        }
    }
}

/// Sorts 32 * EACH numbers of a warp in the same way, of which lane l has those from l * EACH on.
template <int EACH>
__device__ __forceinline__ void sort_warp(unsigned (&v)[EACH]) {
    sort_thread(v);
#pragma unroll
    for (int lanes = 2; lanes <= 32; lanes *= 2) {
        unsigned mirrored[EACH];
#pragma unroll
        for (int i = 0; i < EACH; ++i) mirrored[i] = __shfl_xor_sync(ALL_LANES, v[EACH - 1 - i], lanes - 1);
        const bool second = lane_number() & lanes / 2;
#pragma unroll
        for (int i = 0; i < EACH; ++i) v[i] = second ? min(v[i], mirrored[i]) : max(v[i], mirrored[i]);
#pragma unroll
        for (int distance = lanes / 4; distance > 0; distance /= 2) {
            const bool lower = lane_number() & distance;
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                const unsigned other = __shfl_xor_sync(ALL_LANES, v[i], distance);
                v[i] = lower ? min(v[i], other) : max(v[i], other);
            }
        }
#pragma unroll
        for (int distance = EACH / 2; distance > 0; distance /= 2) {
#pragma unroll
            for (int i = 0; i < EACH; ++i)
                if ((i ^ distance) > i) order(v[i], v[i ^ distance]);
        }
    }
}

/// Sorts v[0 .. count], in shared memory, in descending order; zeros follow up to a power of two, for which there is room. By a
/// block of threads, all of which call it.
__device__ inline void sort_shared(unsigned *v, unsigned count) {
    unsigned whole = 2;
    while (whole < count) whole *= 2;
    __syncthreads();
    for (unsigned i = count + threadIdx.x; i < whole; i += blockDim.x) v[i] = 0;
    __syncthreads();
    for (unsigned size = 2; size <= whole; size *= 2) {
        for (unsigned i = threadIdx.x; i < whole / 2; i += blockDim.x) {
            const unsigned start = i / (size / 2) * size, at = i % (size / 2);
            order(v[start + at], v[start + size - 1 - at]);
        }
        __syncthreads();
        for (unsigned distance = size / 4; distance > 0; distance /= 2) {
            for (unsigned i = threadIdx.x; i < whole / 2; i += blockDim.x) {
                const unsigned at = i / distance * 2 * distance + i % distance;
                order(v[at], v[at + distance]);
            }
            __syncthreads();
        }
    }
}

// --- integers --------------------------------------------------------------------------------------------------------

/// The least e with all magnitudes below 2^e, from the bits of the largest, which is not 0.
__device__ __forceinline__ int exponent_of(unsigned largest) {
    const int field = static_cast<int>(largest >> 23);
    return field == 0 ? 32 - __clz(static_cast<int>(largest)) - 149 : field - 126;
}

/// m of a magnitude's bits: its mantissa times 2^(field - 150) times 2^(31 - e), truncated.
__device__ __forceinline__ unsigned integer_of(unsigned bits, int exponent) {
    const unsigned field = bits >> 23, mantissa = field == 0 ? bits : (bits & 0x007FFFFFu) | 0x00800000u;
    const int shift = static_cast<int>(max(field, 1u)) - 119 - exponent;
    return shift >= 0 ? mantissa << shift : mantissa >> min(-shift, 31);
}

/// The k largest integers: (P_k * P_k) * (1 / k), k, and their sum.
struct Best {
    double f;
    u64 k, sum;
};

__device__ __forceinline__ Best best_of(u64 k, u64 sum) {
    const double p = __ull2double_rn(sum);
    return {__dmul_rn(__dmul_rn(p, p), __drcp_rn(__ull2double_rn(k))), k, sum};
}

/// The larger f; of the same, the smaller k.
__device__ __forceinline__ Best better(Best a, Best b) { return b.f > a.f || (b.f == a.f && b.k < a.k) ? b : a; }

/// The best of a warp, in every lane.
__device__ __forceinline__ Best best_of_warp(const Best &own) {
    Best best = own;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        best = better(best, {__shfl_xor_sync(ALL_LANES, best.f, distance), __shfl_xor_sync(ALL_LANES, best.k, distance), 0});
    const unsigned whose = __ballot_sync(ALL_LANES, own.f == best.f && own.k == best.k);
    best.sum = __shfl_sync(ALL_LANES, own.sum, __ffs(static_cast<int>(whose)) - 1);
    return best;
}

/// The best of a block of threads, in every thread.
__device__ inline Best best_of_block(Best best) {
    __shared__ Best of_warps[32];
    best = best_of_warp(best);
    __syncthreads();
    if (lane_number() == 0) of_warps[warp_number()] = best;
    __syncthreads();
    return best_of_warp(of_warps[lane_number() < blockDim.x / 32 ? lane_number() : 0]);
}

/// P / k * 2^(e - 31), rounded to f32. In f64 the power is a normal number, and the product with it exact.
__device__ __forceinline__ float scale_of(Best best, unsigned largest) {
    if (largest >= INFINITE) return __uint_as_float(0x7FC00000u);
    if (largest == 0) return 0.0f;
    const double mean = __ddiv_rn(__ull2double_rn(best.sum), __ull2double_rn(best.k));
    const long long power = exponent_of(largest) - 31 + 1023;
    return __double2float_rn(__dmul_rn(mean, __longlong_as_double(power << 52)));
}

// --- a histogram of integers -----------------------------------------------------------------------------------------

/// Integers below 64 each have a bin; of those above, every octave has 64. No two bins share an integer: where a bin
/// ends, a run of equal ones does.
constexpr unsigned BINS = 26 * 64;

__device__ __forceinline__ unsigned bin_of(unsigned m) {
    if (m < 64) return m;
    const unsigned shift = 25 - __clz(static_cast<int>(m));
    return (shift << 6) + (m >> shift);
}

/// The least integer of a bin, and how many there are.
__device__ __forceinline__ unsigned bin_low(unsigned bin) { return bin < 64 ? bin : ((bin & 63) | 64) << ((bin >> 6) - 1); }
__device__ __forceinline__ unsigned bin_width(unsigned bin) { return bin < 64 ? 1 : 1u << ((bin >> 6) - 1); }

/// In shared memory: how many integers each bin has, and the sum of what they are above its least, in two parts, since it is
/// words that are added to without others noticing: the low 16 bits and the rest. For 65536 integers at most.
constexpr unsigned HISTOGRAM = 65536;

struct Histogram {
    unsigned *counts, *lows, *highs;

    __device__ __forceinline__ void add(unsigned m) const {
        const unsigned bin = bin_of(m), rest = m - bin_low(bin);
        atomicAdd(counts + bin, 1u);
        if (rest & 0xFFFF) atomicAdd(lows + bin, rest & 0xFFFF);
        if (rest >> 16) atomicAdd(highs + bin, rest >> 16);
    }

    __device__ __forceinline__ void clear() const {
        for (unsigned bin = threadIdx.x; bin < BINS; bin += blockDim.x) counts[bin] = lows[bin] = highs[bin] = 0;
    }

    /// The sum of the integers of a bin.
    __device__ __forceinline__ u64 sum(unsigned bin) const {
        return static_cast<u64>(counts[bin]) * bin_low(bin) + lows[bin] + (static_cast<u64>(highs[bin]) << 16);
    }
};

/// What a histogram tells: the best end of a bin, and in which integers low .. high a better one can be, of which there are
/// `count`, after `k` larger ones with the sum `sum`.
struct Interval {
    Best best;
    u64 k, sum, count;
    unsigned low, high;
};

/// Whether f can be `least` inside of a bin of c integers with the sum S, all from lo to hi, after K with the sum P. Of the bin,
/// the j largest have a sum of at most j hi, and of at most S - (c - j) lo, which is what the others leave. The lesser of the two
/// changes at j* = (S - c lo) / (hi - lo). As (P + a j)^2 / (K + j) is convex in j, it is largest at an end: so f is at most what
/// it is at j = 0 or j = c, where the bins meet, or (P + hi j*)^2 / (K + j*). Here both sides of the comparison with that are
/// multiplied by (hi - lo)^2 (K + j*).
__device__ __forceinline__ bool can_reach(double least, unsigned bin, u64 count, u64 in_bin, u64 k, u64 sum) {
    if (count < 2) return false;
    const unsigned low = bin_low(bin), between = bin_width(bin) - 1;
    const double above = __ull2double_rn(in_bin - count * low), width = between;
    const double apex = __dadd_rn(__dmul_rn(__ull2double_rn(sum), width), __dmul_rn(static_cast<double>(low + between), above));
    const double bound = __dmul_rn(__dmul_rn(least, __dadd_rn(__dmul_rn(__ull2double_rn(k), width), above)), width);
    return __dmul_rn(apex, apex) > bound;
}

/// By a block of 1024 threads, all of which get it. Each has the counts and sums of two bins, in descending order:
/// `bin_of_thread` says which.
constexpr unsigned INTERVAL_THREADS = 1024;

__device__ __forceinline__ unsigned bin_of_thread(int i) { return BINS - 1 - (2 * threadIdx.x + i); }
__device__ __forceinline__ bool has_bins() { return threadIdx.x < BINS / 2; }

__device__ inline Interval interval_of(const u64 (&counts)[2], const u64 (&sums)[2]) {
    __shared__ Interval found;
    __shared__ unsigned first, last;
    u64 all;
    const u64 k = block_sums(counts[0] + counts[1], all), sum = block_sums(sums[0] + sums[1], all);
    const u64 ks[3] = {k, k + counts[0], k + counts[0] + counts[1]}, ps[3] = {sum, sum + sums[0], sum + sums[0] + sums[1]};
    Best best = {-1.0, 1, 0};
    for (int i = 0; i < 2; ++i)
        if (counts[i] > 0) best = better(best, best_of(ks[i + 1], ps[i + 1]));
    best = best_of_block(best);
    if (threadIdx.x == 0) {
        first = BINS;
        last = 0;
        found = {best, 0, 0, 0, 0, 0};
    }
    __syncthreads();
    // Less by more than what is rounded here.
    const double least = __dmul_rn(best.f, 1.0 - 1.0 / (1ull << 40));
    for (unsigned i = 0; i < 2; ++i)
        if (can_reach(least, bin_of_thread(static_cast<int>(i)), counts[i], sums[i], ks[i], ps[i])) {
            atomicMin(&first, 2 * threadIdx.x + i);
            atomicMax(&last, 2 * threadIdx.x + i);
        }
    __syncthreads();
    for (unsigned i = 0; i < 2; ++i) {
        const unsigned bin = bin_of_thread(static_cast<int>(i));
        if (2 * threadIdx.x + i == first && first < BINS) {
            found.k = ks[i];
            found.sum = ps[i];
            found.high = bin_low(bin) + bin_width(bin);
        }
    }
    __syncthreads();
    for (unsigned i = 0; i < 2; ++i)
        if (2 * threadIdx.x + i == last && first < BINS) {
            found.low = bin_low(bin_of_thread(static_cast<int>(i)));
            found.count = ks[i + 1] - found.k;
        }
    __syncthreads();
    return found;
}

/// Considers every k among integers m(0 .. count) in descending order, which follow `k` larger ones: this thread those from
/// `start` to `end`, where `sum` is the sum of all integers before them. Of a run of equal ones only the end counts.
template <class Integer>
__device__ __forceinline__ Best best_in_order(Best best, u64 k, u64 sum, u64 start, u64 end, u64 count, Integer m) {
    for (u64 i = start; i < end; ++i) {
        const unsigned present = m(i);
        sum += present;
        if (i + 1 == count || present > m(i + 1)) best = better(best, best_of(k + i + 1, sum));
    }
    return best;
}
