// int8 times trits on the tensor cores, exact in integers: what a block of threads does for a tile of y = x W^T, and for all of
// the depth where x has few rows.
//
// Trits stay at two bits up to the registers. A lane of a warp takes 16 of them, a word, and the 16 codes at the same
// columns; it spreads both in the order 0 2 4 6, 8 10 12 14, 1 3 5 7, 9 11 13 15, each four a register. So a product of 32
// columns has the even ones of 64, the next the odd ones: the order of a sum of integers is nobody's concern.
#pragma once
#include "tiles.cuh"

/// Columns that a lane takes at once, and that the four lanes of a row do: rows of codes and trits, and groups, are
/// multiples of the latter.
constexpr int WORD = 16, UNIT = 64;

/// One product, as the launch gives it. Rows of codes begin at multiples of 16 bytes, and so do those of trits.
struct TernaryProduct {
    /// [m, k] and [m].
    const signed char *codes;
    const float *scales;
    /// [n, k / 4]; k is a multiple of 64.
    const unsigned char *trits;
    /// Row j and group g have number j * groups + g * (groups > 1); where `groups` is 0, there is one number.
    const float *weight_scales;
    /// [m, n], or NULL.
    const float *base;
    float *y;
    u64 m, n;
    unsigned k;
    /// Columns of a group, a multiple of 64, where there are several.
    unsigned width, groups;
};

/// The trits of a word: pairs of registers for the even and the odd columns.
__device__ __forceinline__ void spread_trits(unsigned word, unsigned (&trits)[2][2]) {
    // By code: 0 is -1, 1 is 0, 2 is 1. __byte_perm takes a byte for each of four nibbles.
    constexpr unsigned MEANINGS = 0x000100FFu;
    const unsigned even = word & 0x33333333u, odd = word >> 2 & 0x33333333u;
    trits[0][0] = __byte_perm(MEANINGS, 0, even);
    trits[0][1] = __byte_perm(MEANINGS, 0, even >> 16);
    trits[1][0] = __byte_perm(MEANINGS, 0, odd);
    trits[1][1] = __byte_perm(MEANINGS, 0, odd >> 16);
}

/// 16 codes in the same order.
__device__ __forceinline__ void spread_codes(uint4 codes, unsigned (&spread)[2][2]) {
    spread[0][0] = __byte_perm(codes.x, codes.y, 0x6420);
    spread[0][1] = __byte_perm(codes.z, codes.w, 0x6420);
    spread[1][0] = __byte_perm(codes.x, codes.y, 0x7531);
    spread[1][1] = __byte_perm(codes.z, codes.w, 0x7531);
}

/// A tile of ROWS x COLUMNS by warps of WARP_ROWS x WARP_COLUMNS each.
template <int ROWS, int COLUMNS, int WARP_ROWS, int WARP_COLUMNS>
struct TernaryTile {
    static constexpr int ACROSS = COLUMNS / WARP_COLUMNS, WARPS = ROWS / WARP_ROWS * ACROSS;
    /// Columns of x that are in a stage, and stages that are on their way.
    static constexpr int DEPTH = 128, STAGES = 4;
    static constexpr int CODES = ROWS * DEPTH, STAGE = CODES + COLUMNS * DEPTH / 4;
    static constexpr int DOWN_FRAGMENTS = WARP_ROWS / 16, ACROSS_FRAGMENTS = WARP_COLUMNS / 8;

    typedef int Sums[DOWN_FRAGMENTS][ACROSS_FRAGMENTS][4];
    typedef float Totals[DOWN_FRAGMENTS][ACROSS_FRAGMENTS][4];

    /// Of 16 bytes in a stage. Those that lanes read together, of several rows, lie in different banks.
    static __device__ __forceinline__ int place_of_codes(int row, int chunk) {
        return row * DEPTH + 16 * (chunk ^ row % 2 * 4);
    }
    static __device__ __forceinline__ int place_of_trits(int row, int chunk) {
        return CODES + row * (DEPTH / 4) + 16 * (chunk ^ row / 4 % 2);
    }

    /// Who copies what of a stage: of every row as many threads one after the other as it has chunks of 16 bytes.
    static constexpr int CODE_CHUNKS = DEPTH / 16, CODE_STEP = 32 * WARPS / CODE_CHUNKS, CODE_COPIES = ROWS / CODE_STEP;
    static constexpr int TRIT_CHUNKS = DEPTH / 64, TRIT_STEP = 32 * WARPS / TRIT_CHUNKS, TRIT_COPIES = COLUMNS / TRIT_STEP;
    static_assert(CODE_COPIES * CODE_STEP == ROWS && TRIT_COPIES * TRIT_STEP == COLUMNS, "all threads copy alike");

    /// The rows of a tile, as a thread copies them.
    struct Source {
        const signed char *codes;
        /// Bit i: there is row i of those that this thread copies.
        unsigned code_rows;
        /// NULL where there is no row.
        const unsigned char *trits[TRIT_COPIES];

        /// `trits_of(j)` is where the trits of column j of the tile begin.
        template <class Trits>
        __device__ __forceinline__ Source(const TernaryProduct &p, u64 first_row, Trits trits_of) {
            const u64 row = first_row + threadIdx.x / CODE_CHUNKS;
            codes = p.codes + row * p.k + 16 * (threadIdx.x % CODE_CHUNKS);
            code_rows = 0;
#pragma unroll
            for (int i = 0; i < CODE_COPIES; ++i) code_rows |= static_cast<unsigned>(row + i * CODE_STEP < p.m) << i;
#pragma unroll
            for (int i = 0; i < TRIT_COPIES; ++i) trits[i] = trits_of(column_of(threadIdx.x / TRIT_CHUNKS + i * TRIT_STEP));
        }

        /// Begins to copy the next stage, of columns from `column` on.
        __device__ __forceinline__ void copy(unsigned char *stage, unsigned column, unsigned k) {
            const int row = threadIdx.x / CODE_CHUNKS, chunk = threadIdx.x % CODE_CHUNKS;
            const unsigned rows = column + 16 * chunk < k ? code_rows : 0u;
#pragma unroll
            for (int i = 0; i < CODE_COPIES; ++i)
                copy16(stage + place_of_codes(row + i * CODE_STEP, chunk), codes + static_cast<u64>(i * CODE_STEP) * k,
                       rows >> i & 1u);
            codes += DEPTH;
            const int trit_row = threadIdx.x / TRIT_CHUNKS, trit_chunk = threadIdx.x % TRIT_CHUNKS;
            const unsigned at = column + 64 * trit_chunk;
#pragma unroll
            for (int i = 0; i < TRIT_COPIES; ++i)
                copy16(stage + place_of_trits(trit_row + i * TRIT_STEP, trit_chunk), trits[i] + at / 4,
                       trits[i] != nullptr && at < k);
        }
    };

    /// The sums of a warp's fragments over one unit of a stage.
    static __device__ __forceinline__ void multiply(const unsigned char *stage, int unit, Sums &sums) {
        const int lane = lane_number(), warp = warp_number();
        const int row = warp / ACROSS * WARP_ROWS + lane / 4, column = warp % ACROSS * WARP_COLUMNS + lane / 4;
        unsigned a[DOWN_FRAGMENTS][2][4];
#pragma unroll
        for (int i = 0; i < DOWN_FRAGMENTS; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int place = place_of_codes(row + 16 * i + 8 * half, 4 * unit + lane % 4);
                unsigned spread[2][2];
                spread_codes(*reinterpret_cast<const uint4 *>(stage + place), spread);
#pragma unroll
                for (int odd = 0; odd < 2; ++odd) {
                    a[i][odd][half] = spread[odd][0];
                    a[i][odd][half + 2] = spread[odd][1];
                }
            }
#pragma unroll
        for (int j = 0; j < ACROSS_FRAGMENTS; ++j) {
            const int place = place_of_trits(column + 8 * j, unit) + 4 * (lane % 4);
            unsigned b[2][2];
            spread_trits(*reinterpret_cast<const unsigned *>(stage + place), b);
#pragma unroll
            for (int odd = 0; odd < 2; ++odd)
#pragma unroll
                for (int i = 0; i < DOWN_FRAGMENTS; ++i) multiply_s8(sums[i][j], a[i][odd], b[odd]);
        }
    }

    /// Calls after(sums, columns) after each unit, with the columns that are summed up to there.
    template <class After>
    static __device__ __forceinline__ void sum(unsigned k, Source source, Sums &sums, After after) {
        DYNAMIC_SHARED(unsigned char, shared);
        const unsigned steps = (k + DEPTH - 1) / DEPTH;
        auto begin = [&](unsigned step) {
            if (step < steps) source.copy(shared + step % STAGES * STAGE, step * DEPTH, k);
            // An empty group, too, keeps their number right.
            end_group();
        };
#pragma unroll
        for (int step = 0; step < STAGES - 1; ++step) begin(step);
#pragma unroll
        for (int i = 0; i < DOWN_FRAGMENTS; ++i)
#pragma unroll
            for (int j = 0; j < ACROSS_FRAGMENTS; ++j)
#pragma unroll
                for (int c = 0; c < 4; ++c) sums[i][j][c] = 0;
        for (unsigned step = 0; step < steps; ++step) {
            wait_for_groups<STAGES - 2>();
            // This stage is there for all, and all are done with the one before, which is copied to now.
            __syncthreads();
            begin(step + STAGES - 1);
#pragma unroll
            for (int unit = 0; unit < DEPTH / UNIT; ++unit) {
                multiply(shared + step % STAGES * STAGE, unit, sums);
                after(sums, step * DEPTH + (unit + 1) * UNIT);
            }
        }
    }

    /// Of the rows of trits as they lie in a stage, which column of the tile each is. Of every 16, a lane's sums are four that
    /// follow each other, so that they go from its registers to memory in one piece.
    static __device__ __forceinline__ int column_of(int place) {
        return place / 16 * 16 + place % 8 / 2 * 4 + place / 8 % 2 * 2 + place % 2;
    }

    /// A lane has, of its warp's part of the tile, the rows own_row() + 16 i + 8 half and the columns own_column() + 16 j + c.
    static constexpr int FOURS = ACROSS_FRAGMENTS / 2;
    static __device__ __forceinline__ int own_row() { return warp_number() / ACROSS * WARP_ROWS + lane_number() / 4; }
    static __device__ __forceinline__ int own_column() {
        return warp_number() % ACROSS * WARP_COLUMNS + 4 * (lane_number() % 4);
    }
    template <class T>
    static __device__ __forceinline__ Four<T> four_of(const T (&numbers)[DOWN_FRAGMENTS][ACROSS_FRAGMENTS][4], int i, int half,
                                                      int j) {
        return {{numbers[i][2 * j][2 * half], numbers[i][2 * j][2 * half + 1], numbers[i][2 * j + 1][2 * half],
                 numbers[i][2 * j + 1][2 * half + 1]}};
    }

    /// Calls each(row, column, four) for what a lane has of the tile, one after the other, where there is no need for speed: the
    /// fours wait in shared memory, where the stages were, as many as there is room for.
    template <class T, class Each>
    static __device__ __forceinline__ void each_four(const T (&numbers)[DOWN_FRAGMENTS][ACROSS_FRAGMENTS][4], Each each) {
        constexpr int BLOCK = 32 * WARPS, ROOM = STAGES * STAGE / (sizeof(Four<T>) * BLOCK * 2 * FOURS);
        constexpr int DOWN = ROOM >= DOWN_FRAGMENTS ? DOWN_FRAGMENTS : ROOM >= DOWN_FRAGMENTS / 2 ? DOWN_FRAGMENTS / 2 : 1;
        static_assert(ROOM >= DOWN, "fours take the place of the stages");
        DYNAMIC_SHARED(Four<T>, shared);
        Four<T> *const own = shared + threadIdx.x;
        __syncthreads();
#pragma unroll
        for (int first = 0; first < DOWN_FRAGMENTS; first += DOWN) {
#pragma unroll
            for (int i = 0; i < 2 * DOWN; ++i)
#pragma unroll
                for (int j = 0; j < FOURS; ++j) own[(i * FOURS + j) * BLOCK] = four_of(numbers, first + i / 2, i % 2, j);
#pragma unroll 1
            for (int f = 0; f < 2 * DOWN * FOURS; ++f)
                each(own_row() + 16 * first + f / FOURS * 8, own_column() + f % FOURS * 16, own[f * BLOCK]);
        }
    }
};
