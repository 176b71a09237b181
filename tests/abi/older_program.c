/* A program that was compiled when the option structs had fewer fields. test_abi.py compiles it against such a header. */
#include "check.h"

/* What init does not know of this program's struct, it does not write. */
#define CHECK_INIT(name)                                                                                      \
    do {                                                                                                     \
        struct {                                                                                             \
            name options;                                                                                    \
            unsigned char after[256];                                                                        \
        } memory;                                                                                            \
        size_t i_;                                                                                           \
        memset(&memory, 0xA5, sizeof memory);                                                                \
        name##_init(&memory.options, sizeof memory.options);                                                 \
        CHECK(memory.options.struct_size == sizeof memory.options);                                          \
        for (i_ = 0; i_ < sizeof memory.after; i_++) CHECK(memory.after[i_] == 0xA5);                        \
    } while (0)

static int32_t hear(const char *piece, size_t bytes, void *user_data) {
    (void)piece;
    *(size_t *)user_data += bytes;
    return 1;
}

int main(void) {
    float weights[8] = {1, -1, 2, 0, 0, 1, -2, 1}, scale;
    uint8_t packed[2];
    size_t packed_size = sizeof packed;
    size_t heard = 0;
    setun_context_options where;
    setun_quantize_options how;
    setun_model_options geometry;
    setun_save_options file;
    setun_train_options training;
    setun_sample_options sampling;
    setun_context *context = NULL;
    setun_model *model = NULL, *loaded = NULL;
    setun_tokenizer *tokenizer = NULL;

    /* CHECK_INIT */

    setun_context_options_init(&where, sizeof where);
    where.backend = SETUN_BACKEND_SIMD;
    CHECK_OK(setun_context_create(&where, &context));
    setun_quantize_options_init(&how, sizeof how);
    how.packing = SETUN_PACKING_FIVE_PER_BYTE;
    CHECK_OK(setun_quantize(weights, 2, 4, &how, packed, &packed_size, &scale, 1));
    setun_model_options_init(&geometry, sizeof geometry);
    geometry.width = 16;
    geometry.layers = 1;
    geometry.heads = 2;
    geometry.context_length = 8;
    CHECK_OK(setun_model_create(context, &geometry, &model));
    setun_model_free(model);
    setun_train_options_init(&training, sizeof training);
    training.max_steps = 2;
    training.batch_size = 2;
    training.model = &geometry;
    CHECK_OK(setun_train("corpus.txt", &training, &model, &tokenizer));
    setun_save_options_init(&file, sizeof file);
    CHECK_OK(setun_model_save(model, "model.safetensors", &file, NULL));
    CHECK_OK(setun_model_load(context, "model.safetensors", &loaded));
    setun_sample_options_init(&sampling, sizeof sampling);
    sampling.temperature = 0;
    CHECK_OK(setun_generate(loaded, tokenizer, "the", &sampling, hear, &heard, NULL));
    CHECK(heard > 0);
    setun_model_free(loaded);
    setun_model_free(model);
    setun_tokenizer_free(tokenizer);
    setun_context_free(context);
    return 0;
}
