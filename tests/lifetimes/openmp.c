/* Eight OpenMP threads use one const model at once, beside the library's own pool: all get the same bits. */
#include "check.h"

#include <omp.h>

enum { THREADS = 8, LENGTH = 8, VOCABULARY = 256 };

int main(void) {
    static const uint32_t tokens[LENGTH] = {1, 2, 3, 5, 8, 13, 21, 34};
    static float expected[LENGTH * VOCABULARY], logits[THREADS][LENGTH * VOCABULARY];
    setun_model_options options;
    setun_model *model = NULL;
    int i, wrong = 0, threads = 0;
    setun_model_options_init(&options, sizeof options);
    options.width = 32;
    options.layers = 2;
    options.heads = 2;
    options.context_length = LENGTH;
    CHECK_OK(setun_model_create(NULL, &options, &model));
    CHECK_OK(setun_model_forward(model, tokens, 1, LENGTH, expected));
#pragma omp parallel for num_threads(THREADS) schedule(static, 1) reduction(+ : wrong)
    for (i = 0; i < THREADS; i++) {
        int again;
        if (i == 0) threads = omp_get_num_threads();
        for (again = 0; again < 50; again++) {
            wrong += setun_model_forward(model, tokens, 1, LENGTH, logits[i]) != SETUN_OK;
            wrong += memcmp(logits[i], expected, sizeof expected) != 0;
        }
    }
    CHECK(threads == THREADS);
    CHECK(wrong == 0);
    setun_model_free(model);
    return 0;
}
