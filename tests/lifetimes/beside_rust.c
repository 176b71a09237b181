/* The library beside another Rust library: each has a standard library, panics and threads of its own. */
#include "check.h"

#include <pthread.h>

uint64_t other_work(uint64_t n);

static void *work(void *unused) {
    int i;
    (void)unused;
    for (i = 0; i < 200; i++) CHECK(other_work(100) == 3 * 4950 + 0 + 1 + 2 + 1000);
    return NULL;
}

int main(void) {
    static const uint32_t tokens[4] = {1, 2, 3, 4};
    static float first[4 * 256], again[4 * 256];
    setun_model_options options;
    setun_model *model = NULL;
    pthread_t thread;
    int i;
    CHECK(pthread_create(&thread, NULL, work, NULL) == 0);
    setun_model_options_init(&options, sizeof options);
    options.width = 32;
    options.layers = 2;
    options.heads = 2;
    CHECK_OK(setun_model_create(NULL, &options, &model));
    CHECK_OK(setun_model_forward(model, tokens, 1, 4, first));
    for (i = 0; i < 50; i++) {
        CHECK_OK(setun_model_forward(model, tokens, 1, 4, again));
        CHECK(memcmp(first, again, sizeof first) == 0);
        CHECK_STATUS(setun_model_forward(model, tokens, 1, 400, again), SETUN_ERR_SHAPE);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    setun_model_free(model);
    return 0;
}
