// Causal attention with grouped KV heads, without the square of all logits: the softmax goes along with the sum that it weighs
// (Dao et al., arXiv 2205.14135, 2307.08691). The backward pass computes the weights again from the stored logarithms of the
// sums: once for the gradients to keys and values, by tiles of keys, once for those to queries, by tiles of queries. So every
// sum has one thread and a fixed order.
//
// The number at the end of a kernel's name is the widest head that it takes as a whole. It takes wider ones in chunks: a block
// then makes one chunk of the columns of its output, from logits that it sums over all chunks, its own last.
//
// Logits are times log2(e), and weights times 2^WEIGHT_EXPONENT, so that small ones have all their bits as f16, too. (Not the
// most that f16 holds: where logits are so large that their roundings count, a weight comes out above 1.)
#include "attention.cuh"
#include "attention_few.cuh"

constexpr float WEIGHT_EXPONENT = 12.0f, WEIGHT_UNIT = 1.0f / 4096.0f;

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

    /// `count` rows from element `at` of x on, which is shaped like q or like k.
    __device__ __forceinline__ Strip queries(const AttentionSizes &sizes, const float *x, u64 at, unsigned count) const {
        return Strip{x + at + first, sizes.query_stride(), count, width, sizes.vector(x)};
    }
    __device__ __forceinline__ Strip keys(const AttentionSizes &sizes, const float *x, u64 at, unsigned count) const {
        return Strip{x + at + first, sizes.key_stride(), count, width, sizes.vector(x)};
    }
};

/// The largest, and the sum, over the four threads that share a row.
__device__ __forceinline__ float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, 1));
    return fmaxf(value, __shfl_xor_sync(ALL_LANES, value, 2));
}
__device__ __forceinline__ float row_sum(float value) {
    value += __shfl_xor_sync(ALL_LANES, value, 1);
    return value + __shfl_xor_sync(ALL_LANES, value, 2);
}

/// o and log_sum of a tile of queries. Shared memory: queries, keys, values, and room for their largest magnitudes.
template <int WIDTH>
__device__ __forceinline__ void attend(const AttentionSizes &sizes, const TileGrid &grid, const float *q, const float *k,
                                       const float *v, float *o, float *log_sum) {
    constexpr int FRAGMENTS = TILE / 8;
    DYNAMIC_SHARED(unsigned char, queries);
    unsigned char *const keys = queries + Tile<WIDTH>::SIZE, *const values = keys + Tile<WIDTH>::SIZE;
    unsigned *const largest = reinterpret_cast<unsigned *>(values + Tile<WIDTH>::SIZE);
    float *const waiting = reinterpret_cast<float *>(largest + LARGEST);
    const unsigned own_row = first_row() + lane_number() / 4, own_column = 2 * (lane_number() % 4);
    const Part part = part_of(grid, sizes.heads, true);
    const unsigned first_query = part.tile * TILE, count = min(sizes.queries - first_query, static_cast<unsigned>(TILE));
    const unsigned seen = sizes.visible(first_query + count - 1);
    const u64 of_queries = sizes.query(part.batch, first_query, part.head);
    float sums[WIDTH / 8][4], most[2] = {-INFINITE, -INFINITE}, total[2] = {0.0f, 0.0f}, of_query = 1.0f;
    clear(sums);
    for (unsigned first_key = 0; first_key < seen; first_key += TILE) {
        const unsigned keys_here = min(seen - first_key, static_cast<unsigned>(TILE));
        const u64 of_keys = sizes.key(part.batch, first_key, sizes.kv_head(part.head));
        float logits[FRAGMENTS][4], of_value = 1.0f;
        for (unsigned step = 1; step <= grid.chunks; ++step) {
            const Columns<WIDTH> columns((part.chunk + step) % grid.chunks, sizes.dim);
            if (grid.chunks > 1 || first_key == 0)
                of_query = load_tile<WIDTH>(queries, columns.queries(sizes, q, of_queries, count), largest);
            const float2 back = load_tiles<WIDTH>(keys, columns.keys(sizes, k, of_keys, keys_here),
                                                  columns.keys(sizes, v, of_keys, step == grid.chunks ? keys_here : 0),
                                                  largest, [] {});
            of_value = back.y;
            scores<WIDTH>(logits, queries, keys, 0, of_query * back.x * (sizes.scale * LOG2_E));
            add_steps(logits, waiting, step, grid.chunks);
        }
        // Where not all queries see all keys of the tile.
        if (first_key + TILE > sizes.visible(first_query)) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const unsigned visible = sizes.visible(first_query + own_row + 8 * half);
#pragma unroll
                for (int j = 0; j < FRAGMENTS; ++j)
#pragma unroll
                    for (int side = 0; side < 2; ++side)
                        if (first_key + 8 * j + own_column + side >= visible) logits[j][2 * half + side] = -INFINITE;
            }
        }
        float correction[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float high = most[half];
#pragma unroll
            for (int j = 0; j < FRAGMENTS; ++j) high = fmaxf(high, fmaxf(logits[j][2 * half], logits[j][2 * half + 1]));
            high = row_max(high);
            const float base = base_of(high), shift = base - WEIGHT_EXPONENT;
            correction[half] = exp2_near(most[half] - base);
            most[half] = high;
            total[half] *= correction[half];
#pragma unroll
            for (int j = 0; j < FRAGMENTS; ++j)
#pragma unroll
                for (int c = 2 * half; c < 2 * half + 2; ++c) {
                    logits[j][c] = exp2_near(logits[j][c] - shift);
                    total[half] += logits[j][c];
                }
        }
        const Weights<FRAGMENTS> weights(logits, 1.0f, 1.0f);
        weights.template multiply<WIDTH>(values, 0, [&](int j, int c, float sum) {
            sums[j][c] = fmaf(sum, of_value, sums[j][c] * correction[c / 2]);
        });
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        total[half] = row_sum(total[half]);
        const unsigned row = own_row + 8 * half;
        // The same as log_of, in powers of two.
        const float power = log2f(total[half]) + (most[half] - most[half]) + (base_of(most[half]) - WEIGHT_EXPONENT);
        if (part.chunk == 0 && own_column == 0 && row < count)
            log_sum[sizes.row(part.batch, first_query + row, part.head)] = power * LN_2;
    }
    const Columns<WIDTH> own(part.chunk, sizes.dim);
    store_rows(o + of_queries + own.first, sizes.query_stride(), count, own.width, sizes.vector(o), sums, 1.0f / total[0],
               1.0f / total[1]);
}

/// products[b, h, tq] = the sum over the elements of a head of d_o * o. Half a warp for each. Within a tolerance.
extern "C" __global__ void __launch_bounds__(THREADS)
attention_backward_products(AttentionSizes sizes, u64 rows, const float *o, const float *d_o, float *products) {
    const u64 step = static_cast<u64>(gridDim.x) * (THREADS / 16);
    const bool vector = sizes.vector(o) && sizes.vector(d_o);
    for (u64 first = static_cast<u64>(blockIdx.x) * (THREADS / 16) + 2 * warp_number(); first < rows; first += step) {
        // In the order of the memory: batch, query, head.
        const u64 row = first + lane_number() / 16, at = row * sizes.dim;
        const unsigned lane = lane_number() % 16, dim = row < rows ? sizes.dim : 0;
        float sum = 0.0f;
        if (vector) {
            for (unsigned c = 4 * lane; c < dim; c += 64) {
                const float4 x = __ldg(reinterpret_cast<const float4 *>(d_o + at + c));
                const float4 y = __ldg(reinterpret_cast<const float4 *>(o + at + c));
                sum = fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
            }
        } else {
            for (unsigned c = lane; c < dim; c += 16) sum = fmaf(__ldg(d_o + at + c), __ldg(o + at + c), sum);
        }
#pragma unroll
        for (int distance = 8; distance > 0; distance /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);
        if (lane != 0 || row >= rows) continue;
        const u64 token = row / sizes.heads, batch = token / sizes.queries;
        products[sizes.row(batch, token - batch * sizes.queries, row - token * sizes.heads)] = sum;
    }
}

/// What the weights of a query and their gradients are computed from: log_sum * log2(e) - WEIGHT_EXPONENT, and product.
__device__ __forceinline__ float2 of_row(const AttentionSizes &sizes, const float *log_sum, const float *products, u64 batch,
                                         unsigned query, unsigned head, bool present) {
    if (!present) return make_float2(0.0f, 0.0f);
    const u64 row = sizes.row(batch, query, head);
    return make_float2(fmaf(log_sum[row], LOG2_E, -WEIGHT_EXPONENT), products[row]);
}

/// What takes numbers of the warp's rows below 2^15, for each of the two rows of a thread.
template <int FRAGMENTS>
__device__ __forceinline__ Scale scale_of_row(const float (&x)[FRAGMENTS][4], int half) {
    float most = 0.0f;
#pragma unroll
    for (int j = 0; j < FRAGMENTS; ++j) most = fmaxf(most, fmaxf(fabsf(x[j][2 * half]), fabsf(x[j][2 * half + 1])));
    return scale_of(__float_as_uint(row_max(most)));
}

/// dk and dv of a tile of keys, from all queries that see them, of all heads that share them. With p = exp(logit - log_sum) and
/// dlogit = p (d_o . v - product): dv = p d_o, dk = dlogit q / sqrt(e). Shared memory: keys, values, queries, d_o, what
/// `of_row` gives of the queries, and room for largest magnitudes. PASS queries at a time.
template <int WIDTH, int PASS>
__device__ __forceinline__ void gradient_of_keys(const AttentionSizes &sizes, const TileGrid &grid, const float *q,
                                                 const float *k, const float *v, const float *log_sum, const float *products,
                                                 const float *d_o, float *dk, float *dv) {
    constexpr int SIZE = Tile<WIDTH>::SIZE, FRAGMENTS = PASS / 8;
    DYNAMIC_SHARED(unsigned char, keys);
    unsigned char *const values = keys + SIZE, *const queries = values + SIZE, *const outputs = queries + SIZE;
    float2 *const of_rows = reinterpret_cast<float2 *>(outputs + SIZE);
    unsigned *const largest = reinterpret_cast<unsigned *>(of_rows + TILE);
    float *const waiting = reinterpret_cast<float *>(largest + LARGEST);
    const unsigned own_row = first_row() + lane_number() / 4, own_column = 2 * (lane_number() % 4);
    const Part part = part_of(grid, sizes.kv_heads, false);
    const unsigned first_key = part.tile * TILE, count = min(sizes.keys - first_key, static_cast<unsigned>(TILE));
    // The keys before are those of an earlier text, which every query sees.
    const unsigned before = sizes.keys - sizes.queries, start = first_key - min(first_key, before);
    const unsigned shared_by = sizes.heads / sizes.kv_heads;
    const u64 of_keys = sizes.key(part.batch, first_key, part.head);
    float sums_k[WIDTH / 8][4], sums_v[WIDTH / 8][4];
    float2 own_back = make_float2(1.0f, 1.0f), back = own_back;
    clear(sums_k);
    clear(sums_v);
    for (unsigned member = 0; member < shared_by; ++member) {
        const unsigned head = part.head * shared_by + member;
        for (unsigned first_query = start; first_query < sizes.queries; first_query += TILE) {
            const unsigned queries_here = min(sizes.queries - first_query, static_cast<unsigned>(TILE));
            const u64 of_queries = sizes.query(part.batch, first_query, head);
            const bool all = queries_here == TILE && first_key + TILE <= sizes.visible(first_query);
#pragma unroll 1
            for (unsigned pass = 0; pass < TILE; pass += PASS) {
                // Whether one of the queries sees one of the warp's keys.
                const unsigned last_query = first_query + min(pass + PASS, queries_here) - 1;
                const bool used = pass < queries_here && first_key + first_row() < sizes.visible(last_query);
                float p[FRAGMENTS][4], dlogits[FRAGMENTS][4];
                for (unsigned step = 1; step <= grid.chunks; ++step) {
                    const Columns<WIDTH> columns((part.chunk + step) % grid.chunks, sizes.dim);
                    if (grid.chunks > 1 || (member == 0 && first_query == start && pass == 0))
                        own_back = load_tiles<WIDTH>(keys, columns.keys(sizes, k, of_keys, count),
                                                     columns.keys(sizes, v, of_keys, count), largest, [] {});
                    if (grid.chunks > 1 || pass == 0)
                        back = load_tiles<WIDTH>(queries, columns.queries(sizes, q, of_queries, queries_here),
                                                 columns.queries(sizes, d_o, of_queries, queries_here), largest, [&] {
                                                     if (threadIdx.x < TILE)
                                                         of_rows[threadIdx.x] =
                                                             of_row(sizes, log_sum, products, part.batch,
                                                                    first_query + threadIdx.x, head, threadIdx.x < queries_here);
                                                 });
                    if (!used) continue;
                    scores<WIDTH>(p, keys, queries, pass, own_back.x * back.x * (sizes.scale * LOG2_E));
                    scores<WIDTH>(dlogits, values, outputs, pass, own_back.y * back.y);
                    add_steps(p, waiting, step, grid.chunks);
                    add_steps(dlogits, waiting + PASS * TILE, step, grid.chunks);
                }
                if (!used) continue;
#pragma unroll
                for (int j = 0; j < FRAGMENTS; ++j)
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        const float2 of_query = of_rows[pass + 8 * j + own_column + c % 2];
                        p[j][c] = exp2_near(p[j][c] - of_query.x);
                        dlogits[j][c] = p[j][c] * (dlogits[j][c] - of_query.y);
                    }
                if (!all) {
#pragma unroll
                    for (int j = 0; j < FRAGMENTS; ++j)
#pragma unroll
                        for (int c = 0; c < 4; ++c) {
                            const unsigned query = pass + 8 * j + own_column + c % 2, key = first_key + own_row + 8 * (c / 2);
                            const bool seen = query < queries_here && key < sizes.visible(first_query + query);
                            if (!seen) p[j][c] = dlogits[j][c] = 0.0f;
                        }
                }
                const float to_v = back.y * WEIGHT_UNIT, to_k = back.x * (sizes.scale * WEIGHT_UNIT);
                Weights<FRAGMENTS>(p, 1.0f, 1.0f).template multiply<WIDTH>(outputs, pass, [&](int j, int c, float sum) {
                    sums_v[j][c] = fmaf(sum, to_v, sums_v[j][c]);
                });
                const Scale above = scale_of_row(dlogits, 0), below = scale_of_row(dlogits, 1);
                const float to_rows[2] = {above.back * to_k, below.back * to_k};
                Weights<FRAGMENTS>(dlogits, above.times, below.times)
                    .template multiply<WIDTH>(queries, pass, [&](int j, int c, float sum) {
                        sums_k[j][c] = fmaf(sum, to_rows[c / 2], sums_k[j][c]);
                    });
            }
        }
    }
    const Columns<WIDTH> own(part.chunk, sizes.dim);
    const u64 to = of_keys + own.first, stride = sizes.key_stride();
    store_rows(dk + to, stride, count, own.width, sizes.vector(dk), sums_k, 1.0f, 1.0f);
    store_rows(dv + to, stride, count, own.width, sizes.vector(dv), sums_v, 1.0f, 1.0f);
}

/// dq of a tile of queries: dq = dlogit k / sqrt(e). Shared memory: queries, d_o, keys, values, and room for largest magnitudes.
/// PASS keys at a time.
template <int WIDTH, int PASS>
__device__ __forceinline__ void gradient_of_queries(const AttentionSizes &sizes, const TileGrid &grid, const float *q,
                                                    const float *k, const float *v, const float *log_sum, const float *products,
                                                    const float *d_o, float *dq) {
    constexpr int SIZE = Tile<WIDTH>::SIZE, FRAGMENTS = PASS / 8;
    DYNAMIC_SHARED(unsigned char, queries);
    unsigned char *const outputs = queries + SIZE, *const keys = outputs + SIZE, *const values = keys + SIZE;
    unsigned *const largest = reinterpret_cast<unsigned *>(values + SIZE);
    float *const waiting = reinterpret_cast<float *>(largest + LARGEST);
    const unsigned own_row = first_row() + lane_number() / 4, own_column = 2 * (lane_number() % 4);
    const Part part = part_of(grid, sizes.heads, true);
    const unsigned first_query = part.tile * TILE, count = min(sizes.queries - first_query, static_cast<unsigned>(TILE));
    const unsigned seen = sizes.visible(first_query + count - 1);
    const u64 of_queries = sizes.query(part.batch, first_query, part.head);
    float sums[WIDTH / 8][4];
    float2 of_rows[2], own_back = make_float2(1.0f, 1.0f), back = own_back;
    clear(sums);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const unsigned row = own_row + 8 * half;
        of_rows[half] = of_row(sizes, log_sum, products, part.batch, first_query + row, part.head, row < count);
    }
    for (unsigned first_key = 0; first_key < seen; first_key += TILE) {
        const unsigned keys_here = min(seen - first_key, static_cast<unsigned>(TILE));
        const u64 of_keys = sizes.key(part.batch, first_key, sizes.kv_head(part.head));
#pragma unroll 1
        for (unsigned pass = 0; pass < TILE; pass += PASS) {
            // Whether one of the warp's queries sees one of the keys.
            const bool used = pass < keys_here && first_key + pass < sizes.visible(first_query + first_row() + 15);
            float p[FRAGMENTS][4], dlogits[FRAGMENTS][4];
            for (unsigned step = 1; step <= grid.chunks; ++step) {
                const Columns<WIDTH> columns((part.chunk + step) % grid.chunks, sizes.dim);
                if (grid.chunks > 1 || (first_key == 0 && pass == 0))
                    own_back = load_tiles<WIDTH>(queries, columns.queries(sizes, q, of_queries, count),
                                                 columns.queries(sizes, d_o, of_queries, count), largest, [] {});
                if (grid.chunks > 1 || pass == 0)
                    back = load_tiles<WIDTH>(keys, columns.keys(sizes, k, of_keys, keys_here),
                                             columns.keys(sizes, v, of_keys, keys_here), largest, [] {});
                if (!used) continue;
                scores<WIDTH>(p, queries, keys, pass, own_back.x * back.x * (sizes.scale * LOG2_E));
                scores<WIDTH>(dlogits, outputs, values, pass, own_back.y * back.y);
                add_steps(p, waiting, step, grid.chunks);
                add_steps(dlogits, waiting + PASS * TILE, step, grid.chunks);
            }
            if (!used) continue;
#pragma unroll
            for (int j = 0; j < FRAGMENTS; ++j)
#pragma unroll
                for (int c = 0; c < 4; ++c)
                    p[j][c] = exp2_near(p[j][c] - of_rows[c / 2].x) * (dlogits[j][c] - of_rows[c / 2].y);
            if (first_key + TILE > sizes.visible(first_query)) {
#pragma unroll
                for (int j = 0; j < FRAGMENTS; ++j)
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        const unsigned key = first_key + pass + 8 * j + own_column + c % 2;
                        if (key >= sizes.visible(first_query + own_row + 8 * (c / 2))) p[j][c] = 0.0f;
                    }
            }
            const Scale above = scale_of_row(p, 0), below = scale_of_row(p, 1);
            const float to = back.x * (sizes.scale * WEIGHT_UNIT), to_rows[2] = {above.back * to, below.back * to};
            Weights<FRAGMENTS>(p, above.times, below.times).template multiply<WIDTH>(keys, pass, [&](int j, int c, float sum) {
                sums[j][c] = fmaf(sum, to_rows[c / 2], sums[j][c]);
            });
        }
    }
    const Columns<WIDTH> own(part.chunk, sizes.dim);
    store_rows(dq + of_queries + own.first, sizes.query_stride(), count, own.width, sizes.vector(dq), sums, 1.0f, 1.0f);
}

// --- kernels -----------------------------------------------------------------------------------------------------------

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 3)
attention_32(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v, float *o, float *log_sum) {
    attend<32>(sizes, grid, q, k, v, o, log_sum);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 3)
attention_64(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v, float *o, float *log_sum) {
    attend<64>(sizes, grid, q, k, v, o, log_sum);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
attention_backward_keys_32(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                           const float *log_sum, const float *products, const float *d_o, float *dk, float *dv) {
    gradient_of_keys<32, 32>(sizes, grid, q, k, v, log_sum, products, d_o, dk, dv);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
attention_backward_keys_64(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                           const float *log_sum, const float *products, const float *d_o, float *dk, float *dv) {
    gradient_of_keys<64, 32>(sizes, grid, q, k, v, log_sum, products, d_o, dk, dv);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 3)
attention_backward_queries_32(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                              const float *log_sum, const float *products, const float *d_o, float *dq) {
    gradient_of_queries<32, 32>(sizes, grid, q, k, v, log_sum, products, d_o, dq);
}

/// Within a tolerance.
extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS, 3)
attention_backward_queries_64(AttentionSizes sizes, TileGrid grid, const float *q, const float *k, const float *v,
                              const float *log_sum, const float *products, const float *d_o, float *dq) {
    gradient_of_queries<64, 32>(sizes, grid, q, k, v, log_sum, products, d_o, dq);
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
