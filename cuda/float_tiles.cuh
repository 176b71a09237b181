// Products of floats on the tensor cores, as exact as sums of f32 are. A float is the sum of three bf16, each rounded from
// what the ones before leave: high, middle and low, of which the products that matter are
//
//     high high + (high middle + middle high) + (middle middle + high low + low high)
//
// What is left out is below 2^-24 of the product. Trits are exact in one bf16: then there are three products. The tensor cores
// do not round their sums to nearest, so they sum no more than 16 columns before the sum is added as f32 is.
//
// An infinity, or a float that bf16 rounds to one, leaves NaN in the rows and columns where it counts.
#pragma once
#include "tiles.cuh"

/// c[m, n] = a[m, k] b[k, n], strides in elements.
struct FloatProduct {
    const float *a, *b;
    /// c, or a number of m * n floats for each slice of the depth.
    float *c;
    u64 m, n, k;
    long long a_row, a_depth, b_depth, b_column;
    /// Columns of a that are a slice, a multiple of 32; blockIdx.y is its number.
    u64 slice;
    int accumulate;
};

/// Four floats as bf16, two a register.
struct Planes {
    uint2 high, middle, low;
};

/// What rounding to bf16 leaves of a pair.
__device__ __forceinline__ float2 rest_of(float2 pair, unsigned rounded) {
    return make_float2(pair.x - __uint_as_float(rounded << 16), pair.y - __uint_as_float(rounded & 0xFFFF0000u));
}

__device__ __forceinline__ Planes split(float4 four) {
    Planes planes;
    float2 first = make_float2(four.x, four.y), second = make_float2(four.z, four.w);
    planes.high = make_uint2(pack_bf16(first.x, first.y), pack_bf16(second.x, second.y));
    first = rest_of(first, planes.high.x);
    second = rest_of(second, planes.high.y);
    planes.middle = make_uint2(pack_bf16(first.x, first.y), pack_bf16(second.x, second.y));
    first = rest_of(first, planes.middle.x);
    second = rest_of(second, planes.middle.y);
    planes.low = make_uint2(pack_bf16(first.x, first.y), pack_bf16(second.x, second.y));
    return planes;
}

/// One side of a stage: COUNT rows of a, or columns of b, by 32 of the depth, in planes of bf16. Where ALONG, the depth is what
/// lies side by side in memory, and so in the stage: then a row is 64 bytes, else the depth has rows of 2 * COUNT bytes.
template <int COUNT, bool ALONG, int BLOCK>
struct FloatSide {
    static constexpr int DEPTH = 32, PLANE = COUNT * DEPTH * 2;
    /// Fours of floats of one row of the stage, and of a thread.
    static constexpr int FOURS = ALONG ? DEPTH / 4 : COUNT / 4, OWN = COUNT * DEPTH / 4 / BLOCK;
    static_assert(OWN * BLOCK * 4 == COUNT * DEPTH && BLOCK % FOURS == 0, "all threads copy alike");
    static constexpr int STEP = BLOCK / FOURS;

    /// Of 16 bytes, eight numbers; those that are loaded together lie in different banks.
    static __device__ __forceinline__ int place(int row, int chunk) {
        return ALONG ? row * 64 + 16 * (chunk ^ row / 2 % 4) : row * (2 * COUNT) + 16 * (chunk ^ row % 8);
    }

    const float *next;
    long long side_stride, depth_stride;
    /// Of this thread's first four: how many rows or columns there are from it on, and how much of the depth.
    int side_left, depth_left;
    bool vector;
    float4 fours[OWN];

    /// Where `first` is the first row or column of the tile, of `count`, and `begin` ... `end` the slice, of less than 2^31.
    __device__ __forceinline__ FloatSide(const float *data, long long side_stride, long long depth_stride, u64 first, u64 count,
                                         u64 begin, u64 end)
        : side_stride(side_stride), depth_stride(depth_stride) {
        const int across = threadIdx.x % FOURS * 4, down = threadIdx.x / FOURS;
        const int side = ALONG ? down : across, depth = ALONG ? across : down;
        next = data + static_cast<long long>(first + side) * side_stride + static_cast<long long>(begin + depth) * depth_stride;
        side_left = static_cast<int>(min(count - first, static_cast<u64>(COUNT))) - side;
        depth_left = static_cast<int>(end - begin) - depth;
        // Then fours are whole and aligned.
        vector = (ALONG ? depth_stride : side_stride) == 1 && (ALONG ? side_stride : depth_stride) % 4 == 0 &&
                 (ALONG ? end - begin : count) % 4 == 0 && is_aligned(data, 16);
    }

    /// Loads what the thread has of the next stage; zeros past the end.
    __device__ __forceinline__ void load() {
        const long long down = ALONG ? side_stride : depth_stride, across = ALONG ? depth_stride : side_stride;
        const int across_left = ALONG ? depth_left : side_left, down_left = ALONG ? side_left : depth_left;
        const float *from = next;
        // Of the rows of a stage that there are.
        const int rows = across_left > 0 ? down_left : 0;
        if (vector) {
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
                fours[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (i * STEP < rows) fours[i] = load4(from);
                from += STEP * down;
            }
        } else {
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
                float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (i * STEP < rows) {
                    four.x = from[0];
                    if (across_left > 1) four.y = from[across];
                    if (across_left > 2) four.z = from[2 * across];
                    if (across_left > 3) four.w = from[3 * across];
                }
                fours[i] = four;
                from += STEP * down;
            }
        }
        next += DEPTH * depth_stride;
        depth_left -= DEPTH;
    }

    /// Puts change(it) into the stage.
    template <class Change>
    __device__ __forceinline__ void store(unsigned char *stage, Change change) const {
        const unsigned across = threadIdx.x % FOURS, row = threadIdx.x / FOURS;
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            const Planes planes = split(change(fours[i]));
            unsigned char *const to = stage + place(row + i * STEP, across / 2) + 8 * (across % 2);
            *reinterpret_cast<uint2 *>(to) = planes.high;
            *reinterpret_cast<uint2 *>(to + PLANE) = planes.middle;
            *reinterpret_cast<uint2 *>(to + 2 * PLANE) = planes.low;
        }
    }

    __device__ __forceinline__ void store(unsigned char *stage) const {
        store(stage, [](float4 four) { return four; });
    }

    /// A fragment of 16 rows of a from `row` on, and of 16 of the depth.
    static __device__ __forceinline__ void rows(const unsigned char *plane, int row, int step, unsigned (&a)[4]) {
        const int lane = lane_number();
        if (ALONG)
            load_matrices(a, plane + place(row + lane % 16, 2 * step + lane / 16));
        else
            load_transposed(a, plane + place(16 * step + lane % 8 + lane / 16 * 8, row / 8 + lane / 8 % 2));
    }

    /// Two fragments of 8 columns of b each, from `column` on.
    static __device__ __forceinline__ void columns(const unsigned char *plane, int column, int step, unsigned (&b)[4]) {
        const int lane = lane_number();
        if (ALONG)
            load_matrices(b, plane + place(column + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
        else
            load_transposed(b, plane + place(16 * step + lane % 8 + lane / 8 % 2 * 8, column / 8 + lane / 16));
    }
};

/// The side of trits t[depth, columns], of which rows take `pitch` words of 16: one plane, the depth in rows. A thread has one
/// word of a stage.
template <int COUNT, int BLOCK>
struct TritSide {
    static constexpr int DEPTH = 32, PLANE = COUNT * DEPTH * 2, WORDS = COUNT / 16;
    static_assert(WORDS * DEPTH == BLOCK, "a word for each thread");

    const unsigned *next;
    u64 pitch;
    int depth_left;
    unsigned word;

    __device__ __forceinline__ TritSide(const unsigned *trits, u64 pitch, u64 first, u64 begin, u64 end) : pitch(pitch) {
        const u64 column = first / 16 + threadIdx.x % WORDS, depth = begin + threadIdx.x / WORDS;
        next = trits + depth * pitch + column;
        depth_left = column < pitch ? static_cast<int>(end - begin) - static_cast<int>(threadIdx.x / WORDS) : 0;
    }

    __device__ __forceinline__ void load() {
        // Code 1 is 0.
        word = depth_left > 0 ? *next : 0x55555555u;
        next += DEPTH * pitch;
        depth_left -= DEPTH;
    }

    __device__ __forceinline__ void store(unsigned char *stage) const {
        // The bytes of -1, 0 and 1 in bf16, by code.
        constexpr unsigned LOW = 0x00800080u, HIGH = 0x003F00BFu;
        const int row = threadIdx.x / WORDS, chunk = threadIdx.x % WORDS * 2;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const unsigned even = (word & 0x33333333u) >> 16 * half, odd = (word >> 2 & 0x33333333u) >> 16 * half;
            const unsigned low[2] = {__byte_perm(LOW, 0, even), __byte_perm(LOW, 0, odd)};
            const unsigned high[2] = {__byte_perm(HIGH, 0, even), __byte_perm(HIGH, 0, odd)};
            // Numbers 0 and 2, 4 and 6; 1 and 3, 5 and 7.
            unsigned pairs[2][2];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                pairs[i][0] = __byte_perm(low[i], high[i], 0x5140);
                pairs[i][1] = __byte_perm(low[i], high[i], 0x7362);
            }
            *reinterpret_cast<uint4 *>(stage + FloatSide<COUNT, false, BLOCK>::place(row, chunk + half)) =
                make_uint4(__byte_perm(pairs[0][0], pairs[1][0], 0x5410), __byte_perm(pairs[0][0], pairs[1][0], 0x7632),
                           __byte_perm(pairs[0][1], pairs[1][1], 0x5410), __byte_perm(pairs[0][1], pairs[1][1], 0x7632));
        }
    }

    static __device__ __forceinline__ void columns(const unsigned char *plane, int column, int step, unsigned (&b)[4]) {
        FloatSide<COUNT, false, BLOCK>::columns(plane, column, step, b);
    }
};

/// The sums of a warp's fragments over a stage, with three planes of a and B_PLANES of b.
template <class A, class B, int B_PLANES, int WARP_ROWS, int WARP_COLUMNS>
__device__ __forceinline__ void multiply_planes(const unsigned char *a, const unsigned char *b, int row, int column,
                                                float (&sums)[WARP_ROWS / 16][WARP_COLUMNS / 8][4]) {
    constexpr int DOWN = WARP_ROWS / 16, ACROSS = WARP_COLUMNS / 8;
    // The smallest products first.
    constexpr int PRODUCTS = B_PLANES == 1 ? 3 : 6;
    constexpr int OF_A[6] = {2, B_PLANES == 1 ? 1 : 0, B_PLANES == 1 ? 0 : 1, 1, 0, 0};
    constexpr int OF_B[6] = {0, B_PLANES == 1 ? 0 : 2, B_PLANES == 1 ? 0 : 1, 0, 1, 0};
#pragma unroll 1
    for (int step = 0; step < 2; ++step) {
        unsigned right[B_PLANES][ACROSS][2];
#pragma unroll
        for (int plane = 0; plane < B_PLANES; ++plane)
#pragma unroll
            for (int j = 0; j < ACROSS; j += 2) {
                unsigned four[4];
                B::columns(b + plane * B::PLANE, column + 8 * j, step, four);
                right[plane][j][0] = four[0];
                right[plane][j][1] = four[1];
                right[plane][j + 1][0] = four[2];
                right[plane][j + 1][1] = four[3];
            }
#pragma unroll
        for (int i = 0; i < DOWN; ++i) {
            unsigned left[3][4];
#pragma unroll
            for (int plane = 0; plane < 3; ++plane) A::rows(a + plane * A::PLANE, row + 16 * i, step, left[plane]);
            float parts[ACROSS][4];
            const float none[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
            for (int product = 0; product < PRODUCTS; ++product)
#pragma unroll
                for (int j = 0; j < ACROSS; ++j) {
                    if (product == 0)
                        multiply_bf16(parts[j], left[OF_A[product]], right[OF_B[product]][j], none);
                    else
                        multiply_bf16(parts[j], left[OF_A[product]], right[OF_B[product]][j], parts[j]);
                }
#pragma unroll
            for (int j = 0; j < ACROSS; ++j)
#pragma unroll
                for (int c = 0; c < 4; ++c) sums[i][j][c] += parts[j][c];
        }
    }
}

/// Brings `steps` stages and multiplies them, two at a time being in shared memory: bring(step) puts one there, multiply(step)
/// takes it. While a stage is multiplied, the next one is brought: by half of the warps before they multiply, by the others
/// after it, so that the tensor cores are not idle while all warps bring.
template <class Bring, class Multiply>
__device__ __forceinline__ void in_stages(unsigned steps, Bring bring, Multiply multiply) {
    const unsigned bring_first = warp_number() / 4 % 2;
#pragma unroll 1
    for (unsigned part = 0; part < 2 * (steps + 1); ++part) {
        const unsigned step = part / 2;
        if (part % 2 != bring_first) {
            if (step < steps) bring(step);
        } else if (step > 0) {
            multiply(step - 1);
        }
        if (part % 2) __syncthreads();
    }
}

/// c, or +=, of a warp's fragments, from the first row and column of c on. Slabs take the place of the stages, when all are done.
template <int WARP_ROWS, int WARP_COLUMNS>
__device__ __forceinline__ void write_sums(float *c, u64 first_row, u64 first_column, u64 m, u64 n, bool accumulate,
                                           const float (&sums)[WARP_ROWS / 16][WARP_COLUMNS / 8][4]) {
    DYNAMIC_SHARED(float, shared);
    const bool fours = n % 4 == 0 && is_aligned(c, 16);
    in_fours<WARP_ROWS, WARP_COLUMNS>(
        shared + warp_number() * Slab<WARP_COLUMNS>::SIZE, sums, [&](int i, int j, const Four<float> &four) {
            const u64 row = first_row + i, column = first_column + j;
            if (row >= m || column >= n) return;
            float *const to = c + row * n + column;
            if (fours) {
                const float4 old = accumulate ? load4(to) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                store4(to, make_float4(old.x + four.of[0], old.y + four.of[1], old.z + four.of[2], old.w + four.of[3]));
                return;
            }
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (column + i < n) to[i] = accumulate ? to[i] + four.of[i] : four.of[i];
        });
}
