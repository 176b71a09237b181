// Steps of optimizers, what they would do, and what they need before: AdamW (arXiv 1711.05101), momentum, and directions that
// are given; states as floats, in 8 bits (arXiv 2110.02861), or by rows and columns (arXiv 1804.04235).
//
// Counts add up by atomics: the order of integers does not matter.
#include "canonical.cuh"
#include "map.cuh"
#include "step.cuh"

constexpr int WARPS = THREADS / 32;

/// Calls f(share) for each block of codes, by a warp.
template <class F>
__device__ __forceinline__ void each_block(u64 count, F f) {
    const u64 blocks = count / CODES + (count % CODES > 0), warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 block = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); block < blocks; block += warps)
        f(Share(block, count));
}

/// counts[2] += what the threads of a block have found.
__device__ __forceinline__ void add_counts(unsigned clamped, unsigned flipped, unsigned *counts) {
    __shared__ unsigned found[2];
    if (threadIdx.x < 2) found[threadIdx.x] = 0;
    __syncthreads();
    clamped = __reduce_add_sync(ALL_LANES, clamped);
    flipped = __reduce_add_sync(ALL_LANES, flipped);
    if (lane_number() == 0) {
        atomicAdd(found, clamped);
        atomicAdd(found + 1, flipped);
    }
    __syncthreads();
    if (threadIdx.x < 2 && found[threadIdx.x] > 0) atomicAdd(counts + threadIdx.x, found[threadIdx.x]);
}

// --- the step ------------------------------------------------------------------------------------------------------------

/// AdamW where all states are floats.
extern "C" __global__ void __launch_bounds__(THREADS)
step_adamw(StepRule rule, const float *gradient, float *p, float *m, float *v, unsigned *counts, u64 count) {
    unsigned clamped = 0, flipped = 0;
    map<4, 3>({gradient, p, m, v}, {p, m, v}, count, [&](const float(&in)[4], float(&out)[3]) {
        const Element found = adamw_element(rule, in[0], in[1], in[2], in[3]);
        out[0] = moved(rule, in[1], found.direction, clamped);
        out[1] = found.m;
        out[2] = found.v;
        flipped += trit(rule, in[1]) != trit(rule, out[0]);
    });
    add_counts(clamped, flipped, counts);
}

/// All others: a warp for each block of codes.
extern "C" __global__ void __launch_bounds__(THREADS, 3)
step_blocks(StepRule rule, Stream stream, States states, unsigned *counts) {
    unsigned clamped = 0, flipped = 0;
    each_block(states.count, [&](const Share &share) {
        Part part;
        gather(states, share, part);
        // Two bits for each element.
        unsigned before = 0, after = 0;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const Element found = element(rule, part.g[k], part.p[k], part.m[k], part.v[k]);
            before |= trit(rule, part.p[k]) << 2 * k;
            unsigned held = 0;
            part.p[k] = moved(rule, part.p[k], found.direction, held);
            part.m[k] = found.m;
            part.v[k] = found.v;
            // What is past the last is not to be seen in the largest magnitude, as that of m and of v is not.
            if (share.has(k)) clamped += held;
            else part.p[k] = 0.0f;
        }
        put_m(states.m, share, part.m);
        if (states.p.kind == BYTES || states.v.kind == BYTES) {
            const Random random(stream, share);
            if (states.v.kind == BYTES) {
                const float scale = at_least(largest_of(part.v));
                put_scale(states.v, share, scale);
                put_bytes(states.v.data, share, [&](int k) { return encode_v(part.v[k], scale, random.of(k)); });
            }
            if (states.p.kind == BYTES) {
                const float scale = parameter_scale(largest_of(part.p), part.p_scale);
                put_scale(states.p, share, scale);
                put_bytes(states.p.data, share, [&](int k) {
                    const unsigned byte = encode_p(part.p[k], scale, random.of(k));
                    part.p[k] = decode_p(byte, scale);
                    return byte;
                });
            }
        }
        if (states.p.kind == FLOATS) put_floats(static_cast<float *>(states.p.data), share, part.p);
        if (states.v.kind == FLOATS) put_floats(static_cast<float *>(states.v.data), share, part.v);
#pragma unroll
        for (int k = 0; k < 8; ++k) after |= trit(rule, part.p[k]) << 2 * k;
        const unsigned differ = before ^ after;
        flipped += __popc((differ | differ >> 1) & 0x5555u);
    });
    add_counts(clamped, flipped, counts);
}

/// m, and the direction that it gives, without weight decay.
extern "C" __global__ void __launch_bounds__(THREADS)
step_momentum(StepRule rule, const float *gradient, Kept m, float *direction, u64 count) {
    each_block(count, [&](const Share &share) {
        Eight g, now;
        fetch_floats(gradient, share, g);
        decode(m, fetch(m, share, now), now, decode_m);
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const Element found = element(rule, g[k], 0.0f, now[k], 0.0f);
            g[k] = found.direction;
            now[k] = found.m;
        }
        put_m(m, share, now);
        put_floats(direction, share, g);
    });
}

// --- what a step would do --------------------------------------------------------------------------------------------------

/// bins[FLIP_BINS] += the trits that would change after such a share of the step.
extern "C" __global__ void __launch_bounds__(THREADS) step_flips(StepRule rule, States states, unsigned *bins) {
    __shared__ unsigned found[FLIP_BINS];
    for (unsigned i = threadIdx.x; i < FLIP_BINS; i += THREADS) found[i] = 0;
    __syncthreads();
    each_block(states.count, [&](const Share &share) {
        Part part;
        gather(states, share, part);
#pragma unroll
        for (int k = 0; k < 8; ++k) part.g[k] = element(rule, part.g[k], part.p[k], part.m[k], part.v[k]).direction;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const unsigned bin = flip_bin(rule, part.p[k], part.g[k]);
            // What is past the last goes nowhere.
            if (bin < FLIP_BINS) atomicAdd(found + bin, 1u);
        }
    });
    __syncthreads();
    for (unsigned i = threadIdx.x; i < FLIP_BINS; i += THREADS)
        if (found[i] > 0) atomicAdd(bins + i, found[i]);
}

constexpr int SUMS = 5;

/// sums[SUMS, ceil(count / 4096)]: the canonical sums of d^2, p^2, g m, m^2 and v of every canonical block. A block of threads
/// for each: a warp alone would keep too little in flight, and its divisions would stand in the way.
extern "C" __global__ void __launch_bounds__(THREADS) step_sums_blocks(StepRule rule, States states, float *sums) {
    constexpr unsigned TILE = WARPS * CODES;
    __shared__ __align__(16) float terms[SUMS][TILE];
    const u64 blocks = states.count / CANONICAL_BLOCK + (states.count % CANONICAL_BLOCK > 0);
    for (u64 block = blockIdx.x; block < blocks; block += gridDim.x) {
        const u64 start = block * CANONICAL_BLOCK;
        const unsigned here = static_cast<unsigned>(min(states.count - start, static_cast<u64>(CANONICAL_BLOCK)));
        float sum = 0.0f;
        for (unsigned base = 0; base < here; base += TILE) {
            if (base + warp_number() * CODES < here) {
                const Share share((start + base) / CODES + warp_number(), states.count);
                Part part;
                gather(states, share, part);
                Eight directions;
#pragma unroll
                for (int k = 0; k < 8; ++k) {
                    directions[k] = element(rule, part.g[k], part.p[k], part.m[k], part.v[k]).direction;
                    part.g[k] = __fmul_rn(part.g[k], rule.gradient_scale);
                }
                const auto put = [&](int which, const Eight &a, const Eight &b) {
#pragma unroll
                    for (int k = 0; k < 8; k += 4)
                        store4(terms[which] + warp_number() * CODES + share.at(k),
                               make_float4(__fmul_rn(a[k], b[k]), __fmul_rn(a[k + 1], b[k + 1]), __fmul_rn(a[k + 2], b[k + 2]),
                                           __fmul_rn(a[k + 3], b[k + 3])));
                };
                constexpr Eight ones = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
                put(0, directions, directions);
                put(1, part.p, part.p);
                put(2, part.g, part.m);
                put(3, part.m, part.m);
                put(4, part.v, ones);
            }
            __syncthreads();
            if (warp_number() < SUMS) {
                const float *const own = terms[warp_number()];
                const unsigned count = min(here - base, TILE);
#pragma unroll 16
                for (unsigned i = lane_number(); i < count; i += 32) sum = __fadd_rn(sum, own[i]);
            }
            __syncthreads();
        }
        sum = fold_lanes(sum);
        if (warp_number() < SUMS && lane_number() == 0) sums[warp_number() * blocks + block] = sum;
    }
}

/// totals[SUMS] += the sums of blocks in index order: a block of threads for each.
extern "C" __global__ void __launch_bounds__(1024) step_sums(const float *sums, double *totals, u64 blocks) {
    for (unsigned which = blockIdx.x; which < SUMS; which += gridDim.x) {
        const double sum = sum_in_order(sums + which * blocks, blocks);
        if (threadIdx.x == 0) totals[which] = __dadd_rn(totals[which], sum);
    }
}

// --- v of rows and columns -------------------------------------------------------------------------------------------------

__device__ __forceinline__ float square_of(float gradient, float gradient_scale) {
    const float g = __fmul_rn(gradient, gradient_scale);
    return __fmul_rn(g, g);
}

/// sums[rows, units] of squares, a unit being a canonical block of a row: a warp for each.
extern "C" __global__ void __launch_bounds__(THREADS)
step_factors_rows(float gradient_scale, const float *gradient, u64 rows, u64 columns, u64 units, Divisor by_units, float *sums) {
    const u64 warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 i = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); i < rows * units; i += warps) {
        const u64 row = quotient(i, by_units), first = (i - row * units) * CANONICAL_BLOCK;
        const float *const from = gradient + row * columns + first;
        const unsigned here = static_cast<unsigned>(min(columns - first, static_cast<u64>(CANONICAL_BLOCK)));
        const float sum = canonical_block(here, [=](unsigned j) { return square_of(from[j], gradient_scale); });
        if (lane_number() == 0) sums[i] = sum;
    }
}

/// Columns that a block of threads adds up at a time.
constexpr unsigned COLUMNS = 16;

/// sums[columns, units] of squares, a unit being a canonical block of a column: row i adds into its lane i mod 32. A thread for
/// each lane of some columns; `tiles` of them are all.
extern "C" __global__ void __launch_bounds__(32 * COLUMNS)
step_factors_columns(float gradient_scale, const float *gradient, u64 rows, u64 columns, u64 units, u64 tiles, Divisor by_tiles,
                     float *sums) {
    constexpr int STEP = 8;
    __shared__ float lanes[COLUMNS][33];
    const unsigned own = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    for (u64 i = blockIdx.x; i < tiles * units; i += gridDim.x) {
        const u64 unit = quotient(i, by_tiles), first = (i - unit * tiles) * COLUMNS, start = unit * CANONICAL_BLOCK;
        const unsigned here = static_cast<unsigned>(min(rows - start, static_cast<u64>(CANONICAL_BLOCK)));
        float sum = 0.0f;
        if (first + own < columns) {
            const float *const from = gradient + start * columns + first + own;
            for (unsigned row = lane; row < here; row += 32 * STEP) {
                float found[STEP];
#pragma unroll
                for (int s = 0; s < STEP; ++s) found[s] = row + 32 * s < here ? from[(row + 32 * s) * columns] : 0.0f;
                // More zeros change nothing.
#pragma unroll
                for (int s = 0; s < STEP; ++s) sum = __fadd_rn(sum, square_of(found[s], gradient_scale));
            }
        }
        lanes[own][lane] = sum;
        __syncthreads();
        const u64 column = first + warp_number();
        const float all = fold_lanes(lanes[warp_number()][lane_number()]);
        if (lane_number() == 0 && column < columns) sums[column * units + unit] = all;
        __syncthreads();
    }
}

/// new[rows + columns] from v and sums[rows, row_units] and, behind those, [columns, column_units]: a warp for each.
extern "C" __global__ void __launch_bounds__(THREADS)
step_factors_means(float rate, const float *v, const float *sums, u64 rows, u64 columns, u64 row_units, u64 column_units,
                   float *now) {
    const u64 warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 i = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); i < rows + columns; i += warps) {
        const bool is_row = i < rows;
        const u64 units = is_row ? row_units : column_units, count = is_row ? columns : rows;
        const float *const own = sums + (is_row ? i * row_units : rows * row_units + (i - rows) * column_units);
        double sum = 0.0;
        for (u64 base = 0; base < units; base += 32) {
            const float present = base + lane_number() < units ? own[base + lane_number()] : 0.0f;
            const int few = static_cast<int>(min(units - base, 32ull));
            for (int lane = 0; lane < few; ++lane) sum = __dadd_rn(sum, static_cast<double>(__shfl_sync(ALL_LANES, present, lane)));
        }
        const float mean = __double2float_rn(__ddiv_rn(sum, __ull2double_rn(max(count, 1ull))));
        if (lane_number() == 0) now[i] = towards(v[i], rate, mean);
    }
}

/// new[rows + columns] = 1 over the mean of those of rows. One block of threads.
extern "C" __global__ void __launch_bounds__(1024) step_factors_whole(float *now, u64 rows, u64 columns) {
    __shared__ float sums[32];
    double sum = 0.0;
    for (u64 base = 0; base < rows; base += static_cast<u64>(blockDim.x / 32) * CANONICAL_BLOCK) {
        const u64 first = base + warp_number() * CANONICAL_BLOCK;
        const unsigned here = first < rows ? static_cast<unsigned>(min(rows - first, static_cast<u64>(CANONICAL_BLOCK))) : 0;
        const float found = canonical_block(here, [=](unsigned i) { return now[first + i]; });
        if (lane_number() == 0) sums[warp_number()] = found;
        __syncthreads();
        if (threadIdx.x == 0) {
            // Those of no rows are 0.
            for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum = __dadd_rn(sum, sums[warp]);
        }
        __syncthreads();
    }
    if (threadIdx.x == 0)
        now[rows + columns] = sum > 0.0 ? __double2float_rn(__ddiv_rn(__ull2double_rn(rows), sum)) : 0.0f;
}
