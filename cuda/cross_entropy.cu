// Softmax cross-entropy, in nats, and its gradient in place of the logits. A row's maximum and sum of exponentials are found
// together, in one pass (Milakov & Gimelshein, arXiv 1805.02867). Sums are f32 over a few elements and f64 from there on, so that
// a vocabulary of any size loses no digits.
#include "softmax.cuh"

/// The sum of exp(x - most) over some x, the largest of which is `most`: -infinity and 0 of none. NaN is no largest, but shows in
/// the sum.
struct Exponentials {
    float most;
    double sum;
};

__device__ __forceinline__ Exponentials joined(Exponentials a, Exponentials b) {
    const float most = fmaxf(a.most, b.most), base = base_of(most);
    // Written so that it is the same whichever comes first: then all lanes that join have the same bits.
    return {most, __dadd_rn(__dmul_rn(a.sum, expf(a.most - base)), __dmul_rn(b.sum, expf(b.most - base)))};
}

/// Of a few more.
template <int COUNT>
__device__ __forceinline__ Exponentials with(Exponentials so_far, const float (&x)[COUNT]) {
    float most = so_far.most, sum = 0.0f;
#pragma unroll
    for (int k = 0; k < COUNT; ++k) most = fmaxf(most, x[k]);
    const float base = base_of(most);
#pragma unroll
    for (int k = 0; k < COUNT; ++k) sum = __fadd_rn(sum, expf(x[k] - base));
    return {most, fma(so_far.sum, static_cast<double>(expf(so_far.most - base)), static_cast<double>(sum))};
}

__device__ __forceinline__ Exponentials warp_joined(Exponentials mine) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        mine = joined(mine, {__shfl_xor_sync(ALL_LANES, mine.most, distance), __shfl_xor_sync(ALL_LANES, mine.sum, distance)});
    return mine;
}

/// In every thread of the block.
__device__ __forceinline__ Exponentials block_joined(Exponentials mine) {
    __shared__ float most[32];
    __shared__ double sums[32];
    mine = warp_joined(mine);
    // Those of the row before may still be read.
    __syncthreads();
    if (lane_number() == 0) {
        most[warp_number()] = mine.most;
        sums[warp_number()] = mine.sum;
    }
    __syncthreads();
    const bool present = lane_number() < blockDim.x / 32;
    return warp_joined({present ? most[lane_number()] : -INFINITE, present ? sums[lane_number()] : 0.0});
}

/// ln(sum of exp(x)) - chosen. Where all are -infinity the difference is NaN, as it should be.
__device__ __forceinline__ float loss_of(Exponentials row, float chosen) {
    return static_cast<float>(log(row.sum) + (static_cast<double>(row.most) - static_cast<double>(chosen)));
}

/// What a row's logits become.
struct Gradient {
    float base, share;
    double factor, sum;

    __device__ __forceinline__ Gradient(Exponentials row, double factor)
        : base(base_of(row.most)), share(static_cast<float>(factor / row.sum)), factor(factor), sum(row.sum) {}

    /// factor * softmax.
    __device__ __forceinline__ float of(float x) const { return expf(x - base) * share; }

    /// factor * (softmax - 1): a difference of close numbers where the target is as good as certain.
    __device__ __forceinline__ float of_target(float x) const {
        return static_cast<float>(factor * ((static_cast<double>(expf(x - base)) - sum) / sum));
    }
};

/// Whether the target is a column. Else the least such row is noted, with its target, and left as it is.
__device__ __forceinline__ bool is_column(unsigned target, u64 columns, u64 row, bool first, u64 *fault) {
    if (target < columns) return true;
    if (first) note_fault(fault, row, target);
    return false;
}

/// What all are given besides logits[n, v]: targets[n], losses[n].
struct Losses {
    const unsigned *targets;
    float *losses;
    u64 n, v, *fault;
};

// --- a warp for each row of up to 1024 logits, which it holds -----------------------------------------------------------

constexpr int HELD = 32;

template <bool GRADIENT>
__device__ __forceinline__ void by_warps(float *logits, const Losses &rows, double factor) {
    const unsigned lane = lane_number(), v = static_cast<unsigned>(rows.v);
    const u64 step = static_cast<u64>(gridDim.x) * (THREADS / 32);
    for (u64 row = static_cast<u64>(blockIdx.x) * (THREADS / 32) + warp_number(); row < rows.n; row += step) {
        const unsigned target = rows.targets[row];
        if (!is_column(target, v, row, lane == 0, rows.fault)) continue;
        float *const of_row = logits + row * v;
        float x[HELD];
#pragma unroll
        for (int k = 0; k < HELD; ++k) x[k] = lane + 32 * k < v ? of_row[lane + 32 * k] : -INFINITE;
        const float chosen = of_row[target];
        const Exponentials all = warp_joined(with({-INFINITE, 0.0}, x));
        if (lane == 0) rows.losses[row] = loss_of(all, chosen);
        if (!GRADIENT) continue;
        const Gradient gradient(all, factor);
        // Every lane has read what it needs of the row.
        __syncwarp();
#pragma unroll
        for (int k = 0; k < HELD; ++k)
            if (lane + 32 * k < v) of_row[lane + 32 * k] = gradient.of(x[k]);
        __syncwarp();
        if (lane == 0) of_row[target] = gradient.of_target(chosen);
    }
}

// --- a block for each row ---------------------------------------------------------------------------------------------

/// Vectors of four that a thread has in flight.
constexpr int VECTORS = 4;

/// Calls vectors(x, q, head, quads) for the vectors of a row, which begin at its element `head`: x are VECTORS of them, number q
/// and so on, as many apart as the block has threads, those past the last being -infinity; and one(i) for the other elements.
template <class Vectors, class One>
__device__ __forceinline__ void each_of_row(const float *row, u64 v, Vectors vectors, One one) {
    const u64 head = min(v, static_cast<u64>((4 - place_in_vector(row)) % 4)), quads = (v - head) / 4, tail = head + 4 * quads;
    for (u64 q = threadIdx.x; q < quads; q += static_cast<u64>(VECTORS) * blockDim.x) {
        float x[4 * VECTORS];
#pragma unroll
        for (int k = 0; k < VECTORS; ++k) {
            const u64 at = q + static_cast<u64>(k) * blockDim.x;
            float4 four = make_float4(-INFINITE, -INFINITE, -INFINITE, -INFINITE);
            if (at < quads) four = load4(row + head + 4 * at);
            x[4 * k] = four.x, x[4 * k + 1] = four.y, x[4 * k + 2] = four.z, x[4 * k + 3] = four.w;
        }
        vectors(x, q, head, quads);
    }
    if (threadIdx.x < head) one(threadIdx.x);
    if (threadIdx.x < v - tail) one(tail + threadIdx.x);
}

template <bool GRADIENT>
__device__ __forceinline__ void by_blocks(float *logits, const Losses &rows, double factor) {
    for (u64 row = blockIdx.x; row < rows.n; row += gridDim.x) {
        const unsigned target = rows.targets[row];
        if (!is_column(target, rows.v, row, threadIdx.x == 0, rows.fault)) continue;
        float *const of_row = logits + row * rows.v;
        const float chosen = of_row[target];
        Exponentials mine{-INFINITE, 0.0};
        each_of_row(
            of_row, rows.v, [&](const float(&x)[4 * VECTORS], u64, u64, u64) { mine = with(mine, x); },
            [&](u64 i) {
                const float one[1] = {of_row[i]};
                mine = with(mine, one);
            });
        // Past the barriers in it, everybody has read the target's logit.
        const Exponentials all = block_joined(mine);
        if (threadIdx.x == 0) rows.losses[row] = loss_of(all, chosen);
        if (!GRADIENT) continue;
        const Gradient gradient(all, factor);
        each_of_row(
            of_row, rows.v,
            [&](const float(&x)[4 * VECTORS], u64 q, u64 head, u64 quads) {
#pragma unroll
                for (int k = 0; k < VECTORS; ++k) {
                    const u64 at = q + static_cast<u64>(k) * blockDim.x;
                    if (at < quads)
                        store4(of_row + head + 4 * at, make_float4(gradient.of(x[4 * k]), gradient.of(x[4 * k + 1]),
                                                                   gradient.of(x[4 * k + 2]), gradient.of(x[4 * k + 3])));
                }
            },
            [&](u64 i) { of_row[i] = gradient.of(of_row[i]); });
        __syncthreads();
        if (threadIdx.x == 0) of_row[target] = gradient.of_target(chosen);
    }
}

// --- kernels: the number at the end of a name is the longest row that it takes ------------------------------------------

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy_1024(const float *logits, Losses rows) {
    by_warps<false>(const_cast<float *>(logits), rows, 0.0);
}

/// Within a tolerance. Blocks may have other numbers of threads.
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_long(const float *logits, Losses rows) {
    by_blocks<false>(const_cast<float *>(logits), rows, 0.0);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(THREADS) cross_entropy_gradient_1024(float *logits, Losses rows, double factor) {
    by_warps<true>(logits, rows, factor);
}

/// Within a tolerance. Blocks may have other numbers of threads.
extern "C" __global__ void __launch_bounds__(1024) cross_entropy_gradient_long(float *logits, Losses rows, double factor) {
    by_blocks<true>(logits, rows, factor);
}
