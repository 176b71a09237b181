// The gradients of a ternary layer in integers: the output's gradient in 8 bits, and its products with weights and inputs.
#include "philox.cuh"
#include "ternary_tiles.cuh"

/// Tokens of a block, which share a scale in each column.
constexpr int TOKENS = 256;

// --- columns to codes ------------------------------------------------------------------------------------------------

/// The larger of two numbers that are not negative; NaN when either is.
__device__ __forceinline__ float larger(float a, float b) {
#ifdef SETUN_EMULATE
    return a >= b || a != a ? a : b;
#else
    float c;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
#endif
}

/// Turns a square of words, of which lane number 2 q + half of eight has column q: it gets row q.
__device__ __forceinline__ void turn_square(unsigned (&words)[4]) {
#pragma unroll
    for (int side = 1; side < 4; side *= 2) {
        const bool is_second = lane_number() / 2 & side;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i & side) continue;
            const unsigned other = __shfl_xor_sync(ALL_LANES, is_second ? words[i] : words[i + side], 2 * side);
            if (is_second)
                words[i] = other;
            else
                words[i + side] = other;
        }
    }
}

/// The columns of g[m, n] in blocks of 256 tokens: codes[blocks, n, 256] and scales[blocks, n]. A block takes 256 tokens of
/// 32 columns; a thread has four columns, number `chunk` of the fours, of the tokens 4 place ... 4 place + 3 and of those 128
/// further on, which share random bytes. One call of the generator has the bytes of a token for every second chunk, a byte of
/// each of its words for each: so four threads make one for a token each, and exchange them.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
quantize_columns(const float *g, const float *factors, Stream stream, signed char *codes, float *scales, u64 m, u64 n) {
    constexpr int COLUMNS = 32, PAIRS = TOKENS / 2, WARPS = THREADS / 32;
    __shared__ __align__(16) float largest[WARPS][COLUMNS];
    __shared__ __align__(16) float inverses[COLUMNS];
    __shared__ __align__(16) unsigned turned[COLUMNS * TOKENS / 4];
    // Of 16 tokens of a column, in words; those that are written or read together lie in different banks.
    auto place_of = [](unsigned column, unsigned unit) { return column * (TOKENS / 4) + 4 * (unit ^ column / 4 % 8); };
    const unsigned across = static_cast<unsigned>((n + COLUMNS - 1) / COLUMNS);
    const u64 block = blockIdx.x / across, first = static_cast<u64>(blockIdx.x % across) * COLUMNS;
    const unsigned chunk = threadIdx.x % 8, place = threadIdx.x / 8;
    const unsigned tokens = static_cast<unsigned>(min(m - block * TOKENS, static_cast<u64>(TOKENS)));
    const u64 column = first + 4 * chunk;
    auto token_of = [&](int i) { return i / 4 * PAIRS + 4 * place + i % 4; };

    // Number 4 t + r is of token 128 t + 4 place + r. All loads are on their way before any is waited for; what lies past the
    // end is of the last token or columns.
    float values[8][4], of_tokens[8];
    const float *const from = g + block * TOKENS * n, *const factors_of_block = factors + block * TOKENS;
    if (n % 4 == 0 && is_aligned(g, 16)) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const float4 four = load4(from + min(token_of(i), tokens - 1) * n + min(column, n - 4));
            values[i][0] = four.x;
            values[i][1] = four.y;
            values[i][2] = four.z;
            values[i][3] = four.w;
        }
    } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int c = 0; c < 4; ++c)
                values[i][c] = from[min(token_of(i), tokens - 1) * n + min(column + c, n - 1)];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) of_tokens[i] = factors_of_block[min(token_of(i), tokens - 1)];
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int c = 0; c < 4; ++c) values[i][c] = __fmul_rn(values[i][c], of_tokens[i]);
    if (tokens < TOKENS) {
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int c = 0; c < 4; ++c)
                if (token_of(i) >= tokens) values[i][c] = 0.0f;
    }

    // The largest of each column: of the thread's tokens, of the warp's, of the block's.
    float most[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
        most[c] = fabsf(values[0][c]);
#pragma unroll
        for (int i = 1; i < 8; ++i) most[c] = larger(most[c], fabsf(values[i][c]));
#pragma unroll
        for (int distance = 8; distance < 32; distance *= 2)
            most[c] = larger(most[c], __shfl_xor_sync(ALL_LANES, most[c], distance));
    }
    if (lane_number() < 8) store4(&largest[warp_number()][4 * chunk], make_float4(most[0], most[1], most[2], most[3]));
    __syncthreads();
    if (threadIdx.x < COLUMNS) {
        float a = largest[0][threadIdx.x];
#pragma unroll
        for (int i = 1; i < WARPS; ++i) a = larger(a, largest[i][threadIdx.x]);
        // 2^-126, the least normal number.
        const float scale = larger(__fmul_rn(a, 1.0f / 32.0f), __uint_as_float(0x00800000u));
        inverses[threadIdx.x] = __fdiv_rn(1.0f, scale);
        if (first + threadIdx.x < n) scales[block * n + first + threadIdx.x] = scale;
    }

    // The bytes of token 4 place + r for this thread's columns are in random[r].
    const u64 row = block * PAIRS + 4 * place + chunk / 2, words = 32 * ((n + 127) / 128);
    const uint4 made = philox(stream, (row * words + first / 4) / 4 + chunk % 2);
    const unsigned low[2] = {__byte_perm(made.x, made.y, 0x5140), __byte_perm(made.z, made.w, 0x5140)};
    const unsigned high[2] = {__byte_perm(made.x, made.y, 0x7362), __byte_perm(made.z, made.w, 0x7362)};
    unsigned random[4] = {__byte_perm(low[0], low[1], 0x5410), __byte_perm(low[0], low[1], 0x7632),
                          __byte_perm(high[0], high[1], 0x5410), __byte_perm(high[0], high[1], 0x7632)};
    turn_square(random);
    __syncthreads();
#pragma unroll
    for (int c = 0; c < 4; ++c) {
        const float inverse = inverses[4 * chunk + c];
        int numbers[8];
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            // (byte - 127.5) / 256, exactly; for the token 128 further on of 255 - byte, which is minus that.
            const float byte = __uint2float_rn(random[r] >> 8 * c & 255u);
            const float centred = __fmul_rn(__fsub_rn(byte, 127.5f), 1.0f / 256.0f);
            // The conversion makes 0 of NaN. Tokens past m have 0 and a number below one half.
            numbers[r] = __float2int_rn(__fadd_rn(__fmul_rn(values[r][c], inverse), centred));
            numbers[r + 4] = __float2int_rn(__fsub_rn(__fmul_rn(values[r + 4][c], inverse), centred));
        }
#pragma unroll
        for (int t = 0; t < 2; ++t)
            turned[place_of(4 * chunk + c, 8 * t + place / 4) + place % 4] =
                __byte_perm(__byte_perm(numbers[4 * t], numbers[4 * t + 1], 0x0040),
                            __byte_perm(numbers[4 * t + 2], numbers[4 * t + 3], 0x0040), 0x5410);
    }
    __syncthreads();
    signed char *const to = codes + (block * n + first) * TOKENS;
    const unsigned count = static_cast<unsigned>(min(n - first, static_cast<u64>(COLUMNS))) * (TOKENS / 16);
    const bool vector = is_aligned(codes, 16);
    for (unsigned i = threadIdx.x; i < count; i += THREADS) {
        const uint4 codes = *reinterpret_cast<const uint4 *>(turned + place_of(i / (TOKENS / 16), i % (TOKENS / 16)));
        if (vector) {
            reinterpret_cast<uint4 *>(to)[i] = codes;
            continue;
        }
        const unsigned four[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
        for (int b = 0; b < 16; ++b) to[16 * i + b] = static_cast<signed char>(four[b / 4] >> 8 * (b % 4) & 255u);
    }
}

// --- products whose second factor has the depth in its rows ----------------------------------------------------------

/// A tile of ROWS x COLUMNS of c = a b for a[rows, depth] and b[depth, columns] of bytes, by warps of WARP_ROWS x WARP_COLUMNS, in
/// stages of so much of the depth.
///
/// A lane's four sums of columns side by side are even and odd columns of fragments: the transposing load has elements of 16
/// bits, that is, two columns of two rows.
template <int ROWS_, int COLUMNS_, int WARP_ROWS, int WARP_COLUMNS, int DEPTH_>
struct TurnedTile {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, DEPTH = DEPTH_;
    static constexpr int ACROSS = COLUMNS / WARP_COLUMNS, BLOCK = 32 * (ROWS / WARP_ROWS * ACROSS);
    static constexpr int A = ROWS * DEPTH, B = DEPTH * COLUMNS;
    static constexpr int DOWN = WARP_ROWS / 16, CHUNKS = WARP_COLUMNS / 16;
    static_assert(COLUMNS == 64 || COLUMNS == 128, "a row of b takes 128 bytes, or two rows do");

    /// Of 16 rows, of 16 columns, of even and odd columns, the four of a lane.
    typedef int Sums[DOWN][CHUNKS][2][4];

    /// Of 16 bytes; those that are loaded together lie in different banks.
    static __device__ __forceinline__ int place_in_a(unsigned row, unsigned chunk) {
        return row * DEPTH + 16 * (chunk ^ row % 8);
    }
    static __device__ __forceinline__ int place_in_b(unsigned row, unsigned chunk) {
        return row * COLUMNS + 16 * (chunk ^ (COLUMNS == 128 ? row % 2 + row / 4 % 4 * 2 : row / 4 % 4));
    }

    /// Adds the products over the depth of a stage.
    static __device__ __forceinline__ void multiply(const unsigned char *a, const unsigned char *b, Sums &sums) {
        const int lane = lane_number(), warp = warp_number();
        const int row = warp / ACROSS * WARP_ROWS + lane % 16, chunk = warp % ACROSS * CHUNKS;
        // Matrices 0 and 1 have the first two and the last two of every four rows: so a lane gets four that follow each other.
        const int depth = lane / 16 * 16 + lane % 8 / 2 * 4 + lane / 8 % 2 * 2 + lane % 2;
#pragma unroll 4
        for (int step = 0; step < DEPTH / 32; ++step) {
            unsigned rows[DOWN][4];
#pragma unroll
            for (int i = 0; i < DOWN; ++i) load_matrices(rows[i], a + place_in_a(row + 16 * i, 2 * step + lane / 16));
#pragma unroll
            for (int j = 0; j < CHUNKS; ++j) {
                unsigned four[4];
                load_transposed(four, b + place_in_b(depth + 32 * step, chunk + j));
#pragma unroll
                for (int odd = 0; odd < 2; ++odd) {
                    const unsigned order = odd ? 0x7531 : 0x6420;
                    const unsigned columns[2] = {__byte_perm(four[0], four[1], order), __byte_perm(four[2], four[3], order)};
#pragma unroll
                    for (int i = 0; i < DOWN; ++i) multiply_s8(sums[i][j][odd], rows[i], columns);
                }
            }
        }
    }

    /// Begins to copy the thread's part of COUNT rows of ROW bytes, 16 bytes at a time, threads one after the other having a row:
    /// from `from`, which is what it has of its first row, and rows `pitch` bytes apart; zeros for rows from `rows` on.
    template <int COUNT, int ROW, class Place>
    static __device__ __forceinline__ void copy(unsigned char *to, Place place, const signed char *from, u64 pitch,
                                                unsigned rows) {
        constexpr int STEP = BLOCK / (ROW / 16), COPIES = COUNT / STEP;
        static_assert(COPIES * STEP == COUNT, "all threads copy alike");
#pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            const unsigned row = own_row<ROW>() + i * STEP;
            copy16(to + place(row, own_chunk<ROW>()), from, row < rows);
            from += STEP * pitch;
        }
    }
    template <int ROW>
    static __device__ __forceinline__ unsigned own_row() {
        return threadIdx.x / (ROW / 16);
    }
    template <int ROW>
    static __device__ __forceinline__ unsigned own_chunk() {
        return threadIdx.x % (ROW / 16);
    }

    /// The row of the lane's first sums; the others are 16 i + 8 half further down.
    static __device__ __forceinline__ int row_of_sums() { return warp_number() / ACROSS * WARP_ROWS + lane_number() / 4; }

    /// Calls each(row, column, i, half, j) for the lane's fours of sums: columns column ... column + 3 are
    /// sums[i][j][0][2 half], sums[i][j][1][2 half], sums[i][j][0][2 half + 1] and sums[i][j][1][2 half + 1].
    template <class Each>
    static __device__ __forceinline__ void each_four(Each each) {
        const int row = row_of_sums(), column = warp_number() % ACROSS * WARP_COLUMNS + 4 * (lane_number() % 4);
#pragma unroll
        for (int i = 0; i < DOWN; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half)
#pragma unroll
                for (int j = 0; j < CHUNKS; ++j) each(row + 16 * i + 8 * half, column + 16 * j, i, half, j);
    }
};

// --- the gradient to the weights -------------------------------------------------------------------------------------

/// dw[n, k] += the blocks' sums times their scales, from g[blocks, n, 256], scales[blocks, n] and codes[m, pitch], of which
/// `pitch` and the address are multiples of 16.
struct WeightGradient {
    const signed char *g;
    const float *scales;
    const signed char *codes;
    float *dw;
    u64 m, n, k, pitch;
};

template <class Tile, int STAGES>
__device__ __forceinline__ void gradient_of_weights(const WeightGradient &p) {
    constexpr int STAGE = Tile::A + Tile::B, PARTS = TOKENS / Tile::DEPTH;
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned down, across;
    tile_of_block((p.n + Tile::ROWS - 1) / Tile::ROWS, (p.k + Tile::COLUMNS - 1) / Tile::COLUMNS, down, across);
    const u64 first_row = static_cast<u64>(down) * Tile::ROWS, first_column = static_cast<u64>(across) * Tile::COLUMNS;
    const unsigned steps = (p.m + Tile::DEPTH - 1) / Tile::DEPTH;
    // Where this thread's part of the next stage is.
    const u64 column = first_column + 16 * Tile::template own_chunk<Tile::COLUMNS>();
    const bool inside = column < p.pitch;
    const unsigned rows = min(p.n - first_row, static_cast<u64>(Tile::ROWS));
    const signed char *g = p.g + (first_row + Tile::template own_row<Tile::DEPTH>()) * TOKENS +
                           16 * Tile::template own_chunk<Tile::DEPTH>();
    const signed char *codes = p.codes + Tile::template own_row<Tile::COLUMNS>() * p.pitch + column;
    auto begin = [&](unsigned step) {
        if (step < steps) {
            unsigned char *const stage = shared + step % STAGES * STAGE;
            const u64 left = p.m - static_cast<u64>(step) * Tile::DEPTH;
            Tile::template copy<Tile::ROWS, Tile::DEPTH>(stage, Tile::place_in_a, g, TOKENS, rows);
            Tile::template copy<Tile::DEPTH, Tile::COLUMNS>(
                stage + Tile::A, Tile::place_in_b, codes, p.pitch,
                inside ? static_cast<unsigned>(min(left, static_cast<u64>(Tile::DEPTH))) : 0);
            g += step % PARTS == PARTS - 1 ? p.n * TOKENS - (PARTS - 1) * Tile::DEPTH : Tile::DEPTH;
            codes += Tile::DEPTH * p.pitch;
        }
        end_group();
    };
#pragma unroll
    for (int step = 0; step < STAGES - 1; ++step) begin(step);

    const bool vector = p.k % 4 == 0 && is_aligned(p.dw, 16);
    float4 totals[Tile::DOWN][2][Tile::CHUNKS];
    // Sums of a block are at most 2^22, and begin with the bits of the float 3 * 2^22: so they end with those of that float plus
    // the sum.
    constexpr float START = 12582912.0f;
    constexpr int BITS = 0x4B400000;
    typename Tile::Sums sums;
    Tile::each_four([&](int i_row, int i_column, int i, int half, int j) {
        const u64 row = first_row + i_row, column = first_column + i_column;
        totals[i][half][j] = row < p.n && column < p.k ? read_four(p.dw, row, column, p.k, vector)
                                                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[i][j][c % 2][2 * half + c / 2] = BITS;
    });
    float scales[Tile::DOWN][2];
    for (unsigned step = 0; step < steps; ++step) {
        if (step % PARTS == 0) {
            // The scales of a block of tokens are on their way while it is multiplied.
            const float *const of_block = p.scales + static_cast<u64>(step / PARTS) * p.n;
#pragma unroll
            for (int i = 0; i < Tile::DOWN; ++i)
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    scales[i][half] = of_block[min(first_row + Tile::row_of_sums() + 16 * i + 8 * half, p.n - 1)];
        }
        wait_for_groups<STAGES - 2>();
        __syncthreads();
        begin(step + STAGES - 1);
        const unsigned char *const stage = shared + step % STAGES * STAGE;
        Tile::multiply(stage, stage + Tile::A, sums);
        if (step % PARTS != PARTS - 1 && step + 1 < steps) continue;
        // The end of a block of tokens.
        Tile::each_four([&](int, int, int i, int half, int j) {
            auto add = [&](float &total, int &sum) {
                total = __fadd_rn(total, __fmul_rn(__fsub_rn(__uint_as_float(static_cast<unsigned>(sum)), START), scales[i][half]));
                sum = BITS;
            };
            add(totals[i][half][j].x, sums[i][j][0][2 * half]);
            add(totals[i][half][j].y, sums[i][j][1][2 * half]);
            add(totals[i][half][j].z, sums[i][j][0][2 * half + 1]);
            add(totals[i][half][j].w, sums[i][j][1][2 * half + 1]);
        });
    }
    Tile::each_four([&](int i_row, int i_column, int i, int half, int j) {
        const u64 row = first_row + i_row, column = first_column + i_column;
        if (row < p.n && column < p.k) write_four(p.dw, row, column, p.k, vector, totals[i][half][j]);
    });
}

/// Tiles of 128 x 128.
extern "C" __global__ void __launch_bounds__(256, 1) weight_gradient(WeightGradient p) {
    gradient_of_weights<TurnedTile<128, 128, 32, 64, 128>, 3>(p);
}

/// Tiles of 64 x 128: where there are too few of the others for all multiprocessors.
extern "C" __global__ void __launch_bounds__(128, 2) weight_gradient_medium(WeightGradient p) {
    gradient_of_weights<TurnedTile<64, 128, 32, 64, 128>, 4>(p);
}

/// Tiles of 32 x 64: where there are too few of those.
extern "C" __global__ void __launch_bounds__(128, 2) weight_gradient_small(WeightGradient p) {
    gradient_of_weights<TurnedTile<32, 64, 16, 32, 256>, 4>(p);
}
