// Products of floats, with any strides, and of floats by trits. None promises its bits: they keep to the tolerance of f32 sums.
#include "float_tiles.cuh"

/// A tile of ROWS x COLUMNS by warps of WARP_ROWS x WARP_COLUMNS. A_ALONG: rows of a lie in memory, else columns; B_ALONG:
/// columns of b do, else rows. Other strides are slow, not wrong.
template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS, bool A_ALONG, bool B_ALONG>
__device__ __forceinline__ void product(const FloatProduct &p) {
    constexpr int ACROSS = COLUMNS / WARP_COLUMNS, BLOCK = ROWS / WARP_ROWS * ACROSS * 32;
    using A = FloatSide<ROWS, A_ALONG, BLOCK>;
    using B = FloatSide<COLUMNS, B_ALONG, BLOCK>;
    constexpr int STAGE = 3 * (A::PLANE + B::PLANE);
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned down, across;
    tile_of_block((p.m + ROWS - 1) / ROWS, (p.n + COLUMNS - 1) / COLUMNS, down, across);
    const u64 first_row = static_cast<u64>(down) * ROWS, first_column = static_cast<u64>(across) * COLUMNS;
    const u64 begin = blockIdx.y * p.slice, end = min(p.k, begin + p.slice);
    A a(p.a, p.a_row, p.a_depth, first_row, p.m, begin, end);
    B b(p.b, p.b_column, p.b_depth, first_column, p.n, begin, end);
    const int row = warp_number() / ACROSS * WARP_ROWS, column = warp_number() % ACROSS * WARP_COLUMNS;
    float sums[WARP_ROWS / 16][WARP_COLUMNS / 8][4] = {};
    const unsigned steps = begin < end ? (end - begin + A::DEPTH - 1) / A::DEPTH : 0;
    a.load();
    b.load();
    in_stages(
        steps,
        [&](unsigned step) {
            unsigned char *const stage = shared + step % 2 * STAGE;
            a.store(stage);
            b.store(stage + 3 * A::PLANE);
            // The next one is on its way until it is stored; after the last there is nothing: zeros.
            a.load();
            b.load();
        },
        [&](unsigned step) {
            const unsigned char *const stage = shared + step % 2 * STAGE;
            multiply_planes<A, B, 3, WARP_ROWS, WARP_COLUMNS>(stage, stage + 3 * A::PLANE, row, column, sums);
        });
    write_sums<WARP_ROWS, WARP_COLUMNS>(p.c + blockIdx.y * p.m * p.n, first_row + row, first_column + column, p.m, p.n,
                                        p.accumulate, sums);
}

/// a[m, k] by b[n, k]^T, in tolerance: tiles of 128 x 128.
extern "C" __global__ void __launch_bounds__(256, 1) matmul_rows_rows(FloatProduct p) {
    product<128, 128, 64, 32, true, true>(p);
}

/// a[m, k] by b[k, n], in tolerance.
extern "C" __global__ void __launch_bounds__(256, 1) matmul_rows_columns(FloatProduct p) {
    product<128, 128, 64, 32, true, false>(p);
}

/// a[k, m]^T by b[k, n], in tolerance.
extern "C" __global__ void __launch_bounds__(256, 1) matmul_columns_columns(FloatProduct p) {
    product<128, 128, 64, 32, false, false>(p);
}

/// The same in tolerance, by tiles of 64 x 64: where there are too few of the others.
extern "C" __global__ void __launch_bounds__(128) matmul_rows_rows_small(FloatProduct p) {
    product<64, 64, 32, 32, true, true>(p);
}

/// In tolerance, tiles of 64 x 64.
extern "C" __global__ void __launch_bounds__(128) matmul_rows_columns_small(FloatProduct p) {
    product<64, 64, 32, 32, true, false>(p);
}

/// In tolerance, tiles of 64 x 64.
extern "C" __global__ void __launch_bounds__(128) matmul_columns_columns_small(FloatProduct p) {
    product<64, 64, 32, 32, false, false>(p);
}

/// The gradient of a ternary layer to its input: a = dy[m, k] times the scales of weights t[k, n], for which they are, by trits.
struct BackwardProduct {
    FloatProduct product;
    /// Rows of `pitch` words of 16 trits.
    const unsigned *trits;
    u64 pitch;
    /// Row j of the weights, number `groups` * j on, a group being `width` columns, a multiple of the tile's where there are
    /// several; where `groups` is 0, there is one number.
    const float *weight_scales;
    u64 groups, width;
};

template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS>
__device__ __forceinline__ void product_with_trits(const BackwardProduct &with) {
    const FloatProduct &p = with.product;
    constexpr int ACROSS = COLUMNS / WARP_COLUMNS, BLOCK = ROWS / WARP_ROWS * ACROSS * 32;
    using A = FloatSide<ROWS, true, BLOCK>;
    using B = TritSide<COLUMNS, BLOCK>;
    constexpr int STAGE = 3 * A::PLANE + B::PLANE;
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned down, across;
    tile_of_block((p.m + ROWS - 1) / ROWS, (p.n + COLUMNS - 1) / COLUMNS, down, across);
    const u64 first_row = static_cast<u64>(down) * ROWS, first_column = static_cast<u64>(across) * COLUMNS;
    const u64 begin = blockIdx.y * p.slice, end = min(p.k, begin + p.slice);
    A a(p.a, p.a_row, p.a_depth, first_row, p.m, begin, end);
    B b(with.trits, with.pitch, first_column, begin, end);
    // The scales of the four numbers of the depth that this thread has of each of its rows.
    const float *scales = with.weight_scales + (with.groups > 1 ? first_column / with.width : 0);
    u64 depth = begin + threadIdx.x % A::FOURS * 4;
    float factors[4];
    auto load_factors = [&] {
#pragma unroll
        for (int i = 0; i < 4; ++i) factors[i] = depth + i < end ? scales[(depth + i) * with.groups] : 0.0f;
        depth += A::DEPTH;
    };
    const int row = warp_number() / ACROSS * WARP_ROWS, column = warp_number() % ACROSS * WARP_COLUMNS;
    float sums[WARP_ROWS / 16][WARP_COLUMNS / 8][4] = {};
    const unsigned steps = begin < end ? (end - begin + A::DEPTH - 1) / A::DEPTH : 0;
    a.load();
    b.load();
    load_factors();
    in_stages(
        steps,
        [&](unsigned step) {
            unsigned char *const stage = shared + step % 2 * STAGE;
            a.store(stage, [&](float4 four) {
                return make_float4(four.x * factors[0], four.y * factors[1], four.z * factors[2], four.w * factors[3]);
            });
            b.store(stage + 3 * A::PLANE);
            a.load();
            b.load();
            load_factors();
        },
        [&](unsigned step) {
            const unsigned char *const stage = shared + step % 2 * STAGE;
            multiply_planes<A, B, 1, WARP_ROWS, WARP_COLUMNS>(stage, stage + 3 * A::PLANE, row, column, sums);
        });
    write_sums<WARP_ROWS, WARP_COLUMNS>(p.c + blockIdx.y * p.m * p.n, first_row + row, first_column + column, p.m, p.n,
                                        p.accumulate, sums);
}

/// In tolerance, tiles of 128 x 128.
extern "C" __global__ void __launch_bounds__(256, 1) matmul_ternary_backward(BackwardProduct p) {
    product_with_trits<128, 128, 64, 32>(p);
}

/// In tolerance, tiles of 64 x 64.
extern "C" __global__ void __launch_bounds__(128) matmul_ternary_backward_small(BackwardProduct p) {
    product_with_trits<64, 64, 32, 32>(p);
}

/// w[rows, columns] = scale * t, for weights whose groups are no multiples of a tile.
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_ternary_weights(const unsigned *trits, u64 pitch, const float *scales, u64 groups, u64 width, float *w, u64 rows,
                       u64 columns) {
    for (u64 i = global_thread(); i < rows * columns; i += global_threads()) {
        const u64 row = i / columns, column = i % columns;
        const int code = trits[row * pitch + column / 16] >> 2 * (column % 16) & 3u;
        w[i] = __fmul_rn(scales[row * groups + (groups > 1 ? column / width : 0)], static_cast<float>(code - 1));
    }
}

// --- few rows of a ---------------------------------------------------------------------------------------------------
//
// Every number of b is read once, so the memory sets the pace; plain sums in f32 keep up with it.

__device__ __forceinline__ float add_products(float4 a, float4 b, float sum) {
    return __fmaf_rn(a.w, b.w, __fmaf_rn(a.z, b.z, __fmaf_rn(a.y, b.y, __fmaf_rn(a.x, b.x, sum))));
}

/// Up to ROWS rows of a, where columns of b lie in memory: a warp sums COLUMNS of them along the depth.
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void few_rows_by_rows(const FloatProduct &p) {
    const int lane = lane_number();
    const u64 first = (static_cast<u64>(blockIdx.x) * (THREADS / 32) + warp_number()) * COLUMNS;
    if (first >= p.n) return;
    const float *columns[COLUMNS];
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j)
        columns[j] = p.b + static_cast<long long>(min(first + j, p.n - 1)) * p.b_column;
    float sums[ROWS][COLUMNS] = {};
    const bool vector = p.b_depth == 1 && p.b_column % 4 == 0 && is_aligned(p.b, 16) && p.a_depth == 1 && p.a_row % 4 == 0 &&
                        is_aligned(p.a, 16);
    const u64 whole = vector ? p.k / 4 * 4 : 0;
#pragma unroll(ROWS > 4 ? 1 : 2)
    for (u64 l = 4 * lane; l < whole; l += 128) {
        float4 b[COLUMNS];
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) b[j] = load4(columns[j] + l);
        const float *row = p.a + l;
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const float4 a = load4(row);
            // Past the last row, it again.
            if (static_cast<u64>(i) + 1 < p.m) row += p.a_row;
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) sums[i][j] = add_products(a, b[j], sums[i][j]);
        }
    }
    for (u64 l = whole + lane; l < p.k; l += 32) {
        const float *row = p.a + static_cast<long long>(l) * p.a_depth;
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const float a = *row;
            if (static_cast<u64>(i) + 1 < p.m) row += p.a_row;
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j)
                sums[i][j] = __fmaf_rn(a, columns[j][static_cast<long long>(l) * p.b_depth], sums[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) {
            const float sum = warp_sum(sums[i][j]);
            if (lane != 0 || static_cast<u64>(i) >= p.m || first + j >= p.n) continue;
            float *const to = p.c + i * p.n + first + j;
            *to = p.accumulate ? *to + sum : sum;
        }
}

/// Up to ROWS rows of a, where rows of b lie in memory: a lane has a column, and the warps of a block share the depth, four at
/// a time.
template <int ROWS>
__device__ __forceinline__ void few_rows_by_columns(const FloatProduct &p) {
    constexpr int WARPS = THREADS / 32;
    __shared__ float of_warps[WARPS][ROWS][32];
    const int lane = lane_number(), warp = warp_number();
    const u64 column = static_cast<u64>(blockIdx.x) * 32 + lane;
    const float *const b = p.b + static_cast<long long>(min(column, p.n - 1)) * p.b_column;
    const bool vector = p.a_depth == 1 && p.a_row % 4 == 0 && is_aligned(p.a, 16);
    float sums[ROWS] = {};
#pragma unroll(ROWS > 4 ? 1 : 2)
    for (u64 l = 4 * warp; l < p.k; l += 4 * WARPS) {
        float four[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) four[c] = l + c < p.k ? b[static_cast<long long>(l + c) * p.b_depth] : 0.0f;
        const float *from = p.a + static_cast<long long>(l) * p.a_depth;
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            float4 a;
            if (vector && l + 4 <= p.k)
                a = load4(from);
            else
                a = make_float4(from[0], l + 1 < p.k ? from[p.a_depth] : 0.0f, l + 2 < p.k ? from[2 * p.a_depth] : 0.0f,
                                l + 3 < p.k ? from[3 * p.a_depth] : 0.0f);
            // Past the last row, it again.
            if (static_cast<u64>(i) + 1 < p.m) from += p.a_row;
            sums[i] = add_products(a, make_float4(four[0], four[1], four[2], four[3]), sums[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS; ++i) of_warps[warp][i][lane] = sums[i];
    __syncthreads();
    for (int i = warp; i < ROWS; i += WARPS) {
        float sum = of_warps[0][i][lane];
#pragma unroll
        for (int w = 1; w < WARPS; ++w) sum += of_warps[w][i][lane];
        if (static_cast<u64>(i) >= p.m || column >= p.n) continue;
        float *const to = p.c + i * p.n + column;
        *to = p.accumulate ? *to + sum : sum;
    }
}

/// In tolerance: one row.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_1_by_rows(FloatProduct p) { few_rows_by_rows<1, 4>(p); }
/// In tolerance: up to 4 rows.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_4_by_rows(FloatProduct p) { few_rows_by_rows<4, 4>(p); }
/// In tolerance: up to 16 rows.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_16_by_rows(FloatProduct p) { few_rows_by_rows<16, 2>(p); }
/// In tolerance: one row.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_1_by_columns(FloatProduct p) { few_rows_by_columns<1>(p); }
/// In tolerance: up to 4 rows.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_4_by_columns(FloatProduct p) { few_rows_by_columns<4>(p); }
/// In tolerance: up to 16 rows.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_16_by_columns(FloatProduct p) { few_rows_by_columns<16>(p); }

/// c[count], or += that, is the sum of the slices in index order.
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_add_slices(const float *sums, u64 slices, int accumulate, float *c, u64 count) {
    for (u64 i = global_thread(); i < count; i += global_threads()) {
        float sum = sums[i];
        for (u64 slice = 1; slice < slices; ++slice) sum = __fadd_rn(sum, sums[slice * count + i]);
        c[i] = accumulate ? __fadd_rn(c[i], sum) : sum;
    }
}
