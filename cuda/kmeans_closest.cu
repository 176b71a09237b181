// The nearest centroids of each row, in order: all squared distances by the definition, then those of each row sorted as far as
// that is asked for.
#include "kmeans.cuh"

/// Rows and centroids of a group of eight lanes. The four groups of a warp have the same rows, and so have two warps.
constexpr int ROWS = 4, CENTROIDS = 4;
constexpr int TILE_ROWS = 4 * ROWS, TILE_CENTROIDS = 2 * 4 * CENTROIDS;

/// squares[count, k], as bits: they are not below 0, so that they are in the order of integers.
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_squares(const float *x, const double *centroids, u64 count, u64 k, u64 d, u64 *squares) {
    const unsigned warp = warp_number(), lane = lane_number();
    const u64 across = (k + TILE_CENTROIDS - 1) / TILE_CENTROIDS, tiles = (count + TILE_ROWS - 1) / TILE_ROWS * across;
    for (u64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const u64 row = tile / across * TILE_ROWS + warp / 2 * ROWS;
        const u64 centroid = tile % across * TILE_CENTROIDS + warp % 2 * (4 * CENTROIDS) + lane / 8 * CENTROIDS;
        // Those past the last are the last again.
        const float *rows[ROWS];
        const double *from[CENTROIDS];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) rows[r] = x + min(row + r, count - 1) * d;
#pragma unroll
        for (int c = 0; c < CENTROIDS; ++c) from[c] = centroids + min(centroid + c, k - 1) * d;
        double sums[ROWS][CENTROIDS] = {};
        exact_distances(rows, from, d, sums);
#pragma unroll
        for (int r = 0; r < ROWS; ++r)
#pragma unroll
            for (int c = 0; c < CENTROIDS; ++c)
                if (lane % 8 == (r * CENTROIDS + c) % 8 && row + r < count && centroid + c < k)
                    squares[(row + r) * k + centroid + c] = static_cast<u64>(__double_as_longlong(sums[r][c]));
    }
}

/// What of a row is sorted: k squares, and whose they are.
struct Sorted {
    u64 *squares;
    unsigned *labels, k;

    /// Puts the nearer of two first. There is nothing past the last, as if it were farther than all.
    __device__ __forceinline__ void order(unsigned first, unsigned second) const {
        if (second >= k) return;
        const u64 a = squares[first], b = squares[second];
        const unsigned of_a = labels[first], of_b = labels[second];
        if (a < b || (a == b && of_a < of_b)) return;
        squares[first] = b;
        squares[second] = a;
        labels[first] = of_b;
        labels[second] = of_a;
    }
};

/// labels[count, m] and distances[count, m] of the m <= 2^bits nearest, from squares[count, k]: a bitonic sort, in which of every
/// sorted run only the first 2^bits go on to the next. Each row has a team of 32 threads or of the whole block, and lies in
/// shared memory, or where that is too small stays where it is, with its numbers in numbers[count, k].
extern "C" __global__ void __launch_bounds__(THREADS)
kmeans_nearest(u64 *squares, unsigned *numbers, u64 count, unsigned k, unsigned m, unsigned bits, unsigned team,
               unsigned *labels, float *distances) {
    DYNAMIC_SHARED(u64, shared);
    const unsigned teams = THREADS / team, number = threadIdx.x / team, own = threadIdx.x % team;
    auto meet = [&] {
        if (team == 32) __syncwarp();
        else __syncthreads();
    };
    for (u64 row = static_cast<u64>(blockIdx.x) * teams + number; row < count; row += static_cast<u64>(gridDim.x) * teams) {
        Sorted sorted = {squares + row * k, numbers + row * k, k};
        if (!numbers) sorted = {shared + number * k, reinterpret_cast<unsigned *>(shared + teams * k) + number * k, k};
        for (unsigned i = own; i < k; i += team) {
            if (!numbers) sorted.squares[i] = squares[row * k + i];
            sorted.labels[i] = i;
        }
        meet();
        // Runs of 2^size, two and two.
        for (unsigned size = 0; 1u << size < k; ++size) {
            const unsigned kept = min(size, bits), pairs = (k - 1 >> size + 1) + 1;
            for (unsigned i = own; i < pairs << kept; i += team) {
                const unsigned base = i >> kept << size + 1, at = i & (1u << kept) - 1;
                sorted.order(base + at, base + (1u << size) + (1u << kept) - 1 - at);
            }
            meet();
            // What is nearer is in the first run, and what is farther in the second one, of which nothing goes on once there are
            // enough.
            const unsigned half = size < bits ? size : bits - 1;
            for (unsigned stride = kept; stride-- > 0;) {
                for (unsigned i = own; i < pairs << half; i += team) {
                    const unsigned base = i >> half << size + 1, at = i & (1u << half) - 1;
                    const unsigned first = base + (at >> stride << stride + 1) + (at & (1u << stride) - 1);
                    sorted.order(first, first + (1u << stride));
                }
                meet();
            }
        }
        for (unsigned i = own; i < m; i += team) {
            labels[row * m + i] = sorted.labels[i];
            distances[row * m + i] = __double2float_rn(__longlong_as_double(static_cast<long long>(sorted.squares[i])));
        }
        meet();
    }
}
