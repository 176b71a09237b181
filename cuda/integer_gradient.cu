// The gradients of a ternary layer in integers: the output's gradient in 8 bits, and its products with weights and inputs.
#include "philox.cuh"
#include "ternary_tiles.cuh"

/// Tokens of a block, which share a scale in each column.
constexpr int TOKENS = 256;

// --- columns to codes ------------------------------------------------------------------------------------------------

/// The larger of two numbers that are not negative; NaN when either is.
__device__ __forceinline__ float larger(float a, float b) { return a >= b || a != a ? a : b; }

/// The columns of g[m, n] in blocks of 256 tokens: codes[blocks, n, 256] and scales[blocks, n]. A block takes 256 tokens of
/// 32 columns. A thread has tokens i and i + 128, which share random bytes, and of the columns j those with j mod 8 in one of
/// two halves: for these, one call of the generator has the bytes.
extern "C" __global__ void __launch_bounds__(THREADS)
quantize_columns(const float *g, const float *factors, Stream stream, signed char *codes, float *scales, u64 m, u64 n) {
    constexpr int COLUMNS = 32, PAIRS = TOKENS / 2;
    // Rows are so long that what threads write together lies in different banks.
    __shared__ __align__(16) float largest[PAIRS][COLUMNS + 8];
    __shared__ float of_parts[8][COLUMNS];
    __shared__ float inverses[COLUMNS];
    __shared__ __align__(16) unsigned char turned[COLUMNS][TOKENS + 16];
    const u64 across = (n + COLUMNS - 1) / COLUMNS;
    const u64 block = blockIdx.x / across, first = blockIdx.x % across * COLUMNS;
    const int pair = threadIdx.x / 2, half = threadIdx.x % 2;
    const bool vector = n % 4 == 0 && is_aligned(g, 16);

    // Column 8 q + 4 half + c is in values[.][4 q + c].
    float values[2][16];
#pragma unroll
    for (int t = 0; t < 2; ++t) {
        const u64 token = block * TOKENS + PAIRS * t + pair;
        const bool inside = token < m;
        const float factor = inside ? factors[token] : 0.0f;
        const float *const row = g + token * n;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            const u64 column = first + 8 * q + 4 * half;
            float four[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            if (vector && inside && column < n) {
                const float4 loaded = load4(row + column);
                four[0] = loaded.x;
                four[1] = loaded.y;
                four[2] = loaded.z;
                four[3] = loaded.w;
            } else if (inside) {
#pragma unroll
                for (int c = 0; c < 4; ++c)
                    if (column + c < n) four[c] = row[column + c];
            }
#pragma unroll
            for (int c = 0; c < 4; ++c) values[t][4 * q + c] = inside ? __fmul_rn(four[c], factor) : 0.0f;
        }
    }

    // The largest of each column: of two tokens, of 16 pairs, of the eight parts.
#pragma unroll
    for (int q = 0; q < 4; ++q) {
        float four[4];
#pragma unroll
        for (int c = 0; c < 4; ++c) four[c] = larger(fabsf(values[0][4 * q + c]), fabsf(values[1][4 * q + c]));
        store4(&largest[pair][8 * q + 4 * half], make_float4(four[0], four[1], four[2], four[3]));
    }
    __syncthreads();
    const int column = threadIdx.x % COLUMNS, part = threadIdx.x / COLUMNS;
    float a = 0.0f;
#pragma unroll
    for (int i = 0; i < 16; ++i) a = larger(a, largest[16 * part + i][column]);
    of_parts[part][column] = a;
    __syncthreads();
    if (part == 0) {
#pragma unroll
        for (int i = 1; i < 8; ++i) a = larger(a, of_parts[i][column]);
        // 2^-126, the least normal number.
        const float scale = larger(__fmul_rn(a, 1.0f / 32.0f), __uint_as_float(0x00800000u));
        inverses[column] = __fdiv_rn(1.0f, scale);
        if (first + column < n) scales[block * n + first + column] = scale;
    }
    __syncthreads();

    const u64 row = block * PAIRS + pair, words = 32 * ((n + 127) / 128);
    const uint4 random = philox(stream, (row * words + first / 4) / 4 + half);
    const unsigned random_words[4] = {random.x, random.y, random.z, random.w};
#pragma unroll
    for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            const int j = 8 * q + 4 * half + c;
            const float byte = __uint2float_rn(random_words[c] >> 8 * q & 255u), inverse = inverses[j];
#pragma unroll
            for (int t = 0; t < 2; ++t) {
                // (byte - 127.5) / 256, exactly; for the second token of 255 - byte.
                const float centred = t == 0 ? __fsub_rn(byte, 127.5f) : __fsub_rn(127.5f, byte);
                const float number = __fadd_rn(__fmul_rn(values[t][4 * q + c], inverse), __fmul_rn(centred, 1.0f / 256.0f));
                // The conversion makes 0 of NaN. Tokens past m have 0 and a number below one half.
                turned[j][PAIRS * t + pair] = static_cast<unsigned char>(__float2int_rn(number));
            }
        }
    __syncthreads();
    signed char *const to = codes + (block * n + first) * TOKENS;
    const int bytes = static_cast<int>(min(n - first, static_cast<u64>(COLUMNS))) * TOKENS;
    if (is_aligned(codes, 16)) {
        for (int i = 16 * threadIdx.x; i < bytes; i += 16 * THREADS)
            *reinterpret_cast<uint4 *>(to + i) = *reinterpret_cast<const uint4 *>(&turned[i / TOKENS][i % TOKENS]);
    } else {
        for (int i = threadIdx.x; i < bytes; i += THREADS) to[i] = static_cast<signed char>(turned[i / TOKENS][i % TOKENS]);
    }
}

// --- products whose second factor has the depth in its rows ----------------------------------------------------------

/// A tile of ROWS x 128 of c = a b for a[rows, depth] and b[depth, columns] of bytes, by warps of 32 x WARP_COLUMNS; UNROLLED of
/// the four steps of a stage are written out.
///
/// A lane's four sums of columns side by side are even and odd columns of fragments: the transposing load has elements of 16
/// bits, that is, two columns of two rows.
template <int ROWS, int WARP_COLUMNS, int UNROLLED>
struct TurnedTile {
    static constexpr int COLUMNS = 128, DEPTH = 128;
    static constexpr int ACROSS = COLUMNS / WARP_COLUMNS, WARPS = ROWS / 32 * ACROSS, BLOCK = 32 * WARPS;
    static constexpr int A = ROWS * DEPTH, B = DEPTH * COLUMNS;
    static constexpr int CHUNKS = WARP_COLUMNS / 16;

    /// Of 16 rows, of 16 columns, of even and odd columns, the four of a lane.
    typedef int Sums[2][CHUNKS][2][4];

    /// Of 16 bytes; those that are loaded together lie in different banks.
    static __device__ __forceinline__ int place_in_a(unsigned row, unsigned chunk) {
        return row * DEPTH + 16 * (chunk ^ row % 8);
    }
    static __device__ __forceinline__ int place_in_b(unsigned row, unsigned chunk) {
        return row * COLUMNS + 16 * (chunk ^ (row % 2 + row / 4 % 4 * 2));
    }

    static __device__ __forceinline__ void clear(Sums &sums) {
#pragma unroll
        for (int i = 0; i < 2; ++i)
#pragma unroll
            for (int j = 0; j < CHUNKS; ++j)
#pragma unroll
                for (int odd = 0; odd < 2; ++odd)
#pragma unroll
                    for (int c = 0; c < 4; ++c) sums[i][j][odd][c] = 0;
    }

    /// Adds the products over the depth of a stage.
    static __device__ __forceinline__ void multiply(const unsigned char *a, const unsigned char *b, Sums &sums) {
        const int lane = lane_number(), warp = warp_number();
        const int row = warp / ACROSS * 32 + lane % 16, chunk = warp % ACROSS * CHUNKS;
        // Matrices 0 and 1 have the first two and the last two of every four rows: so a lane gets four that follow each other.
        const int depth = lane / 16 * 16 + lane % 8 / 2 * 4 + lane / 8 % 2 * 2 + lane % 2;
#pragma unroll UNROLLED
        for (int step = 0; step < DEPTH / 32; ++step) {
            unsigned rows[2][4];
#pragma unroll
            for (int i = 0; i < 2; ++i) load_matrices(rows[i], a + place_in_a(row + 16 * i, 2 * step + lane / 16));
#pragma unroll
            for (int j = 0; j < CHUNKS; ++j) {
                unsigned four[4];
                load_transposed(four, b + place_in_b(depth + 32 * step, chunk + j));
#pragma unroll
                for (int odd = 0; odd < 2; ++odd) {
                    const unsigned order = odd ? 0x7531 : 0x6420;
                    const unsigned columns[2] = {__byte_perm(four[0], four[1], order), __byte_perm(four[2], four[3], order)};
#pragma unroll
                    for (int i = 0; i < 2; ++i) multiply_s8(sums[i][j][odd], rows[i], columns);
                }
            }
        }
    }

    /// Threads that copy a row one after the other, 16 bytes each; the rows from one of a thread's to its next, and how many it
    /// has.
    static constexpr int ROW_THREADS = 8, ROW_STEP = BLOCK / ROW_THREADS;
    static constexpr int A_COPIES = ROWS / ROW_STEP, B_COPIES = DEPTH / ROW_STEP;
    static_assert(A_COPIES * ROW_STEP == ROWS && B_COPIES * ROW_STEP == DEPTH, "all threads copy alike");

    static __device__ __forceinline__ unsigned own_row() { return threadIdx.x / ROW_THREADS; }
    static __device__ __forceinline__ unsigned own_chunk() { return threadIdx.x % ROW_THREADS; }

    /// Begins to copy the thread's part of a stage, `from` being what it has of its first row, and rows `pitch` bytes apart;
    /// zeros for rows from `rows` on.
    template <int COPIES, class Place>
    static __device__ __forceinline__ void copy(unsigned char *to, Place place, const signed char *from, u64 pitch,
                                                unsigned rows) {
#pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            copy16(to + place(own_row() + i * ROW_STEP, own_chunk()), from, own_row() + i * ROW_STEP < rows);
            from += ROW_STEP * pitch;
        }
    }

    /// Calls each(row, column, i, half, j) for the lane's fours of sums: columns column ... column + 3 are
    /// sums[i][j][0][2 half], sums[i][j][1][2 half], sums[i][j][0][2 half + 1] and sums[i][j][1][2 half + 1].
    template <class Each>
    static __device__ __forceinline__ void each_four(Each each) {
        const int lane = lane_number(), warp = warp_number();
        const int row = warp / ACROSS * 32 + lane / 4, column = warp % ACROSS * WARP_COLUMNS + 4 * (lane % 4);
#pragma unroll
        for (int i = 0; i < 2; ++i)
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

template <int ROWS, int WARP_COLUMNS>
__device__ __forceinline__ void gradient_of_weights(const WeightGradient &p) {
    using Tile = TurnedTile<ROWS, WARP_COLUMNS, 4>;
    constexpr int STAGES = 3, STAGE = Tile::A + Tile::B, HALVES = TOKENS / Tile::DEPTH;
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned down, across;
    tile_of_block((p.n + ROWS - 1) / ROWS, (p.k + Tile::COLUMNS - 1) / Tile::COLUMNS, down, across);
    const u64 first_row = static_cast<u64>(down) * ROWS, first_column = static_cast<u64>(across) * Tile::COLUMNS;
    const unsigned steps = (p.m + Tile::DEPTH - 1) / Tile::DEPTH;
    // Where this thread's part of the next stage is.
    const u64 column = first_column + 16 * Tile::own_chunk();
    const bool inside = column < p.pitch;
    const unsigned rows = min(p.n - first_row, static_cast<u64>(ROWS));
    const signed char *g = p.g + (first_row + Tile::own_row()) * TOKENS + 16 * Tile::own_chunk();
    const signed char *codes = p.codes + Tile::own_row() * p.pitch + column;
    auto begin = [&](unsigned step) {
        if (step < steps) {
            unsigned char *const stage = shared + step % STAGES * STAGE;
            const u64 left = p.m - static_cast<u64>(step) * Tile::DEPTH;
            Tile::template copy<Tile::A_COPIES>(stage, Tile::place_in_a, g, TOKENS, rows);
            Tile::template copy<Tile::B_COPIES>(stage + Tile::A, Tile::place_in_b, codes, p.pitch,
                                                inside ? static_cast<unsigned>(min(left, static_cast<u64>(Tile::DEPTH))) : 0);
            g += step % HALVES == HALVES - 1 ? p.n * TOKENS - (HALVES - 1) * Tile::DEPTH : Tile::DEPTH;
            codes += Tile::DEPTH * p.pitch;
        }
        end_group();
    };
#pragma unroll
    for (int step = 0; step < STAGES - 1; ++step) begin(step);

    const bool vector = p.k % 4 == 0 && is_aligned(p.dw, 16);
    float4 totals[2][2][Tile::CHUNKS];
    Tile::each_four([&](int i_row, int i_column, int i, int half, int j) {
        const u64 row = first_row + i_row, column = first_column + i_column;
        totals[i][half][j] = row < p.n && column < p.k ? read_four(p.dw, row, column, p.k, vector)
                                                      : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    });
    typename Tile::Sums sums;
    Tile::clear(sums);
    for (unsigned step = 0; step < steps; ++step) {
        wait_for_groups<STAGES - 2>();
        __syncthreads();
        begin(step + STAGES - 1);
        const unsigned char *const stage = shared + step % STAGES * STAGE;
        Tile::multiply(stage, stage + Tile::A, sums);
        if (step % HALVES != HALVES - 1 && step + 1 < steps) continue;
        // The end of a block of tokens.
        const float *const scales = p.scales + static_cast<u64>(step / HALVES) * p.n;
        Tile::each_four([&](int i_row, int, int i, int half, int j) {
            const float scale = scales[min(first_row + i_row, p.n - 1)];
            auto add = [&](float &total, int &sum) {
                total = __fadd_rn(total, __fmul_rn(__int2float_rn(sum), scale));
                sum = 0;
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
extern "C" __global__ void __launch_bounds__(256, 1) weight_gradient(WeightGradient p) { gradient_of_weights<128, 64>(p); }

/// Tiles of 32 x 128: where there are too few of the others.
extern "C" __global__ void __launch_bounds__(128, 3) weight_gradient_small(WeightGradient p) { gradient_of_weights<32, 32>(p); }

// --- the gradient to the input ---------------------------------------------------------------------------------------

/// dx[m, k] = codes[m, n] t[n, k], scaled, or += that. Rows of codes take `codes_pitch` bytes, a multiple of 16 as the address
/// is, of which those past n are 0; rows of trits take `trits_pitch` words of 16 trits.
struct TransposedProduct {
    const signed char *codes;
    const float *scales;
    const unsigned *trits;
    const float *weight_scale;
    float *dx;
    u64 m, n, k, codes_pitch, trits_pitch;
    int accumulate;
};

template <int ROWS, int WARP_COLUMNS>
__device__ __forceinline__ void gradient_of_input(const TransposedProduct &p) {
    using Tile = TurnedTile<ROWS, WARP_COLUMNS, 1>;
    constexpr int STAGES = 3;
    DYNAMIC_SHARED(unsigned char, shared);
    unsigned char *const spread = shared + STAGES * Tile::A;
    unsigned down, across;
    tile_of_block((p.m + ROWS - 1) / ROWS, (p.k + Tile::COLUMNS - 1) / Tile::COLUMNS, down, across);
    const u64 first_row = static_cast<u64>(down) * ROWS, first_column = static_cast<u64>(across) * Tile::COLUMNS;
    const unsigned steps = (p.n + Tile::DEPTH - 1) / Tile::DEPTH;
    // n is at most 2^24, beyond which sums are not exact.
    const unsigned n = p.n, codes_pitch = p.codes_pitch, rows = min(p.m - first_row, static_cast<u64>(ROWS));
    const signed char *codes = p.codes + (first_row + Tile::own_row()) * p.codes_pitch + 16 * Tile::own_chunk();
    auto begin = [&](unsigned step) {
        if (step < steps) {
            const bool inside = step * Tile::DEPTH + 16 * Tile::own_chunk() < codes_pitch;
            Tile::template copy<Tile::A_COPIES>(shared + step % STAGES * Tile::A, Tile::place_in_a, codes, p.codes_pitch,
                                                inside ? rows : 0);
            codes += Tile::DEPTH;
        }
        end_group();
    };
    // Trits come through registers, where they become bytes: those of the next stage while this one is multiplied. A thread has
    // a word of each of its rows.
    const u64 word = first_column / 16 + Tile::own_chunk();
    const unsigned *trits = p.trits + Tile::own_row() * p.trits_pitch + word;
    const unsigned word_rows = word < p.trits_pitch ? n : 0;
    unsigned words[Tile::B_COPIES];
    auto load = [&](unsigned step) {
#pragma unroll
        for (int i = 0; i < Tile::B_COPIES; ++i) {
            const unsigned row = step * Tile::DEPTH + Tile::own_row() + i * Tile::ROW_STEP;
            words[i] = row < word_rows ? *trits : 0u;
            trits += Tile::ROW_STEP * p.trits_pitch;
        }
    };
    auto store = [&](unsigned step) {
#pragma unroll
        for (int i = 0; i < Tile::B_COPIES; ++i) {
            unsigned t[2][2];
            spread_trits(words[i], t);
            const uint4 bytes = make_uint4(__byte_perm(t[0][0], t[1][0], 0x5140), __byte_perm(t[0][0], t[1][0], 0x7362),
                                           __byte_perm(t[0][1], t[1][1], 0x5140), __byte_perm(t[0][1], t[1][1], 0x7362));
            const unsigned row = Tile::own_row() + i * Tile::ROW_STEP;
            *reinterpret_cast<uint4 *>(spread + step % 2 * Tile::B + Tile::place_in_b(row, Tile::own_chunk())) = bytes;
        }
    };
#pragma unroll
    for (int step = 0; step < STAGES - 1; ++step) begin(step);
    load(0);
    store(0);
    typename Tile::Sums sums;
    Tile::clear(sums);
    for (unsigned step = 0; step < steps; ++step) {
        wait_for_groups<STAGES - 2>();
        __syncthreads();
        load(step + 1);
        begin(step + STAGES - 1);
        Tile::multiply(shared + step % STAGES * Tile::A, spread + step % 2 * Tile::B, sums);
        store(step + 1);
    }
    const bool vector = p.k % 4 == 0 && is_aligned(p.dx, 16);
    const float weight_scale = *p.weight_scale;
    Tile::each_four([&](int i_row, int i_column, int i, int half, int j) {
        const u64 row = first_row + i_row, column = first_column + i_column;
        if (row >= p.m || column >= p.k) return;
        const float scale = __fmul_rn(p.scales[row], weight_scale);
        float4 four;
        four.x = __fmul_rn(__int2float_rn(sums[i][j][0][2 * half]), scale);
        four.y = __fmul_rn(__int2float_rn(sums[i][j][1][2 * half]), scale);
        four.z = __fmul_rn(__int2float_rn(sums[i][j][0][2 * half + 1]), scale);
        four.w = __fmul_rn(__int2float_rn(sums[i][j][1][2 * half + 1]), scale);
        if (p.accumulate) {
            const float4 old = read_four(p.dx, row, column, p.k, vector);
            four = make_float4(__fadd_rn(old.x, four.x), __fadd_rn(old.y, four.y), __fadd_rn(old.z, four.z),
                               __fadd_rn(old.w, four.w));
        }
        write_four(p.dx, row, column, p.k, vector, four);
    });
}

/// Tiles of 128 x 128.
extern "C" __global__ void __launch_bounds__(256, 2) matmul_ternary_transposed(TransposedProduct p) {
    gradient_of_input<128, 64>(p);
}

/// Tiles of 32 x 128.
extern "C" __global__ void __launch_bounds__(128, 4) matmul_ternary_transposed_small(TransposedProduct p) {
    gradient_of_input<32, 32>(p);
}
