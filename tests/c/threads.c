/* Threads: const handles shared, others refused while busy, freed while busy, cancelled from elsewhere; and a forked child. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, LENGTH = 8, VOCABULARY = 256 };

static uint32_t tokens[LENGTH] = {1, 2, 3, 5, 8, 13, 21, 34};
static float expected[LENGTH * VOCABULARY];
static setun_model *model;

static setun_model *small_model(void) {
    setun_model_options options;
    setun_model *made = NULL;
    setun_model_options_init(&options, sizeof options);
    options.width = 32;
    options.layers = 2;
    options.heads = 2;
    options.context_length = LENGTH;
    CHECK_OK(setun_model_create(NULL, &options, &made));
    return made;
}

static void *forward(void *unused) {
    float logits[LENGTH * VOCABULARY];
    int i;
    (void)unused;
    for (i = 0; i < 50; i++) {
        CHECK_OK(setun_model_forward(model, tokens, 1, LENGTH, logits));
        CHECK(memcmp(logits, expected, sizeof logits) == 0);
    }
    /* Errors are this thread's own. */
    CHECK(setun_last_error()[0] == '\0');
    return NULL;
}

static void shared_model(void) {
    pthread_t threads[THREADS];
    int i;
    CHECK_OK(setun_model_forward(model, tokens, 1, LENGTH, expected));
    for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, forward, NULL) == 0);
    CHECK_STATUS(setun_model_forward(NULL, tokens, 1, LENGTH, expected), SETUN_ERR_ARGUMENT);
    for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

/* A training run on a thread of its own, which waits in its first progress call until it is let go. */
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int inside, let_go;
    setun_trainer *trainer;
    setun_status status;
} run;

static int32_t wait_inside(const setun_metrics *metrics, void *user_data) {
    run *self = user_data;
    (void)metrics;
    pthread_mutex_lock(&self->lock);
    self->inside = 1;
    pthread_cond_broadcast(&self->changed);
    while (!self->let_go) pthread_cond_wait(&self->changed, &self->lock);
    pthread_mutex_unlock(&self->lock);
    return 1;
}

static void *train(void *user_data) {
    run *self = user_data;
    self->status = setun_trainer_run(self->trainer, NULL);
    return NULL;
}

static void busy_trainer(void) {
    run self = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, NULL, SETUN_ERR_INTERNAL};
    setun_train_options options;
    setun_dataset *dataset = NULL;
    setun_cancel *cancel = NULL;
    setun_metrics metrics;
    uint32_t numbers[500];
    float logits[LENGTH * VOCABULARY];
    pthread_t thread;
    int i;
    for (i = 0; i < 500; i++) numbers[i] = (uint32_t)(i * i % 200);
    CHECK_OK(setun_dataset_from_tokens(numbers, 500, 200, 0, &dataset));
    CHECK_OK(setun_cancel_create(&cancel));
    setun_train_options_init(&options, sizeof options);
    options.max_steps = 1000000;
    options.batch_size = 2;
    options.progress = wait_inside;
    options.user_data = &self;
    options.cancel = cancel;
    CHECK_OK(setun_trainer_create(model, dataset, NULL, &options, &self.trainer));
    CHECK(pthread_create(&thread, NULL, train, &self) == 0);
    pthread_mutex_lock(&self.lock);
    while (!self.inside) pthread_cond_wait(&self.changed, &self.lock);
    pthread_mutex_unlock(&self.lock);

    CHECK_FAILS(setun_trainer_step(self.trainer, NULL), SETUN_ERR_STATE, "in use by another call");
    metrics.struct_size = sizeof metrics;
    CHECK_FAILS(setun_trainer_metrics(self.trainer, &metrics), SETUN_ERR_STATE, "in use by another call");
    CHECK_OK(setun_model_forward(model, tokens, 1, LENGTH, logits));
    /* Freed while the run goes on: it ends in its own time. */
    setun_trainer_free(self.trainer);
    setun_dataset_free(dataset);
    CHECK_FAILS(setun_trainer_step(self.trainer, NULL), SETUN_ERR_ARGUMENT, "freed already");

    pthread_mutex_lock(&self.lock);
    self.let_go = 1;
    pthread_cond_broadcast(&self.changed);
    pthread_mutex_unlock(&self.lock);
    CHECK_OK(setun_cancel_request(cancel));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(self.status == SETUN_ERR_CANCELLED);
    setun_cancel_free(cancel);
}

/* The child of a fork has no pool threads of its parent's; the library makes its own. */
static void forked(void) {
    float again[LENGTH * VOCABULARY];
    pid_t child;
    int status = -1;
    CHECK_OK(setun_model_forward(model, tokens, 1, LENGTH, expected));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60); /* a hang is a failure too */
        CHECK_OK(setun_model_forward(model, tokens, 1, LENGTH, again));
        CHECK(memcmp(again, expected, sizeof again) == 0);
        /* Ends as another program: a leak checker must not take what the parent's threads left here for lost. */
        execlp("true", "true", (char *)NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#if defined(__x86_64__)
/* A program may have turned denormals to zero: results are those of IEEE 754 all the same, on every thread, and its setting
   is still there afterwards. */
static void floating_point_settings(void) {
    enum { COUNT = 1 << 20, FLUSH = 0x8040 };
    static int8_t codes[COUNT];
    static float restored[COUNT];
    const float scale = 1e-40f;
    setun_context_options context_options;
    setun_quantize_options options;
    setun_context *context = NULL;
    unsigned int before, flushed, after;
    int64_t i;
    memset(codes, 1, sizeof codes);
    setun_context_options_init(&context_options, sizeof context_options);
    context_options.threads = THREADS;
    context_options.min_size_for_parallel = 0;
    setun_quantize_options_init(&options, sizeof options);
    __asm__ volatile("stmxcsr %0" : "=m"(before));
    flushed = before | FLUSH;
    __asm__ volatile("ldmxcsr %0" : : "m"(flushed));
    /* A machine that is only imitated, as valgrind does, may have no such setting. */
    __asm__ volatile("stmxcsr %0" : "=m"(after));
    flushed = after & FLUSH;
    CHECK_OK(setun_context_create(&context_options, &context));
    options.context = context;
    CHECK_OK(setun_dequantize_gradients(codes, &scale, COUNT, COUNT, &options, restored));
    setun_context_free(context);
    __asm__ volatile("stmxcsr %0" : "=m"(after));
    __asm__ volatile("ldmxcsr %0" : : "m"(before));
    CHECK((after & FLUSH) == flushed);
    for (i = 0; i < COUNT; i++) CHECK(memcmp(&restored[i], &scale, sizeof scale) == 0);
}
#endif

static void *trains(void *unused) {
    setun_train_options options;
    setun_dataset *dataset = NULL;
    setun_model *trained = small_model();
    setun_trainer *trainer = NULL;
    uint32_t text[600];
    int i;
    (void)unused;
    for (i = 0; i < 600; i++) text[i] = (uint32_t)(i * 7919 % VOCABULARY);
    CHECK_OK(setun_dataset_from_tokens(text, 600, VOCABULARY, .1, &dataset));
    setun_train_options_init(&options, sizeof options);
    options.max_steps = 2;
    options.batch_size = 4;
    CHECK_OK(setun_trainer_create(trained, dataset, NULL, &options, &trainer));
    CHECK_OK(setun_trainer_step(trainer, NULL));
    setun_trainer_free(trainer);
    setun_dataset_free(dataset);
    setun_model_free(trained);
    return NULL;
}

/* The calling thread computes too, and needs no more stack than the header says. */
static void little_stack(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, 256 << 10) == 0);
    CHECK(pthread_create(&thread, &attributes, trains, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
}

int main(void) {
#if defined(__x86_64__)
    floating_point_settings();
#endif
    little_stack();
    model = small_model();
    shared_model();
    busy_trainer();
    forked();
    setun_model_free(model);
    return 0;
}
