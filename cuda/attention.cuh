// Products of tiles in shared memory, which attention and its gradients are made of: 64 rows by 64 columns, or by the width of
// a head, on the tensor cores.
//
// A float, times a power of two that brings the largest of its tile below 2^15, is nearly the sum of two f16, high and low; of
// the products
//
//     high high + (high low + low high)
//
// matter, and what is left out is below 2^-21 of the product. Numbers below 2^-17 of the largest of their tile keep fewer bits:
// all are within 2^-39 of that largest one. The tensor cores do not round their sums to nearest, so they sum no more than a
// tile, and the sum over tiles is added as f32 is.
//
// An infinity or NaN leaves NaN in the rows and columns where it counts; beside an infinity the numbers of its tile are as exact
// as f16 pairs without a factor, and infinities above 65504.
//
// A warp has 16 rows of a product. Its fragments of sums (tensor_core.cuh) become those of weights without a way through memory.
#pragma once
#include "tensor_core.cuh"

/// Rows of a tile.
constexpr int TILE = 64;
constexpr int ATTENTION_THREADS = 128;
/// Largest magnitudes of two tiles, by warp.
constexpr int LARGEST = 8;

/// 64 rows of up to WIDTH elements in shared memory: the high halves, then the low ones.
template <int WIDTH>
struct Tile {
    static_assert(WIDTH == 32 || WIDTH == 64, "rows of 4 or 8 times 16 bytes");
    /// Bytes.
    static constexpr int PLANE = TILE * WIDTH * 2, SIZE = 2 * PLANE;

    /// Of 16 bytes, eight numbers; those that are loaded together lie in different banks.
    static __device__ __forceinline__ int place(int row, int chunk) {
        return row * (2 * WIDTH) + 16 * (WIDTH == 64 ? chunk ^ row % 8 : chunk ^ row / 2 % 4);
    }
    /// The same where a warp loads matrices. The other places are found from it where they are needed: `place` ^ 16 i for chunk
    /// ^ i, and so many rows of 2 * WIDTH bytes more, in steps of 8 rows. (The compiler would keep them all in registers.)
    static __device__ __forceinline__ unsigned hidden_place(int row, int chunk) {
        unsigned offset = place(row, chunk);
#ifndef SETUN_EMULATE
        asm volatile("" : "+r"(offset));
#endif
        return offset;
    }
};

/// A power of two, and its inverse.
struct Scale {
    float times, back;
};

/// What brings numbers below 2^15, the largest of which has these bits, and no further down than it must.
__device__ __forceinline__ Scale scale_of(unsigned largest) {
    const unsigned exponent = max(largest >> 23, 15u), bounded = exponent == 255 ? 141 : exponent;
    return {__uint_as_float((268 - bounded) << 23), __uint_as_float((bounded - 14) << 23)};
}

/// Two floats as the high and the low halves of both.
struct Halves {
    unsigned high, low;
};

__device__ __forceinline__ Halves halves_of(float x, float y) {
    const unsigned high = pack_f16(x, y);
    const float2 rounded = unpack_f16(high);
    return {high, pack_f16(x - rounded.x, y - rounded.y)};
}

// --- from memory to tiles ------------------------------------------------------------------------------------------------

/// Rows of a matrix: `count` of them from `data` on, `stride` floats apart, of `width` floats each. `vector`: each begins at
/// a multiple of 16 bytes and has whole vectors.
struct Strip {
    const float *data;
    u64 stride;
    unsigned count, width;
    bool vector;
};

/// What a thread has of a strip of at most 64 rows of at most WIDTH floats; what is past it is 0.
template <int WIDTH>
struct Loaded {
    static constexpr int QUADS = WIDTH / 4, DOWN = ATTENTION_THREADS / QUADS, STEPS = TILE / DOWN;
    float4 fours[STEPS];

    __device__ __forceinline__ explicit Loaded(const Strip &strip) {
        const unsigned row = threadIdx.x / QUADS, column = threadIdx.x % QUADS * 4;
        const float *from = strip.data + row * strip.stride + column;
        const u64 stride = DOWN * strip.stride;
        const unsigned left = strip.width - min(strip.width, column);
        const unsigned count = left > 0 ? strip.count : 0;
        if (strip.vector) {
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                fours[step] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (row + step * DOWN < count) fours[step] = __ldg(reinterpret_cast<const float4 *>(from));
                from += stride;
            }
            return;
        }
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const unsigned here = row + step * DOWN < count ? left : 0;
            fours[step] = make_float4(here > 0 ? __ldg(from) : 0.0f, here > 1 ? __ldg(from + 1) : 0.0f,
                                      here > 2 ? __ldg(from + 2) : 0.0f, here > 3 ? __ldg(from + 3) : 0.0f);
            from += stride;
        }
    }

    /// The bits of the largest magnitude that the warp has.
    __device__ __forceinline__ unsigned largest() const {
        float most = 0.0f;
#pragma unroll
        for (int step = 0; step < STEPS; ++step)
            most = fmaxf(most, fmaxf(fmaxf(fabsf(fours[step].x), fabsf(fours[step].y)),
                                     fmaxf(fabsf(fours[step].z), fabsf(fours[step].w))));
        return __reduce_max_sync(ALL_LANES, __float_as_uint(most));
    }

    __device__ __forceinline__ void store(unsigned char *tile, float times) const {
        const int row = threadIdx.x / QUADS, quad = threadIdx.x % QUADS;
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const float4 four = fours[step];
            const Halves first = halves_of(four.x * times, four.y * times), second = halves_of(four.z * times, four.w * times);
            unsigned char *const to = tile + Tile<WIDTH>::place(row + step * DOWN, quad / 2) + 8 * (quad % 2);
            *reinterpret_cast<uint2 *>(to) = make_uint2(first.high, second.high);
            *reinterpret_cast<uint2 *>(to + Tile<WIDTH>::PLANE) = make_uint2(first.low, second.low);
        }
    }
};

/// Of the four warps' largest magnitudes.
__device__ __forceinline__ Scale scale_of_block(const unsigned *largest) {
    return scale_of(max(max(largest[0], largest[1]), max(largest[2], largest[3])));
}

/// Copies a strip to a tile that the block has read, and gives the factor that takes the tile back to it. `largest`: room for
/// 4 numbers.
template <int WIDTH>
__device__ __forceinline__ float load_tile(unsigned char *tile, const Strip &strip, unsigned *largest) {
    const Loaded<WIDTH> loaded(strip);
    const unsigned own = loaded.largest();
    if (lane_number() == 0) largest[warp_number()] = own;
    __syncthreads();
    const Scale scale = scale_of_block(largest);
    loaded.store(tile, scale.times);
    __syncthreads();
    return scale.back;
}

/// The same of two strips, to a tile and the next; `largest` has room for 8 numbers. `also` is done when all have read what was
/// there before.
template <int WIDTH, class Also>
__device__ __forceinline__ float2 load_tiles(unsigned char *tiles, const Strip &first, const Strip &second, unsigned *largest,
                                             Also also) {
    const Loaded<WIDTH> one(first), other(second);
    const unsigned of_one = one.largest(), of_other = other.largest();
    if (lane_number() == 0) {
        largest[warp_number()] = of_one;
        largest[4 + warp_number()] = of_other;
    }
    __syncthreads();
    const Scale scale = scale_of_block(largest), next = scale_of_block(largest + 4);
    one.store(tiles, scale.times);
    other.store(tiles + Tile<WIDTH>::SIZE, next.times);
    also();
    __syncthreads();
    return make_float2(scale.back, next.back);
}

/// Of the 16 rows that the warp has. Which warp has the last ones, which see the most keys, differs between blocks, as each warp
/// of a block runs on a quarter of the multiprocessor of its own.
__device__ __forceinline__ unsigned first_row() { return (warp_number() + (blockIdx.x * 0x9E3779B1u >> 30)) % 4 * 16; }

// --- products ------------------------------------------------------------------------------------------------------------

/// Sums of two fragments side by side. APART: those of high halves apart from those with low ones, which are as exact as f32 sums
/// are; together they have some three times the error, and take half the registers.
template <bool APART>
struct Parts {
    float large[2][4] = {}, small[2][4] = {};

    __device__ __forceinline__ void add(const unsigned (&a_high)[4], const unsigned (&a_low)[4], const unsigned (&b_high)[4],
                                        const unsigned (&b_low)[4]) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
            float(&with_low)[4] = APART ? small[side] : large[side];
            const unsigned high[2] = {b_high[2 * side], b_high[2 * side + 1]}, low[2] = {b_low[2 * side], b_low[2 * side + 1]};
            multiply_f16(with_low, a_low, high, with_low);
            multiply_f16(with_low, a_high, low, with_low);
            multiply_f16(large[side], a_high, high, large[side]);
        }
    }
    __device__ __forceinline__ float sum(int side, int c) const {
        return APART ? large[side][c] + small[side][c] : large[side][c];
    }
};

/// sums = factor * the products of the warp's rows of a with rows of b: as many, from `column` on, as there are sums.
template <int WIDTH, int FRAGMENTS>
__device__ __forceinline__ void scores(float (&sums)[FRAGMENTS][4], const unsigned char *a, const unsigned char *b,
                                           int column, float factor) {
    typedef Tile<WIDTH> T;
    const int lane = lane_number();
    unsigned high[WIDTH / 16][4], low[WIDTH / 16][4];
    const unsigned of_a = T::hidden_place(first_row() + lane % 16, lane / 16);
    const unsigned of_b = T::hidden_place(column + lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int step = 0; step < WIDTH / 16; ++step) {
        const unsigned char *const from = a + (of_a ^ 32 * step);
        load_matrices(high[step], from);
        load_matrices(low[step], from + T::PLANE);
    }
#pragma unroll
    for (int j = 0; j < FRAGMENTS; j += 2) {
        Parts<true> parts;
#pragma unroll
        for (int step = 0; step < WIDTH / 16; ++step) {
            const unsigned char *const from = b + (of_b ^ 32 * step) + 8 * j * (2 * WIDTH);
            unsigned b_high[4], b_low[4];
            load_matrices(b_high, from);
            load_matrices(b_low, from + T::PLANE);
            parts.add(high[step], low[step], b_high, b_low);
        }
#pragma unroll
        for (int side = 0; side < 2; ++side)
#pragma unroll
            for (int c = 0; c < 4; ++c) sums[j + side][c] = parts.sum(side, c) * factor;
    }
}

/// Sums of chunks of a head, which wait in shared memory so that no registers are taken while tiles are loaded: step 1 ... `last`
/// adds those of the steps before to `sums`. What a thread wrote it reads.
template <int FRAGMENTS>
__device__ __forceinline__ void add_steps(float (&sums)[FRAGMENTS][4], float *waiting, unsigned step, unsigned last) {
    if (last == 1) return;
#pragma unroll
    for (int j = 0; j < FRAGMENTS; ++j)
#pragma unroll
        for (int c = 0; c < 4; ++c) {
            float *const place = waiting + (4 * j + c) * ATTENTION_THREADS + threadIdx.x;
            if (step > 1) sums[j][c] += *place;
            *place = sums[j][c];
        }
}

/// The warp's rows of weights, by 8 * FRAGMENTS columns.
template <int FRAGMENTS>
struct Weights {
    unsigned high[FRAGMENTS / 2][4], low[FRAGMENTS / 2][4];

    /// Sums times a factor for each of the two rows.
    __device__ __forceinline__ Weights(const float (&sums)[FRAGMENTS][4], float above, float below) {
#pragma unroll
        for (int j = 0; j < FRAGMENTS; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float times = half == 0 ? above : below;
                const Halves halves = halves_of(sums[j][2 * half] * times, sums[j][2 * half + 1] * times);
                high[j / 2][j % 2 * 2 + half] = halves.high;
                low[j / 2][j % 2 * 2 + half] = halves.low;
            }
    }

    /// Calls join(j, c, sum) for number c of fragment j of the product with the rows of b from `row` on.
    template <int WIDTH, class Join>
    __device__ __forceinline__ void multiply(const unsigned char *b, int row, Join join) const {
        typedef Tile<WIDTH> T;
        const unsigned of_b = T::hidden_place(row + lane_number() % 16, lane_number() / 16);
#pragma unroll
        for (int j = 0; j < WIDTH / 8; j += 2) {
            Parts<false> parts;
#pragma unroll
            for (int step = 0; step < FRAGMENTS / 2; ++step) {
                const unsigned char *const from = b + (of_b ^ 16 * j) + 16 * step * (2 * WIDTH);
                unsigned b_high[4], b_low[4];
                load_transposed(b_high, from);
                load_transposed(b_low, from + T::PLANE);
                parts.add(high[step], low[step], b_high, b_low);
            }
#pragma unroll
            for (int side = 0; side < 2; ++side)
#pragma unroll
                for (int c = 0; c < 4; ++c) join(j + side, c, parts.sum(side, c));
        }
    }
};

// --- from sums to memory -------------------------------------------------------------------------------------------------

/// Writes the warp's sums, times a factor for each of the two rows, to rows < count of a matrix.
template <int FRAGMENTS>
__device__ __forceinline__ void store_rows(float *to, u64 stride, unsigned count, unsigned width, bool vector,
                                           const float (&sums)[FRAGMENTS][4], float above, float below) {
    const unsigned lane = lane_number();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const unsigned row = first_row() + 8 * half + lane / 4;
        const float times = half == 0 ? above : below;
        if (row >= count) break;
        float *const to_row = to + row * stride;
#pragma unroll
        for (int j = 0; j < FRAGMENTS; ++j) {
            const unsigned column = 8 * j + 2 * (lane % 4);
            const float2 two = make_float2(sums[j][2 * half] * times, sums[j][2 * half + 1] * times);
            if (vector) {
                if (column < width) *reinterpret_cast<float2 *>(to_row + column) = two;
            } else {
                if (column < width) to_row[column] = two.x;
                if (column + 1 < width) to_row[column + 1] = two.y;
            }
        }
    }
}

template <int COUNT>
__device__ __forceinline__ void clear(float (&x)[COUNT][4]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
#pragma unroll
        for (int c = 0; c < 4; ++c) x[i][c] = 0.0f;
}
