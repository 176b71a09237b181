// Packed trits: two bits a trit, four of them in a byte, or five trits a byte.
//
// A byte that is none is a rare thing: the checks only say that there is one, in the word `bad`, and kernels that come after
// them leave everything as it was where it is set. Which byte it is the host finds.
#include "parts.cuh"

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

/// Each byte is one of 0xFF, 0, 1: its code is that and 1, without a carry.
__device__ __forceinline__ unsigned four_codes(unsigned trits) { return ((trits & 0x03030303u) + 0x01010101u) & 0x03030303u; }

/// The codes of a word, 8 bits apart, side by side in the highest byte: no two products share bits.
__device__ __forceinline__ unsigned gathered(unsigned codes) { return codes * 0x01041040u; }

/// The words of one row, sixteen trits each, and what is left of the row: nothing has been done where it is not aligned.
struct Words {
    u64 count;
    Rows rest;
};

__device__ __forceinline__ Words words_of(const Rows &bytes, const void *trits, const void *packed, u64 columns) {
    const u64 count = bytes.rows == 1 && is_aligned(trits, 16) && is_aligned(packed, 4) ? columns / 16 : 0;
    return {count, {bytes.rows, bytes.length - 4 * count, bytes.by_length}};
}

/// Rows that fill their bytes are given as one.
extern "C" __global__ void __launch_bounds__(THREADS)
pack_two_bit(const signed char *trits, Rows bytes, u64 columns, unsigned char *packed) {
    const Words words = words_of(bytes, trits, packed, columns);
    each_entry(
        Rows{1, words.count, {}}, [&](Entry word) { return reinterpret_cast<const uint4 *>(trits)[word.at]; },
        [&](Entry word, uint4 four) {
            const unsigned low = __byte_perm(gathered(four_codes(four.x)), gathered(four_codes(four.y)), 0x0073);
            const unsigned high = __byte_perm(gathered(four_codes(four.z)), gathered(four_codes(four.w)), 0x0073);
            reinterpret_cast<unsigned *>(packed)[word.at] = __byte_perm(low, high, 0x5410);
        });
    trits += 16 * words.count;
    packed += 4 * words.count;
    columns -= 16 * words.count;
    bytes = words.rest;
    const bool vector = is_aligned(trits, 4) && columns % 4 == 0;
    each_entry<1>(
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
            packed[byte.row * bytes.length + byte.at] = static_cast<unsigned char>(gathered(four_codes(four)) >> 24);
        });
}

extern "C" __global__ void __launch_bounds__(THREADS)
unpack_two_bit(const unsigned char *packed, Rows bytes, u64 columns, signed char *trits) {
    const Words words = words_of(bytes, trits, packed, columns);
    each_entry(
        Rows{1, words.count, {}}, [&](Entry word) { return reinterpret_cast<const unsigned *>(packed)[word.at]; },
        [&](Entry word, unsigned codes) { reinterpret_cast<uint4 *>(trits)[word.at] = spread_word(codes); });
    trits += 16 * words.count;
    packed += 4 * words.count;
    columns -= 16 * words.count;
    bytes = words.rest;
    const bool vector = is_aligned(trits, 4) && columns % 4 == 0;
    each_entry<2>(
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
    unsigned above = 0;
    // The highest bit is set in 243 and more; with 13 the seven others carry into it from 115 on.
    each_four(five, count, [&](unsigned four) { above |= four & (four & 0x7F7F7F7Fu) + 0x0D0D0D0Du; });
    if ((above & 0x80808080u) != 0) *bad = 1;
}

/// Sets `bad` where the last byte of a row holds anything but digits 1 from 3^used = `power` on.
extern "C" __global__ void __launch_bounds__(THREADS)
check_five_ends(const unsigned char *five, Rows bytes, unsigned power, u64 *bad) {
    for (u64 row = global_thread(); row < bytes.rows; row += global_threads())
        if (five[(row + 1) * bytes.length - 1] / power != 121 / power) *bad = 1;
}

// --- five trits a byte -----------------------------------------------------------------------------------------------

/// Three numbers of ten bits, each of five digits by two bits, as the bytes of which these are the digits.
__device__ __forceinline__ unsigned fives_of(unsigned codes) {
    // Pairs a + 4 b become a + 3 b, then pairs of these a + 16 b become a + 9 b.
    const unsigned pairs = (codes & 0x0FF3FCFFu) - (codes >> 2 & 0x0330CC33u);
    return pairs - 7 * (pairs >> 4 & 0x00F03C0Fu) + 81 * (codes >> 8 & 0x00300C03u);
}

/// Rows of packed trits, of which sixteen bytes of five trits are made at a time, from 160 bits.
struct TwoBits {
    const unsigned char *packed;
    unsigned rows, length, columns;

    /// Whether what `load` reads is there. What follows a row, but the last, is the next one.
    __device__ __forceinline__ bool is_there(unsigned row, unsigned start) const {
        return row + 1 < rows || 5 * start / 4 + Around<5>::BYTES <= length;
    }

    __device__ __forceinline__ const unsigned char *at(unsigned row, unsigned start) const {
        return packed + static_cast<u64>(row) * length + 5 * start / 4;
    }

    __device__ __forceinline__ Around<5> load(unsigned row, unsigned start) const {
        Around<5> around;
        around.load(is_there(row, start) ? at(row, start) : packed);
        return around;
    }

    /// The bytes from `start` on.
    __device__ __forceinline__ void fives(unsigned row, unsigned start, Around<5> &around, unsigned (&bytes)[4]) const {
        const unsigned first = 5 * start / 4;
        if (!is_there(row, start)) around.gather(at(row, start), length - first);
        unsigned codes[6] = {};
#pragma unroll
        for (int i = 0; i < 5; ++i) codes[i] = around.word(i, 10 * start % 8);
        // What is past the last column holds code 1, or is made so.
        const unsigned left = columns - 5 * start;
        if (left < 80) {
#pragma unroll
            for (int i = 0; i < 5; ++i) codes[i] = filled(codes[i], 2 * static_cast<int>(left) - 32 * i, 0x55555555u);
        }
        unsigned threes[6];
#pragma unroll
        for (int i = 0; i < 6; ++i) {
            const unsigned fives = fives_of(static_cast<unsigned>(joined(codes[30 * i / 32], codes[30 * i / 32 + 1]) >> 30 * i % 32));
            threes[i] = (fives & 0xFFu) | (fives >> 2 & 0xFF00u) | (fives >> 4 & 0xFF0000u);
        }
        bytes[0] = threes[0] | threes[1] << 24;
        bytes[1] = threes[1] >> 8 | threes[2] << 16;
        bytes[2] = threes[2] >> 16 | threes[3] << 8;
        bytes[3] = threes[4] | threes[5] << 24;
    }
};

/// packed[rows, ceil(columns / 4)] to five[rows, ceil(columns / 5)]: sixteen bytes a thread, by `parts` of a row, where it is
/// long enough, else one; `from` is the length of packed rows.
extern "C" __global__ void __launch_bounds__(THREADS)
pack_five(const unsigned char *packed, u64 from, Rows bytes, Rows parts, u64 columns, const u64 *bad, unsigned char *five) {
    if (*bad) return;
    if (has_parts(bytes.rows, bytes.length) && is_aligned(packed, 4)) {
        const unsigned length = static_cast<unsigned>(bytes.length);
        const TwoBits two_bits = {packed, static_cast<unsigned>(bytes.rows), static_cast<unsigned>(from),
                                  static_cast<unsigned>(columns)};
        each_near_entry<2>(
            parts, [&](unsigned row, unsigned at) { return two_bits.load(row, part_of(five, length, row, at).start); },
            [&](unsigned row, unsigned at, Around<5> &around) {
                const Part part = part_of(five, length, row, at);
                if (part.count <= 0) return;
                unsigned found[4];
                two_bits.fives(row, part.start, around, found);
                store_part(five + static_cast<u64>(row) * length + part.start, part.count, found);
            });
        return;
    }
    each_entry<1>(
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
            five[byte.row * bytes.length + byte.at] = static_cast<unsigned char>(fives_of(codes));
        });
}

/// The twenty digits of four bytes, two bits each: forty bits.
__device__ __forceinline__ u64 twenty_digits(unsigned four) {
    // Two bytes side by side, with room between them: v / 81 = v * 203 / 2^14 below 243, then v / 9 = v * 57 / 2^9 below 81.
    unsigned even = four & 0x00FF00FFu, odd = four >> 8 & 0x00FF00FFu;
    const unsigned even_last = 203 * even >> 14 & 0x00030003u, odd_last = 203 * odd >> 14 & 0x00030003u;
    even -= 81 * even_last;
    odd -= 81 * odd_last;
    // Pairs a + 9 b become a + 16 b; in each half, a + 3 b become a + 4 b: 3 and 6 are where another is to be added.
    even += 7 * (57 * even >> 9 & 0x000F000Fu);
    odd += 7 * (57 * odd >> 9 & 0x000F000Fu);
    unsigned pairs = even | odd << 8;
    pairs += ((pairs + 0x55555555u & 0x88888888u) >> 3) + ((pairs + 0x22222222u & 0x88888888u) >> 3);
    // Ten bits of each byte, at bits 0 and 16 of two words, to bits 0, 10, 20 and 30.
    even = (pairs & 0x00FF00FFu) + (even_last << 8);
    odd = (pairs >> 8 & 0x00FF00FFu) + (odd_last << 8);
    const unsigned third = even >> 16, last = odd >> 16;
    return joined(even + 0x000F0000u * third + (odd << 10) + 0x3C000000u * last, last >> 2);
}

/// Rows of five trits a byte, of which 16 WORDS trits are made at a time: from whichever on, they lie in 4 WORDS bytes.
template <int WORDS>
struct Fives {
    const unsigned char *five;
    unsigned rows, length;

    /// Whether what `load` reads is there. What follows a row, but the last, is the next one.
    __device__ __forceinline__ bool is_there(unsigned row, unsigned trit) const {
        return row + 1 < rows || trit / 5 + Around<WORDS>::BYTES <= length;
    }

    __device__ __forceinline__ const unsigned char *at(unsigned row, unsigned trit) const {
        return five + static_cast<u64>(row) * length + trit / 5;
    }

    __device__ __forceinline__ Around<WORDS> load(unsigned row, unsigned trit) const {
        Around<WORDS> around;
        around.load(is_there(row, trit) ? at(row, trit) : five);
        return around;
    }

    /// Two bits for each of the trits from `trit` on.
    __device__ __forceinline__ void codes(unsigned row, unsigned trit, Around<WORDS> &around, unsigned (&codes)[WORDS]) const {
        const unsigned first = trit / 5, skipped = 2 * (trit - 5 * first);
        if (!is_there(row, trit)) around.gather(at(row, trit), length - first);
        unsigned fours[WORDS];
#pragma unroll
        for (int i = 0; i < WORDS; ++i) fours[i] = around.word(i);
        // Past the end of the row digits are 1.
        const int bits = 8 * static_cast<int>(length - first);
        if (bits < 32 * WORDS) {
#pragma unroll
            for (int i = 0; i < WORDS; ++i) fours[i] = filled(fours[i], bits - 32 * i, 0x79797979u);
        }
        u64 digits[WORDS + 1];
        digits[WORDS] = 0;
#pragma unroll
        for (int i = 0; i < WORDS; ++i) digits[i] = twenty_digits(fours[i]);
        // Forty bits each, side by side.
        unsigned all[WORDS + 1];
#pragma unroll
        for (int i = 0; i <= WORDS; ++i) {
            const int of = 32 * i / 40, past = 32 * i % 40;
            all[i] = static_cast<unsigned>(digits[of] >> past | digits[of + 1] << (40 - past));
        }
#pragma unroll
        for (int i = 0; i < WORDS; ++i) codes[i] = static_cast<unsigned>(joined(all[i], all[i + 1]) >> skipped);
    }
};

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

/// five[rows, ceil(columns / 5)] to packed[rows, ceil(columns / 4)]: sixteen bytes a thread, by `parts` of a row, where it is
/// long enough, else one; `from` is the length of rows of five.
extern "C" __global__ void __launch_bounds__(THREADS)
unpack_five(const unsigned char *five, u64 from, Rows bytes, Rows parts, const u64 *bad, unsigned char *packed) {
    if (*bad) return;
    if (has_parts(bytes.rows, bytes.length) && is_aligned(five, 4)) {
        const unsigned length = static_cast<unsigned>(bytes.length);
        const Fives<4> fives = {five, static_cast<unsigned>(bytes.rows), static_cast<unsigned>(from)};
        each_near_entry<1>(
            parts, [&](unsigned row, unsigned at) { return fives.load(row, 4 * part_of(packed, length, row, at).start); },
            [&](unsigned row, unsigned at, Around<4> &around) {
                const Part part = part_of(packed, length, row, at);
                if (part.count <= 0) return;
                unsigned codes[4];
                fives.codes(row, 4 * part.start, around, codes);
                store_part(packed + static_cast<u64>(row) * length + part.start, part.count, codes);
            });
        return;
    }
    each_entry<1>(
        bytes, [&](Entry byte) { return two_of_five(five + byte.row * from, from, 4 * byte.at / 5); },
        [&](Entry byte, unsigned two) {
            packed[byte.row * bytes.length + byte.at] =
                static_cast<unsigned char>(four_of_five(two, static_cast<unsigned>(4 * byte.at % 5)));
        });
}

/// five[rows, ceil(columns / 5)] to trits[rows, columns]: sixteen a thread, by `parts` of a row, where it is long enough; else
/// four, of which a row has ceil(columns / 4).
extern "C" __global__ void __launch_bounds__(THREADS)
five_trits(const unsigned char *five, u64 from, Rows fours, Rows parts, u64 columns, const u64 *bad, signed char *trits) {
    if (*bad) return;
    if (has_parts(fours.rows, columns) && is_aligned(five, 4)) {
        const unsigned length = static_cast<unsigned>(columns);
        const Fives<1> fives = {five, static_cast<unsigned>(fours.rows), static_cast<unsigned>(from)};
        each_near_entry<2>(
            parts, [&](unsigned row, unsigned at) { return fives.load(row, part_of(trits, length, row, at).start); },
            [&](unsigned row, unsigned at, Around<1> &around) {
                const Part part = part_of(trits, length, row, at);
                if (part.count <= 0) return;
                unsigned codes[1];
                fives.codes(row, part.start, around, codes);
                const uint4 found = spread_word(codes[0]);
                const unsigned words[4] = {found.x, found.y, found.z, found.w};
                store_part(trits + static_cast<u64>(row) * length + part.start, part.count, words);
            });
        return;
    }
    const bool vector = is_aligned(trits, 4) && columns % 4 == 0;
    each_entry<1>(
        fours, [&](Entry four) { return two_of_five(five + four.row * from, from, 4 * four.at / 5); },
        [&](Entry four, unsigned two) {
            const unsigned codes = four_of_five(two, static_cast<unsigned>(4 * four.at % 5));
            store_trits(trits + four.row * columns, 4 * four.at, columns, spread(codes), vector);
        });
}
