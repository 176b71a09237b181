/* Experts of clusters: models that go on from the same seed model, each on a cluster of the text, in processes that exchange
   nothing, and are mixed where text is predicted (c-BTM: Gururangan et al., arXiv 2303.14177). */
#ifndef ROUTE_H
#define ROUTE_H

#include "arguments.h"

#include <setun.h>
#include <stddef.h>
#include <stdint.h>

enum { ROUTE_TOP = 2, ROUTE_DIMENSIONS = 1024, ROUTE_PATH = 4096, ROUTE_KEY = 512 };

typedef struct {
    const char *text, *out, *results, *prompt;
    int64_t clusters, workers, window, seed_steps, expert_steps, eval_windows, seed, vocabulary, tokens, top;
    int32_t tokenizer;
    double balance, sharpness, temperature;
    setun_model_options model;
    setun_train_options train;
    char key[ROUTE_KEY]; /* what the files of models depend on, but for the seed; "" before the text is read */
} route_options;

arguments_result route_options_read(route_options *o, int argc, char **argv);

/* Names the run after its options and the text. Returns 0, or -1 after a message. */
int route_name(route_options *o, const void *text, size_t bytes);

/* Says what a call failed with. Returns 0 if it did not, else -1. */
int check(setun_status status, const char *what);

/* Writes OUT/name.end, or OUT/name-index.end where the index is not negative. Returns 0, or -1 after a message. */
int route_path(const route_options *o, char path[ROUTE_PATH], const char *name, int64_t index, const char *end);
int route_exists(const char *path);

/* Numbers that the seed and two names decide (SplitMix64), and the processor time of this process. */
uint64_t route_random(int64_t seed, uint64_t a, uint64_t b);
double route_seconds(void);

/* --- the text -------------------------------------------------------------------------------------------------------- */

typedef struct {
    char *bytes;
    size_t count, cut;       /* all of it, and the part that is trained on: the first nine tenths */
    int64_t *begins, *ends;  /* windows of that part, side by side */
    int64_t windows;
    setun_tokenizer *tokenizer;
} route_text;

int route_text_open(route_text *t, route_options *o);
void route_text_free(route_text *t);

/* The tokens of the windows with this label; NULL labels: of all. For the caller to free; NULL after a message. */
uint32_t *route_tokens(const route_text *t, const int32_t *labels, int32_t label, int64_t *count);

/* What is predicted: windows of the model's context in the last tenth, that do not overlap. */
typedef struct {
    uint32_t *tokens;
    int64_t windows, context;
    int64_t *starts, *begins, *ends; /* the first token of each, and the bytes of the text before it that it is routed by */
} route_validation;

int route_validation_open(route_validation *v, const route_options *o, const route_text *t);
void route_validation_free(route_validation *v);

/* --- the router: TF-IDF and centroids -------------------------------------------------------------------------------- */

typedef struct {
    setun_tfidf *tfidf;
    setun_kmeans *kmeans;
    int64_t clusters, windows;
    int32_t *labels, *parts; /* of the training windows: the clusters, and random parts of the same sizes */
    int64_t *sizes;
    double core_seconds; /* that its making took */
} router;

/* Reads OUT/router.safetensors; where it is not there, makes it from the text. `t` may be NULL: then it has to be there. */
int router_open(router *r, const route_options *o, const route_text *t, const setun_context *context);
void router_free(router *r);

/* Routes n parts of a text to the ROUTE_TOP nearest: labels and weights [n, ROUTE_TOP]. */
int router_route(const router *r, double sharpness, const char *text, size_t bytes, const int64_t *begins,
                 const int64_t *ends, int64_t n, int32_t *labels, float *weights);

/* --- training -------------------------------------------------------------------------------------------------------- */

/* Models of one kind, OUT/name.safetensors or OUT/name-0.safetensors and so on. */
typedef struct {
    const char *name;
    int64_t models; /* 0: one, without a number */
    int64_t steps;  /* after the seed model; of the seed model, its own */
    const int32_t *labels; /* of the windows: model i trains on those with label i; NULL: on all */
} route_set;

typedef struct {
    double tokens, core_seconds, longest; /* of all models together, and the seconds of the one that took longest */
} route_cost;

/* Trains what is not there yet, `workers` processes at a time, with `threads` each. */
int route_train(const route_options *o, const route_text *t, const route_set *sets, int64_t count, int64_t workers,
                int64_t threads);

/* What the training of a set has taken. */
int route_cost_of(const route_options *o, const route_set *set, route_cost *cost);

/* --- prediction ------------------------------------------------------------------------------------------------------ */

/* Losses in nats a token of the mixture of the nearest model, and of the ROUTE_TOP nearest. `labels` and `weights`
   [windows, ROUTE_TOP]; NULL: the set's only model. */
int route_evaluate(const route_options *o, const setun_context *context, const route_validation *v, const route_set *set,
                   const int32_t *labels, const float *weights, double losses[ROUTE_TOP]);

/* Continues the prompt with the mixture that it is routed to. */
int route_generate(const route_options *o, const setun_context *context);

/* --- results --------------------------------------------------------------------------------------------------------- */

typedef struct {
    double loss, predicted; /* nats a token, tokens */
    double router_seconds;
    route_cost cost;
} route_result;

/* The row whose models are weighed by their distance. */
#define ROUTE_WEIGHED "clusters-2"

/* Finds a line of the results file, and adds one; `row` says which model it is of. */
int route_find(const route_options *o, const char *row, route_result *result);
int route_append(const route_options *o, const char *row, const route_result *result);

/* Reads the number that follows "name": in a line; NaN where there is none. */
double route_number(const char *line, const char *name);

#endif
