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
