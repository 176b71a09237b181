/* Models: geometry, forward and loss, files in every packing, damaged files. */
#include "check.h"

#include <math.h>

enum { VOCABULARY = 17, CONTEXT = 8, WIDTH = 16, LAYERS = 2, HIDDEN = 40, BATCH = 3 };

static uint32_t tokens[BATCH * CONTEXT], targets[BATCH * CONTEXT];

static setun_model *small(int32_t quantized) {
    setun_model_options options;
    setun_model *model = NULL;
    setun_model_options_init(&options, sizeof options);
    options.vocabulary = VOCABULARY;
    options.context_length = CONTEXT;
    options.width = WIDTH;
    options.layers = LAYERS;
    options.heads = 4;
    options.kv_heads = 2;
    options.hidden = HIDDEN;
    options.quantize_weights = quantized;
    options.seed = 3;
    CHECK_OK(setun_model_create(NULL, &options, &model));
    return model;
}

static void geometry(void) {
    static const char *const first[4] = {"model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                                         "model.layers.0.self_attn.q_proj.weight",
                                         "model.layers.0.self_attn.k_proj.weight"};
    setun_model *model = small(1), *none = NULL;
    setun_model_options options;
    setun_tensor *tensor = NULL;
    int64_t parameters = 0, count = 0, seen = 0, i, dims[4];
    int32_t rank;
    const char *name = NULL;
    setun_model_options_init(&options, sizeof options);
    CHECK_OK(setun_model_describe(model, &options));
    CHECK(options.vocabulary == VOCABULARY && options.context_length == CONTEXT && options.width == WIDTH);
    CHECK(options.layers == LAYERS && options.heads == 4 && options.kv_heads == 2 && options.hidden == HIDDEN);
    CHECK(options.quantize_weights == 1 && options.tied_embedding == 1 && options.ffn_gated == 0);
    CHECK(options.rope_theta == 10000 && options.norm_epsilon == 1e-5 && options.dropout == 0 && options.weight_threshold == .5);
    CHECK_OK(setun_model_parameters(model, &parameters));
    /* Embedding, final norm; per layer q, o, k, v, up, down and four norms, one of them as wide as the hidden layer. */
    CHECK(parameters == VOCABULARY * WIDTH + WIDTH +
                            LAYERS * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH / 2 + 2 * WIDTH * HIDDEN + 3 * WIDTH + HIDDEN));
    CHECK_OK(setun_model_tensor_count(model, &count));
    for (i = 0; i < count; i++) {
        CHECK_OK(setun_model_tensor(model, i, &name, &tensor));
        CHECK(i >= 4 || strcmp(name, first[i]) == 0);
        CHECK_OK(setun_tensor_dims(tensor, dims, &rank));
        seen += dims[0] * dims[1];
        setun_tensor_free(tensor);
    }
    CHECK(seen == parameters);
    CHECK_OK(setun_model_tensor(model, 0, NULL, NULL));
    CHECK_FAILS(setun_model_tensor(model, count, &name, NULL), SETUN_ERR_ARGUMENT, "index is");
    CHECK_FAILS(setun_model_tensor(model, -1, &name, NULL), SETUN_ERR_ARGUMENT, "index is -1");
    setun_model_free(model);

    setun_model_options_init(&options, sizeof options);
    options.heads = 3;
    CHECK_FAILS(setun_model_create(NULL, &options, &none), SETUN_ERR_ARGUMENT, "width 128 is not a multiple of heads 3");
    setun_model_options_init(&options, sizeof options);
    options.vocabulary = -5;
    CHECK_FAILS(setun_model_create(NULL, &options, &none), SETUN_ERR_ARGUMENT, "vocabulary is -5");
    options.vocabulary = 256;
    options.dropout = NAN;
    CHECK_FAILS(setun_model_create(NULL, &options, &none), SETUN_ERR_ARGUMENT, "dropout");
    CHECK(none == NULL);
}

/* The loss is the mean of -log softmax(logits)[target]. */
static void forward_and_loss(int32_t quantized) {
    setun_model *model = small(quantized);
    static float logits[BATCH * CONTEXT * VOCABULARY], shorter[VOCABULARY];
    double loss = 0, mean = 0;
    int i, j;
    CHECK_OK(setun_model_forward(model, tokens, BATCH, CONTEXT, logits));
    CHECK_OK(setun_model_loss(model, tokens, targets, BATCH, CONTEXT, &loss));
    for (i = 0; i < BATCH * CONTEXT; i++) {
        double sum = 0;
        for (j = 0; j < VOCABULARY; j++) sum += exp(logits[i * VOCABULARY + j]);
        mean += log(sum) - logits[i * VOCABULARY + targets[i]];
    }
    CHECK_NEAR(loss, mean / (BATCH * CONTEXT), 1e-5);
    CHECK_NEAR(loss, log(VOCABULARY), .5);
    /* Causal: the first token's logits do not depend on what follows. */
    CHECK_OK(setun_model_forward(model, tokens, 1, 1, shorter));
    for (j = 0; j < VOCABULARY; j++) CHECK_NEAR(shorter[j], logits[j], 1e-5);
    setun_model_free(model);
}

static void refused(void) {
    setun_model *model = small(1);
    static float logits[(CONTEXT + 1) * VOCABULARY];
    uint32_t wrong[2] = {1, VOCABULARY};
    double loss = -1;
    logits[0] = 7;
    CHECK_FAILS(setun_model_forward(model, wrong, 1, 2, logits), SETUN_ERR_ARGUMENT, "tokens[1] is 17");
    CHECK_FAILS(setun_model_loss(model, tokens, wrong, 1, 2, &loss), SETUN_ERR_ARGUMENT, "targets[1] is 17");
    CHECK_FAILS(setun_model_forward(model, tokens, 1, CONTEXT + 1, logits), SETUN_ERR_SHAPE, "length is 9");
    CHECK_FAILS(setun_model_forward(model, tokens, 0, 1, logits), SETUN_ERR_ARGUMENT, "batch is 0");
    CHECK_FAILS(setun_model_forward(model, tokens, 1, -1, logits), SETUN_ERR_ARGUMENT, "length is -1");
    CHECK_FAILS(setun_model_forward(model, NULL, 1, 1, logits), SETUN_ERR_ARGUMENT, "tokens is NULL");
    CHECK_FAILS(setun_model_forward(model, tokens, 1, 1, (float *)(void *)tokens), SETUN_ERR_ARGUMENT,
                "logits overlaps tokens");
    CHECK_FAILS(setun_model_loss(model, tokens, targets, 1, 1, NULL), SETUN_ERR_ARGUMENT, "loss is NULL");
    CHECK(logits[0] == 7 && loss == -1);
    setun_model_free(model);
}

/* Saved and loaded, the model answers as before. */
static void file(int32_t packing, int32_t rest, double tolerance) {
    setun_model *model = small(1), *loaded = NULL;
    setun_save_options options;
    setun_file_report report;
    static float before[BATCH * CONTEXT * VOCABULARY], after[BATCH * CONTEXT * VOCABULARY];
    int64_t linear = LAYERS * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH / 2 + 2 * WIDTH * HIDDEN), parameters = 0, i;
    FILE *there;
    setun_save_options_init(&options, sizeof options);
    options.packing = packing;
    options.rest = rest;
    report.struct_size = sizeof report;
    CHECK_OK(setun_model_save(model, "model.safetensors", &options, &report));
    CHECK_OK(setun_model_parameters(model, &parameters));
    CHECK(report.parameters == parameters && report.linear_parameters == linear);
    there = fopen("model.safetensors", "rb");
    CHECK(there != NULL && fseek(there, 0, SEEK_END) == 0);
    CHECK(ftell(there) == report.file_bytes);
    fclose(there);
    if (packing == SETUN_PACKING_FULL) CHECK(report.linear_bytes >= 4 * linear);
    if (packing == SETUN_PACKING_TWO_BIT) CHECK(report.linear_bytes >= linear / 4 && report.linear_bytes < linear / 3);
    CHECK_OK(setun_model_load(NULL, "model.safetensors", &loaded));
    CHECK_OK(setun_model_forward(model, tokens, BATCH, CONTEXT, before));
    CHECK_OK(setun_model_forward(loaded, tokens, BATCH, CONTEXT, after));
    if (tolerance == 0) CHECK(memcmp(before, after, sizeof before) == 0);
    for (i = 0; i < BATCH * CONTEXT * VOCABULARY; i++) CHECK_NEAR(after[i], before[i], tolerance);
    /* The same tensors, trits for floats. */
    for (i = 0; i < 6; i++) {
        setun_tensor *tensor = NULL;
        const char *name = NULL, *loaded_name = NULL;
        CHECK_OK(setun_model_tensor(model, i, &name, NULL));
        CHECK_OK(setun_model_tensor(loaded, i, &loaded_name, &tensor));
        CHECK(strcmp(name, loaded_name) == 0);
        if (strstr(name, "q_proj") != NULL && packing != SETUN_PACKING_FULL) {
            static float values[WIDTH * WIDTH];
            float scale = 0;
            int j;
            CHECK_OK(setun_tensor_read(tensor, values, sizeof values));
            for (j = 0; j < WIDTH * WIDTH; j++) scale = fmaxf(scale, fabsf(values[j]));
            for (j = 0; j < WIDTH * WIDTH; j++) CHECK(values[j] == 0 || fabsf(values[j]) == scale);
        }
        setun_tensor_free(tensor);
    }
    setun_model_free(loaded);
    setun_model_free(model);
}

static void bad_files(void) {
    setun_model *model = small(1), *none = NULL;
    setun_save_options options;
    setun_file_report report;
    static unsigned char bytes[1 << 20];
    size_t length, cut;
    FILE *there;
    CHECK_FAILS(setun_model_load(NULL, "missing", &none), SETUN_ERR_IO, "missing");
    CHECK_FAILS(setun_model_save(model, "no/such/folder/m", NULL, NULL), SETUN_ERR_IO, "no/such/folder");
    setun_save_options_init(&options, sizeof options);
    options.packing = 4;
    CHECK_FAILS(setun_model_save(model, "m", &options, NULL), SETUN_ERR_ARGUMENT, "packing is 4");
    options.packing = SETUN_PACKING_TWO_BIT;
    options.rest = SETUN_DTYPE_I8;
    CHECK_FAILS(setun_model_save(model, "m", &options, NULL), SETUN_ERR_ARGUMENT, "rest is 2");
    report.struct_size = 3;
    CHECK_FAILS(setun_model_save(model, "m", NULL, &report), SETUN_ERR_ABI, "struct_size is 3");
    CHECK(fopen("m", "rb") == NULL);

    CHECK_OK(setun_model_save(model, "whole", NULL, NULL));
    there = fopen("whole", "rb");
    length = fread(bytes, 1, sizeof bytes, there);
    fclose(there);
    /* Cut anywhere, the file is damaged, and said to be. */
    for (cut = 0; cut < length; cut += 1 + length / 40) {
        there = fopen("cut", "wb");
        CHECK(fwrite(bytes, 1, cut, there) == cut);
        fclose(there);
        CHECK_STATUS(setun_model_load(NULL, "cut", &none), SETUN_ERR_FORMAT);
        CHECK(none == NULL);
    }
    setun_model_free(model);
}

/* A save that fails leaves what was there. */
static void replaced_whole(void) {
    setun_model *model = small(1), *loaded = NULL;
    CHECK_OK(setun_model_save(model, "kept", NULL, NULL));
    CHECK_STATUS(setun_model_save(model, "kept/inside", NULL, NULL), SETUN_ERR_IO);
    CHECK_OK(setun_model_load(NULL, "kept", &loaded));
    setun_model_free(loaded);
    setun_model_free(model);
}

/* Matrices by codebooks: the loaded file answers as the model does that holds its tensors. */
static void codebooks(void) {
    static float before[CONTEXT * VOCABULARY], after[CONTEXT * VOCABULARY], values[VOCABULARY * WIDTH];
    setun_model *model = small(1), *loaded = NULL;
    setun_save_options options;
    setun_file_report plain, report;
    setun_tensor *table = NULL;
    const char *name = NULL;
    plain.struct_size = report.struct_size = sizeof report;
    setun_save_options_init(&options, sizeof options);
    CHECK(options.codebook == 0);
    CHECK_OK(setun_model_save(model, "plain", &options, &plain));
    options.codebook = 257;
    CHECK_FAILS(setun_model_save(model, "book", &options, NULL), SETUN_ERR_ARGUMENT, "codebook is 257, expected at most 256");
    options.codebook = -1;
    CHECK_FAILS(setun_model_save(model, "book", &options, NULL), SETUN_ERR_ARGUMENT, "codebook is -1");
    options.codebook = 16;
    options.packing = SETUN_PACKING_FULL;
    CHECK_FAILS(setun_model_save(model, "book", &options, NULL), SETUN_ERR_ARGUMENT, "codebook is 16, expected 0");
    CHECK(fopen("book", "rb") == NULL);
    options.packing = SETUN_PACKING_MASK_SIGN;
    CHECK_OK(setun_model_save(model, "book", &options, &report));
    CHECK(report.linear_parameters == plain.linear_parameters && report.parameters == plain.parameters);
    CHECK_OK(setun_model_load(NULL, "book", &loaded));
    CHECK_OK(setun_model_tensor(loaded, 0, &name, &table));
    CHECK(strstr(name, "embed") != NULL);
    CHECK_OK(setun_tensor_read(table, values, sizeof values));
    CHECK_OK(setun_model_tensor_write(model, 0, values, VOCABULARY * WIDTH));
    CHECK_OK(setun_model_forward(model, tokens, 1, CONTEXT, before));
    CHECK_OK(setun_model_forward(loaded, tokens, 1, CONTEXT, after));
    CHECK(memcmp(before, after, sizeof before) == 0);
    setun_tensor_free(table);
    setun_model_free(model);
    setun_model_free(loaded);
}

/* What was loaded packed goes on training from a copy, which answers as it did; floats are copied as they are. */
static void copies(void) {
    static float before[CONTEXT * VOCABULARY], after[CONTEXT * VOCABULARY];
    setun_model *model = small(1), *loaded = NULL, *copy = NULL, *twin = NULL, *back = NULL;
    setun_model_options made;
    double loss = 0;
    int64_t count = 0, i;
    CHECK_OK(setun_model_save(model, "packed", NULL, NULL));
    CHECK_OK(setun_model_load(NULL, "packed", &loaded));
    CHECK_OK(setun_model_copy(loaded, 1, &copy));
    CHECK_OK(setun_model_forward(loaded, tokens, 1, CONTEXT, before));
    CHECK_OK(setun_model_forward(copy, tokens, 1, CONTEXT, after));
    for (i = 0; i < CONTEXT * VOCABULARY; i++) CHECK_NEAR(after[i], before[i], 1e-4);
    CHECK_OK(setun_model_tensor_count(copy, &count));
    {
        float *gradients[64];
        static float room[64][VOCABULARY * WIDTH > WIDTH * HIDDEN ? VOCABULARY * WIDTH : WIDTH * HIDDEN];
        CHECK(count <= 64);
        for (i = 0; i < count; i++) gradients[i] = room[i];
        CHECK_STATUS(setun_model_backward(loaded, tokens, targets, 1, CONTEXT, NULL, &loss, gradients, count),
                     SETUN_ERR_UNSUPPORTED);
        CHECK_OK(setun_model_backward(copy, tokens, targets, 1, CONTEXT, NULL, &loss, gradients, count));
    }
    /* To floats and back, nothing is lost. */
    CHECK_OK(setun_model_copy(model, 0, &twin));
    setun_model_options_init(&made, sizeof made);
    CHECK_OK(setun_model_describe(twin, &made));
    CHECK(made.quantize_weights == 0);
    CHECK_OK(setun_model_copy(twin, 1, &back));
    CHECK_OK(setun_model_forward(model, tokens, 1, CONTEXT, before));
    CHECK_OK(setun_model_forward(back, tokens, 1, CONTEXT, after));
    CHECK(memcmp(before, after, sizeof before) == 0);
    CHECK_OK(setun_model_forward(twin, tokens, 1, CONTEXT, after));
    CHECK(memcmp(before, after, sizeof before) != 0);
    setun_model_free(twin);
    twin = NULL;
    CHECK_OK(setun_model_copy(loaded, 0, &twin));
    CHECK_OK(setun_model_forward(twin, tokens, 1, CONTEXT, after));
    CHECK_FAILS(setun_model_copy(NULL, 1, &copy), SETUN_ERR_ARGUMENT, "model is NULL");
    CHECK_FAILS(setun_model_copy(model, 1, NULL), SETUN_ERR_ARGUMENT, "out is NULL");
    setun_model_free(back);
    setun_model_free(twin);
    setun_model_free(copy);
    setun_model_free(loaded);
    setun_model_free(model);
}

/* A model without trits: its linear layers are stored as the rest is, whatever packing is asked for. */
static void twin(void) {
    static float before[CONTEXT * VOCABULARY], after[CONTEXT * VOCABULARY];
    setun_model *model = small(0), *loaded = NULL;
    setun_model_options made;
    setun_save_options options;
    setun_save_options_init(&options, sizeof options);
    options.rest = SETUN_DTYPE_F32;
    CHECK_OK(setun_model_save(model, "twin", &options, NULL));
    CHECK_OK(setun_model_load(NULL, "twin", &loaded));
    setun_model_options_init(&made, sizeof made);
    CHECK_OK(setun_model_describe(loaded, &made));
    CHECK(made.quantize_weights == 0);
    CHECK_OK(setun_model_forward(model, tokens, 1, CONTEXT, before));
    CHECK_OK(setun_model_forward(loaded, tokens, 1, CONTEXT, after));
    CHECK(memcmp(before, after, sizeof before) == 0);
    setun_model_free(model);
    setun_model_free(loaded);
}

int main(void) {
    int i;
    for (i = 0; i < BATCH * CONTEXT; i++) {
        tokens[i] = (uint32_t)(i * 7 % VOCABULARY);
        targets[i] = (uint32_t)(i * 5 % VOCABULARY);
    }
    geometry();
    forward_and_loss(1);
    forward_and_loss(0);
    refused();
    codebooks();
    copies();
    file(SETUN_PACKING_FULL, SETUN_DTYPE_F32, 0);
    file(SETUN_PACKING_TWO_BIT, SETUN_DTYPE_F32, 0);
    file(SETUN_PACKING_FIVE_PER_BYTE, SETUN_DTYPE_F32, 0);
    file(SETUN_PACKING_MASK_SIGN, SETUN_DTYPE_F32, 0);
    file(SETUN_PACKING_MASK_SIGN, SETUN_DTYPE_F16, .02);
    file(SETUN_PACKING_FIVE_PER_BYTE, SETUN_DTYPE_F16, .02);
    bad_files();
    twin();
    replaced_whole();
    return 0;
}
