/* Text vectors: windows, a known answer, stored weights, cancellation, and bad input. */
#include "check.h"

#include <math.h>

enum { N = 3, D = 256 };

static const char text[] = "The cat, the dog; a CAT sat. ";
/* "The cat, the dog; ", "a CAT sat. ", and no word at all; as begins and ends of documents side by side. */
static const int64_t offsets[N + 1] = {0, 18, 28, 29};

static double product(const float *x, const float *y) {
    double sum = 0;
    int i;
    for (i = 0; i < D; i++) sum += (double)x[i] * y[i];
    return sum;
}

static setun_tfidf *vectorizer(const setun_cancel *cancel, const setun_context *context) {
    setun_tfidf_options options;
    setun_tfidf *tfidf = NULL;
    setun_tfidf_options_init(&options, sizeof options);
    options.dimensions = D;
    options.ngrams = 1;
    options.cancel = cancel;
    options.context = context;
    CHECK_OK(setun_tfidf_create(&options, &tfidf));
    return tfidf;
}

static void known_answers(void) {
    static float x[N * D], again[N * D], idf[D];
    static const int32_t rows[3] = {SETUN_BACKEND_SCALAR, SETUN_BACKEND_SIMD, SETUN_BACKEND_PARALLEL};
    setun_tfidf *tfidf = vectorizer(NULL, NULL), *other;
    /* the (twice), cat, dog; a, cat, sat: cat is in two of three documents, the others in one. */
    const double twice = 1 + log(2), rare = log(4.0 / 2) + 1, cat = log(4.0 / 3) + 1;
    const double first = sqrt((twice * twice + 1) * rare * rare + cat * cat), second = sqrt(2 * rare * rare + cat * cat);
    int64_t d = 0;
    int i;
    CHECK_FAILS(setun_tfidf_transform(tfidf, text, 29, offsets, offsets + 1, N, x), SETUN_ERR_STATE, "fit");
    CHECK_FAILS(setun_tfidf_idf(tfidf, idf, D), SETUN_ERR_STATE, "fit");
    CHECK_OK(setun_tfidf_dimensions(tfidf, &d));
    CHECK(d == D);
    CHECK_OK(setun_tfidf_fit(tfidf, text, 29, offsets, offsets + 1, N));
    CHECK_OK(setun_tfidf_transform(tfidf, text, 29, offsets, offsets + 1, N, x));
    CHECK_NEAR(product(x, x), 1, 1e-6);
    CHECK_NEAR(product(x + D, x + D), 1, 1e-6);
    CHECK_NEAR(product(x, x + D), cat * cat / (first * second), 1e-6);
    CHECK(product(x + 2 * D, x + 2 * D) == 0);
    /* No document writes nothing. */
    CHECK_OK(setun_tfidf_transform(tfidf, NULL, 0, NULL, NULL, 0, NULL));
    CHECK_OK(setun_tfidf_idf(tfidf, idf, D));
    for (i = 0; i < 3; i++) {
        /* Another process, another backend: the same options and weights give the same vectors. */
        setun_context *context = NULL;
        setun_context_options where;
        setun_context_options_init(&where, sizeof where);
        where.backend = rows[i];
        CHECK_OK(setun_context_create(&where, &context));
        other = vectorizer(NULL, context);
        CHECK_OK(setun_tfidf_set_idf(other, idf, D));
        CHECK_OK(setun_tfidf_transform(other, text, 29, offsets, offsets + 1, N, again));
        CHECK(memcmp(x, again, sizeof x) == 0);
        /* Set weights are forgotten; two parts of a stream are what the whole is. */
        CHECK_OK(setun_tfidf_partial_fit(other, text, 29, offsets, offsets + 1, 1));
        CHECK_OK(setun_tfidf_partial_fit(other, text, 29, offsets + 1, offsets + 2, 2));
        CHECK_OK(setun_tfidf_transform(other, text, 29, offsets, offsets + 1, N, again));
        CHECK(memcmp(x, again, sizeof x) == 0);
        setun_tfidf_free(other);
        setun_context_free(context);
    }
    setun_tfidf_free(tfidf);
}

static void refusals(void) {
    static float x[N * D], idf[D];
    const int64_t begins[2] = {5, 0}, past[2] = {9, 30}, before[2] = {9, -1}, turned[2] = {4, 3};
    setun_cancel *cancel = NULL;
    setun_tfidf *tfidf;
    int i;
    CHECK_OK(setun_cancel_create(&cancel));
    tfidf = vectorizer(cancel, NULL);
    CHECK_OK(setun_tfidf_fit(tfidf, text, 29, offsets, offsets + 1, N));
    CHECK_FAILS(setun_tfidf_fit(tfidf, text, 29, begins, past, 2), SETUN_ERR_ARGUMENT, "document 1 is from 0 to 30");
    CHECK_FAILS(setun_tfidf_transform(tfidf, text, 29, begins, before, 2, x), SETUN_ERR_ARGUMENT, "from 0 to -1");
    CHECK_FAILS(setun_tfidf_transform(tfidf, text, 29, begins, turned, 2, x), SETUN_ERR_ARGUMENT, "document 0");
    CHECK_FAILS(setun_tfidf_fit(tfidf, text, 29, begins, past, 0), SETUN_ERR_ARGUMENT, "n is 0");
    CHECK_FAILS(setun_tfidf_fit(tfidf, text, 29, begins, past, -1), SETUN_ERR_ARGUMENT, "n is -1");
    CHECK_FAILS(setun_tfidf_transform(tfidf, (const char *)x, 29, offsets, offsets + 1, N, x), SETUN_ERR_ARGUMENT, "overlaps");
    for (i = 0; i < D; i++) idf[i] = 1;
    CHECK_FAILS(setun_tfidf_set_idf(tfidf, idf, D - 1), SETUN_ERR_SHAPE, "255");
    CHECK_FAILS(setun_tfidf_idf(tfidf, idf, D + 1), SETUN_ERR_SHAPE, "257");
    idf[7] = -1;
    CHECK_FAILS(setun_tfidf_set_idf(tfidf, idf, D), SETUN_ERR_ARGUMENT, "idf[7]");
    idf[7] = (float)NAN;
    CHECK_FAILS(setun_tfidf_set_idf(tfidf, idf, D), SETUN_ERR_ARGUMENT, "idf[7]");
    CHECK_OK(setun_cancel_request(cancel));
    CHECK_STATUS(setun_tfidf_fit(tfidf, text, 29, offsets, offsets + 1, N), SETUN_ERR_CANCELLED);
    CHECK_STATUS(setun_tfidf_transform(tfidf, text, 29, offsets, offsets + 1, N, x), SETUN_ERR_CANCELLED);
    setun_cancel_free(cancel);
    setun_tfidf_free(tfidf);
    setun_tfidf_free(NULL);
}

static void cuts(void) {
    int64_t begins[4] = {-7, -7, -7, -7}, ends[4], count = 0;
    CHECK_OK(setun_text_windows(text, 29, 10, 10, NULL, NULL, 0, &count));
    CHECK(count == 3);
    CHECK_FAILS(setun_text_windows(text, 29, 10, 10, begins, ends, 2, &count), SETUN_ERR_ARGUMENT, "capacity is 2");
    CHECK(count == 3 && begins[0] == -7);
    CHECK_OK(setun_text_windows(text, 29, 10, 10, begins, ends, 4, &count));
    /* "The cat, the ", "dog; a ", "CAT sat. " */
    CHECK(count == 3 && begins[0] == 0 && begins[1] == 13 && begins[2] == 20 && begins[3] == -7);
    CHECK(ends[0] == 13 && ends[1] == 20 && ends[2] == 29);
    CHECK_OK(setun_text_windows(NULL, 0, 10, 10, NULL, NULL, 0, &count));
    CHECK(count == 0);
    CHECK_STATUS(setun_text_windows(text, 29, 0, 1, begins, ends, 4, &count), SETUN_ERR_ARGUMENT);
    CHECK_STATUS(setun_text_windows(text, 29, 1, -1, begins, ends, 4, &count), SETUN_ERR_ARGUMENT);
    CHECK_FAILS(setun_text_windows(text, 29, 1, 1, begins, begins, 4, &count), SETUN_ERR_ARGUMENT, "overlaps");
}

int main(void) {
    known_answers();
    refusals();
    cuts();
    return 0;
}
