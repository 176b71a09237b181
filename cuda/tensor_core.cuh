// Instructions of PTX, each beside what it means: products of fragments on the tensor cores, loads of 8 x 8 matrices, copies that
// run beside the thread. Fragments lie as the PTX manual has them ("Matrix Fragments for mma.m16n8k32"): with g = lane / 4
// and t = lane mod 4, register i of A has row g + 8 (i mod 2) and, of its half i / 2 of the depth, the elements from 4 t (8 bits)
// or 2 t (16 bits) on; register i of B has column g and the same elements of half i; sums 0 and 1 have row g and the columns 2 t
// and 2 t + 1, sums 2 and 3 the same of row g + 8.
#pragma once
#include "device.cuh"

/// sum[16 x 8] += a[16 x 32] b[32 x 8] of signed bytes, modulo 2^32. Called by a whole warp.
__device__ __forceinline__ void multiply_s8(int (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifdef SETUN_EMULATE
    emulate::mma(emulate::perform_mma_s8, sum, a, b, sum);
#else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/// sum[16 x 8] = a[16 x 16] b[16 x 8] + start, of bf16 in pairs. Called by a whole warp. The products are exact; their sum is
/// not rounded to nearest.
__device__ __forceinline__ void multiply_bf16(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                              const float (&start)[4]) {
#ifdef SETUN_EMULATE
    emulate::mma(emulate::perform_mma_bf16, sum, a, b, start);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%10, %11, %12, %13};"
                 : "=f"(sum[0]), "=f"(sum[1]), "=f"(sum[2]), "=f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(start[0]), "f"(start[1]),
                   "f"(start[2]), "f"(start[3]));
#endif
}

/// Two floats as bf16, rounded to nearest, ties to even; `low` in the lower half.
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
#ifdef SETUN_EMULATE
    auto rounded = [](float x) {
        const unsigned bits = __float_as_uint(x);
        return x != x ? 0x7FFFu : (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
    };
    return rounded(high) << 16 | rounded(low);
#else
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

/// The same product of f16.
__device__ __forceinline__ void multiply_f16(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                             const float (&start)[4]) {
#ifdef SETUN_EMULATE
    emulate::mma(emulate::perform_mma_f16, sum, a, b, start);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%10, %11, %12, %13};"
                 : "=f"(sum[0]), "=f"(sum[1]), "=f"(sum[2]), "=f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(start[0]), "f"(start[1]),
                   "f"(start[2]), "f"(start[3]));
#endif
}

/// Two floats as f16, rounded to nearest, ties to even; `low` in the lower half.
__device__ __forceinline__ unsigned pack_f16(float low, float high) {
#ifdef SETUN_EMULATE
    return emulate::to_f16(high) << 16 | emulate::to_f16(low);
#else
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

/// The two f16 of a pair, x being the lower half.
__device__ __forceinline__ float2 unpack_f16(unsigned pair) {
#ifdef SETUN_EMULATE
    return make_float2(emulate::from_f16(pair), emulate::from_f16(pair >> 16));
#else
    float2 both;
    asm("{ .reg .f16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
        : "=f"(both.x), "=f"(both.y)
        : "r"(pair));
    return both;
#endif
}

/// Four matrices of 8 x 8 elements of 16 bits in shared memory, of which lane 8 j + i gives the address of row i of matrix j, a
/// multiple of 16 bytes. A lane gets the elements 2 (lane mod 4) and the next one of row lane / 4 of each. Called by a whole
/// warp.
__device__ __forceinline__ void load_matrices(unsigned (&matrices)[4], const void *row) {
#ifdef SETUN_EMULATE
    emulate::load_matrices<false>(matrices, row);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))));
#endif
}

/// The same, with the elements of rows 2 (lane mod 4) and the next one in column lane / 4.
__device__ __forceinline__ void load_transposed(unsigned (&matrices)[4], const void *row) {
#ifdef SETUN_EMULATE
    emulate::load_matrices<true>(matrices, row);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))));
#endif
}

/// Begins to copy 16 bytes to shared memory, both addresses multiples of 16; zeros where not `inside`, and then nothing is read.
__device__ __forceinline__ void copy16(void *to, const void *from, bool inside) {
#ifdef SETUN_EMULATE
    emulate::copy_async(to, from, inside);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
                 "l"(__cvta_generic_to_global(from)), "r"(inside ? 16 : 0)
                 : "memory");
#endif
}

/// What was begun since the last call is one group of copies.
__device__ __forceinline__ void end_group() {
#ifdef SETUN_EMULATE
    emulate::copy_async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most PENDING of this thread's groups are not done. Other threads see what was copied after a barrier.
template <int PENDING>
__device__ __forceinline__ void wait_for_groups() {
#ifdef SETUN_EMULATE
    emulate::copy_async_wait(PENDING);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}
