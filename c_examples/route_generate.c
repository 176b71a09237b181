/* Text that the experts write: the prompt decides which of them, and the mixture of what they expect is drawn from. */
#include "route.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const route_options *options;
    setun_tokenizer *tokenizer;
    setun_model *models[ROUTE_TOP];
    int32_t labels[ROUTE_TOP];
    float weights[ROUTE_TOP];
    setun_model_options shape;
    uint32_t *tokens; /* the prompt and what follows */
    int64_t count;
    float *logits; /* [context, vocabulary] */
    double *mixed; /* [vocabulary] */
} writing;

/* The experts of the text so far, its last --window bytes. */
static int find_experts(writing *w, const setun_context *context)
{
    const route_options *o = w->options;
    router r = {0};
    size_t bytes = strlen(o->prompt);
    int64_t begin = (int64_t)bytes > o->window ? (int64_t)bytes - o->window : 0, end = (int64_t)bytes;
    int failed = router_open(&r, o, NULL, context) != 0 ||
                 router_route(&r, o->sharpness, o->prompt, bytes, &begin, &end, 1, w->labels, w->weights) != 0;
    router_free(&r);
    if (failed)
        return -1;
    if (o->top == 1)
        w->weights[0] = 1, w->weights[1] = 0;
    for (int64_t i = 0; i < o->top; i++)
        fprintf(stderr, "%sexpert %" PRId32 " (%.2f)", i > 0 ? ", " : "", w->labels[i], (double)w->weights[i]);
    fprintf(stderr, "\n");
    return 0;
}

static int open_models(writing *w, const setun_context *context)
{
    const route_options *o = w->options;
    char path[ROUTE_PATH];
    for (int64_t i = 0; i < o->top; i++)
        if (route_path(o, path, "expert", w->labels[i], "safetensors") != 0 ||
            check(setun_model_load(context, path, &w->models[i]), path) != 0)
            return -1;
    setun_model_options_init(&w->shape, sizeof w->shape);
    if (check(setun_tokenizer_load(path, &w->tokenizer), path) != 0 ||
        check(setun_model_describe(w->models[0], &w->shape), path) != 0)
        return -1;
    size_t bytes = strlen(o->prompt), vocabulary = (size_t)w->shape.vocabulary;
    w->tokens = calloc(bytes + (size_t)o->tokens + 1, sizeof *w->tokens);
    w->logits = calloc((size_t)w->shape.context_length, vocabulary * sizeof *w->logits);
    w->mixed = calloc(vocabulary, sizeof *w->mixed);
    if (w->tokens == NULL || w->logits == NULL || w->mixed == NULL) {
        fprintf(stderr, "there is not enough memory for the text\n");
        return -1;
    }
    if (check(setun_tokenizer_encode(w->tokenizer, o->prompt, bytes, w->tokens, (int64_t)bytes, &w->count), "prompt") != 0)
        return -1;
    if (w->count == 0)
        fprintf(stderr, "--prompt needs a text\n");
    return w->count > 0 ? 0 : -1;
}

/* Adds softmax(logits / temperature) times the weight; a temperature of 0 is that of 1 here. */
static void mix(writing *w, const float *logits, double weight)
{
    double heat = w->options->temperature > 0 ? w->options->temperature : 1, most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < w->shape.vocabulary; i++)
        most = logits[i] > most ? logits[i] : most;
    for (int64_t i = 0; i < w->shape.vocabulary; i++)
        sum += exp((logits[i] - most) / heat);
    for (int64_t i = 0; i < w->shape.vocabulary; i++)
        w->mixed[i] += weight * exp((logits[i] - most) / heat) / sum;
}

static uint32_t draw(const writing *w)
{
    int64_t best = 0, last = w->shape.vocabulary - 1;
    double left = (double)(route_random(w->options->seed, UINT64_MAX, (uint64_t)w->count) >> 11) / 9007199254740992.;
    for (int64_t i = 0; i <= last; i++) {
        if (w->mixed[i] > w->mixed[best])
            best = i;
        left -= w->mixed[i];
        if (left < 0 && w->options->temperature > 0)
            return (uint32_t)i;
    }
    return (uint32_t)best;
}

static int next(writing *w)
{
    int64_t length = w->count < w->shape.context_length ? w->count : w->shape.context_length;
    memset(w->mixed, 0, (size_t)w->shape.vocabulary * sizeof *w->mixed);
    for (int64_t i = 0; i < w->options->top; i++) {
        if (check(setun_model_forward(w->models[i], w->tokens + w->count - length, 1, length, w->logits), "expert") != 0)
            return -1;
        mix(w, w->logits + (length - 1) * w->shape.vocabulary, (double)w->weights[i]);
    }
    w->tokens[w->count] = draw(w);
    w->count++;
    return 0;
}

int route_generate(const route_options *o, const setun_context *context)
{
    writing w;
    memset(&w, 0, sizeof w);
    w.options = o;
    int failed = find_experts(&w, context) != 0 || open_models(&w, context) != 0;
    size_t bytes = 0;
    char *text = NULL;
    for (int64_t i = 0; i < o->tokens && !failed; i++)
        failed = next(&w) != 0;
    failed = failed || check(setun_tokenizer_decode(w.tokenizer, w.tokens, w.count, NULL, 0, &bytes), "text") != 0;
    if (!failed && (text = malloc(bytes + 1)) == NULL)
        failed = fprintf(stderr, "there is not enough memory for the text\n");
    failed = failed || check(setun_tokenizer_decode(w.tokenizer, w.tokens, w.count, text, bytes, &bytes), "text") != 0;
    if (!failed)
        failed = fwrite(text, 1, bytes, stdout) != bytes || putchar('\n') == EOF;
    setun_tokenizer_free(w.tokenizer);
    for (int i = 0; i < ROUTE_TOP; i++)
        setun_model_free(w.models[i]);
    free(w.tokens), free(w.logits), free(w.mixed), free(text);
    return failed ? -1 : 0;
}
