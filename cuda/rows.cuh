// Matrices of which each row takes whole entries: bytes of packed trits, vectors of four. And the groups of weights that share
// a scale.
#pragma once
#include "device.cuh"

/// Divides by a number of 1 to 2^63 that the host knows: with 2^(shift - 1) < d <= 2^shift and magic = ceil(2^(63 + shift) / d),
/// floor(n / d) = floor(n * magic / 2^(63 + shift)) for n below 2^63, as the product is at most n more than n / d is worth.
struct Divisor {
    u64 magic;
    unsigned shift;
};

__device__ __forceinline__ u64 quotient(u64 n, const Divisor &by) { return __umul64hi(2 * n, by.magic) >> by.shift; }

/// Rows of `length` entries each.
struct Rows {
    u64 rows, length;
    Divisor by_length;
};

/// An entry: which of its row, and the row.
struct Entry {
    u64 row, at;
};

/// Calls store(entry, load(entry)) for every entry; STEP loads of a thread are in flight together. Blocks have THREADS threads;
/// any number of blocks will do.
template <int STEP = 4, class Load, class Store>
__device__ __forceinline__ void each_entry(const Rows &rows, Load load, Store store) {
    constexpr u64 TILE = static_cast<u64>(THREADS) * STEP;
    const u64 count = rows.rows * rows.length;
    for (u64 base = blockIdx.x * TILE; base < count; base += gridDim.x * TILE) {
        Entry entries[STEP];
        decltype(load(Entry())) values[STEP] = {};
#pragma unroll
        for (int s = 0; s < STEP; ++s) {
            const u64 i = base + s * THREADS + threadIdx.x;
            entries[s].row = rows.rows == 1 ? 0 : quotient(i, rows.by_length);
            entries[s].at = i - entries[s].row * rows.length;
            if (i < count) values[s] = load(entries[s]);
        }
#pragma unroll
        for (int s = 0; s < STEP; ++s)
            if (base + s * THREADS + threadIdx.x < count) store(entries[s], values[s]);
    }
}

/// Which weights of w[rows, columns] share a scale: `width` columns of a row, the last group of a row being what is left. The
/// whole matrix is one row.
struct Groups {
    u64 rows, columns, width, per_row;
    Divisor by_per_row;
};

/// The weights of a group: where they begin among all, and how many there are.
struct Range {
    u64 start, count;
};

__device__ __forceinline__ Range weights_of(const Groups &groups, u64 group) {
    const u64 row = groups.per_row == 1 ? group : quotient(group, groups.by_per_row);
    const u64 column = (group - row * groups.per_row) * groups.width;
    return {row * groups.columns + column, min(groups.width, groups.columns - column)};
}

/// The four trits of a byte, t + 1 in two bits each, as t in a byte each.
__device__ __forceinline__ unsigned spread(unsigned codes) {
    const unsigned two = (codes | codes << 12) & 0x000F000Fu;
    // Codes are 0 to 3: with the highest bits set, no byte borrows from the next.
    return ((((two | two << 6) & 0x03030303u) | 0x80808080u) - 0x01010101u) ^ 0x80808080u;
}

/// The same of the sixteen of a word.
__device__ __forceinline__ uint4 spread_word(unsigned codes) {
    // By code: 0 is -1, 1 is 0, 2 is 1. __byte_perm takes a byte for each of four nibbles.
    constexpr unsigned MEANINGS = 0x020100FFu;
    const unsigned even = codes & 0x33333333u, odd = codes >> 2 & 0x33333333u;
    const unsigned e[2] = {__byte_perm(MEANINGS, 0, even), __byte_perm(MEANINGS, 0, even >> 16)};
    const unsigned o[2] = {__byte_perm(MEANINGS, 0, odd), __byte_perm(MEANINGS, 0, odd >> 16)};
    return make_uint4(__byte_perm(e[0], o[0], 0x5140), __byte_perm(e[0], o[0], 0x7362), __byte_perm(e[1], o[1], 0x5140),
                      __byte_perm(e[1], o[1], 0x7362));
}
