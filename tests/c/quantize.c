/* The quantize verb on plain pointers: known answers on every backend, and bad input. */
#include "check.h"

#include <float.h>
#include <math.h>

#define ROWS 2
#define COLUMNS 4

static const float one = 1;

/* mean |w| = 3.2 / 8 = 0.4, so the scale is 0.4 and the threshold 0.2. */
static const float weights[ROWS * COLUMNS] = {.9f, -.8f, .1f, 0, -.7f, .6f, 0, .1f};
static const int8_t trits[ROWS * COLUMNS] = {1, -1, 0, 0, -1, 1, 0, 0};
/* t + 1 = 2 0 1 1 and 0 2 1 1. */
static const uint8_t two_bit[2] = {2 + 16 + 64, 8 + 16 + 64};
static const uint8_t five[2] = {2 + 9 + 27 + 81, 6 + 9 + 27 + 81};

/* The room for packed bytes, anew at each call: it becomes what was used. */
static size_t *room(size_t bytes) {
    static size_t size;
    size = bytes;
    return &size;
}

static void known_answers(const setun_quantize_options *options, const uint8_t *expected) {
    /* 127 * x / 4 = 31.75, 63.5, 95.25, 127: codes 32, 64 (half to even), 95, 127. */
    static const float x[COLUMNS] = {1, 2, 3, 4}, dy[ROWS] = {3, 1};
    static const int8_t codes_expected[COLUMNS] = {32, 64, 95, 127};
    static const float dx_expected[COLUMNS] = {.8f, -.8f, 0, 0};
    uint8_t packed[2] = {0, 0};
    int8_t back[ROWS * COLUMNS], codes[COLUMNS];
    float restored[ROWS * COLUMNS], y[ROWS], dx[COLUMNS], scale = 0, scales[1];
    int64_t counts[3];
    size_t bytes = 0;
    int i;

    CHECK_OK(setun_pack_size(ROWS, COLUMNS, options->packing, &bytes));
    CHECK(bytes == 2);
    CHECK_OK(setun_quantize(weights, ROWS, COLUMNS, options, packed, room(bytes), &scale, 1));
    CHECK_NEAR(scale, .4, 1e-7);
    CHECK(memcmp(packed, expected, 2) == 0);
    CHECK_OK(setun_dequantize(packed, bytes, ROWS, COLUMNS, &scale, 1, options, restored));
    for (i = 0; i < ROWS * COLUMNS; i++) CHECK(restored[i] == scale * trits[i]);
    CHECK_OK(setun_unpack(packed, bytes, ROWS, COLUMNS, options, back));
    CHECK(memcmp(back, trits, sizeof trits) == 0);
    memset(packed, 0, sizeof packed);
    CHECK_OK(setun_pack(trits, ROWS, COLUMNS, options, packed, room(bytes)));
    CHECK(memcmp(packed, expected, 2) == 0);
    CHECK_OK(setun_trit_histogram(packed, bytes, ROWS, COLUMNS, options, counts));
    CHECK(counts[0] == 2 && counts[1] == 4 && counts[2] == 2);

    CHECK_OK(setun_quantize_activations(x, 1, COLUMNS, options, codes, scales));
    CHECK(memcmp(codes, codes_expected, sizeof codes) == 0);
    CHECK_NEAR(scales[0], 4.0 / 127, 1e-8);
    CHECK_OK(setun_matmul(x, 1, packed, bytes, ROWS, COLUMNS, &scale, 1, options, y));
    CHECK_NEAR(y[0], (32 - 64) * .4 * 4 / 127, 1e-6);
    CHECK_NEAR(y[1], (64 - 32) * .4 * 4 / 127, 1e-6);
    CHECK_OK(setun_matmul_backward(dy, 1, packed, bytes, ROWS, COLUMNS, &scale, 1, options, dx));
    for (i = 0; i < COLUMNS; i++) CHECK_NEAR(dx[i], dx_expected[i], 1e-6);
}

/* Blocks of 32: one whole, one of a single element. Codes at the ends need no rounding. */
static void gradients(const setun_quantize_options *options) {
    float g[33], mean[33] = {0}, scales[2], restored[33];
    int8_t codes[33], again[33];
    uint32_t step;
    int i, differ = 0;
    for (i = 0; i < 33; i++) g[i] = (float)(i - 10) * .37f;
    g[0] = 12.7f;
    g[1] = -12.7f;
    g[2] = 0;
    g[32] = -1e-3f;
    for (step = 0; step < 400; step++) {
        CHECK_OK(setun_quantize_gradients(g, 33, 32, 7, step, 1, options, codes, scales));
        CHECK_NEAR(scales[0], .1, 1e-7);
        CHECK_NEAR(scales[1], 1e-3 / 127, 1e-10);
        CHECK(codes[0] == 127 && codes[1] == -127 && codes[2] == 0 && codes[32] == -127);
        CHECK_OK(setun_dequantize_gradients(codes, scales, 33, 32, options, restored));
        for (i = 0; i < 33; i++) {
            CHECK(restored[i] == scales[i / 32] * codes[i]);
            CHECK_NEAR(restored[i], g[i], scales[i / 32] * 1.0001);
            mean[i] += restored[i] / 400;
        }
    }
    /* The standard error of a mean of 400 is at most half a step over 20. */
    for (i = 0; i < 33; i++) CHECK_NEAR(mean[i], g[i], scales[i / 32] * 5 * .5 / 20);
    CHECK_OK(setun_quantize_gradients(g, 33, 32, 7, step, 1, options, codes, scales));
    CHECK_OK(setun_quantize_gradients(g, 33, 32, 7, step, 1, options, again, scales));
    CHECK(memcmp(codes, again, sizeof codes) == 0);
    CHECK_OK(setun_quantize_gradients(g, 33, 32, 7, step, 2, options, again, scales));
    for (i = 0; i < 33; i++) differ += codes[i] != again[i];
    CHECK(differ > 0);
    CHECK_OK(setun_quantize_gradients(NULL, 0, 32, 7, 0, 0, options, NULL, NULL));
    CHECK_OK(setun_dequantize_gradients(NULL, NULL, 0, 32, options, NULL));
}

static void backends(void) {
    static const int32_t rows[3] = {SETUN_BACKEND_SCALAR, SETUN_BACKEND_SIMD, SETUN_BACKEND_PARALLEL};
    setun_quantize_options options;
    int i;
    for (i = 0; i < 3; i++) {
        setun_context *context = NULL;
        setun_context_options where;
        setun_context_options_init(&where, sizeof where);
        where.backend = rows[i];
        where.threads = 2;
        CHECK_OK(setun_context_create(&where, &context));
        setun_quantize_options_init(&options, sizeof options);
        options.context = context;
        known_answers(&options, two_bit);
        options.packing = SETUN_PACKING_FIVE_PER_BYTE;
        known_answers(&options, five);
        gradients(&options);
        setun_context_free(context);
    }
    setun_quantize_options_init(&options, sizeof options);
    known_answers(&options, two_bit);
}

/* A sum that 16 bits cannot hold: 4096 weights of +1, all codes 127. */
static void long_rows(void) {
    enum { K = 4096 };
    static float w[K], x[K];
    static uint8_t packed[K / 4];
    float scale = 0, y = 0;
    int i;
    for (i = 0; i < K; i++) {
        w[i] = 1;
        x[i] = 3;
    }
    CHECK_OK(setun_quantize(w, 1, K, NULL, packed, room(sizeof packed), &scale, 1));
    CHECK(scale == 1);
    CHECK_OK(setun_matmul(x, 1, packed, sizeof packed, 1, K, &scale, 1, NULL, &y));
    CHECK_NEAR(y, 3.0 * K, 1e-2);
}

static void empty(void) {
    float scale = 0, y[2] = {7, 7};
    uint8_t byte = 1 + 4 + 16 + 64;
    size_t bytes = 9;
    CHECK_OK(setun_pack_size(0, 100, SETUN_PACKING_TWO_BIT, &bytes));
    CHECK(bytes == 0);
    CHECK_OK(setun_quantize(NULL, 0, 100, NULL, NULL, room(0), &scale, 1));
    CHECK_NEAR(scale, 1e-5, 1e-11);
    /* No columns: sums of nothing. */
    CHECK_OK(setun_matmul(NULL, 1, NULL, 0, 2, 0, &one, 1, NULL, y));
    CHECK(y[0] == 0 && y[1] == 0);
    /* No rows of x: nothing to write. */
    CHECK_OK(setun_matmul(NULL, 0, &byte, 1, 1, 1, &one, 1, NULL, NULL));
}

static void bad_sizes_and_options(void) {
    setun_quantize_options options;
    uint8_t packed[8];
    float scale = 5, y[8] = {0};
    size_t bytes = 77;
    CHECK_FAILS(setun_pack_size(-1, 4, SETUN_PACKING_TWO_BIT, &bytes), SETUN_ERR_ARGUMENT, "rows is -1");
    CHECK_FAILS(setun_pack_size(4, -2, SETUN_PACKING_TWO_BIT, &bytes), SETUN_ERR_ARGUMENT, "columns is -2");
    CHECK_FAILS(setun_pack_size(4, 4, 9, &bytes), SETUN_ERR_ARGUMENT, "packing is 9");
    CHECK_FAILS(setun_pack_size(INT64_MAX, 1 << 24, SETUN_PACKING_TWO_BIT, &bytes), SETUN_ERR_SHAPE, "too large");
    CHECK_FAILS(setun_pack_size(1, (1 << 24) + 1, SETUN_PACKING_TWO_BIT, &bytes), SETUN_ERR_SHAPE, "16777217");
    CHECK_FAILS(setun_pack_size(1, 1, SETUN_PACKING_TWO_BIT, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    CHECK(bytes == 77);
    CHECK_FAILS(setun_quantize(weights, 2, 4, NULL, packed, room(1), &scale, 1), SETUN_ERR_SHAPE, "packed needs 2 bytes");
    CHECK_FAILS(setun_quantize(NULL, 2, 4, NULL, packed, room(2), &scale, 1), SETUN_ERR_ARGUMENT, "weights is NULL");
    CHECK_FAILS(setun_quantize(weights, 2, 4, NULL, NULL, room(2), &scale, 1), SETUN_ERR_ARGUMENT, "packed is NULL");
    CHECK_FAILS(setun_quantize(weights, 2, 4, NULL, packed, room(2), NULL, 1), SETUN_ERR_ARGUMENT, "scales is NULL");
    setun_quantize_options_init(&options, sizeof options);
    options.scheme = 9;
    CHECK_FAILS(setun_quantize(weights, 2, 4, &options, packed, room(2), &scale, 1), SETUN_ERR_ARGUMENT, "scheme is 9");
    options.scheme = SETUN_SCHEME_ABSMEAN;
    options.packing = SETUN_PACKING_FULL;
    CHECK_FAILS(setun_quantize(weights, 2, 4, &options, packed, room(2), &scale, 1), SETUN_ERR_ARGUMENT, "packing is 2");
    CHECK_FAILS(setun_matmul(weights, -1, two_bit, 2, 2, 4, &one, 1, NULL, y), SETUN_ERR_ARGUMENT, "m is -1");
    CHECK_FAILS(setun_matmul(weights, INT64_MAX, two_bit, 2, 2, 4, &one, 1, NULL, y), SETUN_ERR_ARGUMENT, "x of sizes");
    CHECK(scale == 5);
}

static void bad_values(void) {
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    float values[8], scale = 5, y[2] = {7, 7}, huge[128];
    float scales[2] = {7, 7}, restored[8] = {7};
    int8_t codes[8] = {7}, wrong[4] = {0, 1, 2, 0};
    uint8_t packed[2] = {0xEE, 0xEE}, damaged[2] = {82, 0xFF}, large[32];
    int i;
    for (i = 0; i < 3; i++) {
        memcpy(values, weights, sizeof values);
        values[5] = bad[i];
        values[7] = bad[i];
        CHECK_FAILS(setun_quantize(values, 2, 4, NULL, packed, room(2), &scale, 1), SETUN_ERR_ARGUMENT, "weights[5] is");
        CHECK(packed[0] == 0xEE && packed[1] == 0xEE && scale == 5);
        CHECK_FAILS(setun_quantize_activations(values, 2, 4, NULL, codes, scales), SETUN_ERR_ARGUMENT, "x[5] is");
        CHECK(codes[0] == 7 && scales[0] == 7);
        CHECK_FAILS(setun_matmul(values + 4, 1, two_bit, 2, 2, 4, &one, 1, NULL, y), SETUN_ERR_ARGUMENT, "x[1] is");
        CHECK_FAILS(setun_matmul(weights, 1, two_bit, 2, 2, 4, &bad[i], 1, NULL, y), SETUN_ERR_ARGUMENT, "scales[0] is");
        CHECK_FAILS(setun_matmul_backward(values + 4, 1, two_bit, 2, 2, 4, &one, 1, NULL, restored), SETUN_ERR_ARGUMENT,
                    "dy[1] is");
        CHECK_FAILS(setun_dequantize(two_bit, 2, 2, 4, &bad[i], 1, NULL, restored), SETUN_ERR_ARGUMENT, "scales[0] is");
        CHECK(y[0] == 7 && y[1] == 7 && restored[0] == 7);
    }
    for (i = 0; i < 128; i++) huge[i] = FLT_MAX;
    CHECK_FAILS(setun_quantize(huge, 1, 128, NULL, large, room(32), &scale, 1), SETUN_ERR_ARGUMENT, "too large for f32");
    CHECK_FAILS(setun_pack(wrong, 1, 4, NULL, packed, room(1)), SETUN_ERR_ARGUMENT, "trits[2] is 2");
    CHECK_FAILS(setun_dequantize(damaged, 2, 2, 4, &one, 1, NULL, restored), SETUN_ERR_FORMAT, "byte 1 of packed is 0xff");
    CHECK_FAILS(setun_matmul(weights, 1, damaged, 2, 2, 4, &one, 1, NULL, y), SETUN_ERR_FORMAT, "byte 1 of packed");
    CHECK_FAILS(setun_unpack(damaged, 2, 2, 4, NULL, codes), SETUN_ERR_FORMAT, "byte 1 of packed");
    damaged[1] = 88 + 64;
    CHECK_FAILS(setun_unpack(damaged, 2, 2, 3, NULL, codes), SETUN_ERR_FORMAT, "past the last of 3 columns");
    CHECK(y[0] == 7 && restored[0] == 7 && codes[0] == 7);
}

static void wrong_gradients(void) {
    float g[40] = {0}, scales[2] = {7, 7}, back[40] = {7};
    int8_t codes[40] = {7};
    g[35] = NAN;
    CHECK_FAILS(setun_quantize_gradients(g, 40, 32, 1, 1, 1, NULL, codes, scales), SETUN_ERR_ARGUMENT, "g[35] is");
    g[35] = -INFINITY;
    CHECK_FAILS(setun_quantize_gradients(g, 40, 32, 1, 1, 1, NULL, codes, scales), SETUN_ERR_ARGUMENT, "g[35] is");
    g[35] = 0;
    CHECK_FAILS(setun_quantize_gradients(g, 40, 0, 1, 1, 1, NULL, codes, scales), SETUN_ERR_ARGUMENT, "block is 0");
    CHECK_FAILS(setun_quantize_gradients(g, 40, -32, 1, 1, 1, NULL, codes, scales), SETUN_ERR_ARGUMENT, "block is -32");
    CHECK_FAILS(setun_quantize_gradients(g, 40, 33, 1, 1, 1, NULL, codes, scales), SETUN_ERR_ARGUMENT, "multiple of 32");
    CHECK_FAILS(setun_quantize_gradients(g, -1, 32, 1, 1, 1, NULL, codes, scales), SETUN_ERR_ARGUMENT, "n is -1");
    CHECK_FAILS(setun_quantize_gradients(g, INT64_MAX, 32, 1, 1, 1, NULL, codes, scales), SETUN_ERR_ARGUMENT, "g of sizes");
    CHECK_FAILS(setun_quantize_gradients(NULL, 40, 32, 1, 1, 1, NULL, codes, scales), SETUN_ERR_ARGUMENT, "g is NULL");
    CHECK_FAILS(setun_quantize_gradients(g, 40, 32, 1, 1, 1, NULL, NULL, scales), SETUN_ERR_ARGUMENT, "codes is NULL");
    CHECK_FAILS(setun_quantize_gradients(g, 40, 32, 1, 1, 1, NULL, codes, NULL), SETUN_ERR_ARGUMENT, "scales is NULL");
    CHECK_FAILS(setun_quantize_gradients(g, 40, 32, 1, 1, 1, NULL, codes, g + 1), SETUN_ERR_ARGUMENT, "overlap");
    CHECK(codes[0] == 7 && scales[0] == 7);
    codes[0] = 1;
    scales[1] = INFINITY;
    CHECK_FAILS(setun_dequantize_gradients(codes, scales, 40, 32, NULL, back), SETUN_ERR_ARGUMENT, "scales[1] is");
    CHECK_FAILS(setun_dequantize_gradients(codes, scales, 40, 31, NULL, back), SETUN_ERR_ARGUMENT, "block is 31");
    CHECK_FAILS(setun_dequantize_gradients(NULL, scales, 40, 32, NULL, back), SETUN_ERR_ARGUMENT, "codes is NULL");
    CHECK_FAILS(setun_dequantize_gradients(codes, NULL, 40, 32, NULL, back), SETUN_ERR_ARGUMENT, "scales is NULL");
    CHECK_FAILS(setun_dequantize_gradients(codes, scales, 40, 32, NULL, NULL), SETUN_ERR_ARGUMENT, "g is NULL");
    CHECK_FAILS(setun_dequantize_gradients((int8_t *)back, scales, 40, 32, NULL, back), SETUN_ERR_ARGUMENT, "overlap");
    CHECK(back[0] == 7);
}

static void overlap_and_alignment(void) {
    union {
        float f[16];
        uint8_t u[64];
        int8_t i[64];
    } memory;
    float scale = 0, *odd;
    memset(&memory, 0, sizeof memory);
    odd = (float *)(void *)(memory.u + 1);
    CHECK_FAILS(setun_quantize(memory.f, 2, 4, NULL, memory.u + 30, room(2), &scale, 1), SETUN_ERR_ARGUMENT,
                "packed overlaps weights");
    CHECK_FAILS(setun_quantize(memory.f, 2, 4, NULL, memory.u + 40, room(2), memory.f + 3, 1), SETUN_ERR_ARGUMENT,
                "scales overlaps weights");
    CHECK_OK(setun_quantize(memory.f, 2, 4, NULL, memory.u + 32, room(2), &scale, 1));
    CHECK_FAILS(setun_matmul(memory.f, 1, two_bit, 2, 2, 4, &one, 1, NULL, memory.f + 3), SETUN_ERR_ARGUMENT,
                "y overlaps x");
    CHECK_FAILS(setun_dequantize(memory.u + 8, 2, 2, 4, &one, 1, NULL, memory.f), SETUN_ERR_ARGUMENT,
                "weights overlaps packed");
    CHECK_FAILS(setun_quantize(odd, 2, 4, NULL, memory.u + 40, room(2), &scale, 1), SETUN_ERR_ARGUMENT, "weights is at");
    CHECK_FAILS(setun_matmul(weights, 1, two_bit, 2, 2, 4, &one, 1, NULL, odd), SETUN_ERR_ARGUMENT, "y is at");
}

int main(void) {
    backends();
    long_rows();
    empty();
    bad_sizes_and_options();
    bad_values();
    wrong_gradients();
    overlap_and_alignment();
    return 0;
}
