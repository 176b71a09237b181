/* The loss of mixtures: a token is predicted with p = sum of w_i p_i over the models that its window is routed to, and only they
   look at the window. */
#include "route.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 16 };

typedef struct {
    const route_validation *validation;
    setun_model *model;
    int64_t vocabulary;
    uint32_t *tokens; /* [BATCH, context] */
    float *logits;    /* [BATCH, context, vocabulary] */
    double *mixed[ROUTE_TOP]; /* [windows, context]: probabilities of the tokens that came, of the nearest model and of all */
} prediction;

static int no_memory(void)
{
    fprintf(stderr, "there is not enough memory for the predictions\n");
    return -1;
}

/* The probability of one of the tokens. */
static double probability(const float *logits, int64_t count, uint32_t token)
{
    float most = logits[0];
    double sum = 0;
    for (int64_t i = 1; i < count; i++)
        most = logits[i] > most ? logits[i] : most;
    for (int64_t i = 0; i < count; i++)
        sum += (double)expf(logits[i] - most);
    return (double)expf(logits[token] - most) / sum;
}

/* Adds what the model says of `count` windows, which it has these weights in. */
static int add(prediction *p, const int64_t *windows, const float *weights, int64_t count)
{
    const route_validation *v = p->validation;
    int64_t length = v->context;
    for (int64_t b = 0; b < count; b++)
        memcpy(p->tokens + b * length, v->tokens + v->starts[windows[b]], (size_t)length * sizeof *p->tokens);
    if (check(setun_model_forward(p->model, p->tokens, count, length, p->logits), "model") != 0)
        return -1;
    for (int64_t b = 0; b < count; b++) {
        const uint32_t *next = v->tokens + v->starts[windows[b]] + 1;
        for (int64_t i = 0; i < length; i++) {
            double here = probability(p->logits + (b * length + i) * p->vocabulary, p->vocabulary, next[i]);
            int64_t at = windows[b] * length + i;
            p->mixed[0][at] += weights[b * ROUTE_TOP] * here;
            p->mixed[1][at] += weights[b * ROUTE_TOP + 1] * here;
        }
    }
    return 0;
}

/* All windows that are routed to model `index`; without labels all there are. */
static int add_model(prediction *p, int64_t index, const int32_t *labels, const float *weights)
{
    int64_t windows[BATCH], count = 0;
    float here[BATCH * ROUTE_TOP];
    for (int64_t w = 0; w < p->validation->windows; w++) {
        for (int64_t s = 0; s < (labels != NULL ? ROUTE_TOP : 1); s++) {
            if (labels != NULL && labels[w * ROUTE_TOP + s] != index)
                continue;
            windows[count] = w;
            here[count * ROUTE_TOP] = s == 0;
            here[count * ROUTE_TOP + 1] = labels != NULL ? weights[w * ROUTE_TOP + s] : 1;
            if (++count == BATCH && add(p, windows, here, count) != 0)
                return -1;
            count %= BATCH;
        }
    }
    return count > 0 ? add(p, windows, here, count) : 0;
}

static int open_prediction(prediction *p, const route_options *o, const route_validation *v)
{
    size_t windows = (size_t)v->windows, length = (size_t)v->context, rows = BATCH * length;
    memset(p, 0, sizeof *p);
    p->validation = v;
    p->vocabulary = o->model.vocabulary;
    p->tokens = calloc(rows, sizeof *p->tokens);
    p->logits = calloc(rows, (size_t)p->vocabulary * sizeof *p->logits);
    for (int s = 0; s < ROUTE_TOP; s++)
        p->mixed[s] = calloc(windows, length * sizeof *p->mixed[s]);
    return p->tokens == NULL || p->logits == NULL || p->mixed[0] == NULL || p->mixed[1] == NULL ? no_memory() : 0;
}

int route_evaluate(const route_options *o, const setun_context *context, const route_validation *v, const route_set *set,
                   const int32_t *labels, const float *weights, double losses[ROUTE_TOP])
{
    prediction p;
    int failed = open_prediction(&p, o, v) != 0;
    int64_t models = set->models > 0 ? set->models : 1, count = v->windows * v->context;
    for (int64_t i = 0; i < models && !failed; i++) {
        char path[ROUTE_PATH];
        failed = route_path(o, path, set->name, set->models > 0 ? i : -1, "safetensors") != 0 ||
                 check(setun_model_load(context, path, &p.model), path) != 0 || add_model(&p, i, labels, weights) != 0;
        setun_model_free(p.model);
        p.model = NULL;
    }
    for (int s = 0; s < ROUTE_TOP && !failed; s++) {
        losses[s] = 0;
        for (int64_t i = 0; i < count; i++)
            losses[s] -= log(p.mixed[s][i] > DBL_MIN ? p.mixed[s][i] : DBL_MIN) / (double)count;
    }
    free(p.tokens), free(p.logits), free(p.mixed[0]), free(p.mixed[1]);
    return failed ? -1 : 0;
}
