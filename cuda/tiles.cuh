// What products by tiles share: which tile a block has, and the way of the sums from fragments to memory.
#pragma once
#include "tensor_core.cuh"

/// The tile of a block, of `down` x `across` tiles. Blocks that run together lie in bands of eight tiles, so that what they
/// read is in the cache of the second level.
__device__ __forceinline__ void tile_of_block(unsigned down, unsigned across, unsigned &row, unsigned &column) {
    constexpr unsigned BAND = 8;
    const unsigned band = blockIdx.x / (BAND * across), place = blockIdx.x % (BAND * across);
    const unsigned height = min(BAND, down - band * BAND);
    row = band * BAND + place % height;
    column = place / height;
}

template <class T>
struct __align__(8) Pair {
    T of[2];
};
template <class T>
struct __align__(16) Four {
    T of[4];
};

/// A warp's slab: 16 rows of its columns, which lie so that what its lanes write together is in different banks.
template <int COLUMNS>
struct Slab {
    static constexpr int PITCH = COLUMNS + 8, SIZE = 16 * PITCH;
};

/// Calls each(row, column, four) for the numbers of a warp's fragments, four columns side by side. They go through shared memory,
/// sixteen rows at a time, so that what is written lies side by side in memory, too. Called by a whole warp.
template <int ROWS, int COLUMNS, class T, class Each>
__device__ __forceinline__ void in_fours(T *slab, const T (&numbers)[ROWS / 16][COLUMNS / 8][4], Each each) {
    static_assert(sizeof(T) == 4, "numbers of 32 bits");
    constexpr int PITCH = Slab<COLUMNS>::PITCH;
    const int lane = lane_number();
#pragma unroll
    for (int i = 0; i < ROWS / 16; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int j = 0; j < COLUMNS / 8; ++j) {
                const Pair<T> pair = {{numbers[i][j][2 * half], numbers[i][j][2 * half + 1]}};
                *reinterpret_cast<Pair<T> *>(slab + (lane / 4 + 8 * half) * PITCH + 8 * j + 2 * (lane % 4)) = pair;
            }
        __syncwarp();
#pragma unroll 1
        for (int number = lane; number < 4 * COLUMNS; number += 32) {
            const int row = number / (COLUMNS / 4), column = number % (COLUMNS / 4) * 4;
            each(16 * i + row, column, *reinterpret_cast<const Four<T> *>(slab + row * PITCH + column));
        }
        __syncwarp();
    }
}
