// int8 times trits where x has few rows: every byte of the weights is read once, so the memory sets the pace. The rows of
// the weights take the side of the larger fragment, those of x the other, and the warps of a block share the depth.
#pragma once
#include "ternary_tiles.cuh"

/// 16 * ROW_TILES rows of the weights by 8 * TOKEN_TILES rows of x for a block of THREADS.
///
/// GROUPED: with scales by groups, whose sums are kept apart, for so many groups at a time.
template <int ROW_TILES, int TOKEN_TILES, bool GROUPED>
struct FewTokens {
    static constexpr int ROWS = 16 * ROW_TILES, TOKENS = 8 * TOKEN_TILES, GROUPS = GROUPED ? 32 : 1;
    static constexpr int WARPS = THREADS / 32, OUTPUTS = (ROWS * TOKENS + THREADS - 1) / THREADS;
    /// Columns that a warp takes at once.
    static constexpr unsigned STEP = 4 * UNIT;

    /// What a lane reads for a step: four words of each of its rows of the weights, and the codes at the same columns.
    struct Step {
        unsigned trits[ROW_TILES][2][4];
        uint4 codes[TOKEN_TILES][4];
    };

    /// A lane's four words lie side by side; but in groups, a unit of 64 columns has a word of each of four lanes.
    static __device__ __forceinline__ unsigned column_of(unsigned column, int word) {
        return column + (GROUPED ? UNIT : WORD) * word + (GROUPED ? WORD : UNIT) * (lane_number() % 4);
    }

    static __device__ __forceinline__ void load(const unsigned char *const (&rows)[ROW_TILES][2],
                                                const signed char *const (&tokens)[TOKEN_TILES], unsigned column, unsigned end,
                                                Step &step) {
        // Where there are no codes, the trits do not matter.
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                if (GROUPED) {
#pragma unroll
                    for (int word = 0; word < 4; ++word) {
                        const unsigned at = column_of(column, word);
                        step.trits[i][half][word] =
                            at < end ? *reinterpret_cast<const unsigned *>(rows[i][half] + at / 4) : 0u;
                    }
                } else {
                    const unsigned at = column_of(column, 0);
                    const uint4 four =
                        at < end ? *reinterpret_cast<const uint4 *>(rows[i][half] + at / 4) : make_uint4(0, 0, 0, 0);
                    step.trits[i][half][0] = four.x;
                    step.trits[i][half][1] = four.y;
                    step.trits[i][half][2] = four.z;
                    step.trits[i][half][3] = four.w;
                }
            }
#pragma unroll
        for (int j = 0; j < TOKEN_TILES; ++j)
#pragma unroll
            for (int word = 0; word < 4; ++word) {
                const unsigned at = column_of(column, word);
                step.codes[j][word] = at < end && tokens[j] != nullptr ? *reinterpret_cast<const uint4 *>(tokens[j] + at)
                                                                       : make_uint4(0, 0, 0, 0);
            }
    }

    typedef int Sums[ROW_TILES][TOKEN_TILES][4];

    static __device__ __forceinline__ void multiply(const Step &step, int word, Sums &sums) {
        unsigned b[TOKEN_TILES][2][2];
#pragma unroll
        for (int j = 0; j < TOKEN_TILES; ++j) spread_codes(step.codes[j][word], b[j]);
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i) {
            unsigned upper[2][2], lower[2][2];
            spread_trits(step.trits[i][0][word], upper);
            spread_trits(step.trits[i][1][word], lower);
#pragma unroll
            for (int odd = 0; odd < 2; ++odd) {
                const unsigned a[4] = {upper[odd][0], lower[odd][0], upper[odd][1], lower[odd][1]};
#pragma unroll
                for (int j = 0; j < TOKEN_TILES; ++j) multiply_s8(sums[i][j], a, b[j][odd]);
            }
        }
    }

    /// Adds what the lane has to the block's sums, [ROWS][TOKENS], and begins anew.
    static __device__ __forceinline__ void hand_over(Sums &sums, int *of_block) {
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int j = 0; j < TOKEN_TILES; ++j)
#pragma unroll
                for (int c = 0; c < 4; ++c) {
                    const int row = 16 * i + lane_number() / 4 + c / 2 * 8, token = 8 * j + lane_number() % 4 * 2 + c % 2;
                    atomicAdd(of_block + row * TOKENS + token, sums[i][j][c]);
                    sums[i][j][c] = 0;
                }
    }

    /// The block's products with rows[i] of the weights, `trits(i)` being where it begins. Output o of this thread is
    /// number threadIdx.x + o * THREADS, of row number % ROWS and token number / ROWS, which may be beyond what there is; `totals`
    /// are what comes before the scales of x: the integer sum, or, GROUPED, the sum over the groups.
    template <class Trits>
    static __device__ __forceinline__ void sum(const TernaryProduct &p, u64 first_token, Trits trits, u64 first_row,
                                               float (&totals)[OUTPUTS]) {
        __shared__ int of_block[GROUPS * ROWS * TOKENS];
        const unsigned char *rows[ROW_TILES][2];
#pragma unroll
        for (int i = 0; i < ROW_TILES; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) rows[i][half] = trits(16 * i + 8 * half + lane_number() / 4);
        const signed char *tokens[TOKEN_TILES];
#pragma unroll
        for (int j = 0; j < TOKEN_TILES; ++j) {
            const u64 token = first_token + 8 * j + lane_number() / 4;
            tokens[j] = token < p.m ? p.codes + token * p.k : nullptr;
        }
#pragma unroll
        for (int o = 0; o < OUTPUTS; ++o) totals[o] = 0.0f;
        const unsigned span = GROUPED ? GROUPS * p.width : p.k;
        for (unsigned begin = 0; begin < p.k; begin += span) {
            const unsigned end = min(p.k, begin + span);
            for (int i = threadIdx.x; i < GROUPS * ROWS * TOKENS; i += THREADS) of_block[i] = 0;
            __syncthreads();
            Sums sums = {};
            Step step, next;
            unsigned column = begin + warp_number() * STEP;
            load(rows, tokens, column, end, step);
            for (; column < end; column += WARPS * STEP) {
                // The next step is on its way while this one is multiplied.
                load(rows, tokens, column + WARPS * STEP, end, next);
#pragma unroll
                for (int word = 0; word < 4; ++word) {
                    multiply(step, word, sums);
                    const unsigned unit = column + UNIT * word;
                    if (GROUPED && unit < end) hand_over(sums, of_block + (unit - begin) / p.width * (ROWS * TOKENS));
                }
                step = next;
            }
            if (!GROUPED) hand_over(sums, of_block);
            __syncthreads();
#pragma unroll
            for (int o = 0; o < OUTPUTS; ++o) {
                const int number = threadIdx.x + o * THREADS;
                if (number >= ROWS * TOKENS) break;
                const int *const found = of_block + number % ROWS * TOKENS + number / ROWS;
                if (!GROUPED) {
                    totals[o] = __int2float_rn(*found);
                    continue;
                }
                const u64 row = min(first_row + number % ROWS, p.n - 1);
                const unsigned groups = (end - begin + p.width - 1) / p.width;
                for (unsigned g = 0; g < groups; ++g) {
                    const float scale = p.weight_scales[row * p.groups + begin / p.width + g];
                    totals[o] = __fadd_rn(totals[o], __fmul_rn(__int2float_rn(found[g * (ROWS * TOKENS)]), scale));
                }
            }
            // What was read is cleared next.
            if (GROUPED) __syncthreads();
        }
    }
};

/// One row of x: without the tensor cores, which would multiply seven more. A warp has ROWS rows of the weights, which its lanes
/// read side by side, 16 bytes each.
///
/// Byte i of a word has the trits 4 i + s at bits 2 s and 2 s + 1. Under masks its bytes are codes times 1, 4 and 16, to be
/// multiplied by every fourth number of x; what codes are larger than trits, once the sum of x, is taken from the sums at last.
struct OneToken {
    static constexpr int ROWS = 4, OF_BLOCK = ROWS * (THREADS / 32);
    /// Words of a row that a warp takes at once, and x of as many columns.
    static constexpr unsigned WORDS = 4 * 32, COLUMNS = WORDS * WORD;

    /// x in shared memory: of every 16 numbers, every fourth one together; zeros up to whole COLUMNS. A lane's words lie 32
    /// places apart.
    static __device__ __forceinline__ void bring(const TernaryProduct &p, uint4 *x) {
        const unsigned count = (p.k + COLUMNS - 1) / COLUMNS * WORDS;
        for (unsigned i = threadIdx.x; i < count; i += THREADS) {
            const uint4 codes = i < p.k / WORD ? reinterpret_cast<const uint4 *>(p.codes)[i] : make_uint4(0, 0, 0, 0);
            const unsigned low[2] = {__byte_perm(codes.x, codes.y, 0x5140), __byte_perm(codes.z, codes.w, 0x5140)};
            const unsigned high[2] = {__byte_perm(codes.x, codes.y, 0x7362), __byte_perm(codes.z, codes.w, 0x7362)};
            x[i / WORDS * WORDS + i % 4 * 32 + i % WORDS / 4] =
                make_uint4(__byte_perm(low[0], low[1], 0x5410), __byte_perm(low[0], low[1], 0x7632),
                           __byte_perm(high[0], high[1], 0x5410), __byte_perm(high[0], high[1], 0x7632));
        }
    }

    /// `row` bytes a row, of which there are `rows`.
    static __device__ __forceinline__ void load(const unsigned char *trits, unsigned row, unsigned rows, unsigned word,
                                                uint4 (&four)[ROWS]) {
        const bool inside = 4 * word < row;
        trits += 4 * word;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            four[r] = make_uint4(0, 0, 0, 0);
            if (inside && static_cast<unsigned>(r) < rows) four[r] = *reinterpret_cast<const uint4 *>(trits);
            trits += row;
        }
    }

    /// Sums of codes times 1, times 4 and times 16.
    struct Sums {
        int of_rows[ROWS][3], of_x;
    };

    static __device__ __forceinline__ void multiply(unsigned word, const uint4 &x, int (&sums)[3]) {
        sums[0] = __dp4a(static_cast<int>(word & 0x03030303u), static_cast<int>(x.x), sums[0]);
        sums[1] = __dp4a(static_cast<int>(word & 0x0C0C0C0Cu), static_cast<int>(x.y), sums[1]);
        sums[2] = __dp4a(static_cast<int>(word & 0x30303030u), static_cast<int>(x.z), sums[2]);
        sums[0] = __dp4a(static_cast<int>(word >> 6 & 0x03030303u), static_cast<int>(x.w), sums[0]);
    }

    static __device__ __forceinline__ void multiply(const uint4 (&trits)[ROWS], const uint4 *x, Sums &sums) {
#pragma unroll
        for (int place = 0; place < 4; ++place) {
            const uint4 of_x = x[32 * place + lane_number()];
            const unsigned fours[4] = {of_x.x, of_x.y, of_x.z, of_x.w};
#pragma unroll
            for (int s = 0; s < 4; ++s) sums.of_x = __dp4a(0x01010101, static_cast<int>(fours[s]), sums.of_x);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                const unsigned words[4] = {trits[r].x, trits[r].y, trits[r].z, trits[r].w};
                multiply(words[place], of_x, sums.of_rows[r]);
            }
        }
    }

    /// The product with row first + lane of the weights, in the first ROWS lanes. Called by the whole block, which has room for x.
    static __device__ __forceinline__ int sum(const TernaryProduct &p, u64 first) {
        DYNAMIC_SHARED(uint4, x);
        const unsigned row = p.k / 4, words = p.k / WORD, lane = lane_number();
        const unsigned rows = first < p.n ? static_cast<unsigned>(min(p.n - first, static_cast<u64>(ROWS))) : 0;
        const unsigned char *const trits = p.trits + first * row;
        uint4 step[ROWS], next[ROWS];
        load(trits, row, rows, 4 * lane, step);
        bring(p, x);
        __syncthreads();
        Sums sums = {};
#pragma unroll 1
        for (unsigned word = 0; word < words; word += WORDS) {
            // The next step is on its way while this one is multiplied.
            load(trits, row, rows, word + WORDS + 4 * lane, next);
            multiply(step, x + word, sums);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) step[r] = next[r];
        }
        int own = 0;
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const int (&of_row)[3] = sums.of_rows[r];
            const int sum = of_row[0] + of_row[1] / 4 + of_row[2] / 16 - sums.of_x;
            const int total = static_cast<int>(__reduce_add_sync(ALL_LANES, static_cast<unsigned>(sum)));
            if (lane == static_cast<unsigned>(r)) own = total;
        }
        return own;
    }
};
