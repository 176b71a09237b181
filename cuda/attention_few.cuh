// Attention of few queries on many keys, as in generation: memory is read once and little is computed, so the keys are cut into
// chunks that blocks take side by side (Dao et al., "Flash-Decoding", 2023), and another kernel puts the chunks together.
#pragma once
#include "softmax.cuh"

/// ln(sum of exp(logits)), where `total` is the sum of exp(logit - most). NaN where all logits are -infinity.
__device__ __forceinline__ float log_of(float most, float total) { return logf(total) + (most - most) + most; }

/// The sizes of a call: q[b, tq, h, e], k and v[b, tk, g, e], log_sum[b, h, tq]. `scale` is 1 / sqrt(e).
struct AttentionSizes {
    unsigned queries, keys, heads, kv_heads, dim;
    float scale;

    /// How many keys query i sees.
    __device__ __forceinline__ unsigned visible(unsigned i) const { return i + 1 + (keys - queries); }
    __device__ __forceinline__ u64 query_stride() const { return static_cast<u64>(heads) * dim; }
    __device__ __forceinline__ u64 key_stride() const { return static_cast<u64>(kv_heads) * dim; }
    /// Where a query begins, and a key of a KV head.
    __device__ __forceinline__ u64 query(u64 batch, u64 i, u64 head) const {
        return ((batch * queries + i) * heads + head) * dim;
    }
    __device__ __forceinline__ u64 key(u64 batch, u64 j, u64 kv_head) const {
        return ((batch * keys + j) * kv_heads + kv_head) * dim;
    }
    /// Which one a head reads.
    __device__ __forceinline__ unsigned kv_head(unsigned head) const { return head / (heads / kv_heads); }
    /// In log_sum.
    __device__ __forceinline__ u64 row(u64 batch, u64 i, u64 head) const { return (batch * heads + head) * queries + i; }
    /// Whether rows of this array can be read as vectors.
    __device__ __forceinline__ bool vector(const float *x) const { return dim % 4 == 0 && is_aligned(x, 16); }
};

// --- keys and values --------------------------------------------------------------------------------------------------
// Rows of four elements at a time; VECTOR: every four elements of a row are an aligned vector. Elements that are not there are
// not read, and 0.

template <bool VECTOR>
__device__ __forceinline__ float4 four_floats(const float *from, unsigned left) {
    if constexpr (VECTOR) return __ldg(reinterpret_cast<const float4 *>(from));
    return make_float4(__ldg(from), left > 1 ? __ldg(from + 1) : 0.0f, left > 2 ? __ldg(from + 2) : 0.0f,
                       left > 3 ? __ldg(from + 3) : 0.0f);
}

/// As floats.
template <bool VECTOR>
struct FloatRows {
    const float *data;
    /// Keys that a thread has in flight together.
    static constexpr int KEYS = VECTOR ? 2 : 1;
    typedef float4 Four;

    /// Elements from `at` on, of which `left` are there.
    __device__ __forceinline__ Four load(u64 at, unsigned left) const { return four_floats<VECTOR>(data + at, left); }
    static __device__ __forceinline__ float4 floats(Four four) { return four; }
    __device__ __forceinline__ float scale(u64) const { return 1.0f; }
};

/// As codes of 8 bits, with a scale for each row.
template <bool VECTOR>
struct CodeRows {
    const signed char *data;
    const float *scales;
    static constexpr int KEYS = VECTOR ? 4 : 1;
    typedef char4 Four;

    __device__ __forceinline__ Four load(u64 at, unsigned left) const {
        const signed char *const from = data + at;
        if constexpr (VECTOR) return __ldg(reinterpret_cast<const char4 *>(from));
        return make_char4(__ldg(from), left > 1 ? __ldg(from + 1) : 0, left > 2 ? __ldg(from + 2) : 0,
                          left > 3 ? __ldg(from + 3) : 0);
    }
    static __device__ __forceinline__ float4 floats(Four four) { return make_float4(four.x, four.y, four.z, four.w); }
    __device__ __forceinline__ float scale(u64 row) const { return __ldg(scales + row); }
};

__device__ __forceinline__ float add_product(float4 a, float4 b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// --- the kernels -------------------------------------------------------------------------------------------------------

constexpr int FEW_THREADS = 128;
/// Rows - a query of a head that reads the block's KV head each - that share a pass over the keys of a chunk.
constexpr int TOGETHER = 4;
static_assert(TOGETHER == FEW_THREADS / 32, "a warp for each row");
/// Lanes that share the product of a query and a key, and vectors of four that each holds of the query: a pass over the keys
/// takes up to 128 columns of a head.
constexpr int LANES_OF_KEY = 8;
constexpr int VECTORS_OF_QUERY = 4;
constexpr unsigned COLUMNS_OF_PASS = 4 * LANES_OF_KEY * VECTORS_OF_QUERY;

/// How the keys are cut, and where the chunks' results go: sums[rows, chunks, e], and for each the largest logit and the sum of
/// the exponentials relative to it, in most[rows, chunks] and totals[rows, chunks]. Rows are counted as log_sum has them.
struct Chunks {
    unsigned keys, count;
    float *sums, *most, *totals;
};

/// A block's chunk: of the keys of one KV head, `count` from `first_key` on. Key number j has row first_row + j * kv_heads of
/// scales; its elements begin at that times e.
struct Chunk {
    unsigned number, first_key, count, kv_head, shared_by, rows;
    u64 batch, first_row;

    __device__ __forceinline__ Chunk(const AttentionSizes &sizes, const Chunks &chunks) {
        number = static_cast<unsigned>(blockIdx.x % chunks.count);
        first_key = number * chunks.keys;
        count = min(sizes.keys - first_key, chunks.keys);
        kv_head = blockIdx.x / chunks.count % sizes.kv_heads;
        batch = blockIdx.x / chunks.count / sizes.kv_heads;
        shared_by = sizes.heads / sizes.kv_heads;
        rows = shared_by * sizes.queries;
        first_row = (batch * sizes.keys + first_key) * sizes.kv_heads + kv_head;
    }
    __device__ __forceinline__ unsigned query(unsigned row) const { return row / shared_by; }
    __device__ __forceinline__ unsigned head(unsigned row) const { return kv_head * shared_by + row % shared_by; }
};

/// weights[r, key] = the logit of row first + r and each key of the chunk. Past the last row, that one again.
template <bool VECTOR, class Rows>
__device__ __forceinline__ void few_logits(const AttentionSizes &sizes, const Chunks &chunks, const Chunk &chunk, unsigned first,
                                           const float *q, const Rows &k, float *weights) {
    constexpr unsigned GROUPS = FEW_THREADS / LANES_OF_KEY;
    const unsigned lane = threadIdx.x % LANES_OF_KEY, group = threadIdx.x / LANES_OF_KEY;
    // Of heads without elements, too, there is one pass.
    for (unsigned column = 0; column == 0 || column < sizes.dim; column += COLUMNS_OF_PASS) {
        float4 query[TOGETHER][VECTORS_OF_QUERY];
#pragma unroll
        for (int r = 0; r < TOGETHER; ++r) {
            const unsigned row = min(first + r, chunk.rows - 1);
            const float *const of_row = q + sizes.query(chunk.batch, chunk.query(row), chunk.head(row));
#pragma unroll
            for (int i = 0; i < VECTORS_OF_QUERY; ++i) {
                const unsigned c = column + 4 * (lane + LANES_OF_KEY * i);
                query[r][i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                if (c < sizes.dim) query[r][i] = four_floats<VECTOR>(of_row + c, sizes.dim - c);
            }
        }
        for (unsigned base = group; base - group < chunk.count; base += Rows::KEYS * GROUPS) {
            typename Rows::Four four[Rows::KEYS][VECTORS_OF_QUERY] = {};
#pragma unroll
            for (int n = 0; n < Rows::KEYS; ++n) {
                const unsigned key = base + n * GROUPS;
                const u64 row = chunk.first_row + static_cast<u64>(key) * sizes.kv_heads;
#pragma unroll
                for (int i = 0; i < VECTORS_OF_QUERY; ++i) {
                    const unsigned c = column + 4 * (lane + LANES_OF_KEY * i);
                    if (key < chunk.count && c < sizes.dim) four[n][i] = k.load(row * sizes.dim + c, sizes.dim - c);
                }
            }
#pragma unroll
            for (int n = 0; n < Rows::KEYS; ++n) {
                const unsigned key = base + n * GROUPS;
#pragma unroll
                for (int r = 0; r < TOGETHER; ++r) {
                    float product = 0.0f;
#pragma unroll
                    for (int i = 0; i < VECTORS_OF_QUERY; ++i)
                        product = add_product(Rows::floats(four[n][i]), query[r][i], product);
#pragma unroll
                    for (int distance = LANES_OF_KEY / 2; distance > 0; distance /= 2)
                        product += __shfl_xor_sync(ALL_LANES, product, distance);
                    if (lane != 0 || key >= chunk.count) continue;
                    float *const to = weights + r * chunks.keys + key;
                    if (column > 0) product += *to;
                    if (column + COLUMNS_OF_PASS >= sizes.dim) {
                        const unsigned visible = sizes.visible(chunk.query(min(first + r, chunk.rows - 1)));
                        product *= k.scale(chunk.first_row + static_cast<u64>(key) * sizes.kv_heads) * sizes.scale;
                        if (chunk.first_key + key >= visible) product = -INFINITE;
                    }
                    *to = product;
                }
            }
        }
    }
}

/// From logits to weights, times the scales of the values; a warp for each row.
template <class Rows>
__device__ __forceinline__ void few_weights(const AttentionSizes &sizes, const Chunks &chunks, const Chunk &chunk, unsigned first,
                                            const Rows &v, float *weights) {
    const unsigned row = first + warp_number();
    float *const of_row = weights + warp_number() * chunks.keys;
    float most = -INFINITE, total = 0.0f;
    for (unsigned key = lane_number(); key < chunk.count; key += 32) most = fmaxf(most, of_row[key]);
    most = warp_max(most);
    const float base = base_of(most);
    for (unsigned key = lane_number(); key < chunk.count; key += 32) {
        const float weight = expf(of_row[key] - base);
        total += weight;
        of_row[key] = weight * v.scale(chunk.first_row + static_cast<u64>(key) * sizes.kv_heads);
    }
    total = warp_sum(total);
    if (lane_number() > 0 || row >= chunk.rows) return;
    const u64 to = sizes.row(chunk.batch, chunk.query(row), chunk.head(row)) * chunks.count + chunk.number;
    chunks.most[to] = most;
    chunks.totals[to] = total;
}

/// sums = weights times values. A thread has four columns: as many threads as a head has vectors, 8, 16 or 32, share a slot of
/// keys; then the slots are added in order.
template <class Rows>
__device__ __forceinline__ void few_sums(const AttentionSizes &sizes, const Chunks &chunks, const Chunk &chunk, unsigned first,
                                         const Rows &v, const float *weights, float4 (*partial)[FEW_THREADS]) {
    const unsigned quads = (sizes.dim + 3) / 4, wide = quads <= 8 ? 8 : quads <= 16 ? 16 : 32, slots = FEW_THREADS / wide;
    const unsigned slot = threadIdx.x / wide, own = threadIdx.x % wide;
    for (unsigned quad = own; quad - own < quads; quad += wide) {
        float4 sum[TOGETHER];
#pragma unroll
        for (int r = 0; r < TOGETHER; ++r) sum[r] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (quad < quads) {
#pragma unroll 4
            for (unsigned key = slot; key < chunk.count; key += slots) {
                const u64 row = chunk.first_row + static_cast<u64>(key) * sizes.kv_heads;
                const float4 four = Rows::floats(v.load(row * sizes.dim + 4 * quad, sizes.dim - 4 * quad));
#pragma unroll
                for (int r = 0; r < TOGETHER; ++r) {
                    const float weight = weights[r * chunks.keys + key];
                    sum[r].x = fmaf(weight, four.x, sum[r].x);
                    sum[r].y = fmaf(weight, four.y, sum[r].y);
                    sum[r].z = fmaf(weight, four.z, sum[r].z);
                    sum[r].w = fmaf(weight, four.w, sum[r].w);
                }
            }
        }
#pragma unroll
        for (int r = 0; r < TOGETHER; ++r) partial[r][threadIdx.x] = sum[r];
        __syncthreads();
        // Each of TOGETHER * wide sums over the slots has a thread.
        const unsigned r = slot, row = first + r;
        if (r < TOGETHER && row < chunk.rows && quad < quads) {
            float4 all = partial[r][own];
            for (unsigned other = 1; other < slots; ++other) {
                const float4 part = partial[r][other * wide + own];
                all.x += part.x, all.y += part.y, all.z += part.z, all.w += part.w;
            }
            const u64 of_row = sizes.row(chunk.batch, chunk.query(row), chunk.head(row)) * chunks.count + chunk.number;
            float *const to = chunks.sums + of_row * sizes.dim + 4 * quad;
            const float of[4] = {all.x, all.y, all.z, all.w};
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (4 * quad + i < sizes.dim) to[i] = of[i];
        }
        __syncthreads();
    }
}

/// Dynamic shared memory: TOGETHER * FEW_THREADS vectors, and TOGETHER * chunks.keys floats.
template <bool VECTOR, class Rows>
__device__ __forceinline__ void attend_chunk(const AttentionSizes &sizes, const Chunks &chunks, const float *q, const Rows &k,
                                             const Rows &v) {
    DYNAMIC_SHARED(float4, partial);
    float *const weights = reinterpret_cast<float *>(partial + TOGETHER * FEW_THREADS);
    const Chunk chunk(sizes, chunks);
    for (unsigned first = 0; first < chunk.rows; first += TOGETHER) {
        few_logits<VECTOR>(sizes, chunks, chunk, first, q, k, weights);
        __syncthreads();
        few_weights(sizes, chunks, chunk, first, v, weights);
        __syncthreads();
        few_sums(sizes, chunks, chunk, first, v, weights, reinterpret_cast<float4(*)[FEW_THREADS]>(partial));
        // Before the weights of the next rows, also where heads without elements came to no barrier in few_sums.
        __syncthreads();
    }
}

/// Puts the chunks of a row together: o[b, tq, h, e], and log_sum where it is wanted. A block for each row.
__device__ __forceinline__ void join_chunks(const AttentionSizes &sizes, const Chunks &chunks, float *o, float *log_sum) {
    __shared__ float of_warps[FEW_THREADS / 32];
    const u64 row = blockIdx.x, first = row * chunks.count;
    const u64 query = row % sizes.queries, head = row / sizes.queries % sizes.heads, batch = row / sizes.queries / sizes.heads;
    float most = -INFINITE;
    for (unsigned chunk = threadIdx.x; chunk < chunks.count; chunk += FEW_THREADS) most = fmaxf(most, chunks.most[first + chunk]);
    most = warp_max(most);
    if (lane_number() == 0) of_warps[warp_number()] = most;
    __syncthreads();
#pragma unroll
    for (int warp = 0; warp < FEW_THREADS / 32; ++warp) most = fmaxf(most, of_warps[warp]);
    float total = 0.0f;
    for (unsigned chunk = threadIdx.x; chunk < chunks.count; chunk += FEW_THREADS)
        total = fmaf(chunks.totals[first + chunk], expf(chunks.most[first + chunk] - most), total);
    total = block_sum(total);
    if (log_sum != nullptr && threadIdx.x == 0) log_sum[row] = log_of(most, total);
    float *const to = o + sizes.query(batch, query, head);
    for (unsigned c = threadIdx.x; c < sizes.dim; c += FEW_THREADS) {
        float sum = 0.0f;
#pragma unroll 8
        for (unsigned chunk = 0; chunk < chunks.count; ++chunk)
            sum = fmaf(chunks.sums[(first + chunk) * sizes.dim + c], expf(chunks.most[first + chunk] - most), sum);
        to[c] = sum / total;
    }
}
