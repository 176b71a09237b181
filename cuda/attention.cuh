// Products of tiles in shared memory, which attention and its gradients are made of: 64 rows by 64 columns, or by the width of
// a head. Everything is f32, multiplied and added by the plain units.
//
// A block has 16 columns of threads. Thread (down, across) has rows down, down + DOWN, ... of a product: neighbours in a warp
// then read different banks of shared memory, and the rows of a product that a warp writes are the ones that it reads.
#pragma once
#include "device.cuh"

/// Rows of a tile.
constexpr int TILE = 64;
constexpr int ACROSS = 16;
/// Floats between the rows of 64 weights: a multiple of 4, but of no more, so that a column is spread over the banks.
constexpr int WEIGHT_PITCH = TILE + 4;

/// How heads of up to WIDTH elements are worked on. (Wider ones: in chunks of WIDTH.)
template <int WIDTH>
struct Tiles {
    /// Rows of a product that a thread has.
    static constexpr int ROWS = WIDTH > 64 ? 4 : 8;
    static constexpr int DOWN = TILE / ROWS;
    static constexpr int THREADS = DOWN * ACROSS;
    /// Columns of a head that a thread has.
    static constexpr int COLUMNS = WIDTH / ACROSS;
    /// As WEIGHT_PITCH.
    static constexpr int PITCH = WIDTH + 4;
    /// Floats of a tile, and of one that the weights may take the place of.
    static constexpr int SIZE = TILE * PITCH;
    static constexpr int SHARED_SIZE = SIZE > TILE * WEIGHT_PITCH ? SIZE : TILE * WEIGHT_PITCH;
};

struct Place {
    unsigned down, across;
};

__device__ __forceinline__ Place place() { return {threadIdx.x / ACROSS, threadIdx.x % ACROSS}; }

/// Rows of a matrix: `count` of them from `data` on, `stride` floats apart, of `width` floats each. `vector`: each begins at
/// a multiple of 16 bytes and has whole vectors.
struct Strip {
    const float *data;
    u64 stride;
    unsigned count, width;
    bool vector;
};

/// Copies a strip of at most 64 rows of at most WIDTH floats, times `factor`, to a tile; what is past it becomes 0.
template <int WIDTH>
__device__ __forceinline__ void load_tile(float *tile, const Strip &strip, float factor) {
    constexpr int PITCH = Tiles<WIDTH>::PITCH, COUNT = Tiles<WIDTH>::THREADS;
    if (!strip.vector) {
#pragma unroll 4
        for (unsigned i = threadIdx.x; i < TILE * WIDTH; i += COUNT) {
            const unsigned row = i / WIDTH, column = i % WIDTH;
            const bool present = row < strip.count && column < strip.width;
            tile[row * PITCH + column] = present ? __ldg(strip.data + row * strip.stride + column) * factor : 0.0f;
        }
        return;
    }
    // All steps take the same columns, so many rows on.
    constexpr int QUADS = WIDTH / 4, STEPS = TILE * QUADS / COUNT, ROWS_OF_STEP = COUNT / QUADS;
    const unsigned row = threadIdx.x / QUADS, column = threadIdx.x % QUADS * 4;
    const float *from = strip.data + row * strip.stride + column;
    const u64 stride = ROWS_OF_STEP * strip.stride;
    const unsigned count = column < strip.width ? strip.count : 0;
    float4 four[STEPS];
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
        four[step] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (row + step * ROWS_OF_STEP < count) four[step] = __ldg(reinterpret_cast<const float4 *>(from));
        from += stride;
    }
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
        const float4 x = four[step];
        store4(tile + (row + step * ROWS_OF_STEP) * PITCH + column,
               make_float4(x.x * factor, x.y * factor, x.z * factor, x.w * factor));
    }
}

/// product[i][j] += the sum over c < depth, a multiple of 4, of rows[down + DOWN i][c] * columns[across + 16 j][c].
template <int WIDTH>
__device__ __forceinline__ void add_scores(float (&product)[Tiles<WIDTH>::ROWS][TILE / ACROSS], const float *rows,
                                           const float *columns, unsigned depth) {
    constexpr int PITCH = Tiles<WIDTH>::PITCH, DOWN = Tiles<WIDTH>::DOWN;
    const Place here = place();
    rows += here.down * PITCH;
    columns += here.across * PITCH;
#pragma unroll 1
    for (unsigned c = 0; c < depth; c += 4) {
        float4 column[TILE / ACROSS];
#pragma unroll
        for (int j = 0; j < TILE / ACROSS; ++j) column[j] = load4(columns + j * ACROSS * PITCH + c);
#pragma unroll
        for (int i = 0; i < Tiles<WIDTH>::ROWS; ++i) {
            const float4 row = load4(rows + i * DOWN * PITCH + c);
#pragma unroll
            for (int j = 0; j < TILE / ACROSS; ++j) {
                product[i][j] = fmaf(row.x, column[j].x, product[i][j]);
                product[i][j] = fmaf(row.y, column[j].y, product[i][j]);
                product[i][j] = fmaf(row.z, column[j].z, product[i][j]);
                product[i][j] = fmaf(row.w, column[j].w, product[i][j]);
            }
        }
    }
}

/// The columns of a head that a thread has: vectors of four, 64 columns apart; of two, where a head has 32.
template <int COLUMNS>
__device__ __forceinline__ void load_columns(float (&to)[COLUMNS], const float *row) {
    const unsigned across = place().across;
    if constexpr (COLUMNS == 2) {
        const float2 two = *reinterpret_cast<const float2 *>(row + 2 * across);
        to[0] = two.x, to[1] = two.y;
    } else {
#pragma unroll
        for (int c = 0; c < COLUMNS; c += 4) {
            const float4 four = load4(row + 16 * c + 4 * across);
            to[c] = four.x, to[c + 1] = four.y, to[c + 2] = four.z, to[c + 3] = four.w;
        }
    }
}

/// Which column of the head number c of these is.
template <int COLUMNS>
__device__ __forceinline__ unsigned column_of(int c) {
    return COLUMNS == 2 ? 2 * place().across + c : c / 4 * 64 + 4 * place().across + c % 4;
}

/// sums[i][c] += the sum over k < count of weights[down + DOWN i][k] * values[k][column c], where weights past `count` up to a
/// multiple of 4 are 0.
template <int WIDTH>
__device__ __forceinline__ void add_products(float (&sums)[Tiles<WIDTH>::ROWS][Tiles<WIDTH>::COLUMNS], const float *weights,
                                             const float *values, unsigned count) {
    constexpr int ROWS = Tiles<WIDTH>::ROWS, COLUMNS = Tiles<WIDTH>::COLUMNS;
    weights += place().down * WEIGHT_PITCH;
#pragma unroll 1
    for (unsigned k = 0; k < count; k += 4) {
        float4 weight[ROWS];
#pragma unroll
        for (int i = 0; i < ROWS; ++i) weight[i] = load4(weights + i * Tiles<WIDTH>::DOWN * WEIGHT_PITCH + k);
#pragma unroll
        for (int next = 0; next < 4; ++next) {
            float value[COLUMNS];
            load_columns<COLUMNS>(value, values + (k + next) * Tiles<WIDTH>::PITCH);
#pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                const float w = next == 0 ? weight[i].x : next == 1 ? weight[i].y : next == 2 ? weight[i].z : weight[i].w;
#pragma unroll
                for (int c = 0; c < COLUMNS; ++c) sums[i][c] = fmaf(w, value[c], sums[i][c]);
            }
        }
    }
}

/// Writes a product where `add_products` reads weights. The rows are those of this warp.
template <int WIDTH>
__device__ __forceinline__ void store_weights(float *weights, const float (&product)[Tiles<WIDTH>::ROWS][TILE / ACROSS]) {
    const Place here = place();
#pragma unroll
    for (int i = 0; i < Tiles<WIDTH>::ROWS; ++i)
#pragma unroll
        for (int j = 0; j < TILE / ACROSS; ++j)
            weights[(here.down + i * Tiles<WIDTH>::DOWN) * WEIGHT_PITCH + here.across + j * ACROSS] = product[i][j];
}

/// Writes sums, times `factor`(i) for row i of the thread, to rows down + DOWN i < count of a matrix.
template <int WIDTH, class Factor>
__device__ __forceinline__ void store_rows(float *to, u64 stride, unsigned count, unsigned width, bool vector,
                                           const float (&sums)[Tiles<WIDTH>::ROWS][Tiles<WIDTH>::COLUMNS], Factor factor) {
    constexpr int COLUMNS = Tiles<WIDTH>::COLUMNS;
#pragma unroll
    for (int i = 0; i < Tiles<WIDTH>::ROWS; ++i) {
        const unsigned row = place().down + i * Tiles<WIDTH>::DOWN;
        if (row >= count) break;
        const float times = factor(i);
        float *const to_row = to + row * stride;
        if constexpr (COLUMNS >= 4) {
            if (vector) {
#pragma unroll
                for (int c = 0; c < COLUMNS; c += 4)
                    if (column_of<COLUMNS>(c) < width)
                        store4(to_row + column_of<COLUMNS>(c), make_float4(sums[i][c] * times, sums[i][c + 1] * times,
                                                                           sums[i][c + 2] * times, sums[i][c + 3] * times));
                continue;
            }
        }
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) {
            const unsigned column = column_of<COLUMNS>(c);
            if (column < width) to_row[column] = sums[i][c] * times;
        }
    }
}

template <int ROWS, int COLUMNS>
__device__ __forceinline__ void clear(float (&x)[ROWS][COLUMNS]) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) x[i][j] = 0.0f;
}
