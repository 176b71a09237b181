// Rows to their nearest centroids: what the search needs of the centroids, the search where rows are narrow, which of the rows
// have but one nearest centroid, and the others by f64. See kmeans.cuh; kmeans_scores.cu has the search where rows are wide.
#include "kmeans.cuh"

/// Notes the first row of a list that is outside of x, or not above the one before it.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_check_rows(const unsigned *rows, u64 count, u64 n, u64 *fault) {
    for (u64 i = global_thread(); i < count; i += global_threads())
        if (rows[i] >= n || (i > 0 && rows[i] <= rows[i - 1])) note_fault(fault, i, rows[i]);
}

// --- the centroids ---------------------------------------------------------------------------------------------------

/// Of some columns of the centroids: the sum of all squares, that of the squares of the means, and the largest magnitude without
/// and with the centre.
struct Spread {
    double squares, far, widest, centred;

    __device__ __forceinline__ void join(const Spread &other) {
        squares += other.squares;
        far += other.far;
        widest = fmax(widest, other.widest);
        centred = fmax(centred, other.centred);
    }
};

/// What the threads of a block have, together; in the first warp. Between two calls the block has a barrier.
template <int WARPS>
__device__ __forceinline__ Spread joined(Spread spread) {
    __shared__ Spread of_warps[WARPS];
    auto join_lanes = [](Spread &spread) {
#pragma unroll
        for (int away = 16; away > 0; away /= 2)
            spread.join({__shfl_xor_sync(ALL_LANES, spread.squares, away), __shfl_xor_sync(ALL_LANES, spread.far, away),
                         __shfl_xor_sync(ALL_LANES, spread.widest, away), __shfl_xor_sync(ALL_LANES, spread.centred, away)});
    };
    join_lanes(spread);
    if (lane_number() == 0) of_warps[warp_number()] = spread;
    __syncthreads();
    if (warp_number() != 0) return spread;
    spread = {0.0, 0.0, 0.0, 0.0};
    if (lane_number() < WARPS) spread = of_warps[lane_number()];
    join_lanes(spread);
    return spread;
}

constexpr int SPREAD_THREADS = 512;

/// Of each 32 columns of centroids[k, d]: their means, rounded, zeros past the last column; and their spread. In tolerance.
extern "C" __global__ void __launch_bounds__(SPREAD_THREADS)
kmeans_spread(const double *centroids, u64 k, double inverse_k, u64 d, u64 blocks, float *centre, Spread *spreads) {
    constexpr int WARPS = SPREAD_THREADS / 32;
    __shared__ double sums[WARPS][32];
    const int lane = lane_number(), warp = warp_number();
    for (u64 block = blockIdx.x; block < blocks; block += gridDim.x) {
        const u64 column = block * 32 + lane, first = column < d ? warp : k;
        double sum = 0.0;
        Spread spread = {0.0, 0.0, 0.0, 0.0};
#pragma unroll 4
        for (u64 c = first; c < k; c += WARPS) {
            const double value = centroids[c * d + column];
            sum += value;
            spread.squares += value * value;
            spread.widest = fmax(spread.widest, fabs(value));
        }
        sums[warp][lane] = sum;
        __syncthreads();
        sum = 0.0;
        for (int w = 0; w < WARPS; ++w) sum += sums[w][lane];
        const double mean = sum * inverse_k;
        const float rounded = __double2float_rn(mean);
        if (warp == 0) {
            centre[column] = column < d ? rounded : 0.0f;
            spread.far = column < d ? mean * mean : 0.0;
        }
#pragma unroll 4
        for (u64 c = first; c < k; c += WARPS)
            spread.centred = fmax(spread.centred, fabs(centroids[c * d + column] - static_cast<double>(rounded)));
        spread = joined<WARPS>(spread);
        if (threadIdx.x == 0) spreads[block] = spread;
    }
}

/// From the spreads of all columns, whether rows are worth centring: where the mean lies far out, beside how far the centroids
/// are from it, uncentred scores would have few digits left. Else the centre becomes 0. One block; in tolerance.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_frame(const Spread *spreads, u64 blocks, u64 k, float *centre, Frame *frame) {
    __shared__ bool leave;
    Spread all = {0.0, 0.0, 0.0, 0.0};
    for (u64 block = threadIdx.x; block < blocks; block += THREADS) all.join(spreads[block]);
    all = joined<THREADS / 32>(all);
    if (threadIdx.x == 0) {
        const double far = static_cast<double>(k) * all.far;
        const bool centred = far > 4.0 * (all.squares - far);
        const double widest = centred ? all.centred : all.widest;
        const int exponent = static_cast<int>(__double_as_longlong(widest) >> 52 & 2047) - 1023;
        // A scale that is too small leaves its numbers to f64.
        const int power = widest > 0.0 ? min(max(10 - exponent, -120), 120) : 0;
        *frame = {__longlong_as_double(static_cast<long long>(1023 + power) << 52),
                  __longlong_as_double(static_cast<long long>(1023 - 2 * power) << 52), 0};
        leave = centred;
    }
    __syncthreads();
    if (leave) return;
    for (u64 i = threadIdx.x; i < 32 * blocks; i += THREADS) centre[i] = 0.0f;
}

/// What E(c) of kmeans.cuh is made of: a, sqrt(d) e, 4 d e^2; and somewhat more than 2 + 2 a, by which what bounds a score from
/// below is raised to bound it from above.
struct Errors {
    double relative, each, all, raise;
};

/// Centroids as the search wants them, a warp for each of them and of those past the last, up to whole tiles: heads, `raise`
/// times the part of E(c) that does not depend on the row, and the numbers, as Search has them. In tolerance.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_pack(const double *centroids, u64 k, u64 d, unsigned width, const float *centre, const Frame *frame, Errors errors,
            unsigned char *packed, float (*heads)[2][TILE], float *slack) {
    const int lane = lane_number();
    const u64 stages = (d + DEPTH - 1) / DEPTH, all = (k + TILE - 1) / TILE * TILE;
    const double scale = frame->scale;
    for (u64 c = global_thread() / 32; c < all; c += global_threads() / 32) {
        const u64 tile = c / TILE, row = c % TILE;
        double squares = 0.0;
        auto number = [&](u64 j) {
            const double value = c < k && j < d ? (centroids[c * d + j] - static_cast<double>(centre[j])) * scale : 0.0;
            squares += value * value;
            return __double2float_rn(value);
        };
        if (width != 0) {
            if (lane < width) reinterpret_cast<float *>(packed)[c * width + lane] = -number(lane);
        } else {
            for (u64 j = 2 * lane; j < stages * DEPTH; j += 64) {
                const float first = number(j), second = number(j + 1);
                const Halves halves = split_halves(first, second);
                unsigned char *const to = packed + (tile * stages + j / DEPTH) * SIDE +
                                          Side::place(static_cast<int>(row), static_cast<int>(j % DEPTH / 8)) + 2 * (j % 8);
                *reinterpret_cast<unsigned *>(to) = halves.high;
                *reinterpret_cast<unsigned *>(to + PLANE) = halves.low;
            }
        }
#pragma unroll
        for (int away = 16; away > 0; away /= 2) squares += __shfl_xor_sync(ALL_LANES, squares, away);
        if (lane == 0) {
            const double norm = sqrt(squares), fixed = errors.relative * (squares / 2.0) + errors.each * norm + errors.all;
            heads[tile][0][row] = c < k ? __double2float_rd(squares / 2.0 - fixed) : __uint_as_float(0x7F800000u);
            heads[tile][1][row] = c < k ? __double2float_ru(errors.relative * norm + errors.each) : 0.0f;
            slack[c] = __double2float_ru(fixed * errors.raise);
        }
    }
}

// --- narrow rows -----------------------------------------------------------------------------------------------------

constexpr int NARROW_THREADS = 128;

/// Up to D columns, a power of two: ROWS rows a thread, tiles of centroids through shared memory. Columns that are not there are
/// 0 in both. The products are added to where the score begins, in f32: fewer roundings than those of the tensor cores.
template <int D, int ROWS>
__device__ __forceinline__ void scores_narrow(const Search &p) {
    constexpr u64 STEP = static_cast<u64>(NARROW_THREADS) * ROWS;
    __shared__ __align__(16) float centroids[TILE * D];
    __shared__ float heads[2 * TILE];
    const u64 first_tile = blockIdx.y * p.tiles_of_slice;
    const u64 last_tile = min(first_tile + p.tiles_of_slice, (p.k + TILE - 1) / TILE);
    const float scale = static_cast<float>(p.frame->scale);
    for (u64 base = blockIdx.x * STEP; base < p.count; base += gridDim.x * STEP) {
        float x[ROWS][D], squares[ROWS], norms[ROWS];
        Least least[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const u64 row = row_number(p, min(base + r * NARROW_THREADS + threadIdx.x, p.count - 1));
            squares[r] = 0.0f;
#pragma unroll
            for (int j = 0; j < D; ++j) {
                x[r][j] = j < p.d ? (p.x[row * p.d + j] - p.centre[j]) * scale : 0.0f;
                squares[r] = __fmaf_rn(x[r][j], x[r][j], squares[r]);
            }
            norms[r] = norm_of(p, squares[r]);
        }
        for (u64 tile = first_tile; tile < last_tile; ++tile) {
            const int here = static_cast<int>(min(p.k - tile * TILE, static_cast<u64>(TILE)));
            __syncthreads();
            for (int i = threadIdx.x; i < TILE * D; i += NARROW_THREADS)
                centroids[i] = static_cast<const float *>(p.packed)[tile * TILE * D + i];
            for (int i = threadIdx.x; i < 2 * TILE; i += NARROW_THREADS) heads[i] = p.heads[tile][i / TILE][i % TILE];
            __syncthreads();
#pragma unroll 2
            for (int c = 0; c < here; ++c) {
                const float head = heads[c], error = heads[TILE + c];
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    float score = __fmaf_rn(-norms[r], error, head);
#pragma unroll
                    for (int j = 0; j < D; ++j) score = __fmaf_rn(x[r][j], centroids[c * D + j], score);
                    least[r].take(score, static_cast<unsigned>(tile * TILE) + c);
                }
            }
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const u64 i = base + r * NARROW_THREADS + threadIdx.x;
            if (i < p.count)
                p.found[blockIdx.y * p.count + i] = {least[r].first, least[r].second, least[r].label, squares[r]};
        }
    }
}

/// In tolerance.
extern "C" __global__ void __launch_bounds__(NARROW_THREADS) kmeans_scores_2(Search p) { scores_narrow<2, 4>(p); }
/// In tolerance.
extern "C" __global__ void __launch_bounds__(NARROW_THREADS) kmeans_scores_4(Search p) { scores_narrow<4, 4>(p); }
/// In tolerance.
extern "C" __global__ void __launch_bounds__(NARROW_THREADS) kmeans_scores_8(Search p) { scores_narrow<8, 4>(p); }
/// In tolerance.
extern "C" __global__ void __launch_bounds__(NARROW_THREADS) kmeans_scores_16(Search p) { scores_narrow<16, 2>(p); }

// --- what comes of it ------------------------------------------------------------------------------------------------

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7F800000u); }

/// An upper and a lower bound of what is not below 0, and was rounded in f64.
__device__ __forceinline__ float above(double x) {
    const float rounded = __double2float_rn(x);
    return rounded < infinity() ? __uint_as_float(__float_as_uint(rounded) + 1) : rounded;
}

__device__ __forceinline__ float below(double x) {
    const float rounded = __double2float_rn(x);
    return rounded > 0.0f ? __uint_as_float(__float_as_uint(rounded) - 1) : 0.0f;
}

/// What the scores say of a row.
struct Verdict {
    Least least;
    float squares = 0.0f, upper = 0.0f;

    __device__ __forceinline__ Verdict(const Search &p, u64 i, u64 slices, const float *slack, float raise, float ties) {
        for (u64 slice = 0; slice < slices; ++slice) {
            const Found found = p.found[slice * p.count + i];
            least.join(found.first, found.second, found.label);
            squares = found.squares;
        }
        const float error = norm_of(p, squares) * p.heads[least.label / TILE][1][least.label % TILE];
        upper = least.first + (error * raise + slack[least.label] + squares * ties);
    }

    /// Whether there is but one nearest centroid. No comparison with NaN holds, which `upper` is where the norm is infinite.
    __device__ __forceinline__ bool is_clear() const { return least.second > upper; }

    /// The distances from the nearest centroid and from the next one, as bounds. A sum of squares is off by no more than half of
    /// `rounding`.
    __device__ __forceinline__ void write_bounds(const Search &p, double rounding, float *bounds) const {
        const double square = squares, unit = p.frame->inverse_square;
        const double most = 2.0 * upper + square * (1.0 + rounding) + p.smallest;
        const double next = 2.0 * least.second + square * (1.0 - rounding) - p.smallest;
        bounds[0] = above(sqrt(fmax(most * unit, 0.0)));
        bounds[1] = below(sqrt(fmax(next * unit, 0.0)));
    }
};

/// The labels and bounds of those rows that have but one nearest centroid, and a list of the others, in any order: what there is
/// of each row from so many slices. In tolerance.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_settle(Search p, u64 slices, const float *slack, double raise, double ties, double rounding, unsigned *list,
              unsigned *labels, float *bounds) {
    for (u64 i = global_thread(); i < (p.count + 31) / 32 * 32; i += global_threads()) {
        bool doubtful = false;
        unsigned row = 0;
        if (i < p.count && (!p.rows || p.rows[i] < p.n)) {
            row = static_cast<unsigned>(row_number(p, i));
            const Verdict verdict(p, i, slices, slack, static_cast<float>(raise), static_cast<float>(ties));
            doubtful = !verdict.is_clear();
            if (!doubtful) labels[row] = verdict.least.label;
            if (!doubtful && bounds) verdict.write_bounds(p, rounding, bounds + 2 * static_cast<u64>(row));
        }
        const unsigned those = __ballot_sync(ALL_LANES, doubtful);
        if (those == 0) continue;
        u64 start = 0;
        if (lane_number() == 0) start = atomicAdd(&p.frame->doubtful, static_cast<u64>(__popc(those)));
        start = __shfl_sync(ALL_LANES, start, 0);
        if (doubtful) list[start + __popc(those & ((1u << lane_number()) - 1))] = row;
    }
}

/// Rows by f64: those of a block, and the centroids that a group of eight lanes takes at a time.
constexpr int EXACT_ROWS = 4, EXACT_CENTROIDS = 2;

/// The two least squared distances so far, and whose the least is: the lowest index of several.
struct Nearest {
    double least, second;
    unsigned label;

    __device__ __forceinline__ void join(const Nearest &other) {
        second = fmin(fmin(second, other.second), fmax(least, other.least));
        const bool nearer = other.least < least || (other.least == least && other.label < label);
        label = nearer ? other.label : label;
        least = nearer ? other.least : least;
    }
};

struct Exact {
    const float *x;
    /// Rows of x, or NULL: all; how many, or NULL: `count`.
    const unsigned *list;
    const u64 *length;
    const double *centroids;
    unsigned *labels;
    float *bounds;
    u64 count, n, k, d;
};

/// The nearest centroid to each of some rows, and its bounds, by the definition. A block has four rows, and each group of eight
/// lanes its share of the centroids, two at a time.
extern "C" __global__ void __launch_bounds__(THREADS) kmeans_exact(Exact p) {
    constexpr int GROUPS = THREADS / 8;
    __shared__ Nearest of_groups[EXACT_ROWS][GROUPS];
    const int group = threadIdx.x / 8;
    const u64 count = p.length ? *p.length : p.count;
    for (u64 base = static_cast<u64>(blockIdx.x) * EXACT_ROWS; base < count; base += static_cast<u64>(gridDim.x) * EXACT_ROWS) {
        // Rows and centroids past the last are the last again.
        const float *rows[EXACT_ROWS];
        Nearest nearest[EXACT_ROWS];
#pragma unroll
        for (int r = 0; r < EXACT_ROWS; ++r) {
            const u64 i = min(base + r, count - 1), row = p.list ? p.list[i] : i;
            rows[r] = p.x + min(row, p.n - 1) * p.d;
            nearest[r] = {static_cast<double>(infinity()), static_cast<double>(infinity()), 0};
        }
        // All lanes of a warp go on as long as its first group has centroids.
        const u64 warp_start = group / 4 * 4 * EXACT_CENTROIDS;
        for (u64 start = warp_start; start < p.k; start += GROUPS * EXACT_CENTROIDS) {
            const u64 own = start + group % 4 * EXACT_CENTROIDS;
            const double *centroids[EXACT_CENTROIDS];
#pragma unroll
            for (int i = 0; i < EXACT_CENTROIDS; ++i) centroids[i] = p.centroids + min(own + i, p.k - 1) * p.d;
            double sums[EXACT_ROWS][EXACT_CENTROIDS] = {};
            exact_distances(rows, centroids, p.d, sums);
#pragma unroll
            for (int r = 0; r < EXACT_ROWS; ++r)
#pragma unroll
                for (int i = 0; i < EXACT_CENTROIDS; ++i)
                    if (own + i < p.k)
                        nearest[r].join({sums[r][i], static_cast<double>(infinity()), static_cast<unsigned>(own + i)});
        }
        if (threadIdx.x % 8 == 0)
#pragma unroll
            for (int r = 0; r < EXACT_ROWS; ++r) of_groups[r][group] = nearest[r];
        __syncthreads();
        if (threadIdx.x < EXACT_ROWS && base + threadIdx.x < count) {
            Nearest found = of_groups[threadIdx.x][0];
            for (int i = 1; i < GROUPS; ++i) found.join(of_groups[threadIdx.x][i]);
            const u64 row = p.list ? p.list[base + threadIdx.x] : base + threadIdx.x;
            if (row < p.n) {
                p.labels[row] = found.label;
                if (p.bounds) {
                    p.bounds[2 * row] = above(__dsqrt_rn(found.least));
                    p.bounds[2 * row + 1] = below(__dsqrt_rn(found.second));
                }
            }
        }
        __syncthreads();
    }
}
