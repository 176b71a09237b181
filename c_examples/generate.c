/* Continues a prompt with a model that train exported: cc -std=c99 -O2 -I../include generate.c arguments.c
   -L../target/release -lsetun -lm -Wl,-rpath,../target/release -o generate */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include "arguments.h"

#include <inttypes.h>
#include <setun.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char about[] =
    "generate: continues a text with a language model.\n\n"
    "  generate --model run/model.safetensors --prompt 'Once upon a time'\n\n"
    "The file holds the model and its tokenizer; train writes one. Defaults in brackets.";

static int check(setun_status status, const char *what)
{
    if (status == SETUN_OK)
        return 0;
    fprintf(stderr, "%s: %s (%s)\n", what, setun_last_error(), setun_status_name(status));
    return -1;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A setun_text_callback: pieces appear as they come; a closed pipe ends the text. */
static int32_t print(const char *piece, size_t bytes, void *user_data)
{
    (void)user_data;
    return fwrite(piece, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
}

static int generate(const char *path, const char *prompt, const setun_context_options *where,
                    const setun_sample_options *how)
{
    setun_context *context = NULL;
    setun_model *model = NULL;
    setun_tokenizer *tokenizer = NULL;
    int32_t slid = 0;
    int result = -1;
    if (check(setun_context_create(where, &context), "context") == 0 &&
        check(setun_model_load(context, path, &model), "model") == 0 &&
        check(setun_tokenizer_load(path, &tokenizer), "tokenizer") == 0) {
        double start = seconds();
        print(prompt, strlen(prompt), NULL);
        result = check(setun_generate(model, tokenizer, prompt, how, print, NULL, &slid), "generate");
        double took = seconds() - start;
        printf("\n");
        if (result == 0)
            fprintf(stderr, "%" PRId64 " tokens in %.2f s: %.0f tokens/s%s\n", how->max_tokens, took,
                    (double)how->max_tokens / took, slid ? "; longer than the context, its start was forgotten" : "");
    }
    setun_tokenizer_free(tokenizer);
    setun_model_free(model);
    setun_context_free(context);
    return result;
}

int main(int argc, char **argv)
{
    const char *path = NULL, *prompt = "\n";
    double temperature = .8, top_p = 1;
    int64_t seed = 0, threads = 0;
    setun_context_options where;
    setun_sample_options how;
    setun_context_options_init(&where, sizeof where);
    setun_sample_options_init(&how, sizeof how);
    const argument table[] = {
        {"model", ARGUMENT_TEXT, &path, NULL, "the file to load"},
        {"prompt", ARGUMENT_TEXT, &prompt, NULL, "the beginning of the text; default: a new line"},
        {"tokens", ARGUMENT_COUNT, &how.max_tokens, NULL, "tokens to write"},
        {"temperature", ARGUMENT_REAL, &temperature, NULL, "0 = always the most probable token"},
        {"top-k", ARGUMENT_COUNT, &how.top_k, NULL, "choose among the k most probable; 0 = all"},
        {"top-p", ARGUMENT_REAL, &top_p, NULL, "choose among those that together reach p"},
        {"seed", ARGUMENT_COUNT, &seed, NULL, "the same seed writes the same text"},
        {"kv-cache", ARGUMENT_CHOICE, &how.kv_cache, "f32|int8", "numbers of the keys and values of the text so far"},
        {"backend", ARGUMENT_CHOICE, &where.backend, "auto|scalar|simd|parallel|cuda", "what computes"},
        {"threads", ARGUMENT_COUNT, &threads, NULL, "of the parallel backend; 0 = as many as there are"},
    };
    arguments_result read = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    if (read != ARGUMENTS_OK)
        return read == ARGUMENTS_HELP ? 0 : 2;
    if (path == NULL || threads > INT32_MAX) {
        fprintf(stderr, path == NULL ? "--model is needed; --help lists all options\n" : "--threads is too large\n");
        return 2;
    }
    how.temperature = (float)temperature;
    how.top_p = (float)top_p;
    how.seed = (uint64_t)seed;
    where.threads = (int32_t)threads;
    return generate(path, prompt, &where, &how) == 0 ? 0 : 1;
}
