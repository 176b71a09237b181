// Running sums of many integers, and a stable radix sort of u32 keys, eight bits at a time: the counts of each digit in each
// tile, their running sums, and then every key to its place. What comes out is a matter of integers: the same in any order of
// blocks.
#include "scan.cuh"

/// Keys of a tile: each warp has a part, and goes through it in order.
constexpr unsigned WARPS = THREADS / 32;
constexpr unsigned ROUNDS = 32;
constexpr unsigned PART = 32 * ROUNDS;
constexpr unsigned TILE = WARPS * PART;
constexpr unsigned DIGITS = 256;

/// values[rows, length]: each becomes the sum of those before it in its row, and totals[rows] the sums of the rows. With
/// `elements`, only the first ceil(*elements / per) of a row are there. A block of threads for each row.
extern "C" __global__ void __launch_bounds__(1024)
running_sums(u64 *values, u64 rows, u64 length, const u64 *elements, unsigned per, u64 *totals) {
    constexpr int EACH = 4;
    const u64 there = elements ? min(length, *elements / per + (*elements % per > 0)) : length;
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        u64 *const from = values + row * length;
        u64 before = 0;
        for (u64 base = 0; base < there; base += static_cast<u64>(EACH) * blockDim.x) {
            const u64 first = base + static_cast<u64>(EACH) * threadIdx.x;
            u64 here[EACH], sum = 0, total;
#pragma unroll
            for (int e = 0; e < EACH; ++e) here[e] = first + e < there ? from[first + e] : 0;
#pragma unroll
            for (int e = 0; e < EACH; ++e) sum += here[e];
            sum = before + block_sums(sum, total);
#pragma unroll
            for (int e = 0; e < EACH; ++e) {
                if (first + e < there) from[first + e] = sum;
                sum += here[e];
            }
            before += total;
        }
        if (totals && threadIdx.x == 0) totals[row] = before;
    }
}

/// Calls look(i) for the keys of a tile that are the lane's, in order and together with the other lanes of its warp: in the last
/// round for some there is none, i being past the end.
template <class Look>
__device__ __forceinline__ void each_key(u64 tile, u64 count, Look look) {
    const u64 start = tile * TILE + warp_number() * PART;
    for (unsigned round = 0; round < ROUNDS && start + round * 32 < count; ++round) look(start + round * 32 + lane_number());
}

/// counts[DIGITS, tiles]: how many keys of each tile have each digit, which is the eight bits from `shift` on. With `elements`,
/// only so many of the keys are there.
extern "C" __global__ void __launch_bounds__(THREADS)
sort_counts(const unsigned *keys, u64 count, const u64 *elements, unsigned shift, u64 tiles, u64 *counts) {
    __shared__ unsigned of_digits[DIGITS];
    const u64 there = elements ? *elements : count;
    for (u64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        __syncthreads();
        of_digits[threadIdx.x] = 0;
        __syncthreads();
        each_key(tile, there, [&](u64 i) {
            if (i < there) atomicAdd(&of_digits[keys[i] >> shift & (DIGITS - 1)], 1u);
        });
        __syncthreads();
        counts[threadIdx.x * tiles + tile] = of_digits[threadIdx.x];
    }
}

/// Every key to its place: starts[DIGITS, tiles] are the running sums of the counts within each digit, of which totals[DIGITS]
/// tell how many keys have it. Values go with their keys where there are `to_values`; without `values` they are the keys' own
/// numbers.
extern "C" __global__ void __launch_bounds__(THREADS)
sort_places(const unsigned *keys, const unsigned *values, u64 count, const u64 *elements, unsigned shift, u64 tiles,
            const u64 *starts, const u64 *totals, unsigned *to_keys, unsigned *to_values) {
    static_assert(DIGITS == THREADS, "each thread looks after a digit");
    __shared__ u64 bases[DIGITS];
    // First how many keys of each warp have a digit, then where the next of them goes, beyond the base.
    __shared__ unsigned places[WARPS][DIGITS];
    const u64 there = elements ? *elements : count;
    u64 all;
    const u64 base = block_sums(totals[threadIdx.x], all);
    for (u64 tile = blockIdx.x; tile < tiles && tile * TILE < there; tile += gridDim.x) {
        __syncthreads();
        bases[threadIdx.x] = base + starts[threadIdx.x * tiles + tile];
        for (unsigned warp = 0; warp < WARPS; ++warp) places[warp][threadIdx.x] = 0;
        __syncthreads();
        each_key(tile, there, [&](u64 i) {
            if (i < there) atomicAdd(&places[warp_number()][keys[i] >> shift & (DIGITS - 1)], 1u);
        });
        __syncthreads();
        unsigned before = 0;
        for (unsigned warp = 0; warp < WARPS; ++warp) {
            const unsigned here = places[warp][threadIdx.x];
            places[warp][threadIdx.x] = before;
            before += here;
        }
        __syncthreads();
        each_key(tile, there, [&](u64 i) {
            const bool is_there = i < there;
            const unsigned key = is_there ? keys[i] : 0;
            // What is not there is alike, and like nothing that is.
            const unsigned digit = is_there ? key >> shift & (DIGITS - 1) : DIGITS;
            const unsigned alike = __match_any_sync(ALL_LANES, digit);
            const unsigned lower = alike & ((1u << lane_number()) - 1);
            const unsigned place = is_there ? places[warp_number()][digit] : 0;
            // All have read before the first of them moves the place on.
            __syncwarp();
            if (is_there && lower == 0) places[warp_number()][digit] = place + __popc(alike);
            __syncwarp();
            if (is_there) {
                const u64 to = bases[digit] + place + __popc(lower);
                to_keys[to] = key;
                if (to_values) to_values[to] = values ? values[i] : static_cast<unsigned>(i);
            }
        });
    }
}
