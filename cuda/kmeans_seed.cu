// What rows would do as seeds, the step of greedy k-means++: the distances that each candidate would leave, and by how much they
// would be less, added up.
#include "canonical.cuh"
#include "scan.cuh"

constexpr int WARPS = THREADS / 32;
/// Candidates of a tile, and rows that a warp takes together: each lane has the sum of a pair in the end.
constexpr int CANDIDATES = 8, ROWS = 4;
static_assert(CANDIDATES * ROWS == 32 && CANDIDATES == WARPS, "a lane a pair, and a warp a candidate");
/// Columns of the candidates that are in shared memory; whole ones of them are a block of a canonical sum.
constexpr unsigned CHUNK = 1024;
static_assert(CANONICAL_BLOCK % CHUNK == 0, "no chunk is of two blocks");

struct Seeds {
    const float *x;
    const unsigned *candidates, *labels;
    const float *limits, *least;
    float *lower;
    u64 *candidate_fault, *label_fault;
    u64 n, d, m;
    /// 0: nothing is known of them.
    unsigned seeds;
};

/// Whether a row may be nearer to one of the tile's candidates than `least`.
__device__ __forceinline__ bool may_be_lower(const Seeds &p, u64 row, u64 first) {
    if (p.seeds == 0) return true;
    const unsigned label = p.labels[row];
    if (label >= p.seeds) {
        note_fault(p.label_fault, row, label);
        return true;
    }
    const float least = p.least[row];
    bool may = false;
#pragma unroll
    for (int c = 0; c < CANDIDATES; ++c) may |= first + c < p.m && !(least <= p.limits[(first + c) * p.seeds + label]);
    return may;
}

/// Adds the squares of `width` columns to the lane's sums of all pairs. Past the last column both are 0.
__device__ __forceinline__ void add_squares(const float *const (&rows)[ROWS], u64 column, unsigned width,
                                            const float (&candidates)[CANDIDATES][CHUNK], float (&sums)[32]) {
#pragma unroll 4
    for (unsigned j = lane_number(); j < (width + 31) / 32 * 32; j += 32) {
        float x[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) x[r] = j < width ? rows[r][column + j] : 0.0f;
#pragma unroll
        for (int c = 0; c < CANDIDATES; ++c) {
            const float candidate = candidates[c][j];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                const float difference = __fsub_rn(x[r], candidate);
                sums[c * ROWS + r] = __fadd_rn(sums[c * ROWS + r], __fmul_rn(difference, difference));
            }
        }
    }
}

/// A step of the fold of 32 sums: each lane gives away half of those that it has. Which of two numbers is added to which makes no
/// difference.
template <int AWAY>
__device__ __forceinline__ void fold_half(float (&sums)[32]) {
    const bool upper = lane_number() & AWAY;
#pragma unroll
    for (int i = 0; i < AWAY; ++i) {
        const float own = upper ? sums[i + AWAY] : sums[i], other = upper ? sums[i] : sums[i + AWAY];
        sums[i] = __fadd_rn(own, __shfl_xor_sync(ALL_LANES, other, AWAY));
    }
}

/// Folds the lanes 16, 8, 4, 2, 1 of each of 32 sums: lane i has that of sum i.
__device__ __forceinline__ float fold_all(float (&sums)[32]) {
    fold_half<16>(sums);
    fold_half<8>(sums);
    fold_half<4>(sums);
    fold_half<2>(sums);
    fold_half<1>(sums);
    return sums[0];
}

/// lower[m, n] = the lesser of least[n] and the squared distances from the candidates, which are canonical sums. A block looks
/// through 256 rows for a tile of candidates, and its warps share out those that may be nearer to one of them.
extern "C" __global__ void __launch_bounds__(THREADS) kmeans_lower(Seeds p) {
    __shared__ float candidates[CANDIDATES][CHUNK];
    __shared__ unsigned chosen[THREADS];
    const int lane = lane_number(), warp = warp_number(), of_row = lane % ROWS, of_candidate = lane / ROWS;
    for (u64 i = global_thread(); i < p.m; i += global_threads())
        if (p.candidates[i] >= p.n) note_fault(p.candidate_fault, i, p.candidates[i]);
    // The tile that is in shared memory, where a chunk has all columns.
    u64 kept = p.m;
    for (u64 base = static_cast<u64>(blockIdx.x) * THREADS; base < p.n; base += static_cast<u64>(gridDim.x) * THREADS) {
        const u64 here = base + threadIdx.x;
        for (u64 first = 0; first < p.m; first += CANDIDATES) {
            const bool wanted = here < p.n && may_be_lower(p, here, first);
            unsigned count;
            const unsigned place = block_sums(static_cast<unsigned>(wanted), count);
            if (wanted) chosen[place] = threadIdx.x;
            else if (here < p.n)
#pragma unroll 1
                for (u64 c = first; c < min(first + CANDIDATES, p.m); ++c) p.lower[c * p.n + here] = p.least[here];
            __syncthreads();
            for (unsigned start = 0; start < count; start += ROWS * WARPS) {
                // Rows past the last are the last again.
                const unsigned own = start + warp * ROWS;
                const float *rows[ROWS];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) rows[r] = p.x + (base + chosen[min(own + r, count - 1)]) * p.d;
                float sums[32] = {};
                double total = 0.0;
                for (u64 column = 0; column < p.d; column += CHUNK) {
                    const unsigned width = static_cast<unsigned>(min(p.d - column, static_cast<u64>(CHUNK)));
                    if (kept != first) {
                        __syncthreads();
                        const bool there = first + warp < p.m;
                        const u64 row = there ? min(static_cast<u64>(p.candidates[first + warp]), p.n - 1) : 0;
                        for (unsigned j = lane; j < (width + 31) / 32 * 32; j += 32)
                            candidates[warp][j] = there && j < width ? p.x[row * p.d + column + j] : 0.0f;
                        __syncthreads();
                        if (p.d <= CHUNK) kept = first;
                    }
                    if (own >= count) continue;
                    add_squares(rows, column, width, candidates, sums);
                    if ((column + CHUNK) % CANONICAL_BLOCK != 0 && column + CHUNK < p.d) continue;
                    total = __dadd_rn(total, static_cast<double>(fold_all(sums)));
#pragma unroll
                    for (int i = 0; i < 32; ++i) sums[i] = 0.0f;
                }
                if (own + of_row >= count || first + of_candidate >= p.m) continue;
                const u64 row = base + chosen[own + of_row];
                const float distance = __double2float_rn(total), least = p.least[row];
                p.lower[(first + of_candidate) * p.n + row] = distance < least ? distance : least;
            }
        }
    }
}

/// Rows of which a thread has the gains at a time.
constexpr int EACH = 8;
constexpr unsigned WINDOW = THREADS * EACH;

/// of_stripes[stripes][m]: the sums of w (least - lower) over the rows of a stripe, in index order; a block for each. All threads
/// find the gains of a window, and put those that are not 0 side by side; one adds them up while the next ones are on their way.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_gains(const float *least, const float *lower, const float *weights, u64 n, u64 m, u64 stripe, u64 stripes,
             double *of_stripes) {
    __shared__ double waiting[WINDOW];
    __shared__ unsigned counts[WARPS];
    const unsigned lane = lane_number(), warp = warp_number();
    for (u64 entry = blockIdx.x; entry < m * stripes; entry += gridDim.x) {
        const u64 number = entry / m, candidate = entry - number * m, end = min(n, (number + 1) * stripe);
        double gains[EACH], sum = 0.0;
        auto load = [&](u64 base) {
#pragma unroll
            for (int e = 0; e < EACH; ++e) {
                const u64 i = base + warp * (32 * EACH) + 32 * e + lane;
                gains[e] = 0.0;
                if (i >= end) continue;
                const double gain = __dadd_rn(static_cast<double>(least[i]), -static_cast<double>(lower[candidate * n + i]));
                gains[e] = weights ? __dmul_rn(static_cast<double>(weights[i]), gain) : gain;
            }
        };
        load(number * stripe);
        for (u64 base = number * stripe; base < end; base += WINDOW) {
            unsigned those[EACH], count = 0;
#pragma unroll
            for (int e = 0; e < EACH; ++e) {
                those[e] = __ballot_sync(ALL_LANES, gains[e] != 0.0);
                count += __popc(those[e]);
            }
            if (lane == 0) counts[warp] = count;
            __syncthreads();
            unsigned place = 0, all = 0;
            for (unsigned w = 0; w < WARPS; ++w) {
                if (w == warp) place = all;
                all += counts[w];
            }
#pragma unroll
            for (int e = 0; e < EACH; ++e) {
                if (gains[e] != 0.0) waiting[place + __popc(those[e] & ((1u << lane) - 1))] = gains[e];
                place += __popc(those[e]);
            }
            load(base + WINDOW);
            __syncthreads();
            if (threadIdx.x != 0) continue;
#pragma unroll 8
            for (unsigned i = 0; i < all; ++i) sum = __dadd_rn(sum, waiting[i]);
        }
        if (threadIdx.x == 0) of_stripes[entry] = sum;
    }
}
