/* Codebooks: known answers on every backend, codes and back, cancellation, and bad input. */
#include "check.h"

#include <math.h>

enum { N = 9, K = 3, MANY = 200000 };

/* Three groups, not in order; the last point is pulled by its weight. */
static const float x[N] = {10, -1, 0.5f, 11, 0, 1, -0.5f, 12, 100};
static const float entries_expected[K] = {0, 11, 100};
static const int32_t labels_expected[N] = {1, 0, 0, 1, 0, 0, 0, 1, 2};
static const double inertia_expected = 1 + .25 + 0 + 1 + .25 + 1 + 0 + 1;

static float many[MANY], back[MANY];
static int32_t labels_many[MANY], again_many[MANY];
static uint8_t packed_many[MANY];

static void known_answers(const setun_context *context) {
    setun_codebook_options options;
    float entries[K], y[N];
    int32_t labels[N];
    double inertia = 0;
    uint8_t packed[N];
    size_t bytes = 0;
    float weights[N] = {1, 1, 1, 3, 1, 1, 1, 0, 2};
    int i;
    setun_codebook_options_init(&options, sizeof options);
    options.context = context;
    CHECK_OK(setun_codebook_fit(x, N, K, &options, entries, labels, &inertia));
    CHECK(memcmp(entries, entries_expected, sizeof entries) == 0);
    CHECK(memcmp(labels, labels_expected, sizeof labels) == 0);
    CHECK_NEAR(inertia, inertia_expected, 1e-12);
    CHECK_OK(setun_codebook_size(N, K, &bytes));
    CHECK(bytes == 5);
    CHECK_OK(setun_codebook_pack(context, x, N, entries, K, packed, bytes));
    CHECK(packed[0] == 0x01 && packed[1] == 0x10 && packed[3] == 0x10 && packed[4] == 0x02);
    CHECK_OK(setun_codebook_unpack(context, packed, bytes, N, entries, K, y));
    for (i = 0; i < N; i++) CHECK(y[i] == entries_expected[labels_expected[i]]);
    options.weights = weights;
    CHECK_OK(setun_codebook_fit(x, N, K, &options, entries, labels, &inertia));
    CHECK(memcmp(labels, labels_expected, sizeof labels) == 0);
    CHECK(entries[1] == 10.75f && entries[2] == 100);
    CHECK_NEAR(inertia, 2.5 + .5625 + 3 * .0625, 1e-12);
    /* -a, 0 and a: the largest is all that counts, and then the four that come next by their weights. */
    options.constraint = SETUN_CODEBOOK_CONSTRAINT_TERNARY;
    options.weights = NULL;
    CHECK_OK(setun_codebook_fit(x, N, K, &options, entries, labels, &inertia));
    CHECK(entries[0] == -100 && entries[1] == 0 && entries[2] == 100 && labels[8] == 2 && labels[0] == 1);
    weights[8] = 0;
    options.weights = weights;
    CHECK_OK(setun_codebook_fit(x, N, K, &options, entries, labels, &inertia));
    CHECK(entries[2] == 10.75f && labels[8] == 2 && labels[1] == 1 && labels[0] == 2);
    /* All outputs may be NULL. */
    CHECK_OK(setun_codebook_fit(x, N, K, NULL, NULL, NULL, NULL));
}

static void backends(void) {
    static const int32_t rows[3] = {SETUN_BACKEND_SCALAR, SETUN_BACKEND_SIMD, SETUN_BACKEND_PARALLEL};
    float entries[256], first[256];
    double inertia = 0, least = 0;
    uint32_t state = 1;
    int i, j;
    for (i = 0; i < MANY; i++) {
        float sum = 0;
        for (j = 0; j < 4; j++) {
            state = state * 1664525u + 1013904223u;
            sum += (float)(state >> 8) / 16777216.0f - .5f;
        }
        many[i] = sum;
    }
    known_answers(NULL);
    for (i = 0; i < 3; i++) {
        setun_context *context = NULL;
        setun_context_options where;
        setun_codebook_options options;
        setun_context_options_init(&where, sizeof where);
        where.backend = rows[i];
        where.threads = 2;
        CHECK_OK(setun_context_create(&where, &context));
        known_answers(context);
        setun_codebook_options_init(&options, sizeof options);
        options.context = context;
        CHECK_OK(setun_codebook_fit(many, MANY, 256, &options, entries, labels_many, &inertia));
        if (i == 0) {
            memcpy(first, entries, sizeof first);
            memcpy(again_many, labels_many, sizeof again_many);
            least = inertia;
        }
        CHECK(memcmp(first, entries, sizeof first) == 0 && inertia == least);
        CHECK(memcmp(again_many, labels_many, sizeof again_many) == 0);
        /* Uniform steps over the range would leave more. */
        CHECK(inertia / MANY < pow((entries[255] - entries[0]) / 255, 2) / 12);
        CHECK_OK(setun_codebook_pack(context, many, MANY, entries, 256, packed_many, sizeof packed_many));
        CHECK_OK(setun_codebook_unpack(context, packed_many, sizeof packed_many, MANY, entries, 256, back));
        for (j = 0; j < MANY; j++) CHECK(fabsf(back[j] - many[j]) <= fabsf(entries[labels_many[j]] - many[j]));
        setun_context_free(context);
    }
}

static void wrong(void) {
    setun_codebook_options options;
    setun_cancel *cancel = NULL;
    float entries[K] = {7, 7, 7}, y[N] = {0}, odd[N], twisted[K] = {1, 0, 2};
    int32_t labels[N];
    double inertia = 7;
    uint8_t packed[N] = {0};
    size_t bytes = 7;
    setun_codebook_options_init(&options, sizeof options);
    memcpy(odd, x, sizeof odd);
    odd[4] = NAN;
    CHECK_FAILS(setun_codebook_fit(odd, N, K, &options, entries, labels, &inertia), SETUN_ERR_ARGUMENT, "x[4] is NaN");
    odd[4] = -INFINITY;
    CHECK_FAILS(setun_codebook_fit(odd, N, K, &options, entries, labels, &inertia), SETUN_ERR_ARGUMENT, "x[4] is -inf");
    CHECK_FAILS(setun_codebook_fit(x, N, N + 1, &options, entries, labels, NULL), SETUN_ERR_ARGUMENT, "more entries");
    CHECK_FAILS(setun_codebook_fit(x, N, 0, &options, entries, labels, NULL), SETUN_ERR_ARGUMENT, "k is 0");
    CHECK_FAILS(setun_codebook_fit(NULL, N, K, &options, entries, labels, NULL), SETUN_ERR_ARGUMENT, "x is NULL");
    CHECK_FAILS(setun_codebook_fit(entries, K, 2, &options, entries, NULL, NULL), SETUN_ERR_ARGUMENT, "overlaps");
    options.constraint = 2;
    CHECK_FAILS(setun_codebook_fit(x, N, K, &options, entries, NULL, NULL), SETUN_ERR_ARGUMENT, "0 (none) or 1 (ternary)");
    options.constraint = SETUN_CODEBOOK_CONSTRAINT_TERNARY;
    CHECK_FAILS(setun_codebook_fit(x, N, 4, &options, NULL, NULL, NULL), SETUN_ERR_ARGUMENT, "k is 4");
    options.constraint = SETUN_CODEBOOK_CONSTRAINT_NONE;
    odd[4] = -1;
    options.weights = odd;
    CHECK_FAILS(setun_codebook_fit(x, N, K, &options, entries, NULL, NULL), SETUN_ERR_ARGUMENT, "weights[1] is -1");
    options.weights = NULL;
    CHECK_OK(setun_cancel_create(&cancel));
    CHECK_OK(setun_cancel_request(cancel));
    options.cancel = cancel;
    CHECK_STATUS(setun_codebook_fit(x, N, K, &options, entries, labels, &inertia), SETUN_ERR_CANCELLED);
    CHECK_OK(setun_cancel_reset(cancel));
    CHECK(entries[0] == 7 && inertia == 7);
    CHECK_OK(setun_codebook_fit(x, N, K, &options, entries, labels, &inertia));
    setun_cancel_free(cancel);

    CHECK_FAILS(setun_codebook_size(4, 257, &bytes), SETUN_ERR_ARGUMENT, "k is 257");
    CHECK_FAILS(setun_codebook_size(-1, 16, &bytes), SETUN_ERR_ARGUMENT, "n is -1");
    CHECK(bytes == 7);
    CHECK_OK(setun_codebook_size(7, 16, &bytes));
    CHECK(bytes == 4);
    CHECK_OK(setun_codebook_size(7, 17, &bytes));
    CHECK(bytes == 7);
    odd[4] = NAN;
    CHECK_FAILS(setun_codebook_pack(NULL, odd, N, entries, K, packed, 5), SETUN_ERR_ARGUMENT, "x[4] is NaN");
    CHECK_FAILS(setun_codebook_pack(NULL, x, N, entries, K, packed, 4), SETUN_ERR_SHAPE, "take 5");
    CHECK_FAILS(setun_codebook_pack(NULL, x, N, twisted, K, packed, 5), SETUN_ERR_ARGUMENT, "entries[1] is 0, below");
    CHECK(packed[0] == 0);
    packed[2] = 0x30;
    CHECK_FAILS(setun_codebook_unpack(NULL, packed, 5, N, entries, K, y), SETUN_ERR_FORMAT, "code 5 of packed is 3");
    packed[2] = 0;
    packed[4] = 0x10;
    CHECK_FAILS(setun_codebook_unpack(NULL, packed, 5, N, entries, K, y), SETUN_ERR_FORMAT, "past the last");
    CHECK_FAILS(setun_codebook_unpack(NULL, packed, 4, N, entries, K, y), SETUN_ERR_SHAPE, "take 5");
    CHECK(y[0] == 0 && y[1] == 0);
    CHECK_OK(setun_codebook_pack(NULL, NULL, 0, entries, K, NULL, 0));
}

int main(void) {
    backends();
    wrong();
    return 0;
}
