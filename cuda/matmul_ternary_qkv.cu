// Queries, keys and values of a ternary attention layer: three products of the same codes, two of them turned on their way out.
#include "ternary_rows.cuh"

/// What the three take; in the order of queries, keys and values where there are three.
struct QkvProduct {
    /// [m, k] and [m], as in TernaryProduct.
    const signed char *codes;
    const float *scales;
    /// [rows, k / 4] and a number each.
    const unsigned char *q_trits, *k_trits, *v_trits;
    const float *q_scale, *k_scale, *v_scale;
    /// [length, head / 2].
    const float *cosine, *sine;
    float *q, *k, *v;
    /// Below 2^32.
    u64 m;
    /// Elements of a head; rows of the weights, of queries and of the other two; columns. What is read together lies together:
    /// else nvcc 13.0 says of a load which of its bytes are used, which takes PTX 8.3, and leaves out some that are.
    unsigned length, head, q_rows, kv_rows, columns;
};

/// The tiles of the three products lie side by side. Which of them this one is of, as a product of its own, and whether it is
/// turned; `across` becomes the tile's number there.
__device__ __forceinline__ TernaryProduct product_of(const QkvProduct &p, unsigned width, unsigned &across, bool &turned) {
    const unsigned q_tiles = (p.q_rows + width - 1) / width, kv_tiles = (p.kv_rows + width - 1) / width;
    TernaryProduct product = {p.codes, p.scales, p.q_trits, p.q_scale, nullptr, p.q, p.m, p.q_rows, p.columns, 0, 0};
    turned = true;
    if (across < q_tiles) return product;
    across -= q_tiles;
    turned = across < kv_tiles;
    if (!turned) across -= kv_tiles;
    product.n = p.kv_rows;
    product.trits = turned ? p.k_trits : p.v_trits;
    product.weight_scales = turned ? p.k_scale : p.v_scale;
    product.y = turned ? p.k : p.v;
    return product;
}

__device__ __forceinline__ unsigned tiles_across(const QkvProduct &p, unsigned width) {
    return (p.q_rows + width - 1) / width + 2 * ((p.kv_rows + width - 1) / width);
}

/// Which row of the weights column j of a turned product is: elements i and i + head / 2 of a head side by side, which are
/// turned together.
__device__ __forceinline__ unsigned row_of(const QkvProduct &p, unsigned j) {
    const unsigned in_head = j % p.head;
    return j - in_head + in_head / 2 + in_head % 2 * (p.head / 2);
}

/// An element from its sum; without columns, 0 whatever the scales are.
__device__ __forceinline__ float element(const TernaryProduct &product, float sum, u64 token) {
    return product.k == 0 ? 0.0f : __fmul_rn(sum, __fmul_rn(product.scales[token], *product.weight_scales));
}

/// The pair (u, v), elements i and i + head / 2 of a head, by the angles of the token's position: as rope.
__device__ __forceinline__ float2 turn(const QkvProduct &p, u64 token, unsigned i, float u, float v) {
    const u64 at = static_cast<u64>(static_cast<unsigned>(token) % p.length) * (p.head / 2) + i;
    return rotated(u, v, p.cosine[at], p.sine[at]);
}

template <class Tile, int ROWS, int COLUMNS>
__device__ __forceinline__ void tile_of_three(const QkvProduct &p) {
    unsigned down, across;
    bool turned;
    tile_of_block((p.m + ROWS - 1) / ROWS, tiles_across(p, COLUMNS), down, across);
    const TernaryProduct product = product_of(p, COLUMNS, across, turned);
    const u64 first_row = static_cast<u64>(down) * ROWS;
    const unsigned first_column = across * COLUMNS, n = static_cast<unsigned>(product.n);
    const auto trits = [&](int j) -> const unsigned char * {
        const unsigned column = first_column + j;
        if (column >= n) return nullptr;
        return product.trits + static_cast<u64>(turned ? row_of(p, column) : column) * (product.k / 4);
    };
    typename Tile::Sums sums;
    Tile::sum(product.k, typename Tile::Source(product, first_row, trits), sums, [](typename Tile::Sums &, unsigned) {});
    const bool fours = n % 4 == 0 && is_aligned(product.y, 16), pairs = p.head % 4 == 0 && is_aligned(product.y, 8);
    Tile::each_four(sums, [&](int i, int j, const Four<int> &four) {
        const u64 row = first_row + i;
        const unsigned column = first_column + j;
        if (row >= p.m || column >= n) return;
        float values[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) values[c] = element(product, __int2float_rn(four.of[c]), row);
        float *const to = product.y + row * n;
        if (!turned) {
            if (fours) {
                store4(to + column, make_float4(values[0], values[1], values[2], values[3]));
                return;
            }
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (column + c < n) to[column + c] = values[c];
            return;
        }
        // Heads, and so the rows, have an even number of elements: there is no half of a pair.
        float2 turned_pairs[2];
        unsigned at[2];
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
            const unsigned j = min(column + 2 * pair, n - 2);
            at[pair] = row_of(p, j);
            turned_pairs[pair] = turn(p, row, j % p.head / 2, values[2 * pair], values[2 * pair + 1]);
        }
        if (pairs) {
            *reinterpret_cast<float2 *>(to + at[0]) = make_float2(turned_pairs[0].x, turned_pairs[1].x);
            *reinterpret_cast<float2 *>(to + at[0] + p.head / 2) = make_float2(turned_pairs[0].y, turned_pairs[1].y);
            return;
        }
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
            if (column + 2 * pair >= n) break;
            to[at[pair]] = turned_pairs[pair].x;
            to[at[pair] + p.head / 2] = turned_pairs[pair].y;
        }
    });
}

/// Tiles of 128 x 128.
extern "C" __global__ void __launch_bounds__(128, 2) matmul_ternary_qkv(QkvProduct p) {
    tile_of_three<TernaryTile<128, 128, 64, 64>, 128, 128>(p);
}

/// Tiles of 64 x 64.
extern "C" __global__ void __launch_bounds__(128, 4) matmul_ternary_qkv_small(QkvProduct p) {
    tile_of_three<TernaryTile<64, 64, 32, 32>, 64, 64>(p);
}

/// All rows of x, no more than there are TOKENS, for 16 rows of the weights of a block.
template <int TOKEN_TILES>
__device__ __forceinline__ void few_of_three(const QkvProduct &p) {
    using Few = FewTokens<1, TOKEN_TILES, false>;
    unsigned across = blockIdx.x;
    bool turned;
    const TernaryProduct product = product_of(p, Few::ROWS, across, turned);
    const unsigned first = across * Few::ROWS, n = static_cast<unsigned>(product.n);
    float totals[Few::OUTPUTS];
    const auto trits = [&](int i) {
        const unsigned column = min(first + i, n - 1);
        return product.trits + static_cast<u64>(turned ? row_of(p, column) : column) * (product.k / 4);
    };
    Few::sum(product, 0, trits, first, totals);
#pragma unroll
    for (int o = 0; o < Few::OUTPUTS; ++o) {
        const int number = threadIdx.x + o * THREADS;
        const unsigned column = first + number % Few::ROWS;
        const u64 token = number / Few::ROWS;
        const bool inside = token < p.m && column < n;
        const float value = inside ? element(product, totals[o], token) : 0.0f;
        // The other of the pair, in the lane beside.
        const float other = __shfl_xor_sync(ALL_LANES, value, 1);
        if (!inside) continue;
        float *const to = product.y + token * n;
        if (!turned) {
            to[column] = value;
            continue;
        }
        const bool is_second = column % 2;
        const float2 pair = turn(p, token, column % p.head / 2, is_second ? other : value, is_second ? value : other);
        to[row_of(p, column)] = is_second ? pair.y : pair.x;
    }
}

/// Up to 8 rows of x.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_qkv_8(QkvProduct p) { few_of_three<1>(p); }

/// Up to 16 rows of x.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_qkv_16(QkvProduct p) { few_of_three<2>(p); }
