// Canonical sums, which decide integers and have the same bits on every row: blocks of 4096 elements; element i of a block
// adds into f32 lane i mod 32; lanes fold 16, 8, 4, 2, 1; block sums add in f64 in index order.
#pragma once
#include "device.cuh"

constexpr int CANONICAL_BLOCK = 4096;

/// Folds the lanes 16, 8, 4, 2, 1; lane 0 has the sum.
__device__ __forceinline__ float fold_lanes(float lane) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) lane = __fadd_rn(lane, __shfl_down_sync(ALL_LANES, lane, distance));
    return lane;
}

/// The sum of one block: term(i) for i in 0 .. count, at most 4096. Called by a whole warp; lane 0 has it.
template <class Term>
__device__ __forceinline__ float canonical_block(unsigned count, Term term) {
    // Loads of a step are in flight together; their sums are in order.
    constexpr int STEP = 16;
    float sum = 0.0f;
    unsigned i = lane_number();
    for (; i + 32 * (STEP - 1) < count; i += 32 * STEP) {
        float terms[STEP];
#pragma unroll
        for (int s = 0; s < STEP; ++s) terms[s] = term(i + 32 * s);
#pragma unroll
        for (int s = 0; s < STEP; ++s) sum = __fadd_rn(sum, terms[s]);
    }
    for (; i < count; i += 32) sum = __fadd_rn(sum, term(i));
    return fold_lanes(sum);
}

/// Adds steps of STEP terms of every lane to its sum, as long as there are whole ones, and takes `i` past them. No load crosses
/// the barrier: all of a step are asked for before the first of them is waited for.
template <int STEP, class Term>
__device__ __forceinline__ void add_whole_steps(float &sum, unsigned &i, unsigned count, Term term) {
    while (i - lane_number() + 32 * STEP <= count) {
        float terms[STEP];
#pragma unroll
        for (int s = 0; s < STEP; ++s) terms[s] = term(i + 32 * s);
        __syncwarp();
#pragma unroll
        for (int s = 0; s < STEP; ++s) sum = __fadd_rn(sum, terms[s]);
        i += 32 * STEP;
    }
}

/// The same sum where a launch may have few warps, of which each then has to have much in flight.
template <class Term>
__device__ __forceinline__ float canonical_block_of_few(unsigned count, Term term) {
    float sum = 0.0f;
    unsigned i = lane_number();
    add_whole_steps<64>(sum, i, count, term);
    add_whole_steps<16>(sum, i, count, term);
    for (; i < count; i += 32) sum = __fadd_rn(sum, term(i));
    return fold_lanes(sum);
}

/// The sum in index order, in f64, of `count` block sums; in every thread. Called by a block of one dimension and whole warps.
///
/// Where no partial sum is rounded, every order gives the same bits. All sums are multiples of the least unit in the last
/// place among the terms, so none is rounded while that of all magnitudes is below 2^53 of it: then the block adds in parallel.
/// Else, and where there is a NaN or an infinity, a warp adds in order.
__device__ inline double sum_in_order(const float *sums, u64 count) {
    __shared__ double partial[32], sizes[32];
    __shared__ unsigned least[32];
    __shared__ double result;
    double sum = 0.0, size = 0.0;
    // The least exponent, as it is biased; a subnormal number has that of the least normal one.
    unsigned exponent = 255;
    for (u64 i = threadIdx.x; i < count; i += blockDim.x) {
        const float value = sums[i];
        sum = __dadd_rn(sum, static_cast<double>(value));
        size = __dadd_rn(size, static_cast<double>(fabsf(value)));
        if (value != 0.0f) exponent = min(exponent, max(__float_as_uint(value) >> 23 & 255u, 1u));
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        sum = __dadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, distance));
        size = __dadd_rn(size, __shfl_xor_sync(ALL_LANES, size, distance));
    }
    exponent = __reduce_min_sync(ALL_LANES, exponent);
    if (lane_number() == 0) {
        partial[warp_number()] = sum;
        sizes[warp_number()] = size;
        least[warp_number()] = exponent;
    }
    __syncthreads();
    if (warp_number() == 0) {
        for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) {
            sum = __dadd_rn(sum, partial[warp]);
            size = __dadd_rn(size, sizes[warp]);
            exponent = min(exponent, least[warp]);
        }
        // The unit in the last place is 2^(exponent - 127 - 23); as a double's bits, with 53 added.
        const double bound = __longlong_as_double(static_cast<long long>(exponent - 127 - 23 + 53 + 1023) << 52);
        if (!(size < bound)) {
            // Every lane adds all numbers; those of 32 are loaded together, while the ones before are added.
            sum = 0.0;
            float next = lane_number() < count ? sums[lane_number()] : 0.0f;
            for (u64 base = 0; base < count; base += 32) {
                const float present = next;
                const u64 i = base + 32 + lane_number();
                next = i < count ? sums[i] : 0.0f;
#pragma unroll
                for (int lane = 0; lane < 32; ++lane)
                    sum = __dadd_rn(sum, static_cast<double>(__shfl_sync(ALL_LANES, present, lane)));
            }
        }
        if (lane_number() == 0) result = sum;
    }
    __syncthreads();
    const double found = result;
    // The next call may overwrite it.
    __syncthreads();
    return found;
}
