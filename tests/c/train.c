/* Training from C: the one-call pipeline, the steps one by one, stopping, resuming bit for bit, refusals. */
#define _POSIX_C_SOURCE 200809L /* nanosleep, clock_gettime */

#include "check.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

static setun_model_options geometry;

static void write_corpus(const char *path) {
    FILE *file = fopen(path, "wb");
    int i;
    CHECK(file != NULL);
    for (i = 0; i < 200; i++) fprintf(file, "the %s sat on the %s.\n", i % 3 ? "cat" : "dog", i % 5 ? "mat" : "hat");
    CHECK(fclose(file) == 0);
}

static void small_run(setun_train_options *options) {
    setun_train_options_init(options, sizeof *options);
    options->batch_size = 4;
    options->max_steps = 12;
    options->warmup_steps = 2;
    options->learning_rate = 3e-3;
    options->model = &geometry;
    options->evaluation_windows = 4;
}

/* What a progress callback saw. */
typedef struct {
    int64_t calls, stop_after;
    double first_loss, last_loss, last_validation;
    setun_cancel *cancel;
    const setun_model *model;
    setun_trainer *trainer;
} progress;

static int32_t on_progress(const setun_metrics *metrics, void *user_data) {
    progress *seen = user_data;
    CHECK(metrics->struct_size == sizeof *metrics);
    seen->calls++;
    CHECK(metrics->step == seen->calls);
    if (seen->calls == 1) seen->first_loss = metrics->loss;
    seen->last_loss = metrics->loss;
    seen->last_validation = metrics->validation_loss;
    if (seen->cancel != NULL && seen->calls == seen->stop_after) CHECK_OK(setun_cancel_request(seen->cancel));
    if (seen->model != NULL) {
        /* The model answers between two steps; the trainer is busy. */
        static const uint32_t tokens[2] = {'t', 'h'}, targets[2] = {'h', 'e'};
        double loss;
        CHECK_OK(setun_model_loss(seen->model, tokens, targets, 1, 2, &loss));
        CHECK_FAILS(setun_trainer_step(seen->trainer, NULL), SETUN_ERR_STATE, "trainer: the setun_trainer is in use");
    }
    return seen->cancel != NULL || seen->calls != seen->stop_after;
}

static void whole_pipeline(void) {
    setun_train_options options;
    setun_model *model = NULL;
    setun_tokenizer *tokenizer = NULL;
    setun_model_options made;
    progress seen = {0};
    int64_t vocabulary = 0;
    small_run(&options);
    options.max_steps = 60;
    options.tokenizer = SETUN_TOKENIZER_CHARACTER;
    options.progress = on_progress;
    options.user_data = &seen;
    CHECK_OK(setun_train("corpus.txt", &options, &model, &tokenizer));
    CHECK(seen.calls == 60);
    CHECK(seen.last_loss < seen.first_loss - .5);
    CHECK(!isnan(seen.last_validation) && seen.last_validation < seen.first_loss);
    CHECK_OK(setun_tokenizer_vocabulary(tokenizer, &vocabulary));
    setun_model_options_init(&made, sizeof made);
    CHECK_OK(setun_model_describe(model, &made));
    CHECK(made.vocabulary == vocabulary && vocabulary == 14 && made.quantize_weights == 1);
    setun_model_free(model);
    setun_tokenizer_free(tokenizer);

    /* Without a tokenizer asked for; plain floats when either option says so. */
    small_run(&options);
    options.max_steps = 1;
    options.quantize_weights = 0;
    model = NULL;
    CHECK_OK(setun_train("corpus.txt", &options, &model, NULL));
    CHECK_OK(setun_model_describe(model, &made));
    CHECK(made.vocabulary == 256 && made.quantize_weights == 0);
    setun_model_free(model);
}

static void stopping(void) {
    setun_train_options options;
    setun_model *model = NULL;
    progress seen = {0}, cancelled = {0};
    small_run(&options);
    options.progress = on_progress;
    options.user_data = &seen;
    seen.stop_after = 3;
    CHECK_OK(setun_train("corpus.txt", &options, &model, NULL));
    CHECK(seen.calls == 3 && model != NULL);
    setun_model_free(model);
    model = NULL;
    CHECK_OK(setun_cancel_create(&cancelled.cancel));
    cancelled.stop_after = 2;
    options.user_data = &cancelled;
    options.cancel = cancelled.cancel;
    CHECK_STATUS(setun_train("corpus.txt", &options, &model, NULL), SETUN_ERR_CANCELLED);
    CHECK(cancelled.calls == 2 && model == NULL);
    setun_cancel_free(cancelled.cancel);
}

static void refused(void) {
    setun_train_options options;
    setun_model *model = NULL;
    FILE *file = fopen("short.txt", "wb");
    fputs("too short", file);
    fclose(file);
    CHECK_FAILS(setun_train("missing.txt", NULL, &model, NULL), SETUN_ERR_IO, "missing.txt");
    CHECK_FAILS(setun_train(NULL, NULL, &model, NULL), SETUN_ERR_ARGUMENT, "text is NULL");
    CHECK_FAILS(setun_train("corpus.txt", NULL, NULL, NULL), SETUN_ERR_ARGUMENT, "model is NULL");
    CHECK_STATUS(setun_train("short.txt", NULL, &model, NULL), SETUN_ERR_SHAPE);
    small_run(&options);
    options.schedule = 4;
    CHECK_FAILS(setun_train("corpus.txt", &options, &model, NULL), SETUN_ERR_ARGUMENT, "schedule is 4");
    small_run(&options);
    options.batch_size = -1;
    CHECK_FAILS(setun_train("corpus.txt", &options, &model, NULL), SETUN_ERR_ARGUMENT, "batch_size is -1");
    small_run(&options);
    options.learning_rate = NAN;
    CHECK_FAILS(setun_train("corpus.txt", &options, &model, NULL), SETUN_ERR_ARGUMENT, "learning_rate is NaN");
    small_run(&options);
    options.tokenizer = 9;
    CHECK_FAILS(setun_train("corpus.txt", &options, &model, NULL), SETUN_ERR_ARGUMENT, "is 9");
    small_run(&options);
    options.struct_size = 20;
    CHECK_FAILS(setun_train("corpus.txt", &options, &model, NULL), SETUN_ERR_ABI, "struct_size is 20");
    CHECK(model == NULL);
}

typedef struct {
    setun_tokenizer *tokenizer;
    setun_dataset *dataset;
    setun_model *model;
    setun_trainer *trainer;
} run;

static run start(const setun_train_options *options) {
    run made = {0};
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_BYTE, NULL, 0, &made.tokenizer));
    CHECK_OK(setun_dataset_open("corpus.txt", made.tokenizer, .2, &made.dataset));
    CHECK_OK(setun_model_create(NULL, &geometry, &made.model));
    CHECK_OK(setun_trainer_create(made.model, made.dataset, made.tokenizer, options, &made.trainer));
    return made;
}

static void end(run *made) {
    /* In an order that shows that the trainer keeps what it needs. */
    setun_dataset_free(made->dataset);
    setun_tokenizer_free(made->tokenizer);
    setun_trainer_free(made->trainer);
    setun_model_free(made->model);
}

static void *raise_soon(void *token) {
    struct timespec pause = {0, 200 * 1000 * 1000};
    nanosleep(&pause, NULL);
    CHECK_OK(setun_cancel_request(token));
    return NULL;
}

static double now(void) {
    struct timespec t;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A token is heard inside of a step that takes seconds, and inside of a validation. Half a second is what is promised;
   a busy machine gets two. */
static void cancelled_inside(void) {
    setun_model_options small = geometry;
    int validating;
    geometry.width = 384;
    geometry.layers = 6;
    geometry.heads = 6;
    geometry.context_length = 256;
    for (validating = 0; validating < 2; validating++) {
        setun_train_options options;
        setun_cancel *cancel = NULL;
        pthread_t thread;
        double loss, began;
        run made;
        setun_train_options_init(&options, sizeof options);
        CHECK_OK(setun_cancel_create(&cancel));
        options.batch_size = 8;
        options.max_steps = 100000;
        options.cancel = cancel;
        made = start(&options);
        CHECK(pthread_create(&thread, NULL, raise_soon, cancel) == 0);
        began = now();
        /* Again until the token is heard: one alone may be over before that. */
        if (validating) {
            while (setun_trainer_evaluate(made.trainer, &loss) == SETUN_OK) CHECK(now() - began < 30);
            CHECK_STATUS(setun_trainer_evaluate(made.trainer, &loss), SETUN_ERR_CANCELLED);
        } else {
            while (setun_trainer_step(made.trainer, NULL) == SETUN_OK) CHECK(now() - began < 30);
            CHECK_STATUS(setun_trainer_step(made.trainer, NULL), SETUN_ERR_CANCELLED);
        }
        printf("%s was given up after %.2f s\n", validating ? "a validation" : "a step", now() - began - .2);
        CHECK(now() - began < 2.2);
        CHECK(pthread_join(thread, NULL) == 0);
        end(&made);
        setun_cancel_free(cancel);
    }
    geometry = small;
}

static void read_embedding(const setun_model *model, float *values, size_t bytes) {
    setun_tensor *tensor = NULL;
    CHECK_OK(setun_model_tensor(model, 2, NULL, &tensor));
    CHECK_OK(setun_tensor_read(tensor, values, bytes));
    setun_tensor_free(tensor);
}

static void step_by_step(void) {
    setun_train_options options;
    setun_metrics metrics;
    double loss = 0, after = 0;
    int32_t finished = -1;
    progress seen = {0};
    run made;
    small_run(&options);
    options.progress = on_progress;
    options.user_data = &seen;
    seen.calls = 3;
    made = start(&options);
    seen.model = made.model;
    seen.trainer = made.trainer;
    metrics.struct_size = sizeof metrics;
    CHECK_OK(setun_trainer_metrics(made.trainer, &metrics));
    CHECK(metrics.step == 0 && metrics.total_steps == 12);
    CHECK_OK(setun_trainer_evaluate(made.trainer, &loss));
    CHECK_NEAR(loss, log(256), .5);
    CHECK_OK(setun_trainer_step(made.trainer, &metrics));
    CHECK(metrics.step == 1 && metrics.loss > 0 && metrics.gradient_norm > 0 && isnan(metrics.validation_loss));
    CHECK_OK(setun_trainer_step(made.trainer, NULL));
    /* An older program's smaller struct. */
    metrics.struct_size = 2 * sizeof(size_t);
    metrics.total_steps = -1;
    CHECK_OK(setun_trainer_step(made.trainer, &metrics));
    CHECK(metrics.step == 3 && metrics.total_steps == -1);
    metrics.struct_size = 0;
    CHECK_FAILS(setun_trainer_step(made.trainer, &metrics), SETUN_ERR_ABI, "struct_size is 0");
    CHECK_OK(setun_trainer_run(made.trainer, &finished));
    CHECK(finished == 1 && seen.calls == 12);
    CHECK_OK(setun_trainer_evaluate(made.trainer, &after));
    CHECK(after < loss);
    CHECK_STATUS(setun_trainer_step(made.trainer, NULL), SETUN_ERR_STATE);
    CHECK_STATUS(setun_trainer_save(made.trainer), SETUN_ERR_STATE);
    end(&made);
}

static void resuming(void) {
    static float straight[1024], resumed[1024];
    setun_train_options options;
    setun_metrics metrics;
    int32_t finished = -1;
    size_t bytes = (size_t)(geometry.width * geometry.width) * sizeof(float);
    progress seen = {0};
    run one, two, three;
    small_run(&options);
    one = start(&options);
    CHECK_OK(setun_trainer_run(one.trainer, NULL));
    read_embedding(one.model, straight, bytes);

    options.checkpoint_dir = "checkpoints";
    options.progress = on_progress;
    options.user_data = &seen;
    seen.stop_after = 5;
    two = start(&options);
    CHECK_OK(setun_trainer_run(two.trainer, &finished));
    CHECK(finished == 0 && seen.calls == 5);

    options.progress = NULL;
    three = start(&options);
    CHECK_OK(setun_trainer_resume(three.trainer, "checkpoints", 0));
    metrics.struct_size = sizeof metrics;
    CHECK_OK(setun_trainer_metrics(three.trainer, &metrics));
    CHECK(metrics.step == 5);
    CHECK_OK(setun_trainer_run(three.trainer, &finished));
    CHECK(finished == 1);
    read_embedding(three.model, resumed, bytes);
    CHECK(memcmp(straight, resumed, bytes) == 0);
    CHECK_STATUS(setun_trainer_resume(three.trainer, "nowhere", 0), SETUN_ERR_IO);
    end(&one);
    end(&two);
    end(&three);

    /* Another run's checkpoint. */
    options.learning_rate = 1e-2;
    one = start(&options);
    CHECK_FAILS(setun_trainer_resume(one.trainer, "checkpoints", 0), SETUN_ERR_ARGUMENT, "learning_rate");
    end(&one);
}

/* The text's clusters, and the loss of each. */
static void clusters(void) {
    setun_train_options options;
    double losses[10] = {0};
    int64_t sizes[10] = {0}, count = -1, windows = 0;
    int i, measured = 0;
    run made;
    small_run(&options);
    options.n_clusters = 4;
    options.cluster_balance = .5;
    made = start(&options);
    CHECK_OK(setun_trainer_cluster_losses(made.trainer, losses, sizes, 10, &count));
    CHECK(count >= 2 && count <= 4);
    for (i = 0; i < count; i++) {
        CHECK(isnan(losses[i]) && sizes[i] > 0);
        windows += sizes[i];
    }
    CHECK(windows > 100 && sizes[count] == 0);
    CHECK_OK(setun_trainer_run(made.trainer, NULL));
    CHECK_OK(setun_trainer_cluster_losses(made.trainer, losses, NULL, count, NULL));
    for (i = 0; i < count; i++) {
        if (isnan(losses[i])) continue;
        CHECK(losses[i] > 0 && losses[i] < 8);
        measured++;
    }
    CHECK(measured > 0);
    CHECK_OK(setun_trainer_cluster_losses(made.trainer, NULL, NULL, 0, &count));
    CHECK_FAILS(setun_trainer_cluster_losses(made.trainer, losses, NULL, 1, &count), SETUN_ERR_SHAPE, "capacity is 1");
    end(&made);

    options.n_clusters = 0;
    made = start(&options);
    CHECK_OK(setun_trainer_cluster_losses(made.trainer, losses, sizes, 10, &count));
    CHECK(count == 0);
    end(&made);
    options.cluster_balance = 1.5;
    CHECK_FAILS(setun_train("corpus.txt", &options, &made.model, NULL), SETUN_ERR_ARGUMENT, "cluster_balance is 1.5");
    options.cluster_balance = 0;
    options.input_gradient = 7;
    CHECK_FAILS(setun_train("corpus.txt", &options, &made.model, NULL), SETUN_ERR_ARGUMENT, "input_gradient is 7");
    options.input_gradient = SETUN_GRADIENT_PRODUCTS_F32;
    options.weight_gradient = -1;
    CHECK_FAILS(setun_train("corpus.txt", &options, &made.model, NULL), SETUN_ERR_ARGUMENT, "weight_gradient is -1");
}

static void packed_models_do_not_train(void) {
    setun_train_options options;
    setun_model *model = NULL;
    setun_trainer *trainer = NULL;
    run made;
    small_run(&options);
    made = start(&options);
    CHECK_OK(setun_model_save(made.model, "packed.safetensors", NULL, NULL));
    CHECK_OK(setun_model_load(NULL, "packed.safetensors", &model));
    CHECK_STATUS(setun_trainer_create(model, made.dataset, NULL, &options, &trainer), SETUN_ERR_UNSUPPORTED);
    setun_model_free(model);
    options.quantize_weights = 0;
    CHECK_FAILS(setun_trainer_create(made.model, made.dataset, NULL, &options, &trainer), SETUN_ERR_ARGUMENT,
                "quantize_weights");
    CHECK(trainer == NULL);
    end(&made);
}

int main(void) {
    setun_model_options_init(&geometry, sizeof geometry);
    geometry.context_length = 16;
    geometry.width = 32;
    geometry.layers = 2;
    geometry.heads = 2;
    write_corpus("corpus.txt");
    whole_pipeline();
    stopping();
    /* Where every instruction takes long, under valgrind, half a second says nothing. */
    if (getenv("SETUN_CYCLES") == NULL) cancelled_inside();
    refused();
    step_by_step();
    resuming();
    clusters();
    packed_models_do_not_train();
    return 0;
}
