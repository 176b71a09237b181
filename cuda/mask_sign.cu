// Trits as mask and signs: src/tensor/packing.rs says where they lie. A warp for each block, which is whole rows of 2048 trits
// at least: its bytes of the mask, one after the other over all rows, each stand for eight trits.
//
// The check only says that something is wrong, in the word `bad`, and what comes after it leaves everything as it was where it
// is set. What is wrong the host finds.
#include "rows.cuh"
#include "scan.cuh"

constexpr int WARPS = THREADS / 32;

struct MaskSign {
    u64 rows, columns, block_rows, blocks;
    /// Bytes of a row, in the mask and of packed trits.
    u64 mask_row, packed_row;
    Divisor by_mask_row;
};

__device__ __forceinline__ u64 mask_of(const MaskSign &form) { return 4 * form.blocks; }
__device__ __forceinline__ u64 signs_of(const MaskSign &form) { return mask_of(form) + form.rows * form.mask_row; }

/// The first row of a block, and how many it has.
struct BlockRows {
    u64 first, count;
};

__device__ __forceinline__ BlockRows rows_of(const MaskSign &form, u64 block) {
    const u64 first = block * form.block_rows;
    return {first, min(form.block_rows, form.rows - first)};
}

/// Calls work(block) for the blocks of this warp.
template <class Work>
__device__ __forceinline__ void each_block(const MaskSign &form, Work work) {
    const u64 warps = static_cast<u64>(gridDim.x) * WARPS;
    for (u64 block = static_cast<u64>(blockIdx.x) * WARPS + warp_number(); block < form.blocks; block += warps) work(block);
}

/// Every second bit, from the lowest, of 16.
__device__ __forceinline__ unsigned even_bits(unsigned bits) {
    bits &= 0x5555;
    bits = (bits | bits >> 1) & 0x3333;
    bits = (bits | bits >> 2) & 0x0F0F;
    return (bits | bits >> 4) & 0xFF;
}

/// The inverse.
__device__ __forceinline__ unsigned to_even_bits(unsigned bits) {
    bits = (bits | bits << 4) & 0x0F0F;
    bits = (bits | bits << 2) & 0x3333;
    return (bits | bits << 1) & 0x5555;
}

// --- 32 trits at a time ----------------------------------------------------------------------------------------------

/// Whether 32 trits are two words of packed trits and one of the mask wherever they begin: then a block is an array of them.
__device__ __forceinline__ bool has_words(const MaskSign &form, const void *packed, const void *mask_sign) {
    return form.columns % 32 == 0 && is_aligned(packed, 8) && is_aligned(mask_sign, 4);
}

/// Exchanges the bits of `mask` and those `shift` above them.
__device__ __forceinline__ unsigned exchanged(unsigned bits, unsigned shift, unsigned mask) {
    const unsigned other = (bits ^ bits >> shift) & mask;
    return bits ^ other ^ other << shift;
}

/// The even bits of a word in its lower half, the odd ones in its upper half (Hacker's Delight, 2nd edition, 7-2).
__device__ __forceinline__ unsigned unshuffled(unsigned bits) {
    bits = exchanged(bits, 1, 0x22222222u);
    bits = exchanged(bits, 2, 0x0C0C0C0Cu);
    bits = exchanged(bits, 4, 0x00F000F0u);
    return exchanged(bits, 8, 0x0000FF00u);
}

/// The inverse.
__device__ __forceinline__ unsigned shuffled(unsigned bits) {
    bits = exchanged(bits, 8, 0x0000FF00u);
    bits = exchanged(bits, 4, 0x00F000F0u);
    bits = exchanged(bits, 2, 0x0C0C0C0Cu);
    return exchanged(bits, 1, 0x22222222u);
}

/// Which bits of a mask move by 1, 2, 4, 8 and 16 when those it has are put side by side (Hacker's Delight, 7-4).
struct Moves {
    unsigned of[5];

    __device__ __forceinline__ explicit Moves(unsigned mask) {
        unsigned zeros = ~mask << 1;
#pragma unroll
        for (int i = 0; i < 5; ++i) {
            // Whether an odd number of zeros lies below a bit.
            unsigned odd = zeros ^ zeros << 1;
            odd ^= odd << 2;
            odd ^= odd << 4;
            odd ^= odd << 8;
            odd ^= odd << 16;
            of[i] = odd & mask;
            mask = (mask ^ of[i]) | of[i] >> (1 << i);
            zeros &= ~odd;
        }
    }

    /// The bits of `bits` where the mask has one, side by side from the lowest; it has no others.
    __device__ __forceinline__ unsigned together(unsigned bits) const {
#pragma unroll
        for (int i = 0; i < 5; ++i) {
            const unsigned moved = bits & of[i];
            bits = (bits ^ moved) | moved >> (1 << i);
        }
        return bits;
    }

    /// The inverse: the lowest bits where `mask`, that of these moves, has one.
    __device__ __forceinline__ unsigned apart(unsigned bits, unsigned mask) const {
#pragma unroll
        for (int i = 4; i >= 0; --i) bits = (bits & ~of[i]) | (bits << (1 << i) & of[i]);
        return bits & mask;
    }
};

// --- to mask and signs -----------------------------------------------------------------------------------------------

/// sizes[blocks]: the bytes that the signs of each block take.
extern "C" __global__ void __launch_bounds__(THREADS)
mask_sign_sizes(const unsigned char *packed, MaskSign form, u64 *sizes) {
    each_block(form, [&](u64 block) {
        const BlockRows rows = rows_of(form, block);
        const unsigned char *const from = packed + rows.first * form.packed_row;
        u64 bytes = rows.count * form.packed_row, count = 0;
        if (is_aligned(packed, 16) && form.packed_row % 16 == 0) {
            const auto number = [](unsigned codes) { return __popc(((codes ^ 0x55555555u) | (codes ^ 0x55555555u) >> 1) & 0x55555555u); };
#pragma unroll 4
            for (u64 i = lane_number(); i < bytes / 16; i += 32) {
                const uint4 four = reinterpret_cast<const uint4 *>(from)[i];
                count += number(four.x) + number(four.y) + number(four.z) + number(four.w);
            }
            bytes = 0;
        }
#pragma unroll 8
        for (u64 i = lane_number(); i < bytes; i += 32) {
            // What is past the last column holds code 1, and counts as a zero.
            const unsigned other = from[i] ^ 0x55u;
            count += __popc((other | other >> 1) & 0x55u);
        }
        count = warp_sum(count);
        if (lane_number() == 0) sizes[block] = (count + 7) / 8;
    });
}

/// The words of a block: `count` of the mask. `bits` is 34 words of shared memory of the warp.
__device__ __forceinline__ void pack_words(const uint2 *packed, u64 count, unsigned *mask, unsigned char *signs, unsigned *bits) {
    const unsigned lane = lane_number();
    // Signs are stored in words as they are aligned; of the first, some bytes are not of this block.
    unsigned before = static_cast<unsigned>(reinterpret_cast<u64>(signs)) % 4, carried = 8 * before, carry = 0;
    unsigned char *to = signs - before;
    for (u64 base = 0; base < count; base += 32) {
        const bool is_there = base + lane < count;
        const uint2 codes = is_there ? packed[base + lane] : make_uint2(0x55555555u, 0x55555555u);
        // Two bits a trit: the lower ones are 1 where it is 0, the upper ones where it is 1.
        const unsigned low = unshuffled(codes.x), high = unshuffled(codes.y);
        const unsigned nonzero = ~__byte_perm(low, high, 0x5410), negative = nonzero & ~__byte_perm(low, high, 0x7632);
        if (is_there) mask[base + lane] = nonzero;
        const unsigned own = Moves(nonzero).together(negative), number = __popc(nonzero);
        bits[lane] = lane == 0 ? carry : 0;
        if (lane < 2) bits[32 + lane] = 0;
        __syncwarp();
        const unsigned up_to = carried + warp_sums(number), place = up_to - number;
        if (own != 0) {
            atomicOr(bits + place / 32, own << place % 32);
            if (place % 32 != 0) atomicOr(bits + place / 32 + 1, own >> (32 - place % 32));
        }
        __syncwarp();
        const unsigned all = __shfl_sync(ALL_LANES, up_to, 31), whole = all / 32;
        if (lane < whole) {
            if (lane > 0 || before == 0)
                reinterpret_cast<unsigned *>(to)[lane] = bits[lane];
            else
                for (unsigned i = before; i < 4; ++i) to[i] = static_cast<unsigned char>(bits[0] >> 8 * i);
        }
        carry = bits[whole];
        carried = all % 32;
        to += 4 * whole;
        if (whole > 0) before = 0;
        // All have taken the carry before the words are emptied.
        __syncwarp();
    }
    const unsigned i = before + lane;
    if (8 * i < carried) to[i] = static_cast<unsigned char>(carry >> 8 * i);
}

/// Bytes of a mask and signs, of which offsets[blocks] tell where the signs of each block begin.
extern "C" __global__ void __launch_bounds__(THREADS)
pack_mask_sign(const unsigned char *packed, MaskSign form, const u64 *offsets, unsigned char *mask_sign) {
    // What the warp has of its signs, from a whole byte on: up to seven bits, and eight of each lane.
    __shared__ unsigned waiting[WARPS][34];
    unsigned *const bits = waiting[warp_number()];
    const bool words = has_words(form, packed, mask_sign);
    const unsigned lane = lane_number();
    each_block(form, [&](u64 block) {
        const BlockRows rows = rows_of(form, block);
        const u64 offset = offsets[block], bytes = rows.count * form.mask_row;
        if (lane < 4) mask_sign[4 * block + lane] = static_cast<unsigned char>(offset >> 8 * lane);
        unsigned char *const mask = mask_sign + mask_of(form) + rows.first * form.mask_row;
        unsigned char *signs = mask_sign + signs_of(form) + offset;
        if (words) {
            pack_words(reinterpret_cast<const uint2 *>(packed + rows.first * form.packed_row), bytes / 4,
                       reinterpret_cast<unsigned *>(mask), signs, bits);
            return;
        }
        unsigned carry = 0, carried = 0;
        for (u64 base = 0; base < bytes; base += 32) {
            const u64 i = base + lane;
            unsigned nonzero = 0, negative = 0;
            if (i < bytes) {
                const u64 row = quotient(i, form.by_mask_row), at = 2 * (i - row * form.mask_row);
                const unsigned char *const from = packed + (rows.first + row) * form.packed_row + at;
                const unsigned codes = from[0] | (at + 1 < form.packed_row ? from[1] : 0x55u) << 8;
                const unsigned other = codes ^ 0x5555u;
                nonzero = even_bits(other | other >> 1);
                negative = nonzero & ~even_bits(codes >> 1);
                mask[i] = static_cast<unsigned char>(nonzero);
            }
            // The signs of the trits that are not zero, one beside the other.
            unsigned own = 0, count = 0;
#pragma unroll
            for (int t = 0; t < 8; ++t) {
                own |= (negative >> t & 1) << count;
                count += nonzero >> t & 1;
            }
            if (lane < 9) bits[lane] = lane == 0 ? carry : 0;
            __syncwarp();
            const unsigned up_to = carried + warp_sums(count), place = up_to - count;
            if (own != 0) {
                atomicOr(bits + place / 32, own << place % 32);
                if (place % 32 > 24) atomicOr(bits + place / 32 + 1, own >> (32 - place % 32));
            }
            __syncwarp();
            const unsigned all = __shfl_sync(ALL_LANES, up_to, 31), whole = all / 8;
            if (lane < whole) signs[lane] = static_cast<unsigned char>(bits[lane / 4] >> 8 * (lane % 4));
            signs += whole;
            carried = all % 8;
            carry = bits[whole / 4] >> 8 * (whole % 4) & 0xFF;
            // All have taken the carry before the words are emptied.
            __syncwarp();
        }
        if (carried > 0 && lane == 0) *signs = static_cast<unsigned char>(carry);
    });
}

// --- and back --------------------------------------------------------------------------------------------------------

/// Where the signs of a block begin among all.
__device__ __forceinline__ u64 offset_of(const unsigned char *mask_sign, u64 block) {
    const unsigned char *const from = mask_sign + 4 * block;
    return from[0] | from[1] << 8 | from[2] << 16 | static_cast<unsigned>(from[3]) << 24;
}

/// Sets `bad` where mask_sign[bytes] is no matrix of this form; there are as many bytes as offsets and mask take, at least.
extern "C" __global__ void __launch_bounds__(THREADS)
check_mask_sign(const unsigned char *mask_sign, u64 bytes, MaskSign form, u64 *bad) {
    const u64 all_signs = bytes - signs_of(form);
    const unsigned char *const signs = mask_sign + signs_of(form);
    each_block(form, [&](u64 block) {
        const BlockRows rows = rows_of(form, block);
        const u64 first = offset_of(mask_sign, block);
        const u64 next = block + 1 < form.blocks ? offset_of(mask_sign, block + 1) : all_signs;
        if ((block == 0 && first != 0) || first > next || next > all_signs) {
            *bad = 1;
            return;
        }
        const unsigned char *const mask = mask_sign + mask_of(form) + rows.first * form.mask_row;
        u64 count = 0;
        u64 mask_bytes = rows.count * form.mask_row;
        if (is_aligned(mask_sign, 4) && form.mask_row % 4 == 0) {
#pragma unroll 8
            for (u64 i = lane_number(); i < mask_bytes / 4; i += 32) count += __popc(reinterpret_cast<const unsigned *>(mask)[i]);
            mask_bytes = 0;
        }
#pragma unroll 8
        for (u64 i = lane_number(); i < mask_bytes; i += 32) count += __popc(mask[i]);
        count = warp_sum(count);
        // Bits past the last column, and past the last sign.
        const unsigned past = form.columns % 8;
        bool wrong = (count + 7) / 8 != next - first;
        if (past != 0)
            for (u64 row = lane_number(); row < rows.count; row += 32)
                wrong = wrong || mask[(row + 1) * form.mask_row - 1] >> past != 0;
        if (!wrong && count % 8 != 0) wrong = signs[next - 1] >> count % 8 != 0;
        if (wrong) *bad = 1;
    });
}

/// Up to 32 bits from bit `place` after `signs` on, of which no byte past `end` is read; what is after `number` of them is any.
__device__ __forceinline__ unsigned signs_at(const unsigned char *signs, u64 place, unsigned number, const unsigned char *end) {
    const unsigned char *const from = signs + place / 8;
    const unsigned past = static_cast<unsigned>(reinterpret_cast<u64>(from)) % 4;
    const unsigned char *const word = from - past;
    const unsigned bit = 8 * past + static_cast<unsigned>(place % 8);
    unsigned low = 0, high = 0;
    if (word + 8 <= end) {
        low = reinterpret_cast<const unsigned *>(word)[0];
        if (bit + number > 32) high = reinterpret_cast<const unsigned *>(word)[1];
    } else {
        for (unsigned i = past; i < 8 && word + i < end; ++i) {
            if (i < 4) low |= static_cast<unsigned>(word[i]) << 8 * i;
            else high |= static_cast<unsigned>(word[i]) << 8 * (i - 4);
        }
    }
    return static_cast<unsigned>((static_cast<u64>(high) << 32 | low) >> bit);
}

/// Calls store(i, codes) for every word i of the mask, of all blocks, with the codes of its 32 trits.
template <class Store>
__device__ __forceinline__ void decode_words(const unsigned char *mask_sign, u64 bytes, const MaskSign &form, Store store) {
    // So many words of a lane are fetched together.
    constexpr int STEP = 2;
    each_block(form, [&](u64 block) {
        const BlockRows rows = rows_of(form, block);
        const u64 first = rows.first * form.mask_row / 4, count = rows.count * form.mask_row / 4;
        const unsigned *const mask = reinterpret_cast<const unsigned *>(mask_sign + mask_of(form)) + first;
        const unsigned char *const signs = mask_sign + signs_of(form) + offset_of(mask_sign, block);
        u64 before = 0;
        for (u64 base = 0; base < count; base += 32 * STEP) {
            unsigned nonzero[STEP], own[STEP];
#pragma unroll
            for (int s = 0; s < STEP; ++s) {
                const u64 i = base + 32 * s + lane_number();
                nonzero[s] = i < count ? mask[i] : 0;
            }
#pragma unroll
            for (int s = 0; s < STEP; ++s) {
                const unsigned number = __popc(nonzero[s]), up_to = warp_sums(number);
                own[s] = number > 0 ? signs_at(signs, before + up_to - number, number, mask_sign + bytes) : 0;
                before += __shfl_sync(ALL_LANES, up_to, 31);
            }
#pragma unroll
            for (int s = 0; s < STEP; ++s) {
                const u64 i = base + 32 * s + lane_number();
                if (i >= count) continue;
                // Two bits a trit: the lower ones are 1 where it is 0, the upper ones where it is 1.
                const unsigned positive = nonzero[s] & ~Moves(nonzero[s]).apart(own[s], nonzero[s]);
                store(first + i, make_uint2(shuffled(__byte_perm(~nonzero[s], positive, 0x5410)),
                                            shuffled(__byte_perm(~nonzero[s], positive, 0x7632))));
            }
        }
    });
}

/// Calls store(row, byte, mask, negative) for every byte of a mask: eight trits of a row, of which these bits say whether they
/// are not 0, and whether they are -1.
template <class Store>
__device__ __forceinline__ void decode(const unsigned char *mask_sign, const MaskSign &form, Store store) {
    // So many bytes of the mask a lane are fetched together: the whole of a block, where rows are short.
    constexpr int STEP = 8;
    each_block(form, [&](u64 block) {
        const BlockRows rows = rows_of(form, block);
        const u64 bytes = rows.count * form.mask_row;
        const unsigned char *const mask = mask_sign + mask_of(form) + rows.first * form.mask_row;
        const unsigned char *const signs = mask_sign + signs_of(form) + offset_of(mask_sign, block);
        u64 before = 0;
        for (u64 base = 0; base < bytes; base += 32 * STEP) {
            unsigned nonzero[STEP], own[STEP];
#pragma unroll
            for (int s = 0; s < STEP; ++s) {
                const u64 i = base + 32 * s + lane_number();
                nonzero[s] = i < bytes ? mask[i] : 0;
            }
#pragma unroll
            for (int s = 0; s < STEP; ++s) {
                const unsigned count = __popc(nonzero[s]), up_to = warp_sums(count);
                const u64 place = before + up_to - count;
                own[s] = 0;
                if (count > 0) {
                    own[s] = signs[place / 8];
                    if (place % 8 + count > 8) own[s] |= signs[place / 8 + 1] << 8;
                    own[s] >>= place % 8;
                }
                before += __shfl_sync(ALL_LANES, up_to, 31);
            }
#pragma unroll
            for (int s = 0; s < STEP; ++s) {
                const u64 i = base + 32 * s + lane_number();
                if (i >= bytes) continue;
                unsigned negative = 0, rest = own[s];
#pragma unroll
                for (int t = 0; t < 8; ++t) {
                    const unsigned is = nonzero[s] >> t & 1;
                    negative |= (rest & is) << t;
                    rest >>= is;
                }
                const u64 row = quotient(i, form.by_mask_row);
                store(rows.first + row, i - row * form.mask_row, nonzero[s], negative);
            }
        }
    });
}

/// The codes t + 1 of eight trits, two bits each.
__device__ __forceinline__ unsigned codes_of(unsigned nonzero, unsigned negative) {
    return 0x5555u + to_even_bits(nonzero) - 2 * to_even_bits(negative);
}

extern "C" __global__ void __launch_bounds__(THREADS, 3)
unpack_mask_sign(const unsigned char *mask_sign, u64 bytes, MaskSign form, const u64 *bad, unsigned char *packed) {
    if (*bad) return;
    if (has_words(form, packed, mask_sign)) {
        decode_words(mask_sign, bytes, form, [&](u64 i, uint2 codes) { reinterpret_cast<uint2 *>(packed)[i] = codes; });
        return;
    }
    decode(mask_sign, form, [&](u64 row, u64 byte, unsigned nonzero, unsigned negative) {
        const unsigned codes = codes_of(nonzero, negative);
        unsigned char *const to = packed + row * form.packed_row;
        to[2 * byte] = static_cast<unsigned char>(codes);
        if (2 * byte + 1 < form.packed_row) to[2 * byte + 1] = static_cast<unsigned char>(codes >> 8);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, 3)
mask_sign_trits(const unsigned char *mask_sign, u64 bytes, MaskSign form, const u64 *bad, signed char *trits) {
    if (*bad) return;
    if (has_words(form, nullptr, mask_sign) && is_aligned(trits, 16)) {
        decode_words(mask_sign, bytes, form, [&](u64 i, uint2 codes) {
            uint4 *const to = reinterpret_cast<uint4 *>(trits) + 2 * i;
            to[0] = spread_word(codes.x);
            to[1] = spread_word(codes.y);
        });
        return;
    }
    const bool vector = is_aligned(trits, 8) && form.columns % 8 == 0;
    decode(mask_sign, form, [&](u64 row, u64 byte, unsigned nonzero, unsigned negative) {
        const unsigned codes = codes_of(nonzero, negative), low = spread(codes & 0xFF), high = spread(codes >> 8);
        signed char *const to = trits + row * form.columns + 8 * byte;
        if (vector) {
            *reinterpret_cast<uint2 *>(to) = make_uint2(low, high);
            return;
        }
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (8 * byte + i < form.columns) to[i] = static_cast<signed char>((i < 4 ? low : high) >> 8 * (i % 4));
    });
}
