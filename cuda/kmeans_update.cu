// The sums of clusters, and the distances of rows from the centroids of their labels.
#include "canonical.cuh"
#include "rows.cuh"

/// Notes the first label that names no cluster.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_check_labels(const unsigned *labels, u64 n, unsigned k, u64 *fault) {
    for (u64 i = global_thread(); i < n; i += global_threads())
        if (labels[i] >= k) note_fault(fault, i, labels[i]);
}

/// Where the rows of each part of each cluster begin among the rows sorted by label, labels[n] being sorted: starts[k * parts +
/// 1]. Row i of x is of part i / height. A label that names no cluster is past the end of all.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_starts(const unsigned *labels, const unsigned *rows, u64 n, unsigned k, u64 parts, u64 height, unsigned *starts) {
    auto place = [&](u64 i) { return labels[i] < k ? labels[i] * parts + rows[i] / height : k * parts; };
    for (u64 i = global_thread(); i <= n; i += global_threads()) {
        // Every part after that of the row before, up to this row's own, begins here.
        const u64 first = i == 0 ? 0 : place(i - 1) + 1, last = i == n ? k * parts : place(i);
        for (u64 part = first; part <= last; ++part) starts[part] = static_cast<unsigned>(i);
    }
}

constexpr int UPDATE_THREADS = 256;
/// Columns of a block of threads, of which each thread of the first warp adds up one.
constexpr int COLUMNS = 32;
/// Products that wait to be added, in one of two halves, and the rows that they are of at most.
constexpr unsigned WAITING = 2048, WAITING_ROWS = 256;

/// What the sums are of. Clusters have `parts`: one of all rows, or one for each stripe, of so many rows of x.
struct Clusters {
    const float *x, *weights;
    const unsigned *rows, *starts;
    u64 k, d, parts, stripe, column_blocks;
    Divisor by_column_blocks;
};

/// Puts into `waiting` what rows number `first` to `end` of the sorted ones add to `width` columns from `column` on, and into
/// `numbers` which rows they are. Called by all warps but the first.
__device__ __forceinline__ void fetch_products(const Clusters &p, unsigned first, unsigned end, u64 column, unsigned width,
                                               double *waiting, unsigned *numbers) {
    for (unsigned i = threadIdx.x - 32; i < (end - first) * width; i += UPDATE_THREADS - 32) {
        const unsigned number = i / width, row = p.rows[first + number];
        const u64 at = column + i % width;
        const double weight = p.weights ? static_cast<double>(p.weights[row]) : 1.0;
        waiting[i] = at < p.d ? __dmul_rn(weight, static_cast<double>(p.x[row * p.d + at])) : weight;
        if (i % width == 0) numbers[number] = row;
    }
}

/// The sum of a column: that of the stripes so far, and of the rows of this one, which ends before row `end` of x.
struct Sum {
    double stripes = 0.0, rows = 0.0;
    u64 end = 0;

    __device__ __forceinline__ void add(double product, unsigned row, u64 stripe) {
        if (row >= end) {
            stripes = __dadd_rn(stripes, rows);
            rows = 0.0;
            end = (row / stripe + 1) * stripe;
        }
        rows = __dadd_rn(rows, product);
    }
};

/// sums[parts][k, d] and masses[parts][k], `pitch` numbers from one part to the next: a block of threads for each part of a
/// cluster and 32 columns of it. While the first warp adds up what waits in one half of the shared memory, a column a lane, the
/// others fetch the next rows and multiply. With weights there is one column more, of ones: its sums are the masses.
extern "C" __global__ void __launch_bounds__(UPDATE_THREADS) kmeans_update(Clusters p, double *sums, double *masses, u64 pitch) {
    __shared__ double waiting[2][WAITING];
    __shared__ unsigned numbers[2][WAITING_ROWS];
    // At least one, with which the masses are written.
    const u64 columns = max(p.d + (p.weights != nullptr), 1ull), all_blocks = p.k * p.parts * p.column_blocks;
    for (u64 block = blockIdx.x; block < all_blocks; block += gridDim.x) {
        const u64 entry = quotient(block, p.by_column_blocks), column = (block - entry * p.column_blocks) * COLUMNS;
        const u64 cluster = p.parts == 1 ? entry : entry / p.parts, part = entry - cluster * p.parts;
        // Where a label named no cluster, the order may be another: none of its rows is outside of x all the same.
        const unsigned start = p.starts[entry], end = max(start, p.starts[entry + 1]);
        const unsigned width = static_cast<unsigned>(min(columns - column, static_cast<u64>(COLUMNS)));
        const unsigned height = min(WAITING / width, WAITING_ROWS);
        Sum sum;
        for (unsigned first = start, half = 0;; first += height, half ^= 1) {
            // The rows from `first` on go into one half, those before them come from the other.
            if (warp_number() != 0) {
                if (first < end)
                    fetch_products(p, first, first + min(height, end - first), column, width, waiting[half], numbers[half]);
            } else if (first != start && threadIdx.x < width) {
                const double *const from = waiting[half ^ 1] + threadIdx.x;
                const unsigned count = min(height, end - (first - height));
                for (unsigned i = 0; i < count; ++i) sum.add(from[i * width], numbers[half ^ 1][i], p.stripe);
            }
            __syncthreads();
            if (first >= end) break;
        }
        const double total = __dadd_rn(sum.stripes, sum.rows);
        double *const mass = masses + part * pitch + cluster;
        if (!p.weights && column == 0 && threadIdx.x == 0) *mass = static_cast<double>(end - start);
        if (threadIdx.x < width) {
            const u64 at = column + threadIdx.x;
            if (at < p.d) sums[part * pitch + cluster * p.d + at] = total;
            else if (p.weights) *mass = total;
        }
    }
}

/// sums[count] and masses[k] from those of the stripes, [stripes][count + k], in order.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_add_stripes(const double *of_stripes, u64 stripes, u64 count, u64 k, double *sums, double *masses) {
    for (u64 i = global_thread(); i < count + k; i += global_threads()) {
        double sum = 0.0;
        for (u64 stripe = 0; stripe < stripes; ++stripe) sum = __dadd_rn(sum, of_stripes[stripe * (count + k) + i]);
        if (i < count) sums[i] = sum;
        else masses[i - count] = sum;
    }
}

/// The canonical sums of (x - c)^2, a warp for each row. A label that names no centroid is noted, and its row left out.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_distances(const float *x, const unsigned *labels, const double *centroids, u64 n, unsigned k, u64 d, float *distances,
                 u64 *fault) {
    for (u64 row = global_thread() / 32; row < n; row += global_threads() / 32) {
        const unsigned label = labels[row];
        if (label >= k) {
            if (lane_number() == 0) note_fault(fault, row, label);
            continue;
        }
        const float *const from = x + row * d;
        const double *const centroid = centroids + label * d;
        double total = 0.0;
        for (u64 start = 0; start < d; start += CANONICAL_BLOCK) {
            const unsigned count = static_cast<unsigned>(min(d - start, static_cast<u64>(CANONICAL_BLOCK)));
            const float sum = canonical_block(count, [&](unsigned i) {
                const float difference = __fsub_rn(from[start + i], __double2float_rn(centroid[start + i]));
                return __fmul_rn(difference, difference);
            });
            total = __dadd_rn(total, static_cast<double>(sum));
        }
        if (lane_number() == 0) distances[row] = __double2float_rn(total);
    }
}
