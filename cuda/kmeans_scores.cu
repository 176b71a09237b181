// Scores of rows by centroids on the tensor cores, and the two least of each row: the matrix of scores is nowhere.
//
// A block has 128 rows, and goes through tiles of 128 centroids. What a stage needs of the centroids lies side by side in
// memory, split already, and is copied beside the work; rows are split on the way, once if there is room for all of their
// columns.
#include "kmeans.cuh"

constexpr int SCORE_THREADS = 256;
/// Rows and columns of a warp.
constexpr int WARP_ROWS = 32, WARP_COLUMNS = 64, ACROSS = TILE / WARP_COLUMNS;
constexpr int HEADS = 2 * TILE * 4, STAGE = SIDE + HEADS;

/// The rows of a block: each thread has four numbers of four rows of a stage.
struct RowSide {
    static constexpr int OWN = Side::OWN, STEP = Side::STEP;

    const float *from[OWN];
    const float *centre;
    u64 d;
    float scale;
    bool vector;
    float4 fours[OWN];
    float squares[OWN];

    __device__ __forceinline__ RowSide(const Search &p, u64 first)
        : centre(p.centre + 4 * (threadIdx.x % Side::FOURS)), d(p.d), scale(static_cast<float>(p.frame->scale)),
          vector(p.d % 4 == 0 && is_aligned(p.x, 16)), squares() {
        // Rows past the last are the last again.
#pragma unroll
        for (int i = 0; i < OWN; ++i)
            from[i] = p.x + p.d * row_number(p, min(first + threadIdx.x / Side::FOURS + i * STEP, p.count - 1));
    }

    /// What the thread has of a stage; zeros past the last column.
    __device__ __forceinline__ void load(unsigned stage) {
        const u64 column = static_cast<u64>(stage) * DEPTH + 4 * (threadIdx.x % Side::FOURS);
        const u64 left = column < d ? d - column : 0;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            const float *const at = from[i] + column;
            fours[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (vector && left > 0) {
                fours[i] = load4(at);
            } else {
                if (left > 0) fours[i].x = at[0];
                if (left > 1) fours[i].y = at[1];
                if (left > 2) fours[i].z = at[2];
                if (left > 3) fours[i].w = at[3];
            }
        }
    }

    /// Splits it, less the centre, into a side.
    __device__ __forceinline__ void store(unsigned char *side, unsigned stage) {
        const int across = threadIdx.x % Side::FOURS, row = threadIdx.x / Side::FOURS;
        const float4 less = load4(centre + static_cast<u64>(stage) * DEPTH);
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            const float x = (fours[i].x - less.x) * scale, y = (fours[i].y - less.y) * scale;
            const float z = (fours[i].z - less.z) * scale, w = (fours[i].w - less.w) * scale;
            squares[i] = __fmaf_rn(w, w, __fmaf_rn(z, z, __fmaf_rn(y, y, __fmaf_rn(x, x, squares[i]))));
            const Halves first = split_halves(x, y), second = split_halves(z, w);
            unsigned char *const to = side + Side::place(row + i * STEP, across / 2) + 8 * (across % 2);
            *reinterpret_cast<uint2 *>(to) = make_uint2(first.high, second.high);
            *reinterpret_cast<uint2 *>(to + PLANE) = make_uint2(first.low, second.low);
        }
    }

    /// When all stages were stored once: of each row, |x'|^2 and a bound of the norm.
    __device__ __forceinline__ void measure(const Search &p, float2 *norms) {
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            float sum = squares[i];
#pragma unroll
            for (int away = 1; away < Side::FOURS; away *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, away);
            if (threadIdx.x % Side::FOURS == 0)
                norms[threadIdx.x / Side::FOURS + i * STEP] = make_float2(sum, norm_of(p, sum));
        }
    }
};

/// Adds the products of a warp's rows and the first 16 * `pairs` of its centroids, over a stage of 16 * `steps` columns. ALL: of
/// all its centroids.
template <bool ALL>
__device__ __forceinline__ void multiply_stage(const unsigned char *a, const unsigned char *b, int row, int column, int pairs,
                                               int steps, float (&sums)[2][8][4]) {
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        unsigned left[2][2][4];
#pragma unroll
        for (int plane = 0; plane < 2; ++plane)
#pragma unroll
            for (int i = 0; i < 2; ++i) Side::rows(a + plane * PLANE, row + 16 * i, step, left[plane][i]);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (!ALL && j >= pairs) break;
            unsigned right[2][2][2];
#pragma unroll
            for (int plane = 0; plane < 2; ++plane) {
                unsigned four[4];
                Side::columns(b + plane * PLANE, column + 16 * j, step, four);
                right[plane][0][0] = four[0];
                right[plane][0][1] = four[1];
                right[plane][1][0] = four[2];
                right[plane][1][1] = four[3];
            }
            // The smallest products first.
            constexpr int OF_A[3] = {1, 0, 0}, OF_B[3] = {0, 1, 0};
            const float none[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
            for (int side = 0; side < 2; ++side) {
                float parts[2][4];
#pragma unroll
                for (int product = 0; product < 3; ++product)
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        if (product == 0)
                            multiply_f16(parts[i], left[OF_A[product]][i], right[OF_B[product]][side], none);
                        else
                            multiply_f16(parts[i], left[OF_A[product]][i], right[OF_B[product]][side], parts[i]);
                    }
#pragma unroll
                for (int i = 0; i < 2; ++i)
#pragma unroll
                    for (int c = 0; c < 4; ++c) sums[i][2 * j + side][c] += parts[i][c];
            }
        }
    }
}

/// Takes the scores of a tile, and leaves sums of 0. `norms` are those of the thread's rows, 8 rows apart; heads those of its
/// centroids, 8 apart, the first of which has number `number`.
__device__ __forceinline__ void take_scores(const float2 *norms, const float *heads, unsigned number, int pairs,
                                            float (&sums)[2][8][4], Least (&least)[4]) {
    float norm[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) norm[r] = norms[8 * r].y;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        if (j >= 2 * pairs) break;
        const float2 head = *reinterpret_cast<const float2 *>(heads + 8 * j);
        const float2 error = *reinterpret_cast<const float2 *>(heads + TILE + 8 * j);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            float *const sum = sums[r / 2][j] + r % 2 * 2;
            least[r].take(__fmaf_rn(-norm[r], error.x, head.x) - sum[0], number + 8 * j);
            least[r].take(__fmaf_rn(-norm[r], error.y, head.y) - sum[1], number + 8 * j + 1);
            sum[0] = sum[1] = 0.0f;
        }
    }
}

/// Brings together what the lanes and warps have found of the same rows, in shared memory that nobody uses any more. `row` is the
/// warp's first of those of the block, `first` the block's.
__device__ __forceinline__ void write_found(const Search &p, Least *joint, const float2 *norms, u64 first, int row,
                                            Least (&least)[4]) {
    const int lane = lane_number();
    const bool last = warp_number() % ACROSS == ACROSS - 1;
    static_assert(ACROSS == 2, "one warp gives, the other one takes");
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int away = 1; away < 4; away *= 2) {
            const float other = __shfl_xor_sync(ALL_LANES, least[r].first, away);
            const float second = __shfl_xor_sync(ALL_LANES, least[r].second, away);
            least[r].join(other, second, __shfl_xor_sync(ALL_LANES, least[r].label, away));
        }
        if (last && lane % 4 == 0) joint[row + 8 * r + lane / 4] = least[r];
    }
    __syncthreads();
    if (last || lane % 4 != 0) return;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
        const int at = row + 8 * r + lane / 4;
        least[r].join(joint[at].first, joint[at].second, joint[at].label);
        if (first + at < p.count)
            p.found[blockIdx.y * p.count + first + at] = {least[r].first, least[r].second, least[r].label, norms[at].x};
    }
}

/// Begins to copy what a step needs of the centroids: a side, and with the last of a tile its heads, if there are any.
__device__ __forceinline__ void copy_stage(unsigned char *to, const unsigned char *side, const float *heads) {
#pragma unroll
    for (int i = 0; i < SIDE / 16 / SCORE_THREADS; ++i) {
        const int at = 16 * (i * SCORE_THREADS + threadIdx.x);
        copy16(to + at, side + at, true);
    }
    if (heads && threadIdx.x < HEADS / 16) copy16(to + SIDE + 16 * threadIdx.x, heads + 4 * threadIdx.x, true);
    end_group();
}

/// RESIDENT: all stages of the rows stay in shared memory, else two.
template <bool RESIDENT>
__device__ __forceinline__ void scores(const Search &p) {
    DYNAMIC_SHARED(unsigned char, shared);
    const unsigned k = static_cast<unsigned>(p.k), d = static_cast<unsigned>(p.d), stages = (d + DEPTH - 1) / DEPTH;
    unsigned char *const of_rows = shared, *const of_centroids = shared + (RESIDENT ? stages : 2) * SIDE;
    float2 *const norms = reinterpret_cast<float2 *>(of_centroids + 2 * STAGE);
    const u64 first = static_cast<u64>(blockIdx.x) * TILE, tiles = (p.k + TILE - 1) / TILE;
    const unsigned begin = static_cast<unsigned>(blockIdx.y * p.tiles_of_slice);
    const unsigned last = static_cast<unsigned>(min(p.tiles_of_slice + begin, tiles)) - 1;
    unsigned tile = begin, stage = 0;
    const int row = warp_number() / ACROSS * WARP_ROWS, column = warp_number() % ACROSS * WARP_COLUMNS, lane = lane_number();
    auto copy = [&](unsigned char *to, unsigned of_tile, unsigned of_stage) {
        const u64 at = (static_cast<u64>(of_tile) * stages + of_stage) * SIDE;
        const float *const heads = of_stage + 1 == stages ? reinterpret_cast<const float *>(p.heads[of_tile]) : nullptr;
        copy_stage(to, static_cast<const unsigned char *>(p.packed) + at, heads);
    };
    copy(of_centroids, tile, 0);
    RowSide rows(p, first);
    for (unsigned here = 0; here < (RESIDENT ? stages : 1); ++here) {
        rows.load(here);
        rows.store(of_rows + here * SIDE, here);
    }
    if (RESIDENT || stages == 1) rows.measure(p, norms);
    const bool any = first + row < p.count;
    Least least[4];
    float sums[2][8][4] = {};
    for (unsigned odd = 0;; odd ^= 1) {
        const unsigned following = stage + 1 < stages ? stage + 1 : 0;
        const bool ends = following == 0, more = !ends || tile != last;
        wait_for_groups<0>();
        __syncthreads();
        if (more) copy(of_centroids + (odd ^ 1) * STAGE, tile + ends, following);
        if (!RESIDENT && more) rows.load(following);
        const unsigned char *const a = of_rows + (RESIDENT ? stage : odd) * SIDE, *const b = of_centroids + odd * STAGE;
        // Nothing to multiply where there are no rows or centroids left.
        const int centroids = static_cast<int>(min(k - tile * TILE, static_cast<unsigned>(TILE)));
        const int pairs = any ? min(max(centroids - column + 15, 0) / 16, 4) : 0;
        const int depth = d - stage * DEPTH > DEPTH / 2 ? 2 : 1;
        if (pairs == 4) multiply_stage<true>(a, b, row, column, 4, depth, sums);
        else multiply_stage<false>(a, b, row, column, pairs, pairs ? depth : 0, sums);
        if (!RESIDENT && more) {
            rows.store(of_rows + (odd ^ 1) * SIDE, following);
            if (tile == begin && !ends && following + 1 == stages) rows.measure(p, norms);
        }
        if (ends) {
            const int own = column + 2 * (lane % 4);
            take_scores(norms + row + lane / 4, reinterpret_cast<const float *>(b + SIDE) + own, tile * TILE + own, pairs, sums,
                        least);
            if (!more) break;
            ++tile;
        }
        stage = following;
    }
    __syncthreads();
    write_found(p, reinterpret_cast<Least *>(of_centroids), norms, first, row, least);
}

/// In tolerance; rows of as many columns as there is room for.
extern "C" __global__ void __launch_bounds__(SCORE_THREADS, 2) kmeans_scores(Search p) { scores<true>(p); }

/// In tolerance; rows of any number of columns.
extern "C" __global__ void __launch_bounds__(SCORE_THREADS, 1) kmeans_scores_long(Search p) { scores<false>(p); }
