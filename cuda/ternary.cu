// Packed trits: two bits a trit, four of them in a byte, or five trits a byte.
//
// A byte that is none is a rare thing: the checks only say that there is one, in the word `bad`, and kernels that come after
// them leave everything as it was where it is set. Which byte it is the host finds.
#include "rows.cuh"

/// Four trits from `at` of a row of `columns` on, a byte each, of which those past the last column are not stored.
__device__ __forceinline__ void store_trits(signed char *row, u64 at, u64 columns, unsigned trits, bool vector) {
    if (vector) {
        *reinterpret_cast<unsigned *>(row + at) = trits;
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (at + i < columns) row[at + i] = static_cast<signed char>(trits >> 8 * i);
}

// --- two bits a trit -------------------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(THREADS)
pack_two_bit(const signed char *trits, Rows bytes, u64 columns, unsigned char *packed) {
    const bool vector = is_aligned(trits, 4) && columns % 4 == 0;
    each_entry(
        bytes,
        [&](Entry byte) -> unsigned {
            const signed char *const from = trits + byte.row * columns + 4 * byte.at;
            if (vector) return *reinterpret_cast<const unsigned *>(from);
            unsigned four = 0;
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (4 * byte.at + i < columns) four |= static_cast<unsigned>(static_cast<unsigned char>(from[i])) << 8 * i;
            return four;
        },
        [&](Entry byte, unsigned four) {
            // Each byte is one of 0xFF, 0, 1: its code is that and 1, without a carry.
            const unsigned codes = ((four & 0x03030303u) + 0x01010101u) & 0x03030303u;
            packed[byte.row * bytes.length + byte.at] =
                static_cast<unsigned char>(codes | codes >> 6 | codes >> 12 | codes >> 18);
        });
}

extern "C" __global__ void __launch_bounds__(THREADS)
unpack_two_bit(const unsigned char *packed, Rows bytes, u64 columns, signed char *trits) {
    const bool vector = is_aligned(trits, 4) && columns % 4 == 0;
    each_entry(
        bytes, [&](Entry byte) -> unsigned { return packed[byte.row * bytes.length + byte.at]; },
        [&](Entry byte, unsigned codes) {
            store_trits(trits + byte.row * columns, 4 * byte.at, columns, spread(codes), vector);
        });
}

// --- checks ----------------------------------------------------------------------------------------------------------

/// Calls look(four bytes, as they lie in memory) for all of bytes[count]; at the ends bytes come alone, with zeros.
template <class Look>
__device__ __forceinline__ void each_four(const unsigned char *bytes, u64 count, Look look) {
    const u64 head = min(count, (16 - reinterpret_cast<u64>(bytes) % 16) % 16), vectors = (count - head) / 16;
    const uint4 *const from = reinterpret_cast<const uint4 *>(bytes + head);
    for (u64 i = global_thread(); i < vectors; i += global_threads()) {
        const uint4 four = from[i];
        look(four.x);
        look(four.y);
        look(four.z);
        look(four.w);
    }
    // At most 15 bytes at each end.
    const u64 thread = global_thread(), tail = head + 16 * vectors;
    if (thread < head) look(bytes[thread]);
    if (thread < count - tail) look(bytes[tail + thread]);
}

/// Sets `bad` where one of bytes[count] has a code 3.
extern "C" __global__ void __launch_bounds__(THREADS) check_two_bit(const unsigned char *packed, u64 count, u64 *bad) {
    unsigned threes = 0;
    each_four(packed, count, [&](unsigned four) { threes |= four & four >> 1 & 0x55555555u; });
    if (threes != 0) *bad = 1;
}

/// Sets `bad` where the last byte of a row holds anything but code 1 after its first `used` trits.
extern "C" __global__ void __launch_bounds__(THREADS)
check_two_bit_ends(const unsigned char *packed, Rows bytes, unsigned used, u64 *bad) {
    for (u64 row = global_thread(); row < bytes.rows; row += global_threads())
        if (packed[(row + 1) * bytes.length - 1] >> 2 * used != 0x55 >> 2 * used) *bad = 1;
}

/// Sets `bad` where one of bytes[count] is above 242.
extern "C" __global__ void __launch_bounds__(THREADS) check_five(const unsigned char *five, u64 count, u64 *bad) {
    bool found = false;
    // A byte and 13 reach 256 from 243 on: two bytes at a time, with room for the carry.
    each_four(five, count, [&](unsigned four) {
        found = found || ((((four & 0x00FF00FFu) + 0x000D000Du) | ((four >> 8 & 0x00FF00FFu) + 0x000D000Du)) & 0x01000100u) != 0;
    });
    if (found) *bad = 1;
}

/// Sets `bad` where the last byte of a row holds anything but digits 1 from 3^used = `power` on.
extern "C" __global__ void __launch_bounds__(THREADS)
check_five_ends(const unsigned char *five, Rows bytes, unsigned power, u64 *bad) {
    for (u64 row = global_thread(); row < bytes.rows; row += global_threads())
        if (five[(row + 1) * bytes.length - 1] / power != 121 / power) *bad = 1;
}

// --- five trits a byte -----------------------------------------------------------------------------------------------

/// packed[rows, ceil(columns / 4)] to five[rows, ceil(columns / 5)], a byte a thread; `from` is the length of packed rows.
extern "C" __global__ void __launch_bounds__(THREADS)
pack_five(const unsigned char *packed, u64 from, Rows bytes, u64 columns, const u64 *bad, unsigned char *five) {
    if (*bad) return;
    each_entry(
        bytes,
        [&](Entry byte) -> unsigned {
            // Ten bits from bit 10 j on are in two bytes. What is past the last column holds code 1, or is made so.
            const u64 bit = 10 * byte.at, first = bit / 8;
            const unsigned char *const row = packed + byte.row * from;
            const unsigned second = first + 1 < from ? row[first + 1] : 0x55;
            return (row[first] | second << 8) >> bit % 8 & 0x3FF;
        },
        [&](Entry byte, unsigned codes) {
            const u64 left = columns - 5 * byte.at;
            if (left < 5) codes = (codes & ((1u << 2 * left) - 1)) | (0x155u << 2 * left & 0x3FF);
            // Pairs a + 4 b become a + 3 b, then pairs of these a + 16 b become a + 9 b.
            const unsigned pairs = (codes & 0xFF) - (codes >> 2 & 0x33), four = pairs - 7 * (pairs >> 4);
            five[byte.row * bytes.length + byte.at] = static_cast<unsigned char>(four + 81 * (codes >> 8));
        });
}

/// Four digits, two bits each, of the ten of `two`, a byte and 243 times the next one: those after the `skipped` first, 0 to 4.
__device__ __forceinline__ unsigned four_of_five(unsigned two, unsigned skipped) {
    // Below 2^16, the high word of a product with ceil(2^32 / 3^i) is the quotient by 3^i.
    const unsigned power[5] = {0, 1431655766u, 477218589u, 159072863u, 53024288u};
    unsigned rest = two;
#pragma unroll
    for (int i = 1; i < 5; ++i)
        if (skipped == static_cast<unsigned>(i)) rest = __umulhi(two, power[i]);
    rest %= 81;
    // Pairs a + 3 b become a + 4 b.
    const unsigned high = rest / 9, low = rest - 9 * high;
    return (low + low / 3) | (high + high / 3) << 4;
}

/// The byte `first` of a row and 243 times the next one; past the row's end digits are 1.
__device__ __forceinline__ unsigned two_of_five(const unsigned char *row, u64 length, u64 first) {
    return row[first] + 243u * (first + 1 < length ? row[first + 1] : 121u);
}

/// five[rows, ceil(columns / 5)] to packed[rows, ceil(columns / 4)], a byte a thread; `from` is the length of rows of five.
extern "C" __global__ void __launch_bounds__(THREADS)
unpack_five(const unsigned char *five, u64 from, Rows bytes, const u64 *bad, unsigned char *packed) {
    if (*bad) return;
    each_entry(
        bytes, [&](Entry byte) { return two_of_five(five + byte.row * from, from, 4 * byte.at / 5); },
        [&](Entry byte, unsigned two) {
            packed[byte.row * bytes.length + byte.at] =
                static_cast<unsigned char>(four_of_five(two, static_cast<unsigned>(4 * byte.at % 5)));
        });
}

/// five[rows, ceil(columns / 5)] to trits[rows, columns], of which a row is ceil(columns / 4) fours.
extern "C" __global__ void __launch_bounds__(THREADS)
five_trits(const unsigned char *five, u64 from, Rows fours, u64 columns, const u64 *bad, signed char *trits) {
    if (*bad) return;
    const bool vector = is_aligned(trits, 4) && columns % 4 == 0;
    each_entry(
        fours, [&](Entry four) { return two_of_five(five + four.row * from, from, 4 * four.at / 5); },
        [&](Entry four, unsigned two) {
            const unsigned codes = four_of_five(two, static_cast<unsigned>(4 * four.at % 5));
            store_trits(trits + four.row * columns, 4 * four.at, columns, spread(codes), vector);
        });
}
