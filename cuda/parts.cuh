// Rows of bytes that begin anywhere, in vectors: a thread makes what one store takes, and the bytes at the ends of rows alone.
#pragma once
#include "rows.cuh"

/// Calls store(row, at, load(row, at)) for every entry, as `each_entry` does, with numbers of 32 bits: for rows of fewer than
/// 2^30 entries.
template <unsigned STEP, class Load, class Store>
__device__ __forceinline__ void each_near_entry(const Rows &rows, Load load, Store store) {
    constexpr unsigned TILE = THREADS * STEP;
    // ceil(2^(31 + shift) / length), with which the quotients of numbers below 2^31 are exact likewise.
    const unsigned length = static_cast<unsigned>(rows.length), shift = rows.by_length.shift;
    const unsigned magic = static_cast<unsigned>(rows.by_length.magic + 0xFFFFFFFFull >> 32);
    const unsigned count = static_cast<unsigned>(rows.rows);
    for (u64 base = static_cast<u64>(blockIdx.x) * TILE; base < rows.rows * rows.length; base += static_cast<u64>(gridDim.x) * TILE) {
        const u64 first = quotient(base, rows.by_length);
        const unsigned from = static_cast<unsigned>(base - first * length) + threadIdx.x;
        unsigned row[STEP], at[STEP];
        decltype(load(0u, 0u)) values[STEP] = {};
#pragma unroll
        for (unsigned s = 0; s < STEP; ++s) {
            const unsigned i = from + s * THREADS, skipped = __umulhi(2 * i, magic) >> shift;
            row[s] = static_cast<unsigned>(first) + skipped;
            at[s] = i - skipped * length;
            // Past the last row another one is read for nothing: no branch keeps the loads apart.
            values[s] = load(min(row[s], count - 1), at[s]);
        }
#pragma unroll
        for (unsigned s = 0; s < STEP; ++s)
            if (row[s] < count) store(row[s], at[s], values[s]);
    }
}

/// Part of a row of bytes: `count` of them from `start` on, none where count is not above 0.
struct Part {
    unsigned start;
    int count;
};

/// Of rows of `length` bytes that lie one after the other at `to`, the 16 that are stored together, as their vector is aligned:
/// part `at` of length / 16 + 2. The parts at the ends of a row are shorter.
__device__ __forceinline__ Part part_of(const void *to, unsigned length, unsigned row, unsigned at) {
    const unsigned before = (static_cast<unsigned>(reinterpret_cast<u64>(to)) + row * length) % 16;
    const int begin = static_cast<int>(16 * at) - static_cast<int>(before), start = max(begin, 0);
    return {static_cast<unsigned>(start), min(begin + 16, static_cast<int>(length)) - start};
}

/// Whether rows are so few and so long that they are worth their parts, whose numbers must have 32 bits.
__device__ __forceinline__ bool has_parts(u64 rows, u64 length) { return rows < 1u << 31 && length >= 64 && length < 1u << 28; }

__device__ __forceinline__ u64 joined(unsigned low, unsigned high) { return static_cast<u64>(high) << 32 | low; }

/// A word of which what lies past its first `bits` bits is as in `fill`.
__device__ __forceinline__ unsigned filled(unsigned word, int bits, unsigned fill) {
    const unsigned kept = bits >= 32 ? 0xFFFFFFFFu : bits > 0 ? (1u << bits) - 1 : 0u;
    return (word & kept) | (fill & ~kept);
}

/// The words that hold WORDS words from any address on, which begin so many bits after the first.
template <int WORDS>
struct Around {
    static constexpr unsigned BYTES = 4 * (WORDS + 1);
    unsigned words[WORDS + 1], bit;

    /// Reads 4 WORDS + 4 bytes at most from `address` on; none before the word it lies in.
    __device__ __forceinline__ void load(const unsigned char *address) {
        const u64 past = reinterpret_cast<u64>(address) % 4;
        const unsigned *const from = reinterpret_cast<const unsigned *>(address - past);
#pragma unroll
        for (int i = 0; i <= WORDS; ++i) words[i] = from[i];
        bit = 8 * static_cast<unsigned>(past);
    }

    /// The same where there are only `count` bytes; zeros after them.
    __device__ __forceinline__ void gather(const unsigned char *address, unsigned count) {
#pragma unroll 1
        for (unsigned i = 0; i < BYTES; ++i) {
#pragma unroll
            for (int w = 0; w < WORDS; ++w) words[w] = static_cast<unsigned>(joined(words[w], words[w + 1]) >> 8);
            words[WORDS] = words[WORDS] >> 8 | static_cast<unsigned>(i < count ? address[i] : 0) << 24;
        }
        bit = 0;
    }

    /// Word i from `skipped` bits after the address on, where it is not past the end.
    __device__ __forceinline__ unsigned word(int i, unsigned skipped = 0) const {
        return static_cast<unsigned>(joined(words[i], words[i + 1]) >> (bit + skipped));
    }
};

/// Stores a part of 16 bytes, or as many of them as it has.
__device__ __forceinline__ void store_part(void *at, int count, const unsigned (&words)[4]) {
    unsigned char *const to = static_cast<unsigned char *>(at);
    if (count == 16) {
        *reinterpret_cast<uint4 *>(to) = make_uint4(words[0], words[1], words[2], words[3]);
        return;
    }
#pragma unroll
    for (int i = 0; i < 15; ++i)
        if (i < count) to[i] = static_cast<unsigned char>(words[i / 4] >> 8 * (i % 4));
}
