/* Gradients of a model and its parameters as floats: differences, a loop of one's own, what is refused. */
#include "check.h"

#include <math.h>

enum { VOCABULARY = 17, CONTEXT = 8, WIDTH = 16, LAYERS = 2, HIDDEN = 40, BATCH = 3, COUNT = 22, ROOM = VOCABULARY * WIDTH * 3 };

static uint32_t tokens[BATCH * CONTEXT], targets[BATCH * CONTEXT];
static float weights[COUNT][ROOM], slopes[COUNT][ROOM], before[COUNT][ROOM];
static float *gradients[COUNT];
static int64_t sizes[COUNT];

static setun_model *small(int32_t quantized) {
    setun_model_options options;
    setun_model *model = NULL;
    int64_t count = 0, dims[SETUN_MAX_RANK];
    int i;
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
    CHECK_OK(setun_model_tensor_count(model, &count));
    CHECK(count == COUNT);
    for (i = 0; i < COUNT; i++) {
        CHECK_OK(setun_model_tensor_describe(model, i, NULL, NULL, dims, NULL));
        sizes[i] = dims[0] * dims[1];
        CHECK(sizes[i] <= ROOM);
        CHECK_OK(setun_model_tensor_read(model, i, weights[i], sizes[i]));
        gradients[i] = slopes[i];
    }
    return model;
}

static double loss_of(setun_model *model) {
    double loss = 0;
    CHECK_OK(setun_model_loss(model, tokens, targets, BATCH, CONTEXT, &loss));
    return loss;
}

/* The description agrees with the tensor, and reading and writing with it too. */
static void described(void) {
    setun_model *model = small(1), *loaded = NULL, *twin;
    const char *name = NULL, *described = NULL;
    int64_t dims[SETUN_MAX_RANK], of_tensor[SETUN_MAX_RANK];
    int32_t rank, other, kind, i;
    static float copy[ROOM];
    for (i = 0; i < COUNT; i++) {
        setun_tensor *tensor = NULL;
        CHECK_OK(setun_model_tensor(model, i, &name, &tensor));
        CHECK_OK(setun_model_tensor_describe(model, i, &described, &kind, dims, &rank));
        CHECK_OK(setun_tensor_dims(tensor, of_tensor, &other));
        CHECK(strcmp(name, described) == 0 && rank == other && memcmp(dims, of_tensor, sizeof dims) == 0);
        if (strstr(name, "_proj") != NULL) CHECK(kind == SETUN_PARAMETER_KIND_TERNARY);
        if (strstr(name, "norm") != NULL) CHECK(kind == SETUN_PARAMETER_KIND_VECTOR && rank == 1);
        if (strstr(name, "embed") != NULL) CHECK(kind == SETUN_PARAMETER_KIND_MATRIX);
        CHECK_OK(setun_tensor_read(tensor, copy, (size_t)sizes[i] * sizeof(float)));
        CHECK(memcmp(copy, weights[i], (size_t)sizes[i] * sizeof(float)) == 0);
        setun_tensor_free(tensor);
    }
    CHECK_OK(setun_model_tensor_describe(model, 0, NULL, NULL, NULL, NULL));
    CHECK_FAILS(setun_model_tensor_describe(model, COUNT, &name, NULL, NULL, NULL), SETUN_ERR_ARGUMENT, "index is 22");
    /* A packed model is described and read, as scale * t; it has no gradient, and nothing to write to. */
    CHECK_OK(setun_model_save(model, "packed", NULL, NULL));
    CHECK_OK(setun_model_load(NULL, "packed", &loaded));
    CHECK_OK(setun_model_tensor_describe(loaded, 2, &described, &kind, dims, &rank));
    CHECK(strstr(described, "q_proj") != NULL && kind == SETUN_PARAMETER_KIND_TERNARY && dims[0] == WIDTH);
    CHECK_OK(setun_model_tensor_read(loaded, 2, copy, WIDTH * WIDTH));
    for (i = 1; i < WIDTH * WIDTH; i++) CHECK(copy[i] == 0 || copy[0] == 0 || fabsf(copy[i]) == fabsf(copy[0]));
    CHECK_FAILS(setun_model_tensor_write(loaded, 2, copy, WIDTH * WIDTH), SETUN_ERR_UNSUPPORTED, "packed");
    {
        double loss = -1;
        slopes[0][0] = 7;
        CHECK_FAILS(setun_model_backward(loaded, tokens, targets, BATCH, CONTEXT, NULL, &loss, gradients, COUNT),
                    SETUN_ERR_UNSUPPORTED, "packed");
        CHECK(loss == -1 && slopes[0][0] == 7);
    }
    twin = small(0);
    CHECK_OK(setun_model_tensor_describe(twin, 2, NULL, &kind, NULL, NULL));
    CHECK(kind == SETUN_PARAMETER_KIND_MATRIX);
    setun_model_free(twin);
    setun_model_free(loaded);
    setun_model_free(model);
}

/* The model answers by what was written, and a value that is no number changes nothing. */
static void written(void) {
    setun_model *model = small(1);
    double start = loss_of(model), changed;
    float kept = weights[2][5];
    int i;
    weights[2][5] = NAN;
    CHECK_FAILS(setun_model_tensor_write(model, 2, weights[2], sizes[2]), SETUN_ERR_ARGUMENT, "values[5] is NaN");
    weights[2][5] = INFINITY;
    CHECK_FAILS(setun_model_tensor_write(model, 2, weights[2], sizes[2]), SETUN_ERR_ARGUMENT, "values[5] is inf");
    weights[2][5] = kept;
    CHECK_FAILS(setun_model_tensor_write(model, 2, weights[2], sizes[2] - 1), SETUN_ERR_SHAPE, "count is 255");
    CHECK_FAILS(setun_model_tensor_write(model, -1, weights[2], sizes[2]), SETUN_ERR_ARGUMENT, "index is -1");
    CHECK_FAILS(setun_model_tensor_read(model, 2, before[2], sizes[2] + 1), SETUN_ERR_SHAPE, "count is 257");
    CHECK(loss_of(model) == start);
    /* Trits follow: the signs of a layer turned over, the loss is another; turned back, it is the first again. */
    for (i = 0; i < sizes[2]; i++) weights[2][i] = -weights[2][i];
    CHECK_OK(setun_model_tensor_write(model, 2, weights[2], sizes[2]));
    CHECK_OK(setun_model_tensor_read(model, 2, before[2], sizes[2]));
    CHECK(memcmp(before[2], weights[2], (size_t)sizes[2] * sizeof(float)) == 0);
    changed = loss_of(model);
    CHECK(changed != start);
    for (i = 0; i < sizes[2]; i++) weights[2][i] = -weights[2][i];
    CHECK_OK(setun_model_tensor_write(model, 2, weights[2], sizes[2]));
    CHECK(loss_of(model) == start);
    setun_model_free(model);
}

/* The gradient of the f32 twin against central differences of its loss, through reads and writes. */
static void differences(void) {
    setun_model *model = small(0);
    double loss = 0;
    int i, place;
    CHECK_OK(setun_model_backward(model, tokens, targets, BATCH, CONTEXT, NULL, &loss, gradients, COUNT));
    CHECK_NEAR(loss, loss_of(model), 1e-6);
    for (i = 0; i < COUNT; i++) {
        int64_t steepest = 0, j;
        for (j = 0; j < sizes[i]; j++)
            if (fabsf(slopes[i][j]) > fabsf(slopes[i][steepest])) steepest = j;
        CHECK(slopes[i][steepest] != 0);
        for (place = 0; place < 2; place++) {
            int64_t at = place == 0 ? steepest : sizes[i] / 2;
            float kept = weights[i][at];
            double up, down, h = 1e-2;
            weights[i][at] = (float)(kept + h);
            CHECK_OK(setun_model_tensor_write(model, i, weights[i], sizes[i]));
            up = loss_of(model);
            weights[i][at] = (float)(kept - h);
            CHECK_OK(setun_model_tensor_write(model, i, weights[i], sizes[i]));
            down = loss_of(model);
            weights[i][at] = kept;
            CHECK_OK(setun_model_tensor_write(model, i, weights[i], sizes[i]));
            CHECK_NEAR((up - down) / (2 * h), slopes[i][at], 1e-4 + .05 * fabs(slopes[i][at]));
        }
    }
    setun_model_free(model);
}

/* Steps of an optimizer of this library over the same pointers: the loss falls; the same seed gives the same bits. */
static void stepped(int32_t input, int32_t weight, int32_t checkpointing) {
    double first = 0, loss = 0;
    int run, step, i;
    for (run = 0; run < 2; run++) {
        setun_model *model = small(1);
        setun_optimizer *optimizer = NULL;
        setun_backward_options options;
        setun_optimizer_options how;
        setun_optimizer_options_init(&how, sizeof how);
        how.learning_rate = 1e-2;
        CHECK_OK(setun_optimizer_create(&how, &optimizer));
        for (i = 0; i < COUNT; i++) {
            setun_parameter_options own;
            const char *name = NULL;
            int64_t dims[SETUN_MAX_RANK];
            int32_t rank;
            setun_parameter_options_init(&own, sizeof own);
            CHECK_OK(setun_model_tensor_describe(model, i, &name, &own.kind, dims, &rank));
            CHECK_OK(setun_optimizer_add(optimizer, name, weights[i], dims, rank, &own));
        }
        setun_backward_options_init(&options, sizeof options);
        options.seed = 5;
        options.input_gradient = input;
        options.weight_gradient = weight;
        options.activation_checkpointing = checkpointing;
        for (step = 0; step < 30; step++) {
            options.step = (uint64_t)step;
            CHECK_OK(setun_model_backward(model, tokens, targets, BATCH, CONTEXT, &options, &loss, gradients, COUNT));
            if (step == 0) first = loss;
            CHECK_OK(setun_optimizer_step(optimizer, (const float *const *)gradients, COUNT, NULL));
            for (i = 0; i < COUNT; i++) CHECK_OK(setun_model_tensor_write(model, i, weights[i], sizes[i]));
        }
        CHECK(loss < first - .5);
        if (run == 1) CHECK(memcmp(before, weights, sizeof before) == 0);
        memcpy(before, weights, sizeof before);
        setun_optimizer_free(optimizer);
        setun_model_free(model);
    }
}

/* Nothing is written by a call that fails. */
static void refused(void) {
    setun_model *model = small(1);
    setun_backward_options options;
    uint32_t wrong[2] = {1, VOCABULARY};
    double loss = -1;
    float *kept = gradients[3];
    int i;
    for (i = 0; i < COUNT; i++) slopes[i][0] = 7;
    setun_backward_options_init(&options, sizeof options);
#define FAILS(model, tokens, targets, batch, length, options, loss, gradients, count, status, text)                     \
    CHECK_FAILS(setun_model_backward(model, tokens, targets, batch, length, options, loss, gradients, count), status, text)
    FAILS(model, wrong, targets, 1, 2, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "tokens[1] is 17");
    FAILS(model, tokens, wrong, 1, 2, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "targets[1] is 17");
    FAILS(model, tokens, targets, 1, CONTEXT + 1, NULL, &loss, gradients, COUNT, SETUN_ERR_SHAPE, "length is 9");
    FAILS(model, tokens, targets, 0, 1, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "batch is 0");
    FAILS(model, tokens, targets, 1, 1, NULL, &loss, gradients, COUNT - 1, SETUN_ERR_ARGUMENT, "count is 21");
    FAILS(model, NULL, targets, 1, 1, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "tokens is NULL");
    FAILS(model, tokens, targets, 1, 1, NULL, NULL, gradients, COUNT, SETUN_ERR_ARGUMENT, "loss is NULL");
    FAILS(model, tokens, targets, 1, 1, NULL, &loss, NULL, COUNT, SETUN_ERR_ARGUMENT, "gradients is NULL");
    FAILS(model, tokens, targets, INT64_MAX / 2, 1, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "too large");
    gradients[3] = NULL;
    FAILS(model, tokens, targets, 1, 1, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "gradients[3] is NULL");
    gradients[3] = gradients[1] + 1;
    FAILS(model, tokens, targets, 1, 1, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "gradients[3] overlaps gradients[1]");
    gradients[3] = (float *)(void *)tokens;
    FAILS(model, tokens, targets, 1, 1, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "overlaps tokens");
    gradients[3] = (float *)(void *)gradients;
    FAILS(model, tokens, targets, 1, 1, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "overlaps gradients");
    gradients[3] = (float *)(UINTPTR_MAX - 7);
    FAILS(model, tokens, targets, 1, 1, NULL, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "gradients[3]");
    gradients[3] = kept;
    options.step = (uint64_t)1 << 32;
    FAILS(model, tokens, targets, 1, 1, &options, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "step is 4294967296");
    options.step = 0;
    options.weight_gradient = 2;
    FAILS(model, tokens, targets, 1, 1, &options, &loss, gradients, COUNT, SETUN_ERR_ARGUMENT, "weight_gradient is 2");
    CHECK(loss == -1);
    for (i = 0; i < COUNT; i++) CHECK(slopes[i][0] == 7);
    /* And after a batch of another shape the next is as if it were the first. */
    CHECK_OK(setun_model_backward(model, tokens, targets, BATCH, CONTEXT, NULL, &loss, gradients, COUNT));
    memcpy(before, slopes, sizeof before);
    CHECK_OK(setun_model_backward(model, tokens, targets, 1, 3, NULL, &loss, gradients, COUNT));
    CHECK(memcmp(before, slopes, sizeof before) != 0);
    CHECK_OK(setun_model_backward(model, tokens, targets, BATCH, CONTEXT, NULL, &loss, gradients, COUNT));
    CHECK(memcmp(before, slopes, sizeof before) == 0);
    setun_model_free(model);
}

int main(void) {
    int i;
    for (i = 0; i < BATCH * CONTEXT; i++) {
        tokens[i] = (uint32_t)(i * 7 % VOCABULARY);
        targets[i] = (uint32_t)((i + 1) * 7 % VOCABULARY);
    }
    described();
    written();
    differences();
    stepped(SETUN_GRADIENT_PRODUCTS_INT8, SETUN_GRADIENT_PRODUCTS_INT8, 0);
    stepped(SETUN_GRADIENT_PRODUCTS_F32, SETUN_GRADIENT_PRODUCTS_INT8, 1);
    stepped(SETUN_GRADIENT_PRODUCTS_F32, SETUN_GRADIENT_PRODUCTS_F32, 0);
    refused();
    return 0;
}
