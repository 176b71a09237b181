/* Schemes, groups, roundings and reports of the quantize verb: known answers on every backend, and bad input. */
#include "check.h"

#include <math.h>

#define ROWS 2
#define COLUMNS 6
#define COUNT (ROWS * COLUMNS)

/* Groups of four columns: {1 -1 1 .125} {.5 -.25} and {0 0 0 2} {-3 3}. */
static const float weights[COUNT] = {1, -1, 1, .125f, .5f, -.25f, 0, 0, 0, 2, -3, 3};

static size_t bytes;

/* Quantizes to trits, one a byte. */
static void quantize(const setun_quantize_options *options, float *scales, int64_t count, int8_t *trits) {
    uint8_t packed[16];
    bytes = sizeof packed;
    CHECK_OK(setun_quantize(weights, ROWS, COLUMNS, options, packed, &bytes, scales, count));
    CHECK_OK(setun_unpack(packed, bytes, ROWS, COLUMNS, options, trits));
}

static void known_answers(const setun_context *context) {
    static const int8_t least[COUNT] = {1, -1, 1, 0, 1, -1, 0, 0, 0, 1, -1, 1}, none[COUNT] = {0};
    static const int8_t above[COUNT] = {1, -1, 1, 0, 0, 0, 0, 0, 0, 1, -1, 1};
    setun_quantize_options options;
    int8_t trits[COUNT], again[COUNT];
    float scales[4], back[COUNT];
    int64_t count = 0;
    int i, seen[3] = {0, 0, 0};

    setun_quantize_options_init(&options, sizeof options);
    options.context = context;
    options.group = 4;
    CHECK_OK(setun_scale_count(ROWS, COLUMNS, options.group, &count));
    CHECK(count == 4);

    options.scheme = SETUN_SCHEME_LEAST_SQUARES;
    quantize(&options, scales, 4, trits);
    CHECK(scales[0] == 1 && scales[1] == .375f && scales[2] == 2 && scales[3] == 3);
    CHECK(memcmp(trits, least, sizeof least) == 0);
    options.scheme = SETUN_SCHEME_ABSMEAN;
    quantize(&options, scales, 4, trits);
    CHECK(scales[0] == 3.125f / 4 && scales[1] == .375f && scales[2] == .5f && scales[3] == 3);
    options.scheme = SETUN_SCHEME_ABSMEDIAN;
    quantize(&options, scales, 4, trits);
    CHECK(scales[0] == 1 && scales[1] == .25f && scales[3] == 3);
    CHECK_NEAR(scales[2], 1e-5, 1e-11);
    options.scheme = SETUN_SCHEME_THRESHOLD;
    options.threshold = .5f;
    quantize(&options, scales, 4, trits);
    CHECK(scales[0] == 1 && scales[1] == 0 && scales[2] == 2 && scales[3] == 3);
    CHECK(memcmp(trits, above, sizeof above) == 0);
    options.threshold = 3;
    quantize(&options, scales, 4, trits);
    CHECK(scales[0] == 0 && scales[3] == 0);
    CHECK(memcmp(trits, none, sizeof none) == 0);

    options.group = SETUN_GROUP_ROW;
    options.scheme = SETUN_SCHEME_LEAST_SQUARES;
    options.packing = SETUN_PACKING_FIVE_PER_BYTE;
    quantize(&options, scales, 2, trits);
    CHECK_NEAR(scales[0], 3.5 / 4, 1e-7); /* 1 1 1 .5: 3.5^2 / 4 > 3^2 / 3 */
    CHECK_NEAR(scales[1], 8.0 / 3, 1e-6);
    CHECK(bytes == 4 && trits[4] == 1 && trits[5] == 0);

    /* Weights that are a multiple of the scale stay as they are; the others are rounded up or down by the seed. */
    options.group = 4;
    options.packing = SETUN_PACKING_TWO_BIT;
    options.rounding = SETUN_ROUNDING_STOCHASTIC;
    for (i = 0; i < 64; i++) {
        options.seed = (uint64_t)i << 33;
        quantize(&options, scales, 4, trits);
        quantize(&options, scales, 4, again);
        CHECK(memcmp(trits, again, sizeof trits) == 0);
        CHECK(trits[0] == 1 && trits[1] == -1 && trits[6] == 0 && trits[9] == 1 && trits[10] == -1);
        CHECK(trits[3] == 0 || trits[3] == 1);
        seen[trits[3]]++;
    }
    CHECK(seen[0] > 40 && seen[1] > 0); /* .125 / 1: one in eight */

    {
        uint8_t packed[4];
        bytes = sizeof packed;
        options.rounding = SETUN_ROUNDING_NEAREST;
        CHECK_OK(setun_quantize(weights, ROWS, COLUMNS, &options, packed, &bytes, scales, 4));
        CHECK_OK(setun_dequantize(packed, bytes, ROWS, COLUMNS, scales, 4, &options, back));
        for (i = 0; i < COUNT; i++) CHECK(back[i] == scales[i / COLUMNS * 2 + i % COLUMNS / 4] * least[i]);
    }
}

static void reports(const setun_context *context) {
    setun_quantize_options options;
    setun_quantize_report report;
    uint8_t packed[4];
    float scales[4];
    double norm = 3.0156250 + .3125 + 4 + 18, error = .015625 + 2 * .015625;
    bytes = sizeof packed;
    setun_quantize_options_init(&options, sizeof options);
    options.context = context;
    options.group = 4;
    options.scheme = SETUN_SCHEME_LEAST_SQUARES;
    CHECK_OK(setun_quantize(weights, ROWS, COLUMNS, &options, packed, &bytes, scales, 4));
    report.struct_size = sizeof report;
    CHECK_OK(setun_quantize_measure(weights, ROWS, COLUMNS, packed, bytes, scales, 4, &options, &report));
    CHECK_NEAR(report.relative_rmse, sqrt(error / norm), 1e-9);
    CHECK_NEAR(report.zero_fraction, 4.0 / 12, 1e-12);
    CHECK_NEAR(report.entropy, -(4 / 12.0 * log(4 / 12.0) + 5 / 12.0 * log(5 / 12.0) + 3 / 12.0 * log(3 / 12.0)) / log(2), 1e-9);
    CHECK(report.scale_count == 4 && report.bytes == 4 + 16);
    CHECK_NEAR(report.bits_per_weight, 160.0 / 12, 1e-9);
    CHECK_NEAR(report.ratio, 48.0 / 20, 1e-9);
    report.struct_size = 1;
    CHECK_FAILS(setun_quantize_measure(weights, ROWS, COLUMNS, packed, bytes, scales, 4, &options, &report), SETUN_ERR_ABI,
                "struct_size");
    CHECK_FAILS(setun_quantize_measure(weights, ROWS, COLUMNS, packed, bytes, scales, 4, &options, NULL), SETUN_ERR_ARGUMENT,
                "report is NULL");
    report.struct_size = sizeof report;
    scales[2] = NAN;
    CHECK_FAILS(setun_quantize_measure(weights, ROWS, COLUMNS, packed, bytes, scales, 4, &options, &report),
                SETUN_ERR_ARGUMENT, "scales[2] is");
    scales[2] = 0;
    packed[3] = 0xFF;
    CHECK_FAILS(setun_quantize_measure(weights, ROWS, COLUMNS, packed, bytes, scales, 4, &options, &report), SETUN_ERR_FORMAT,
                "byte 3");
    CHECK_FAILS(setun_quantize_measure(weights, ROWS, COLUMNS, packed, 3, scales, 4, &options, &report), SETUN_ERR_SHAPE,
                "packed has 3 bytes");
}

static void bad_input(void) {
    setun_quantize_options options;
    uint8_t packed[4] = {7, 7, 7, 7};
    float scales[4] = {7, 7, 7, 7}, bad[COUNT];
    int64_t count = 77;
    bytes = sizeof packed;
    setun_quantize_options_init(&options, sizeof options);
    options.scheme = 4;
    CHECK_FAILS(setun_quantize(weights, ROWS, COLUMNS, &options, packed, &bytes, scales, 1), SETUN_ERR_ARGUMENT, "scheme is 4");
    options.scheme = SETUN_SCHEME_LEAST_SQUARES;
    options.rounding = 2;
    CHECK_FAILS(setun_quantize(weights, ROWS, COLUMNS, &options, packed, &bytes, scales, 1), SETUN_ERR_ARGUMENT,
                "rounding is 2");
    options.rounding = SETUN_ROUNDING_NEAREST;
    options.group = -2;
    CHECK_FAILS(setun_quantize(weights, ROWS, COLUMNS, &options, packed, &bytes, scales, 1), SETUN_ERR_ARGUMENT,
                "group is -2");
    options.group = 4;
    CHECK_FAILS(setun_quantize(weights, ROWS, COLUMNS, &options, packed, &bytes, scales, 2), SETUN_ERR_SHAPE,
                "scale_count is 2");
    memcpy(bad, weights, sizeof bad);
    bad[7] = INFINITY;
    CHECK_FAILS(setun_quantize(bad, ROWS, COLUMNS, &options, packed, &bytes, scales, 4), SETUN_ERR_ARGUMENT, "weights[7] is");
    options.scheme = SETUN_SCHEME_THRESHOLD;
    options.threshold = -1;
    CHECK_FAILS(setun_quantize(weights, ROWS, COLUMNS, &options, packed, &bytes, scales, 4), SETUN_ERR_ARGUMENT,
                "threshold is -1");
    options.threshold = NAN;
    CHECK_FAILS(setun_quantize(weights, ROWS, COLUMNS, &options, packed, &bytes, scales, 4), SETUN_ERR_ARGUMENT,
                "threshold is NaN");
    CHECK_FAILS(setun_scale_count(1, 1, -2, &count), SETUN_ERR_ARGUMENT, "group is -2");
    CHECK(packed[0] == 7 && packed[3] == 7 && scales[0] == 7 && scales[3] == 7 && bytes == 4 && count == 77);
}

int main(void) {
    static const int32_t rows[3] = {SETUN_BACKEND_SCALAR, SETUN_BACKEND_SIMD, SETUN_BACKEND_PARALLEL};
    int i;
    for (i = 0; i < 3; i++) {
        setun_context *context = NULL;
        setun_context_options where;
        setun_context_options_init(&where, sizeof where);
        where.backend = rows[i];
        where.threads = 2;
        CHECK_OK(setun_context_create(&where, &context));
        known_answers(context);
        reports(context);
        setun_context_free(context);
    }
    bad_input();
    return 0;
}
