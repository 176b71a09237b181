/* struct_size: older, newer and uninitialized option structs. */
#include "check.h"

#include <stddef.h>

/* The context options of a newer header: two fields more. */
typedef struct {
    setun_context_options known;
    int64_t later, latest;
} newer_options;

/* Room that no option struct reaches, to see whether an init writes more than its struct. */
#define GUARD 64
#define CHECK_INIT(type)                                                                                     \
    do {                                                                                                     \
        union {                                                                                              \
            type options;                                                                                    \
            unsigned char bytes[sizeof(type) + GUARD];                                                       \
        } u;                                                                                                 \
        size_t i_;                                                                                           \
        memset(&u, 0xEE, sizeof u);                                                                          \
        type##_init(&u.options, sizeof(type));                                                               \
        CHECK(u.options.struct_size == sizeof(type));                                                        \
        for (i_ = sizeof(type); i_ < sizeof u; i_++) CHECK(u.bytes[i_] == 0xEE);                             \
        type##_init(NULL, sizeof(type));                                                                     \
    } while (0)

static void inits(void) {
    CHECK_INIT(setun_context_options);
    CHECK_INIT(setun_quantize_options);
    CHECK_INIT(setun_kmeans_options);
    CHECK_INIT(setun_tfidf_options);
    CHECK_INIT(setun_codebook_options);
    CHECK_INIT(setun_model_options);
    CHECK_INIT(setun_save_options);
    CHECK_INIT(setun_train_options);
    CHECK_INIT(setun_sample_options);
    CHECK_INIT(setun_benchmark_options);
}

static void defaults(void) {
    setun_context_options context;
    setun_train_options train;
    setun_model_options model;
    setun_sample_options sample;
    setun_context_options_init(&context, sizeof context);
    CHECK(context.backend == SETUN_BACKEND_AUTO && context.prefer_cuda && context.prefer_parallel);
    CHECK(context.prefer_simd && context.threads == 0 && context.verbose == 0);
    setun_train_options_init(&train, sizeof train);
    CHECK(train.batch_size == 32 && train.max_epochs == 10 && train.learning_rate == 1e-3);
    CHECK(train.checkpoint_dir == NULL && train.progress == NULL && train.cancel == NULL);
    setun_model_options_init(&model, sizeof model);
    CHECK(model.vocabulary == 256 && model.width == 128 && model.layers == 4 && model.tied_embedding);
    setun_sample_options_init(&sample, sizeof sample);
    CHECK(sample.temperature == 1.0f && sample.top_p == 1.0f && sample.top_k == 0);
}

static void sizes(void) {
    static const size_t wrong[] = {0, 1, 7, 12, 4104, (size_t)-8};
    setun_context_options options;
    newer_options newer;
    setun_context *context = NULL;
    int32_t backend;
    size_t i;

    setun_context_options_init(&options, sizeof options);
    options.backend = SETUN_BACKEND_SCALAR;
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.struct_size = wrong[i];
        CHECK_FAILS(setun_context_create(&options, &context), SETUN_ERR_ABI, "struct_size");
        CHECK(context == NULL);
    }

    /* An older caller: the fields past its size are not read. */
    options.struct_size = offsetof(setun_context_options, prefer_simd);
    options.threads = -7;
    CHECK_OK(setun_context_create(&options, &context));
    CHECK_OK(setun_context_backend(context, &backend));
    CHECK(backend == SETUN_BACKEND_SCALAR);
    setun_context_free(context);

    /* Its init function writes no further than its struct. */
    options.verbose = -7;
    setun_context_options_init(&options, offsetof(setun_context_options, verbose));
    CHECK(options.struct_size == offsetof(setun_context_options, verbose) && options.verbose == -7);
    CHECK_OK(setun_context_create(&options, &context));
    setun_context_free(context);

    /* A newer caller: fine as long as it asks for nothing unknown. */
    memset(&newer, 0, sizeof newer);
    setun_context_options_init(&newer.known, sizeof newer);
    newer.known.backend = SETUN_BACKEND_SIMD;
    CHECK_OK(setun_context_create(&newer.known, &context));
    CHECK_OK(setun_context_backend(context, &backend));
    CHECK(backend == SETUN_BACKEND_SIMD);
    setun_context_free(context);
    context = NULL;
    newer.latest = 1;
    CHECK_FAILS(setun_context_create(&newer.known, &context), SETUN_ERR_ABI, "older than the header");
    CHECK(context == NULL);

    /* A struct that is not where a struct can be. */
    CHECK_FAILS(setun_context_create((const setun_context_options *)((const char *)&options + 1), &context),
                SETUN_ERR_ARGUMENT, "options is at");
}

int main(void) {
    inits();
    defaults();
    sizes();
    return 0;
}
