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

/// With which the sums of a token become elements; without columns, 0 whatever the scales are.
__device__ __forceinline__ float scale_of(const TernaryProduct &product, u64 token) {
    return product.k == 0 ? 0.0f : __fmul_rn(product.scales[token], *product.weight_scales);
}

__device__ __forceinline__ float element(int sum, float scale) { return __fmul_rn(__int2float_rn(sum), scale); }

/// The pair (u, v), elements i and i + head / 2 of a head, by the angles of the token's position: as rope.
__device__ __forceinline__ float2 turn(const QkvProduct &p, u64 token, unsigned i, float u, float v) {
    const u64 at = static_cast<u64>(static_cast<unsigned>(token) % p.length) * (p.head / 2) + i;
    return rotated(u, v, p.cosine[at], p.sine[at]);
}

/// The same for heads of whole 32 elements: 16 side by side, and the 16 that they are turned with. So what a lane has of a tile
/// are four pairs, and both sides of them lie together in memory.
__device__ __forceinline__ unsigned wide_row_of(const QkvProduct &p, unsigned j) {
    const unsigned in_head = j % p.head;
    return j - in_head + in_head / 32 * 16 + in_head % 16 + in_head / 16 % 2 * (p.head / 2);
}

/// What a lane has of a tile, in the order of the memory, where fours are aligned.
template <class Tile>
__device__ __forceinline__ void write_plain(const QkvProduct &p, const TernaryProduct &product, u64 row, unsigned column,
                                            const typename Tile::Sums &sums) {
    const unsigned n = static_cast<unsigned>(product.n);
#pragma unroll
    for (int i = 0; i < 2 * Tile::DOWN_FRAGMENTS; ++i) {
        const u64 at = row + 8 * i;
        if (at >= p.m) return;
        const float scale = scale_of(product, at);
        float *const to = product.y + at * n + column;
#pragma unroll
        for (int j = 0; j < Tile::FOURS; ++j) {
            const Four<int> four = Tile::four_of(sums, i / 2, i % 2, j);
            float values[4];
#pragma unroll
            for (int c = 0; c < 4; ++c) values[c] = element(four.of[c], scale);
            if (column + 16 * j < n) store4(to + 16 * j, make_float4(values[0], values[1], values[2], values[3]));
        }
    }
}

/// What a lane has of a turned tile of wide rows: fours 2 j and 2 j + 1 are the two sides of four pairs.
template <class Tile>
__device__ __forceinline__ void write_turned(const QkvProduct &p, const TernaryProduct &product, u64 row, unsigned column,
                                             const typename Tile::Sums &sums) {
    constexpr int PAIRS = Tile::FOURS / 2;
    const unsigned n = static_cast<unsigned>(product.n), half = p.head / 2;
    // Of the first sides: the row of the weights, and the place in the first half of a head.
    unsigned places[PAIRS], in_half[PAIRS];
#pragma unroll
    for (int j = 0; j < PAIRS; ++j) {
        places[j] = wide_row_of(p, column + 32 * j);
        in_half[j] = places[j] % p.head;
    }
#pragma unroll
    for (int i = 0; i < Tile::DOWN_FRAGMENTS; ++i) {
        // What is read of 16 rows is on its way together, before any of them is written.
        float4 cosine[2][PAIRS], sine[2][PAIRS];
        float scales[2];
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            const u64 at = min(row + 16 * i + 8 * k, p.m - 1);
            const u64 angles = static_cast<u64>(static_cast<unsigned>(at) % p.length) * half;
            scales[k] = scale_of(product, at);
#pragma unroll
            for (int j = 0; j < PAIRS; ++j) {
                cosine[k][j] = load4(p.cosine + angles + in_half[j]);
                sine[k][j] = load4(p.sine + angles + in_half[j]);
            }
        }
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            const u64 at = row + 16 * i + 8 * k;
            if (at >= p.m) return;
            float *const to = product.y + at * n;
#pragma unroll
            for (int j = 0; j < PAIRS; ++j) {
                const Four<int> u = Tile::four_of(sums, i, k, 2 * j), v = Tile::four_of(sums, i, k, 2 * j + 1);
                const float c[4] = {cosine[k][j].x, cosine[k][j].y, cosine[k][j].z, cosine[k][j].w};
                const float s[4] = {sine[k][j].x, sine[k][j].y, sine[k][j].z, sine[k][j].w};
                float2 pairs[4];
#pragma unroll
                for (int l = 0; l < 4; ++l)
                    pairs[l] = rotated(element(u.of[l], scales[k]), element(v.of[l], scales[k]), c[l], s[l]);
                if (column + 32 * j >= n) continue;
                store4(to + places[j], make_float4(pairs[0].x, pairs[1].x, pairs[2].x, pairs[3].x));
                store4(to + places[j] + half, make_float4(pairs[0].y, pairs[1].y, pairs[2].y, pairs[3].y));
            }
        }
    }
}

template <class Tile, int ROWS, int COLUMNS>
__device__ __forceinline__ void tile_of_three(const QkvProduct &p) {
    unsigned down, across;
    bool turned;
    tile_of_block((p.m + ROWS - 1) / ROWS, tiles_across(p, COLUMNS), down, across);
    const TernaryProduct product = product_of(p, COLUMNS, across, turned);
    const u64 first_row = static_cast<u64>(down) * ROWS;
    const unsigned first_column = across * COLUMNS, n = static_cast<unsigned>(product.n);
    const bool fours = n % 4 == 0 && is_aligned(product.y, 16);
    const bool wide = turned && fours && p.head % 32 == 0 && is_aligned(p.cosine, 16) && is_aligned(p.sine, 16);
    const auto trits = [&](int j) -> const unsigned char * {
        const unsigned column = first_column + j;
        if (column >= n) return nullptr;
        const unsigned row = wide ? wide_row_of(p, column) : turned ? row_of(p, column) : column;
        return product.trits + static_cast<u64>(row) * (product.k / 4);
    };
    typename Tile::Sums sums;
    Tile::sum(product.k, typename Tile::Source(product, first_row, trits), sums, [](typename Tile::Sums &, unsigned) {});
    const u64 own_row = first_row + Tile::own_row();
    const unsigned own_column = first_column + Tile::own_column();
    if (wide) {
        write_turned<Tile>(p, product, own_row, own_column, sums);
        return;
    }
    if (!turned && fours) {
        write_plain<Tile>(p, product, own_row, own_column, sums);
        return;
    }
    Tile::each_four(sums, [&](int i, int j, const Four<int> &four) {
        const u64 row = first_row + i;
        const unsigned column = first_column + j;
        if (row >= p.m) return;
        const float scale = scale_of(product, row);
        float *const to = product.y + row * n;
        // Heads, and so the rows of what is turned, have an even number of elements: there is no half of a pair.
#pragma unroll
        for (int c = 0; c < 4; c += 2) {
            if (column + c >= n) return;
            const float u = element(four.of[c], scale), v = element(four.of[c + 1], scale);
            if (turned) {
                const float2 pair = turn(p, row, (column + c) % p.head / 2, u, v);
                const unsigned at = row_of(p, column + c);
                to[at] = pair.x;
                to[at + p.head / 2] = pair.y;
            } else {
                to[column + c] = u;
                if (column + c + 1 < n) to[column + c + 1] = v;
            }
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
        const float value = inside ? __fmul_rn(totals[o], scale_of(product, token)) : 0.0f;
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
