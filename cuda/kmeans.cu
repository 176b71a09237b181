// Rows to their nearest centroids, and the sums of clusters.
#include "canonical.cuh"
#include "rows.cuh"

// --- the nearest centroid --------------------------------------------------------------------------------------------

/// The least distance so far and whose it is; nobody's at first.
struct Nearest {
    float distance;
    unsigned label;
};

constexpr unsigned NOBODY = 0xFFFFFFFFu;

__device__ __forceinline__ Nearest nobody() { return {__uint_as_float(0x7F800000u), NOBODY}; }

/// The nearer of two; of the same, the one with the lower index. Neither is NaN, and an infinite one is nobody's.
__device__ __forceinline__ Nearest nearer(Nearest a, Nearest b) {
    return b.distance < a.distance || (b.distance == a.distance && b.label < a.label) ? b : a;
}

/// What the search makes of its result: it begins with centroid 0, at the distance `first`, from which only what is less
/// leads away. So nothing does from NaN, and to nothing that is infinite or NaN.
__device__ __forceinline__ Nearest with_first(Nearest found, float first) {
    return found.label == NOBODY || first != first ? Nearest{first, 0} : found;
}

/// (x - c)^2, rounded twice.
__device__ __forceinline__ float square(float x, float c) {
    const float difference = __fsub_rn(x, c);
    return __fmul_rn(difference, difference);
}

/// What lane LANE of D holds when the lanes are folded down to WIDTH.
template <int D, int WIDTH, int LANE>
__device__ __forceinline__ float folded_lane(const float (&x)[D], const float *centroid) {
    if constexpr (WIDTH == D) return square(x[LANE], centroid[LANE]);
    else return __fadd_rn(folded_lane<D, 2 * WIDTH, LANE>(x, centroid), folded_lane<D, 2 * WIDTH, LANE + WIDTH>(x, centroid));
}

/// The canonical sum of D <= 32 squares: a lane each, and the others 0, of which a fold takes no notice.
template <int D>
__device__ __forceinline__ float distance_of(const float (&x)[D], const float *centroid) {
    return folded_lane<D, 1, 0>(x, centroid);
}

constexpr int ASSIGN_THREADS = 128;

/// Up to D dimensions, a power of two of at most 32: ROWS rows a thread, all centroids through shared memory. Dimensions that
/// are not there are 0 in both.
template <int D, int ROWS>
__device__ __forceinline__ void assign_narrow(const float *x, const float *centroids, u64 n, unsigned k, unsigned d,
                                              unsigned *labels, float *distances) {
    constexpr unsigned TILE = 2048 / D;
    __shared__ __align__(16) float tile[TILE * D];
    constexpr u64 STEP = static_cast<u64>(ASSIGN_THREADS) * ROWS;
    for (u64 base = blockIdx.x * STEP; base < n; base += gridDim.x * STEP) {
        float rows[ROWS][D], first[ROWS];
        Nearest found[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const u64 row = base + r * ASSIGN_THREADS + threadIdx.x;
#pragma unroll
            for (int j = 0; j < D; ++j) rows[r][j] = row < n && j < static_cast<int>(d) ? x[row * d + j] : 0.0f;
            found[r] = nobody();
            first[r] = 0.0f;
        }
        for (unsigned start = 0; start < k; start += TILE) {
            const unsigned here = min(k - start, TILE);
            __syncthreads();
            for (unsigned i = threadIdx.x; i < here * D; i += ASSIGN_THREADS)
                tile[i] = i % D < d ? centroids[static_cast<u64>(start + i / D) * d + i % D] : 0.0f;
            __syncthreads();
            if (start == 0) {
#pragma unroll
                for (int r = 0; r < ROWS; ++r) first[r] = distance_of<D>(rows[r], tile);
            }
            for (unsigned c = 0; c < here; ++c) {
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    const float distance = distance_of<D>(rows[r], tile + c * D);
                    // Centroids come in order: a tie leaves the lower one.
                    if (distance < found[r].distance) found[r] = {distance, start + c};
                }
            }
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const u64 row = base + r * ASSIGN_THREADS + threadIdx.x;
            if (row < n) {
                const Nearest nearest = with_first(found[r], first[r]);
                labels[row] = nearest.label;
                distances[row] = nearest.distance;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(ASSIGN_THREADS)
kmeans_assign_1(const float *x, const float *centroids, u64 n, unsigned k, unsigned d, unsigned *labels, float *distances) {
    assign_narrow<1, 4>(x, centroids, n, k, d, labels, distances);
}

extern "C" __global__ void __launch_bounds__(ASSIGN_THREADS)
kmeans_assign_2(const float *x, const float *centroids, u64 n, unsigned k, unsigned d, unsigned *labels, float *distances) {
    assign_narrow<2, 4>(x, centroids, n, k, d, labels, distances);
}

extern "C" __global__ void __launch_bounds__(ASSIGN_THREADS)
kmeans_assign_4(const float *x, const float *centroids, u64 n, unsigned k, unsigned d, unsigned *labels, float *distances) {
    assign_narrow<4, 4>(x, centroids, n, k, d, labels, distances);
}

extern "C" __global__ void __launch_bounds__(ASSIGN_THREADS)
kmeans_assign_8(const float *x, const float *centroids, u64 n, unsigned k, unsigned d, unsigned *labels, float *distances) {
    assign_narrow<8, 4>(x, centroids, n, k, d, labels, distances);
}

extern "C" __global__ void __launch_bounds__(ASSIGN_THREADS)
kmeans_assign_16(const float *x, const float *centroids, u64 n, unsigned k, unsigned d, unsigned *labels, float *distances) {
    assign_narrow<16, 2>(x, centroids, n, k, d, labels, distances);
}

extern "C" __global__ void __launch_bounds__(ASSIGN_THREADS)
kmeans_assign_32(const float *x, const float *centroids, u64 n, unsigned k, unsigned d, unsigned *labels, float *distances) {
    assign_narrow<32, 1>(x, centroids, n, k, d, labels, distances);
}

/// Any number of dimensions: the lanes of a warp are those of the canonical sum. A block has ROWS rows, of which each warp
/// compares all with its share of the centroids, 8 at a time: 64 sums, of which each lane has its part.
constexpr int ROWS = 8;
constexpr int CENTROIDS = 8;

/// One stage of the fold: a lane keeps one half of the sums, takes what the lane `DISTANCE` away has of them, and gives it the
/// other half. Which of two numbers is added to which makes no difference.
template <int SUMS, int DISTANCE>
__device__ __forceinline__ void fold_half(float (&sums)[ROWS * CENTROIDS]) {
    const bool upper = lane_number() & DISTANCE;
#pragma unroll
    for (int i = 0; i < SUMS / 2; ++i) {
        const float kept = upper ? sums[i + SUMS / 2] : sums[i], given = upper ? sums[i] : sums[i + SUMS / 2];
        sums[i] = __fadd_rn(kept, __shfl_xor_sync(ALL_LANES, given, DISTANCE));
    }
}

extern "C" __global__ void __launch_bounds__(ASSIGN_THREADS, 3)
kmeans_assign_wide(const float *x, const float *centroids, u64 n, unsigned k, u64 d, unsigned *labels, float *distances) {
    constexpr unsigned WARPS = ASSIGN_THREADS / 32;
    __shared__ Nearest of_warps[WARPS][ROWS];
    __shared__ float first[ROWS];
    const unsigned lane = lane_number();
    for (u64 base = static_cast<u64>(blockIdx.x) * ROWS; base < n; base += static_cast<u64>(gridDim.x) * ROWS) {
        // Rows and centroids past the last are the last again.
        const unsigned last_row = static_cast<unsigned>(min(n - base, static_cast<u64>(ROWS))) - 1;
        const float *const rows = x + base * d;
        Nearest found = nobody();
        for (unsigned start = warp_number() * CENTROIDS; start < k; start += WARPS * CENTROIDS) {
            const unsigned last_centroid = min(k - start, static_cast<unsigned>(CENTROIDS)) - 1;
            const float *const some = centroids + start * d;
            double totals[2] = {0.0, 0.0};
            for (u64 block = 0; block < d; block += CANONICAL_BLOCK) {
                const u64 end = min(d, block + CANONICAL_BLOCK);
                float sums[ROWS * CENTROIDS] = {};
                for (u64 i = block; i < end; i += 32) {
                    float of_rows[ROWS], of_centroids[CENTROIDS];
                    const u64 j = i + lane;
                    // Past the last dimension a lane adds (0 - 0)^2.
#pragma unroll
                    for (unsigned r = 0; r < ROWS; ++r) of_rows[r] = j < end ? rows[min(r, last_row) * d + j] : 0.0f;
#pragma unroll
                    for (unsigned c = 0; c < CENTROIDS; ++c)
                        of_centroids[c] = j < end ? some[min(c, last_centroid) * d + j] : 0.0f;
#pragma unroll
                    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
                        for (int c = 0; c < CENTROIDS; ++c)
                            sums[r * CENTROIDS + c] = __fadd_rn(sums[r * CENTROIDS + c], square(of_rows[r], of_centroids[c]));
                    }
                }
                fold_half<64, 16>(sums);
                fold_half<32, 8>(sums);
                fold_half<16, 4>(sums);
                fold_half<8, 2>(sums);
                fold_half<4, 1>(sums);
                totals[0] = __dadd_rn(totals[0], static_cast<double>(sums[0]));
                totals[1] = __dadd_rn(totals[1], static_cast<double>(sums[1]));
            }
            // Of the halves, each lane has kept those that its number names: sums 2 * lane and 2 * lane + 1.
#pragma unroll
            for (unsigned i = 0; i < 2; ++i) {
                const unsigned c = 2 * (lane % 4) + i;
                const float distance = __double2float_rn(totals[i]);
                if (start + c == 0) first[lane / 4] = distance;
                if (c <= last_centroid && distance < found.distance) found = {distance, start + c};
            }
        }
#pragma unroll
        for (int away = 1; away < 4; away *= 2)
            found = nearer(found, {__shfl_xor_sync(ALL_LANES, found.distance, away),
                                   __shfl_xor_sync(ALL_LANES, found.label, away)});
        if (lane % 4 == 0) of_warps[warp_number()][lane / 4] = found;
        __syncthreads();
        if (threadIdx.x <= last_row) {
            Nearest nearest = of_warps[0][threadIdx.x];
            for (unsigned warp = 1; warp < WARPS; ++warp) nearest = nearer(nearest, of_warps[warp][threadIdx.x]);
            nearest = with_first(nearest, first[threadIdx.x]);
            labels[base + threadIdx.x] = nearest.label;
            distances[base + threadIdx.x] = nearest.distance;
        }
        __syncthreads();
    }
}

// --- the sums of clusters --------------------------------------------------------------------------------------------

/// Notes the first label that names no cluster.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_check_labels(const unsigned *labels, u64 n, unsigned k, u64 *fault) {
    for (u64 i = global_thread(); i < n; i += global_threads())
        if (labels[i] >= k) note_fault(fault, i, labels[i]);
}

/// Where the rows of each cluster begin among the rows sorted by label, labels[n] being sorted: starts[k + 1]. A label that
/// names no cluster is past the end of all.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_starts(const unsigned *labels, u64 n, unsigned k, unsigned *starts) {
    for (u64 i = global_thread(); i <= n; i += global_threads()) {
        // Every cluster after that of the row before, up to this row's own, begins here.
        const u64 first = i == 0 ? 0 : static_cast<u64>(min(labels[i - 1], k)) + 1;
        const u64 last = i == n ? k : min(labels[i], k);
        for (u64 cluster = first; cluster <= last; ++cluster) starts[cluster] = static_cast<unsigned>(i);
    }
}

constexpr int UPDATE_THREADS = 256;
/// Columns of a block of threads, of which each thread of the first warp adds up one.
constexpr int COLUMNS = 32;
/// Products that wait to be added, in one of two halves.
constexpr unsigned WAITING = 2048;

/// sums[k, d] and masses[k] in index order: a block of threads for each cluster and 32 columns of it. While the first warp adds up
/// what waits in one half of the shared memory, a column a lane, the others fetch the next rows and multiply. With weights there
/// is one column more, of ones: its sums are the masses.
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS)
kmeans_update(const float *x, const float *weights, const unsigned *rows, const unsigned *starts, unsigned k, u64 d,
              u64 column_blocks, Divisor by_column_blocks, double *sums, double *masses) {
    __shared__ double waiting[2][WAITING];
    // At least one, with which the masses are written.
    const u64 columns = max(d + (weights != nullptr), 1ull), all_blocks = k * column_blocks;
    for (u64 block = blockIdx.x; block < all_blocks; block += gridDim.x) {
        const u64 cluster = quotient(block, by_column_blocks), column = (block - cluster * column_blocks) * COLUMNS;
        // Where a label named no cluster, the order may be another: none of its rows is outside of x all the same.
        const unsigned start = starts[cluster], end = max(start, starts[cluster + 1]);
        const unsigned width = static_cast<unsigned>(min(columns - column, static_cast<u64>(COLUMNS))), height = WAITING / width;
        if (!weights && column == 0 && threadIdx.x == 0) masses[cluster] = static_cast<double>(end - start);
        const bool adds = warp_number() == 0;
        double sum = 0.0;
        for (unsigned first = start, half = 0;; first += height, half ^= 1) {
            // The rows from `first` on go into one half, those before them come from the other.
            if (!adds) {
                const unsigned entries = first < end ? min(height, end - first) * width : 0;
                for (unsigned i = threadIdx.x - 32; i < entries; i += UPDATE_THREADS - 32) {
                    const u64 row = rows[first + i / width], at = column + i % width;
                    const double weight = weights ? static_cast<double>(weights[row]) : 1.0;
                    waiting[half][i] = at < d ? __dmul_rn(weight, static_cast<double>(x[row * d + at])) : weight;
                }
            } else if (first != start && threadIdx.x < width) {
                const double *const from = waiting[half ^ 1] + threadIdx.x;
                const unsigned count = min(height, end - (first - height));
                for (unsigned i = 0; i < count; ++i) sum = __dadd_rn(sum, from[i * width]);
            }
            __syncthreads();
            if (first >= end) break;
        }
        if (threadIdx.x < width) {
            const u64 at = column + threadIdx.x;
            if (at < d) sums[cluster * d + at] = sum;
            else masses[cluster] = sum;
        }
    }
}
