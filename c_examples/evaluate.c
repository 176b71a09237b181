/* Measures a model file on a text: cc -std=c99 -O2 -I../include evaluate.c arguments.c -L../target/release -lsetun -lm
   -Wl,-rpath,../target/release -o evaluate

   Windows of the model's context that do not overlap, as a training run validates: a token is predicted from those before it
   in its window. What is left at the end of the text, less than a window, is a shorter one. */
#define _FILE_OFFSET_BITS 64

#include "arguments.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <setun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char about[] =
    "evaluate: the loss of a language model on a text, its perplexity, and bits a byte.\n\n"
    "  evaluate --model run/model.safetensors --text book.txt\n\n"
    "The file holds the model and its tokenizer; train writes one. Defaults in brackets.";

enum { WINDOWS = 16 }; /* at a time */

typedef struct {
    const char *model, *text, *tokenizer;
    double last;
    int32_t json;
} options;

typedef struct {
    setun_model *model;
    uint32_t *tokens;
    int64_t count, first; /* all tokens of the text, and the first that is read */
    double nats;          /* of the tokens that were predicted */
    int64_t predicted, bytes;
} measurement;

static int check(setun_status status, const char *what)
{
    if (status == SETUN_OK)
        return 0;
    fprintf(stderr, "%s: %s (%s)\n", what, setun_last_error(), setun_status_name(status));
    return -1;
}

/* The bytes of a file and a NUL, for the caller to free; NULL after a message. */
static char *read_text(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    size_t room = 1 << 16, count = 0, got = 0;
    char *text = malloc(room);
    while (file != NULL && text != NULL && (got = fread(text + count, 1, room - count - 1, file)) > 0) {
        count += got;
        if (room - count > 1)
            continue;
        char *larger = room > SIZE_MAX / 2 ? NULL : realloc(text, room *= 2);
        if (larger == NULL)
            free(text);
        text = larger;
    }
    if (file == NULL || text == NULL || ferror(file)) {
        fprintf(stderr, "%s: %s\n", path, text == NULL ? "there is not enough memory for it" : strerror(errno));
        free(text);
        text = NULL;
    } else {
        text[count] = 0;
        *bytes = count;
    }
    if (file != NULL)
        fclose(file);
    return text;
}

/* The tokens of the text, and of the last part of it, which is measured, the bytes. */
static int encode(measurement *m, const setun_tokenizer *tokenizer, const char *text, size_t bytes, double last)
{
    size_t all = 0;
    if (check(setun_tokenizer_encode(tokenizer, text, bytes, NULL, 0, &m->count), "text") != 0)
        return -1;
    m->tokens = malloc(sizeof *m->tokens * (size_t)(m->count + 1));
    if (m->tokens == NULL) {
        fprintf(stderr, "there is not enough memory for %" PRId64 " tokens\n", m->count);
        return -1;
    }
    if (check(setun_tokenizer_encode(tokenizer, text, bytes, m->tokens, m->count, &m->count), "text") != 0)
        return -1;
    /* As setun_dataset_open splits: rounded up, but not for the rounding of the product. */
    m->first = m->count - (int64_t)ceil((double)m->count * last * (1 - 1e-12));
    if (m->count - m->first < 2) {
        fprintf(stderr, "there are %" PRId64 " tokens to measure, and it takes 2\n", m->count - m->first);
        return -1;
    }
    /* Of what is predicted: all but the first token. */
    if (check(setun_tokenizer_decode(tokenizer, m->tokens + m->first + 1, m->count - m->first - 1, NULL, 0, &all), "text") != 0)
        return -1;
    m->bytes = (int64_t)all;
    return 0;
}

/* Adds the loss of `batch` windows of `length` tokens from token `at` on. */
static int add(measurement *m, int64_t at, int64_t batch, int64_t length)
{
    double loss = 0;
    /* The targets are the tokens, one further on: of windows that follow each other those of all are in one piece. */
    const uint32_t *tokens = m->tokens + at;
    if (check(setun_model_loss(m->model, tokens, tokens + 1, batch, length, &loss), "model") != 0)
        return -1;
    m->nats += loss * (double)(batch * length);
    m->predicted += batch * length;
    return 0;
}

static int measure(measurement *m, int64_t window)
{
    int64_t left, at = m->first;
    while ((left = m->count - 1 - at) > 0) {
        int64_t batch = left / window < WINDOWS ? left / window : WINDOWS, length = batch > 0 ? window : left;
        batch = batch > 0 ? batch : 1;
        if (add(m, at, batch, length) != 0)
            return -1;
        at += batch * length;
    }
    return 0;
}

static int evaluate(const options *o, const setun_context *context)
{
    measurement m = {NULL, NULL, 0, 0, 0, 0, 0};
    setun_tokenizer *tokenizer = NULL;
    setun_model_options geometry;
    size_t bytes = 0;
    int result = -1;
    setun_model_options_init(&geometry, sizeof geometry);
    char *text = read_text(o->text, &bytes);
    if (text != NULL && check(setun_model_load(context, o->model, &m.model), "model") == 0 &&
        check(setun_model_describe(m.model, &geometry), "model") == 0 &&
        check(setun_tokenizer_load(o->tokenizer != NULL ? o->tokenizer : o->model, &tokenizer), "tokenizer") == 0 &&
        encode(&m, tokenizer, text, bytes, o->last) == 0 && measure(&m, geometry.context_length) == 0) {
        double loss = m.nats / (double)m.predicted, bits = m.nats / log(2.) / (double)m.bytes;
        printf(o->json ? "{\"loss\":%.9g,\"perplexity\":%.9g,\"bits_per_byte\":%.9g,\"tokens\":%" PRId64 ",\"bytes\":%" PRId64 "}\n"
                       : "loss %.4f nats a token, perplexity %.3f, %.4f bits a byte: %" PRId64 " tokens, %" PRId64 " bytes\n",
               loss, exp(loss), bits, m.predicted, m.bytes);
        result = 0;
    }
    free(text);
    free(m.tokens);
    setun_tokenizer_free(tokenizer);
    setun_model_free(m.model);
    return result;
}

int main(int argc, char **argv)
{
    options o = {NULL, NULL, NULL, 1, 0};
    int64_t threads = 0;
    setun_context *context = NULL;
    setun_context_options where;
    setun_context_options_init(&where, sizeof where);
    const argument table[] = {
        {"model", ARGUMENT_TEXT, &o.model, NULL, "the file to load"},
        {"text", ARGUMENT_TEXT, &o.text, NULL, "the file to measure it on"},
        {"tokenizer", ARGUMENT_TEXT, &o.tokenizer, NULL, "a tokenizer.json; default: that of the model file"},
        {"last", ARGUMENT_REAL, &o.last, NULL, "the share of the text, at its end, that is measured; train keeps .1 for that"},
        {"json", ARGUMENT_FLAG, &o.json, NULL, "one JSON object"},
        {"backend", ARGUMENT_CHOICE, &where.backend, "auto|scalar|simd|parallel|cuda", "what computes"},
        {"threads", ARGUMENT_COUNT, &threads, NULL, "of the parallel backend; 0 = as many as there are"},
    };
    arguments_result read = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    if (read != ARGUMENTS_OK)
        return read == ARGUMENTS_HELP ? 0 : 2;
    if (o.model == NULL || o.text == NULL || threads > INT32_MAX || !(o.last > 0 && o.last <= 1)) {
        const char *why = o.model == NULL || o.text == NULL ? "--model and --text are needed; --help lists all options"
                          : threads > INT32_MAX             ? "--threads is too large"
                                                            : "--last is above 0 and at most 1";
        fprintf(stderr, "%s\n", why);
        return 2;
    }
    where.threads = (int32_t)threads;
    int result = check(setun_context_create(&where, &context), "context") == 0 ? evaluate(&o, context) : -1;
    setun_context_free(context);
    return result == 0 ? 0 : 1;
}
