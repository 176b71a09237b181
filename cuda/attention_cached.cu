// Attention of one token on keys and values in 8 bits. A code becomes a float on the way to the product: memory is what this
// waits for, and codes are a quarter of it.
#include "attention_few.cuh"

/// Within a tolerance. attention_cached_join follows.
extern "C" __global__ void __launch_bounds__(FEW_THREADS)
attention_cached(AttentionSizes sizes, Chunks chunks, const float *q, const signed char *k, const float *k_scales,
                 const signed char *v, const float *v_scales) {
    if (sizes.vector(q) && is_aligned(k, 4) && is_aligned(v, 4)) {
        attend_chunk<true>(sizes, chunks, q, CodeRows<true>{k, k_scales}, CodeRows<true>{v, v_scales});
    } else {
        attend_chunk<false>(sizes, chunks, q, CodeRows<false>{k, k_scales}, CodeRows<false>{v, v_scales});
    }
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(FEW_THREADS) attention_cached_join(AttentionSizes sizes, Chunks chunks, float *o) {
    join_chunks(sizes, chunks, o, nullptr);
}
