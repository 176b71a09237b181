// Causal attention with grouped KV heads, without the square of all logits: the softmax goes along with the sum that it weighs
// (Dao et al., arXiv 2205.14135, 2307.08691). The backward pass computes the weights again from the stored logarithms of the
// sums: once for the gradients to keys and values, by tiles of keys, once for those to queries, by tiles of queries. So every
// sum has one thread and a fixed order.
//
// The number at the end of a kernel's name is the widest head that it takes as a whole. It takes wider ones in chunks: a block
// then makes one chunk of the columns of its output, from logits that it sums over all chunks, its own last.
#include "attention.cuh"
#include "attention_few.cuh"

/// The tiles of queries or keys of a call, and the chunks of a head.
struct TileGrid {
    unsigned tiles, chunks;
    /// Blocks of a tile: of all batches, heads and chunks.
    u64 units;
};

/// Which part of the output a block makes.
struct Part {
    u64 batch;
    unsigned tile, head, chunk;
};

/// Of `heads` heads; tiles that have more to do come first, so that the others fill the gaps at the end.
__device__ __forceinline__ Part part_of(const TileGrid &grid, unsigned heads, bool last_first) {
    const unsigned tile = static_cast<unsigned>(blockIdx.x / grid.units);
    const u64 unit = blockIdx.x % grid.units;
    return {unit / grid.chunks / heads, last_first ? grid.tiles - 1 - tile : tile,
            static_cast<unsigned>(unit / grid.chunks % heads), static_cast<unsigned>(unit % grid.chunks)};
}

/// The columns of a head that one chunk has: so many from `first` on.
template <int WIDTH>
struct Columns {
    unsigned first, width;

    __device__ __forceinline__ Columns(unsigned chunk, unsigned dim)
        : first(chunk * WIDTH), width(min(static_cast<unsigned>(WIDTH), dim - min(dim, first))) {}

    /// Up to a multiple of 4, which tiles hold zeros to.
    __device__ __forceinline__ unsigned depth() const { return (width + 3) / 4 * 4; }

    /// To a tile: `count` rows from element `at` of x on, which is shaped like q or like k.
    __device__ __forceinline__ void load_queries(float *tile, const AttentionSizes &sizes, const float *x, u64 at, unsigned count,
                                                 float factor) const {
        load_tile<WIDTH>(tile, Strip{x + at + first, sizes.query_stride(), count, width, sizes.vector(x)}, factor);
    }
    __device__ __forceinline__ void load_keys(float *tile, const AttentionSizes &sizes, const float *x, u64 at,
                                              unsigned count) const {
        load_tile<WIDTH>(tile, Strip{x + at + first, sizes.key_stride(), count, width, sizes.vector(x)}, 1.0f);
    }
};

/// The largest, and the sum, over the 16 threads that share a row.
__device__ __forceinline__ float row_max(float value) {
#pragma unroll
    for (int distance = ACROSS / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}
__device__ __forceinline__ float row_sum(float value) {
#pragma unroll
    for (int distance = ACROSS / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

/// o and log_sum of a tile of queries. Shared memory: queries, keys or their weights, values.
template <int WIDTH>
__device__ __forceinline__ void attend(const AttentionSizes &sizes, const TileGrid &grid, const float *q, const float *k,
                                       const float *v, float *o, float *log_sum) {
    typedef Tiles<WIDTH> T;
    DYNAMIC_SHARED(float, queries);
    float *const keys = queries + T::SIZE, *const weights = keys, *const values = keys + T::SHARED_SIZE;
    const Place here = place();
    const Part part = part_of(grid, sizes.heads, true);
    const unsigned first_query = part.tile * TILE, count = min(sizes.queries - first_query, static_cast<unsigned>(TILE));
    const unsigned seen = sizes.visible(first_query + count - 1);
    const u64 of_queries = sizes.query(part.batch, first_query, part.head);
    float sums[T::ROWS][T::COLUMNS], most[T::ROWS], total[T::ROWS];
    clear(sums);
#pragma unroll
    for (int i = 0; i < T::ROWS; ++i) most[i] = -INFINITE, total[i] = 0.0f;
    for (unsigned first_key = 0; first_key < seen; first_key += TILE) {
        const unsigned keys_here = min(seen - first_key, static_cast<unsigned>(TILE));
        const u64 of_keys = sizes.key(part.batch, first_key, sizes.kv_head(part.head));
        float logits[T::ROWS][TILE / ACROSS];
        clear(logits);
        for (unsigned step = 1; step <= grid.chunks; ++step) {
            const Columns<WIDTH> columns((part.chunk + step) % grid.chunks, sizes.dim);
            __syncthreads();
            if (grid.chunks > 1 || first_key == 0) columns.load_queries(queries, sizes, q, of_queries, count, sizes.scale);
            columns.load_keys(keys, sizes, k, of_keys, keys_here);
            if (step == grid.chunks) columns.load_keys(values, sizes, v, of_keys, keys_here);
            __syncthreads();
            add_scores<WIDTH>(logits, queries, keys, columns.depth());
        }
#pragma unroll
        for (int i = 0; i < T::ROWS; ++i) {
            // The last key that the query sees.
            const unsigned last = sizes.visible(first_query + here.down + i * T::DOWN) - 1;
            float largest = most[i];
#pragma unroll
            for (int j = 0; j < TILE / ACROSS; ++j) {
                if (first_key + here.across + j * ACROSS > last) logits[i][j] = -INFINITE;
                largest = fmaxf(largest, logits[i][j]);
            }
            largest = row_max(largest);
            const float base = base_of(largest), correction = expf(most[i] - base);
            most[i] = largest;
            total[i] *= correction;
#pragma unroll
            for (int j = 0; j < TILE / ACROSS; ++j) {
                logits[i][j] = expf(logits[i][j] - base);
                total[i] += logits[i][j];
            }
#pragma unroll
            for (int c = 0; c < T::COLUMNS; ++c) sums[i][c] *= correction;
        }
        // All have read the keys, whose place the weights take.
        __syncthreads();
        store_weights<WIDTH>(weights, logits);
        __syncwarp();
        add_products<WIDTH>(sums, weights, values, keys_here);
    }
#pragma unroll
    for (int i = 0; i < T::ROWS; ++i) {
        total[i] = row_sum(total[i]);
        const unsigned row = here.down + i * T::DOWN;
        if (part.chunk == 0 && here.across == 0 && row < count)
            log_sum[sizes.row(part.batch, first_query + row, part.head)] = log_of(most[i], total[i]);
    }
    const Columns<WIDTH> own(part.chunk, sizes.dim);
    store_rows<WIDTH>(o + of_queries + own.first, sizes.query_stride(), count, own.width, sizes.vector(o), sums,
                      [&](int i) { return 1.0f / total[i]; });
}

/// products[b, h, tq] = the sum over the elements of a head of d_o * o. A warp for each. Within a tolerance.
extern "C" __global__ void __launch_bounds__(THREADS)
attention_backward_products(AttentionSizes sizes, u64 rows, const float *o, const float *d_o, float *products) {
    const u64 step = static_cast<u64>(gridDim.x) * (THREADS / 32);
    for (u64 row = static_cast<u64>(blockIdx.x) * (THREADS / 32) + warp_number(); row < rows; row += step) {
        // In the order of the memory: batch, query, head.
        const u64 at = row * sizes.dim, head = row % sizes.heads, query = row / sizes.heads % sizes.queries;
        float sum = 0.0f;
        for (unsigned c = lane_number(); c < sizes.dim; c += 32) sum = fmaf(__ldg(d_o + at + c), __ldg(o + at + c), sum);
        sum = warp_sum(sum);
        if (lane_number() == 0) products[sizes.row(row / sizes.heads / sizes.queries, query, head)] = sum;
    }
}

/// dk and dv of a tile of keys, from all queries that see them, of all heads that share them. With p = exp(logit - log_sum) and
/// dlogit = p (d_o . v - product): dv = p d_o, dk = dlogit q / sqrt(e). Shared memory: keys, values, queries, d_o, weights, and
/// log_sum and product of the queries.
template <int WIDTH>
__device__ __forceinline__ void gradient_of_keys(const AttentionSizes &sizes, const TileGrid &grid, const float *q,
                                                 const float *k, const float *v, const float *log_sum, const float *products,
                                                 const float *d_o, float *dk, float *dv) {
    typedef Tiles<WIDTH> T;
    DYNAMIC_SHARED(float, keys);
    float *const values = keys + T::SIZE, *const queries = values + T::SIZE, *const outputs = queries + T::SIZE;
    float *const weights = outputs + T::SIZE, *const log_sums = weights + TILE * WEIGHT_PITCH;
    float *const of_outputs = log_sums + TILE;
    const Place here = place();
    const Part part = part_of(grid, sizes.kv_heads, false);
    const unsigned first_key = part.tile * TILE, count = min(sizes.keys - first_key, static_cast<unsigned>(TILE));
    // The keys before are those of an earlier text, which every query sees.
    const unsigned before = sizes.keys - sizes.queries, start = first_key - min(first_key, before);
    const unsigned shared_by = sizes.heads / sizes.kv_heads;
    const u64 of_keys = sizes.key(part.batch, first_key, part.head);
    float sums_k[T::ROWS][T::COLUMNS], sums_v[T::ROWS][T::COLUMNS];
    clear(sums_k);
    clear(sums_v);
    for (unsigned member = 0; member < shared_by; ++member) {
        const unsigned head = part.head * shared_by + member;
        for (unsigned first_query = start; first_query < sizes.queries; first_query += TILE) {
            const unsigned queries_here = min(sizes.queries - first_query, static_cast<unsigned>(TILE));
            const u64 of_queries = sizes.query(part.batch, first_query, head);
            float p[T::ROWS][TILE / ACROSS], dlogits[T::ROWS][TILE / ACROSS];
            clear(p);
            clear(dlogits);
            for (unsigned step = 1; step <= grid.chunks; ++step) {
                const Columns<WIDTH> columns((part.chunk + step) % grid.chunks, sizes.dim);
                __syncthreads();
                if (grid.chunks > 1 || (member == 0 && first_query == start)) {
                    columns.load_keys(keys, sizes, k, of_keys, count);
                    columns.load_keys(values, sizes, v, of_keys, count);
                }
                columns.load_queries(queries, sizes, q, of_queries, queries_here, sizes.scale);
                columns.load_queries(outputs, sizes, d_o, of_queries, queries_here, 1.0f);
                if (step == 1 && threadIdx.x < TILE) {
                    const u64 row = sizes.row(part.batch, first_query + threadIdx.x, head);
                    const bool present = threadIdx.x < queries_here;
                    log_sums[threadIdx.x] = present ? log_sum[row] : 0.0f;
                    of_outputs[threadIdx.x] = present ? products[row] : 0.0f;
                }
                __syncthreads();
                add_scores<WIDTH>(p, keys, queries, columns.depth());
                add_scores<WIDTH>(dlogits, values, outputs, columns.depth());
            }
#pragma unroll
            for (int i = 0; i < T::ROWS; ++i)
#pragma unroll
                for (int j = 0; j < TILE / ACROSS; ++j) {
                    const unsigned query = here.across + j * ACROSS, key = first_key + here.down + i * T::DOWN;
                    const bool seen = query < queries_here && key < sizes.visible(first_query + query);
                    p[i][j] = seen ? expf(p[i][j] - log_sums[query]) : 0.0f;
                    dlogits[i][j] = seen ? p[i][j] * (dlogits[i][j] - of_outputs[query]) : 0.0f;
                }
            store_weights<WIDTH>(weights, p);
            __syncwarp();
            add_products<WIDTH>(sums_v, weights, outputs, queries_here);
            __syncwarp();
            store_weights<WIDTH>(weights, dlogits);
            __syncwarp();
            add_products<WIDTH>(sums_k, weights, queries, queries_here);
        }
    }
    const Columns<WIDTH> own(part.chunk, sizes.dim);
    const u64 to = of_keys + own.first, stride = sizes.key_stride();
    store_rows<WIDTH>(dk + to, stride, count, own.width, sizes.vector(dk), sums_k, [](int) { return 1.0f; });
    store_rows<WIDTH>(dv + to, stride, count, own.width, sizes.vector(dv), sums_v, [](int) { return 1.0f; });
}

/// dq of a tile of queries: dq = dlogit k / sqrt(e). Shared memory: queries, d_o, keys, values or the weights.
template <int WIDTH>
__device__ __forceinline__ void gradient_of_queries(const AttentionSizes &sizes, const TileGrid &grid, const float *q,
                                                    const float *k, const float *v, const float *log_sum, const float *products,
                                                    const float *d_o, float *dq) {
    typedef Tiles<WIDTH> T;
    DYNAMIC_SHARED(float, queries);
    float *const outputs = queries + T::SIZE, *const keys = outputs + T::SIZE, *const values = keys + T::SIZE;
    float *const weights = values;
    const Place here = place();
    const Part part = part_of(grid, sizes.heads, true);
    const unsigned first_query = part.tile * TILE, count = min(sizes.queries - first_query, static_cast<unsigned>(TILE));
    const unsigned seen = sizes.visible(first_query + count - 1);
    const u64 of_queries = sizes.query(part.batch, first_query, part.head);
    float sums[T::ROWS][T::COLUMNS], log_sums[T::ROWS], of_outputs[T::ROWS];
    clear(sums);
#pragma unroll
    for (int i = 0; i < T::ROWS; ++i) {
        const unsigned row = here.down + i * T::DOWN;
        const u64 at = sizes.row(part.batch, first_query + row, part.head);
        log_sums[i] = row < count ? log_sum[at] : 0.0f;
        of_outputs[i] = row < count ? products[at] : 0.0f;
    }
    for (unsigned first_key = 0; first_key < seen; first_key += TILE) {
        const unsigned keys_here = min(seen - first_key, static_cast<unsigned>(TILE));
        const u64 of_keys = sizes.key(part.batch, first_key, sizes.kv_head(part.head));
        float p[T::ROWS][TILE / ACROSS], dlogits[T::ROWS][TILE / ACROSS];
        clear(p);
        clear(dlogits);
        for (unsigned step = 1; step <= grid.chunks; ++step) {
            const Columns<WIDTH> columns((part.chunk + step) % grid.chunks, sizes.dim);
            __syncthreads();
            if (grid.chunks > 1 || first_key == 0) {
                columns.load_queries(queries, sizes, q, of_queries, count, sizes.scale);
                columns.load_queries(outputs, sizes, d_o, of_queries, count, 1.0f);
            }
            columns.load_keys(keys, sizes, k, of_keys, keys_here);
            columns.load_keys(values, sizes, v, of_keys, keys_here);
            __syncthreads();
            add_scores<WIDTH>(p, queries, keys, columns.depth());
            add_scores<WIDTH>(dlogits, outputs, values, columns.depth());
        }
#pragma unroll
        for (int i = 0; i < T::ROWS; ++i)
#pragma unroll
            for (int j = 0; j < TILE / ACROSS; ++j) {
                const unsigned key = first_key + here.across + j * ACROSS;
                const bool sees = key < sizes.visible(first_query + here.down + i * T::DOWN);
                p[i][j] = sees ? expf(p[i][j] - log_sums[i]) * (dlogits[i][j] - of_outputs[i]) : 0.0f;
            }
        // All have read the values, whose place the weights take.
        __syncthreads();
        store_weights<WIDTH>(weights, p);
        __syncwarp();
        add_products<WIDTH>(sums, weights, keys, keys_here);
    }
    const Columns<WIDTH> own(part.chunk, sizes.dim);
    store_rows<WIDTH>(dq + of_queries + own.first, sizes.query_stride(), count, own.width, sizes.vector(dq), sums,
                      [&](int) { return sizes.scale; });
}

// --- kernels -----------------------------------------------------------------------------------------------------------

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(128, 4)
attention_32(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v, float *o, float *log_sum) {
    attend<32>(sizes, grid, q, k, v, o, log_sum);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(128, 4)
attention_64(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v, float *o, float *log_sum) {
    attend<64>(sizes, grid, q, k, v, o, log_sum);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(256)
attention_128(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v, float *o, float *log_sum) {
    attend<128>(sizes, grid, q, k, v, o, log_sum);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(128, 3)
attention_backward_keys_32(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                           const float *log_sum, const float *products, const float *d_o, float *dk, float *dv) {
    gradient_of_keys<32>(sizes, grid, q, k, v, log_sum, products, d_o, dk, dv);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(128, 2)
attention_backward_keys_64(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                           const float *log_sum, const float *products, const float *d_o, float *dk, float *dv) {
    gradient_of_keys<64>(sizes, grid, q, k, v, log_sum, products, d_o, dk, dv);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(256)
attention_backward_keys_128(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                           const float *log_sum, const float *products, const float *d_o, float *dk, float *dv) {
    gradient_of_keys<128>(sizes, grid, q, k, v, log_sum, products, d_o, dk, dv);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(128, 3)
attention_backward_queries_32(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                              const float *log_sum, const float *products, const float *d_o, float *dq) {
    gradient_of_queries<32>(sizes, grid, q, k, v, log_sum, products, d_o, dq);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(128, 3)
attention_backward_queries_64(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                              const float *log_sum, const float *products, const float *d_o, float *dq) {
    gradient_of_queries<64>(sizes, grid, q, k, v, log_sum, products, d_o, dq);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(256)
attention_backward_queries_128(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                              const float *log_sum, const float *products, const float *d_o, float *dq) {
    gradient_of_queries<128>(sizes, grid, q, k, v, log_sum, products, d_o, dq);
}

/// Within a tolerance. For few queries; attention_few_join follows.
extern "C" __global__ void __launch_bounds__(FEW_THREADS)
attention_few(AttentionSizes sizes, Chunks chunks, const float *q, const float *k, const float *v) {
    if (sizes.vector(q) && sizes.vector(k) && sizes.vector(v)) {
        attend_chunk<true>(sizes, chunks, q, FloatRows<true>{k}, FloatRows<true>{v});
    } else {
        attend_chunk<false>(sizes, chunks, q, FloatRows<false>{k}, FloatRows<false>{v});
    }
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(FEW_THREADS)
attention_few_join(AttentionSizes sizes, Chunks chunks, float *o, float *log_sum) {
    join_chunks(sizes, chunks, o, log_sum);
}
