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

/// What comes out of a number of a tile: an integer sum, or, with scales by groups, a sum over them.
__device__ __forceinline__ float scaled(int sum, float of_row, float of_column) {
    return __fmul_rn(__int2float_rn(sum), __fmul_rn(of_row, of_column));
}
__device__ __forceinline__ float scaled(float total, float of_row, float) { return __fmul_rn(total, of_row); }

/// Writes the numbers of a tile.
template <class Tile, class T>
__device__ __forceinline__ void write_tile(const TernaryProduct &p, u64 first_row, u64 first_column,
                                           const T (&numbers)[Tile::DOWN_FRAGMENTS][Tile::ACROSS_FRAGMENTS][4]) {
    constexpr bool WHOLE = T(1) / T(2) == T(0);
    // Past the last column, the scale of it.
    auto of_column = [&](u64 column) { return WHOLE ? p.weight_scales[p.groups == 0 ? 0 : min(column, p.n - 1)] : 1.0f; };
    if (!are_fours(p)) {
        Tile::each_four(numbers, [&](int i, int j, const Four<T> &four) {
            const u64 row = first_row + i, column = first_column + j;
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (row < p.m && column + c < p.n)
                    write(p, row, column + c, scaled(four.of[c], p.scales[row], of_column(column + c)));
        });
        return;
    }
    const u64 row = first_row + Tile::own_row(), column = first_column + Tile::own_column();
    float of_columns[Tile::FOURS][4];
    bool inside[Tile::FOURS];
#pragma unroll
    for (int j = 0; j < Tile::FOURS; ++j) {
        inside[j] = column + 16 * j < p.n;
#pragma unroll
        for (int c = 0; c < 4; ++c) of_columns[j][c] = of_column(column + 16 * j + c);
    }
#pragma unroll
    for (int i = 0; i < Tile::DOWN_FRAGMENTS; ++i) {
        // What is read of 16 rows is on its way together, before any of them is written. Where there is no base, -0 changes
        // nothing.
        float4 base[2][Tile::FOURS];
        float of_rows[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const u64 at = min(row + 16 * i + 8 * half, p.m - 1);
            const float *const from = p.base + at * p.n + column;
            of_rows[half] = p.scales[at];
#pragma unroll
            for (int j = 0; j < Tile::FOURS; ++j) {
                base[half][j] = make_float4(-0.0f, -0.0f, -0.0f, -0.0f);
                if (p.base != nullptr && inside[j]) base[half][j] = load4(from + 16 * j);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const u64 at = row + 16 * i + 8 * half;
            if (at >= p.m) return;
            float *const to = p.y + at * p.n + column;
#pragma unroll
            for (int j = 0; j < Tile::FOURS; ++j) {
                const Four<T> four = Tile::four_of(numbers, i, half, j);
                float4 &y = base[half][j];
                y.x = __fadd_rn(y.x, scaled(four.of[0], of_rows[half], of_columns[j][0]));
                y.y = __fadd_rn(y.y, scaled(four.of[1], of_rows[half], of_columns[j][1]));
                y.z = __fadd_rn(y.z, scaled(four.of[2], of_rows[half], of_columns[j][2]));
                y.w = __fadd_rn(y.w, scaled(four.of[3], of_rows[half], of_columns[j][3]));
                if (inside[j]) store4(to + 16 * j, y);
            }
        }
    }
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
    write_tile<Tile>(p, first_row, first_column, sums);
}

/// Of a product with several groups in a row: a float total beside every integer sum.
template <class Tile, int ROWS, int COLUMNS>
__device__ __forceinline__ void by_groups(const TernaryProduct &p) {
    unsigned down, across;
    tile_of_block((p.m + ROWS - 1) / ROWS, (p.n + COLUMNS - 1) / COLUMNS, down, across);
    const u64 first_row = static_cast<u64>(down) * ROWS, first_column = static_cast<u64>(across) * COLUMNS;
    // Where the scales of a lane's columns are; columns past the last take those of the last.
    u64 scales[Tile::ACROSS_FRAGMENTS][2];
#pragma unroll
    for (int j = 0; j < Tile::ACROSS_FRAGMENTS; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c)
            scales[j][c] = min(first_column + Tile::own_column() + j / 2 * 16 + j % 2 * 2 + c, p.n - 1) * p.groups;
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
    write_tile<Tile>(p, first_row, first_column, totals);
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

/// One row of x, of at most 48 K columns.
extern "C" __global__ void __launch_bounds__(THREADS, 4) matmul_ternary_1(TernaryProduct p) {
    const u64 first = static_cast<u64>(blockIdx.x) * OneToken::OF_BLOCK + warp_number() * OneToken::ROWS;
    // Each of the first lanes has a row.
    const u64 column = first + lane_number();
    const int total = OneToken::sum(p, first);
    if (lane_number() < OneToken::ROWS && column < p.n)
        write(p, 0, column, __fmul_rn(__int2float_rn(total), whole_scale(p, 0, column)));
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

/// Trits of two bits t[rows, columns] turned, to [columns, 16 * to_row]; both have rows of so many words. A thread for each word of
/// 16 rows and 16 columns; past the last row there are zeros.
extern "C" __global__ void __launch_bounds__(THREADS)
matmul_ternary_turn(const unsigned *from, u64 from_row, unsigned *to, u64 to_row, u64 rows, u64 columns) {
    const u64 count = (columns + WORD - 1) / WORD * to_row;
    for (u64 i = global_thread(); i < count; i += global_threads()) {
        const u64 down = i % to_row, across = i / to_row;
        unsigned words[WORD];
#pragma unroll
        for (int r = 0; r < WORD; ++r)
            words[r] = WORD * down + r < rows ? from[(WORD * down + r) * from_row + across] : 0x55555555u;
        // Squares of 16 entries, then of 8, 4 and 2, change what is right above with what is left below.
#pragma unroll
        for (int side = WORD / 2; side > 0; side /= 2) {
            const unsigned right = side == 8 ? 0xFFFFu : side == 4 ? 0x00FF00FFu : side == 2 ? 0x0F0F0F0Fu : 0x33333333u;
#pragma unroll
            for (int r = 0; r < WORD; ++r) {
                if (r & side) continue;
                const unsigned change = (words[r] >> 2 * side ^ words[r + side]) & right;
                words[r] ^= change << 2 * side;
                words[r + side] ^= change;
            }
        }
#pragma unroll
        for (int c = 0; c < WORD; ++c)
            if (WORD * across + c < columns) to[(WORD * across + c) * to_row + down] = words[c];
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
