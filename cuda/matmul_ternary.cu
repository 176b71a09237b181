// y = x W^T for int8 codes x and trits W, exact in integers, then scaled in f32 with the roundings that all rows have.
#include "scan.cuh"
#include "ternary_rows.cuh"

/// The scale of an output of a row that is one group: weight and x.
__device__ __forceinline__ float whole_scale(const TernaryProduct &p, u64 row, u64 column) {
    return __fmul_rn(p.scales[row], p.weight_scales[p.groups == 0 ? 0 : column]);
}

__device__ __forceinline__ void write(const TernaryProduct &p, u64 row, u64 column, float value) {
    const u64 at = row * p.n + column;
    p.y[at] = p.base == nullptr ? value : __fadd_rn(p.base[at], value);
}

/// Whether four columns of y and base always lie in 16 bytes.
__device__ __forceinline__ bool are_fours(const TernaryProduct &p) {
    return p.n % 4 == 0 && is_aligned(p.y, 16) && is_aligned(p.base, 16);
}

/// Four columns side by side, of which some may be beyond the last.
__device__ __forceinline__ void write_four(const TernaryProduct &p, bool fours, u64 row, u64 column, const float (&values)[4]) {
    if (!fours) {
#pragma unroll
        for (int c = 0; c < 4; ++c)
            if (column + c < p.n) write(p, row, column + c, values[c]);
        return;
    }
    const u64 at = row * p.n + column;
    float4 four = make_float4(values[0], values[1], values[2], values[3]);
    if (p.base != nullptr) {
        const float4 base = load4(p.base + at);
        four = make_float4(__fadd_rn(base.x, four.x), __fadd_rn(base.y, four.y), __fadd_rn(base.z, four.z),
                           __fadd_rn(base.w, four.w));
    }
    store4(p.y + at, four);
}

/// Of a product whose rows are one group each, or all of them.
template <class Tile, int ROWS, int COLUMNS>
__device__ __forceinline__ void whole_rows(const TernaryProduct &p) {
    unsigned down, across;
    tile_of_block((p.m + ROWS - 1) / ROWS, (p.n + COLUMNS - 1) / COLUMNS, down, across);
    const u64 first_row = static_cast<u64>(down) * ROWS, first_column = static_cast<u64>(across) * COLUMNS;
    const auto trits = [&](int j) { return first_column + j < p.n ? p.trits + (first_column + j) * (p.k / 4) : nullptr; };
    typename Tile::Sums sums;
    Tile::sum(p.k, typename Tile::Source(p, first_row, trits), sums, [](typename Tile::Sums &, unsigned) {});
    const bool fours = are_fours(p);
    Tile::each_four(sums, [&](int i, int j, const Four<int> &four) {
        const u64 row = first_row + i, column = first_column + j;
        if (row >= p.m || column >= p.n) return;
        float values[4];
#pragma unroll
        for (int c = 0; c < 4; ++c)
            values[c] = __fmul_rn(__int2float_rn(four.of[c]), whole_scale(p, row, min(column + c, p.n - 1)));
        write_four(p, fours, row, column, values);
    });
}

/// Of a product with several groups in a row: a float total beside every integer sum.
template <class Tile, int ROWS, int COLUMNS>
__device__ __forceinline__ void by_groups(const TernaryProduct &p) {
    unsigned down, across;
    tile_of_block((p.m + ROWS - 1) / ROWS, (p.n + COLUMNS - 1) / COLUMNS, down, across);
    const u64 first_row = static_cast<u64>(down) * ROWS, first_column = static_cast<u64>(across) * COLUMNS;
    // Where the scales of a lane's columns are; columns past the last take those of the last.
    u64 scales[Tile::ACROSS_FRAGMENTS][2];
    const int lane_column = warp_number() % Tile::ACROSS * (8 * Tile::ACROSS_FRAGMENTS) + lane_number() % 4 * 2;
#pragma unroll
    for (int j = 0; j < Tile::ACROSS_FRAGMENTS; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) scales[j][c] = min(first_column + lane_column + 8 * j + c, p.n - 1) * p.groups;
    const auto trits = [&](int j) { return first_column + j < p.n ? p.trits + (first_column + j) * (p.k / 4) : nullptr; };
    typename Tile::Sums sums;
    typename Tile::Totals totals;
#pragma unroll
    for (int i = 0; i < Tile::DOWN_FRAGMENTS; ++i)
#pragma unroll
        for (int j = 0; j < Tile::ACROSS_FRAGMENTS; ++j)
#pragma unroll
            for (int c = 0; c < 4; ++c) totals[i][j][c] = 0.0f;
    unsigned group = 0, group_end = min(p.width, p.k);
    Tile::sum(p.k, typename Tile::Source(p, first_row, trits), sums, [&](typename Tile::Sums &sums, unsigned columns) {
        if (columns != group_end) return;
#pragma unroll
        for (int j = 0; j < Tile::ACROSS_FRAGMENTS; ++j)
#pragma unroll
            for (int c = 0; c < 2; ++c) {
                const float scale = p.weight_scales[scales[j][c] + group];
#pragma unroll
                for (int i = 0; i < Tile::DOWN_FRAGMENTS; ++i)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        int &sum = sums[i][j][2 * half + c];
                        float &total = totals[i][j][2 * half + c];
                        total = __fadd_rn(total, __fmul_rn(__int2float_rn(sum), scale));
                        sum = 0;
                    }
            }
        ++group;
        group_end = min(group_end + p.width, p.k);
    });
    const bool fours = are_fours(p);
    Tile::each_four(totals, [&](int i, int j, const Four<float> &four) {
        const u64 row = first_row + i, column = first_column + j;
        if (row >= p.m || column >= p.n) return;
        const float scale = p.scales[row];
        float values[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) values[c] = __fmul_rn(four.of[c], scale);
        write_four(p, fours, row, column, values);
    });
}

/// Tiles of 128 x 256, a block for each.
extern "C" __global__ void __launch_bounds__(256, 1) matmul_ternary_large(TernaryProduct p) {
    whole_rows<TernaryTile<128, 256, 64, 64>, 128, 256>(p);
}

/// Tiles of 128 x 128.
extern "C" __global__ void __launch_bounds__(128, 2) matmul_ternary_medium(TernaryProduct p) {
    whole_rows<TernaryTile<128, 128, 64, 64>, 128, 128>(p);
}

/// Tiles of 64 x 64: where there are too few of the others for all multiprocessors.
extern "C" __global__ void __launch_bounds__(128, 4) matmul_ternary_small(TernaryProduct p) {
    whole_rows<TernaryTile<64, 64, 32, 32>, 64, 64>(p);
}

/// With scales by groups, tiles of 128 x 128.
extern "C" __global__ void __launch_bounds__(256, 1) matmul_ternary_groups(TernaryProduct p) {
    by_groups<TernaryTile<128, 128, 32, 64>, 128, 128>(p);
}

/// With scales by groups, tiles of 64 x 64.
extern "C" __global__ void __launch_bounds__(128, 3) matmul_ternary_groups_small(TernaryProduct p) {
    by_groups<TernaryTile<64, 64, 32, 32>, 64, 64>(p);
}

/// All rows of x, no more than there are TOKENS, for a block's rows of the weights.
template <int ROW_TILES, int TOKEN_TILES, bool GROUPED>
__device__ __forceinline__ void few_rows(const TernaryProduct &p) {
    using Few = FewTokens<ROW_TILES, TOKEN_TILES, GROUPED>;
    const u64 first_row = static_cast<u64>(blockIdx.x) * Few::ROWS;
    float totals[Few::OUTPUTS];
    Few::sum(p, 0, [&](int i) { return p.trits + min(first_row + i, p.n - 1) * (p.k / 4); }, first_row, totals);
#pragma unroll
    for (int o = 0; o < Few::OUTPUTS; ++o) {
        const int number = threadIdx.x + o * THREADS;
        const u64 column = first_row + number % Few::ROWS, row = number / Few::ROWS;
        if (row >= p.m || column >= p.n) continue;
        const float scale = GROUPED ? p.scales[row] : whole_scale(p, row, column);
        write(p, row, column, __fmul_rn(totals[o], scale));
    }
}

/// Up to 8 rows of x; 16 rows of the weights a block, which are few.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_8_narrow(TernaryProduct p) { few_rows<1, 1, false>(p); }

/// 32 rows of the weights a block: x is read half as often.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_8(TernaryProduct p) { few_rows<2, 1, false>(p); }

/// Up to 16 rows of x.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_16_narrow(TernaryProduct p) { few_rows<1, 2, false>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_16(TernaryProduct p) { few_rows<2, 2, false>(p); }

/// With scales by groups.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_8_groups(TernaryProduct p) { few_rows<1, 1, true>(p); }
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_16_groups(TernaryProduct p) { few_rows<1, 2, true>(p); }

/// With scales by groups so narrow that whole units would be empty for the most part: a thread for each element of y. Rows of
/// codes and trits lie anywhere, those of trits in `trit_row` bytes.
extern "C" __global__ void __launch_bounds__(THREADS) matmul_ternary_narrow_groups(TernaryProduct p, u64 trit_row) {
    for (u64 i = global_thread(); i < p.m * p.n; i += global_threads()) {
        const u64 row = i / p.n, column = i % p.n;
        const signed char *const codes = p.codes + row * p.k;
        const unsigned char *const trits = p.trits + column * trit_row;
        const float *const scales = p.weight_scales + column * p.groups;
        float total = 0.0f;
        for (unsigned g = 0, l = 0; g < p.groups; ++g) {
            int sum = 0;
            for (const unsigned end = min(p.k, l + p.width); l < end; ++l)
                sum += codes[l] * (static_cast<int>(trits[l / 4] >> 2 * (l % 4) & 3) - 1);
            total = __fadd_rn(total, __fmul_rn(__int2float_rn(sum), scales[g]));
        }
        write(p, row, column, __fmul_rn(total, p.scales[row]));
    }
}

// --- layouts ---------------------------------------------------------------------------------------------------------
//
// The products above take rows of whole units, at multiples of 16 bytes, and groups of whole units. What lies otherwise is
// first copied: a group of `width` columns, or what is left of a row, takes `wide` columns, a multiple of 64, and what is
// between is 0. A row has `pitch` columns.

/// Where 16 columns of a copy come from: the first one, and how many there are.
__device__ __forceinline__ unsigned source_of(unsigned column, unsigned columns, unsigned width, unsigned wide, unsigned &count) {
    const unsigned place = column % wide, first = column / wide * width + place;
    count = place < width && first < columns ? min(min(width - place, columns - first), static_cast<unsigned>(WORD)) : 0u;
    return first;
}

/// Codes [rows, columns].
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_ternary_codes(const signed char *from, signed char *to, u64 rows, unsigned columns, unsigned width, unsigned wide,
                     unsigned pitch) {
    const u64 words = pitch / WORD;
    for (u64 i = global_thread(); i < rows * words; i += global_threads()) {
        unsigned count;
        const unsigned first = source_of(static_cast<unsigned>(i % words) * WORD, columns, width, wide, count);
        const signed char *const row = from + i / words * columns;
        unsigned four[4] = {0, 0, 0, 0};
#pragma unroll
        for (int c = 0; c < WORD; ++c)
            if (static_cast<unsigned>(c) < count) four[c / 4] |= static_cast<unsigned>(row[first + c] & 255) << 8 * (c % 4);
        reinterpret_cast<uint4 *>(to)[i] = make_uint4(four[0], four[1], four[2], four[3]);
    }
}

/// Trits of two bits, [rows, columns], of which a row takes `from_row` bytes.
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_ternary_two_bit(const unsigned char *from, u64 from_row, unsigned *to, u64 rows, unsigned columns, unsigned width,
                       unsigned wide, unsigned pitch) {
    const u64 words = pitch / WORD;
    for (u64 i = global_thread(); i < rows * words; i += global_threads()) {
        unsigned count;
        const unsigned first = source_of(static_cast<unsigned>(i % words) * WORD, columns, width, wide, count);
        const unsigned char *const row = from + i / words * from_row;
        unsigned word = 0x55555555u;
#pragma unroll
        for (int c = 0; c < WORD; ++c)
            if (static_cast<unsigned>(c) < count) {
                const unsigned code = row[(first + c) / 4] >> 2 * ((first + c) % 4) & 3u;
                word ^= (code ^ 1u) << 2 * c;
            }
        to[i] = word;
    }
}

/// Five trits a byte, [rows, ceil(columns / 5)].
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_ternary_five(const unsigned char *from, unsigned *to, u64 rows, unsigned columns, unsigned width, unsigned wide,
                    unsigned pitch) {
    const u64 words = pitch / WORD;
    for (u64 i = global_thread(); i < rows * words; i += global_threads()) {
        unsigned count;
        const unsigned first = source_of(static_cast<unsigned>(i % words) * WORD, columns, width, wide, count);
        const unsigned char *const row = from + i / words * ((columns + 4) / 5);
        unsigned word = 0x55555555u, digit = first % 5, rest = 0;
        if (count > 0) rest = row[first / 5];
        for (unsigned d = 0; d < digit; ++d) rest /= 3;
        for (unsigned c = 0; c < count; ++c) {
            word ^= (rest % 3 ^ 1u) << 2 * c;
            rest /= 3;
            if (++digit == 5 && c + 1 < count) {
                digit = 0;
                rest = row[(first + c + 1) / 5];
            }
        }
        to[i] = word;
    }
}

/// Mask and signs of [rows, columns], in blocks of `block_rows` rows: see src/tensor/packing.rs. A warp for each block, a
/// lane for each byte of the mask. Groups are not widened.
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_ternary_mask_sign(const unsigned char *from, unsigned short *to, u64 rows, unsigned columns, u64 block_rows,
                         unsigned pitch) {
    const u64 blocks = (rows + block_rows - 1) / block_rows, mask_row = (columns + 7) / 8;
    const unsigned char *const masks = from + 4 * blocks, *const signs = masks + rows * mask_row;
    const unsigned lane = lane_number();
    for (u64 block = global_thread() / 32; block < blocks; block += global_threads() / 32) {
        u64 next = 0;
        for (int i = 3; i >= 0; --i) next = next << 8 | from[4 * block + i];
        next *= 8;
        for (u64 row = block * block_rows; row < min(rows, (block + 1) * block_rows); ++row)
            for (unsigned begin = 0; begin < pitch / 8; begin += 32) {
                const unsigned i = begin + lane, mask = i < mask_row ? masks[row * mask_row + i] : 0u, count = __popc(mask);
                const unsigned up_to = warp_sums(count);
                const u64 at = next + (up_to - count);
                unsigned negative = 0;
                if (count > 0) negative = signs[at / 8] >> at % 8;
                if (at % 8 + count > 8) negative |= static_cast<unsigned>(signs[at / 8 + 1]) << (8 - at % 8);
                unsigned codes = 0;
#pragma unroll
                for (int c = 0; c < 8; ++c) {
                    const bool is_set = mask >> c & 1u;
                    codes |= (is_set ? 2u - 2u * (negative & 1u) : 1u) << 2 * c;
                    if (is_set) negative >>= 1;
                }
                if (i < pitch / 8) to[row * (pitch / 8) + i] = static_cast<unsigned short>(codes);
                next += __shfl_sync(ALL_LANES, up_to, 31);
            }
    }
}
