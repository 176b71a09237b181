/* All verbs again and again: memory and handles stay as many; and a process that forks while it trains. */
#define _GNU_SOURCE
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LENGTH = 8, VOCABULARY = 256, FORKS = 20 };

static setun_model_options geometry;
static uint32_t tokens[LENGTH] = {1, 2, 3, 5, 8, 13, 21, 34};

static void write_corpus(const char *path) {
    FILE *file = fopen(path, "wb");
    int i;
    CHECK(file != NULL);
    for (i = 0; i < 100; i++) fprintf(file, "the %s sat on the %s.\n", i % 3 ? "cat" : "dog", i % 5 ? "mat" : "hat");
    CHECK(fclose(file) == 0);
}

static int32_t hear(const char *piece, size_t bytes, void *user_data) {
    (void)piece;
    *(size_t *)user_data += bytes;
    return 1;
}

/* Everything that can be made, made, used and freed. Returns a handle that was freed. */
static setun_cancel *cycle(void) {
    setun_context_options where;
    setun_train_options training;
    setun_cancel *token = NULL;
    setun_context *context = NULL;
    setun_tensor *x = NULL, *y = NULL;
    setun_packed *packed = NULL;
    setun_tokenizer *tokenizer = NULL, *learned = NULL;
    setun_dataset *dataset = NULL;
    setun_model *model = NULL, *loaded = NULL;
    setun_trainer *trainer = NULL;
    setun_sampler *sampler = NULL;
    int64_t dims[2] = {4, 4};
    float data[16] = {1, -1, 2, 0, .5f, 3, -2, 1, 0, 0, 1, 1, -1, 2, 1, 1};
    uint32_t token_number;
    size_t heard = 0;

    CHECK_OK(setun_cancel_create(&token));
    setun_context_options_init(&where, sizeof where);
    where.threads = 2;
    CHECK_OK(setun_context_create(&where, &context));
    CHECK_OK(setun_tensor_create(SETUN_DTYPE_F32, dims, 2, &x));
    CHECK_OK(setun_tensor_create(SETUN_DTYPE_F32, dims, 2, &y));
    CHECK_OK(setun_tensor_write(x, data, sizeof data));
    CHECK_OK(setun_packed_create(context, x, NULL, &packed));
    CHECK_OK(setun_packed_matmul(packed, x, y));
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_BYTE, NULL, 0, &tokenizer));
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_BPE, "corpus.txt", 270, &learned));
    CHECK_OK(setun_dataset_open("corpus.txt", tokenizer, .1, &dataset));
    CHECK_OK(setun_model_create(context, &geometry, &model));
    setun_train_options_init(&training, sizeof training);
    training.max_steps = 2;
    training.batch_size = 2;
    training.cancel = token;
    CHECK_OK(setun_trainer_create(model, dataset, tokenizer, &training, &trainer));
    CHECK_OK(setun_trainer_run(trainer, NULL));
    CHECK_OK(setun_model_save(model, "cycle.safetensors", NULL, NULL));
    CHECK_OK(setun_model_load(context, "cycle.safetensors", &loaded));
    CHECK_OK(setun_sampler_create(loaded, NULL, &sampler));
    CHECK_OK(setun_sampler_prompt(sampler, tokens, LENGTH));
    CHECK_OK(setun_sampler_next(sampler, &token_number));
    CHECK_OK(setun_generate(loaded, tokenizer, "the", NULL, hear, &heard, NULL));
    /* Errors leak nothing either. */
    CHECK_STATUS(setun_model_load(context, "corpus.txt", &loaded), SETUN_ERR_FORMAT);
    CHECK_STATUS(setun_model_loss(model, tokens, tokens, -1, 1, NULL), SETUN_ERR_ARGUMENT);

    setun_sampler_free(sampler);
    setun_trainer_free(trainer);
    setun_model_free(loaded);
    setun_model_free(model);
    setun_dataset_free(dataset);
    setun_tokenizer_free(learned);
    setun_tokenizer_free(tokenizer);
    setun_packed_free(packed);
    setun_tensor_free(y);
    setun_tensor_free(x);
    setun_context_free(context);
    setun_cancel_free(token);
    return token;
}

static size_t memory(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* A handle's low half is its place in the table, and places that were freed are used again: it grows by leaks alone. */
static void cycles(int count) {
    size_t before, after, place;
    int i;
    for (i = 0; i < 10; i++) cycle();
    before = memory();
    place = (size_t)cycle() & 0xFFFFFFFF;
    for (i = 0; i < count; i++) CHECK(((size_t)cycle() & 0xFFFFFFFF) <= place + 12);
    after = memory();
    /* The threads of the last pools may not have ended yet: each holds some tens of kilobytes until then. */
    for (i = 0; i < 200 && after > before + 200000; i++) {
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
        after = memory();
    }
    if (after > before + 200000) fprintf(stderr, "%d cycles took %lu bytes\n", count, (unsigned long)(after - before));
    CHECK(after <= before + 200000);
}

/* A run that another thread trains without end. */
static setun_trainer *busy;
static volatile int stop;

static void *train(void *unused) {
    (void)unused;
    while (!stop) CHECK_OK(setun_trainer_step(busy, NULL));
    return NULL;
}

static void child(setun_model *idle, const float *expected) {
    static float logits[LENGTH * VOCABULARY];
    setun_status status;
    int i;
    alarm(60); /* a hang is a failure too */
    for (i = 0; i < 3; i++) cycle();
    CHECK_OK(setun_model_forward(idle, tokens, 1, LENGTH, logits));
    CHECK(memcmp(logits, expected, sizeof logits) == 0);
    /* What was in use at the fork says so; between two steps it was not. */
    status = setun_trainer_step(busy, NULL);
    CHECK(status == SETUN_ERR_STATE || status == SETUN_OK);
    _exit(0);
}

static void forks(int count) {
    static float expected[LENGTH * VOCABULARY];
    setun_train_options training;
    setun_tokenizer *tokenizer = NULL;
    setun_dataset *dataset = NULL;
    setun_model *trained = NULL, *idle = NULL;
    pthread_t thread;
    int i, status;
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_BYTE, NULL, 0, &tokenizer));
    CHECK_OK(setun_dataset_open("corpus.txt", tokenizer, .1, &dataset));
    CHECK_OK(setun_model_create(NULL, &geometry, &trained));
    CHECK_OK(setun_model_create(NULL, &geometry, &idle));
    CHECK_OK(setun_model_forward(idle, tokens, 1, LENGTH, expected));
    setun_train_options_init(&training, sizeof training);
    training.max_steps = 1 << 30;
    CHECK_OK(setun_trainer_create(trained, dataset, tokenizer, &training, &busy));
    CHECK(pthread_create(&thread, NULL, train, NULL) == 0);
    for (i = 0; i < count; i++) {
        pid_t process = fork();
        CHECK(process >= 0);
        if (process == 0) child(idle, expected);
        CHECK(waitpid(process, &status, 0) == process);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    stop = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    setun_trainer_free(busy);
    setun_model_free(idle);
    setun_model_free(trained);
    setun_dataset_free(dataset);
    setun_tokenizer_free(tokenizer);
}

int main(void) {
    /* Fewer where every instruction takes long, under valgrind. */
    const char *fewer = getenv("SETUN_CYCLES");
    int count = fewer != NULL ? atoi(fewer) : 200;
    setun_model_options_init(&geometry, sizeof geometry);
    geometry.context_length = LENGTH;
    geometry.width = 16;
    geometry.layers = 1;
    geometry.heads = 2;
    write_corpus("corpus.txt");
    cycles(count);
    if (fewer == NULL) forks(FORKS);
    return 0;
}
