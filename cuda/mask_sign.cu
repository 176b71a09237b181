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

// --- to mask and signs -----------------------------------------------------------------------------------------------

/// sizes[blocks]: the bytes that the signs of each block take.
extern "C" __global__ void __launch_bounds__(THREADS)
mask_sign_sizes(const unsigned char *packed, MaskSign form, u64 *sizes) {
    each_block(form, [&](u64 block) {
        const BlockRows rows = rows_of(form, block);
        const unsigned char *const from = packed + rows.first * form.packed_row;
        const u64 bytes = rows.count * form.packed_row;
        u64 count = 0;
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

/// Bytes of a mask and signs, of which offsets[blocks] tell where the signs of each block begin.
extern "C" __global__ void __launch_bounds__(THREADS)
pack_mask_sign(const unsigned char *packed, MaskSign form, const u64 *offsets, unsigned char *mask_sign) {
    // What the warp has of its signs, from a whole byte on: up to seven bits, and eight of each lane.
    __shared__ unsigned waiting[WARPS][9];
    unsigned *const bits = waiting[warp_number()];
    const unsigned lane = lane_number();
    each_block(form, [&](u64 block) {
        const BlockRows rows = rows_of(form, block);
        const u64 offset = offsets[block], bytes = rows.count * form.mask_row;
        if (lane < 4) mask_sign[4 * block + lane] = static_cast<unsigned char>(offset >> 8 * lane);
        unsigned char *const mask = mask_sign + mask_of(form) + rows.first * form.mask_row;
        unsigned char *signs = mask_sign + signs_of(form) + offset;
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
#pragma unroll 8
        for (u64 i = lane_number(); i < rows.count * form.mask_row; i += 32) count += __popc(mask[i]);
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
unpack_mask_sign(const unsigned char *mask_sign, MaskSign form, const u64 *bad, unsigned char *packed) {
    if (*bad) return;
    decode(mask_sign, form, [&](u64 row, u64 byte, unsigned nonzero, unsigned negative) {
        const unsigned codes = codes_of(nonzero, negative);
        unsigned char *const to = packed + row * form.packed_row;
        to[2 * byte] = static_cast<unsigned char>(codes);
        if (2 * byte + 1 < form.packed_row) to[2 * byte + 1] = static_cast<unsigned char>(codes >> 8);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, 3)
mask_sign_trits(const unsigned char *mask_sign, MaskSign form, const u64 *bad, signed char *trits) {
    if (*bad) return;
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
