// The canonical sum of squares, and the search for what is not finite.
#include "canonical.cuh"

/// sums[ceil(count / 4096)]: a warp for each canonical block, in blocks of up to THREADS threads.
extern "C" __global__ void __launch_bounds__(THREADS) sum_squares_blocks(const float *x, float *sums, u64 count) {
    const u64 blocks = count / CANONICAL_BLOCK + (count % CANONICAL_BLOCK > 0);
    const u64 warps = global_threads() / 32;
    for (u64 block = global_thread() / 32; block < blocks; block += warps) {
        const float *const from = x + block * CANONICAL_BLOCK;
        const unsigned here = static_cast<unsigned>(min(count - block * CANONICAL_BLOCK, static_cast<u64>(CANONICAL_BLOCK)));
        const float sum = canonical_block_of_few(here, [=](unsigned i) { return __fmul_rn(from[i], from[i]); });
        if (lane_number() == 0) sums[block] = sum;
    }
}

/// total[1] += the block sums in index order. One block of threads.
extern "C" __global__ void __launch_bounds__(1024) add_block_sums(const float *sums, double *total, u64 count) {
    const double sum = sum_in_order(sums, count);
    if (threadIdx.x == 0) *total = __dadd_rn(*total, sum);
}

/// first[1], which holds 2^64 - 1 before, becomes the least index of a NaN or an infinity.
extern "C" __global__ void __launch_bounds__(THREADS) first_non_finite(const float *x, u64 *first, u64 count) {
    constexpr int STEP = 8;
    constexpr u64 TILE = static_cast<u64>(THREADS) * STEP;
    for (u64 base = blockIdx.x * TILE; base < count; base += gridDim.x * TILE) {
        float value[STEP];
#pragma unroll
        for (int s = 0; s < STEP; ++s) {
            const u64 i = base + s * THREADS + threadIdx.x;
            value[s] = i < count ? x[i] : 0.0f;
        }
        unsigned found = STEP;
#pragma unroll
        for (int s = STEP - 1; s >= 0; --s)
            if ((__float_as_uint(value[s]) & 0x7F800000u) == 0x7F800000u) found = s;
        if (found < STEP) atomicMin(first, base + found * THREADS + threadIdx.x);
    }
}
