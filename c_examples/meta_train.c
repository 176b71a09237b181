/* Trains the network for the learning rate (setun_lr_net) by evolution strategies: cc -std=c99 -O3 -I../include meta_train.c
   meta_task.c meta_evaluate.c meta_results.c arguments.c -L../target/release -lsetun -lm -lpthread
   -Wl,-rpath,../target/release -o meta_train

   Antithetic pairs (Salimans et al., arXiv 1703.03864; Metz et al., arXiv 2009.11243): each pair is one task, run with the
   weights w + s e and w - s e. What counts is the loss at the end on data that was not trained on, as d = (a - b) / (a + b),
   which has no unit. The mean of d e / (2 s) over the pairs is the gradient that AdamW steps along. Every task, e and batch is
   named by numbers: the result depends on neither threads nor interruptions. */
#include "arguments.h"
#include "meta.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *results, *out, *start, *text;
    int32_t evaluate;
    int64_t generations, pairs, seed, threads, seeds;
    int64_t least_width, most_width, least_steps, most_steps, gate_steps, widths[2];
    double sigma, rate, decay, lowest_rate, highest_rate;
    char key[256];
} options;

static int read_options(int argc, char **argv, options *o)
{
    const argument table[] = {
        {NULL, ARGUMENT_FLAG, NULL, NULL, "files"},
        {"out", ARGUMENT_TEXT, &o->out, NULL, "where the trained network is written"},
        {"results", ARGUMENT_TEXT, &o->results, NULL, "one JSON object a line; training continues from it"},
        {"start", ARGUMENT_TEXT, &o->start, NULL, "a network to begin with, or to evaluate; else the library's"},
        {"text", ARGUMENT_TEXT, &o->text, NULL, "a text for the character tasks, else Markov chains"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "training"},
        {"generations", ARGUMENT_COUNT, &o->generations, NULL, "in all, with those in the results"},
        {"pairs", ARGUMENT_COUNT, &o->pairs, NULL, "tasks of a generation, two runs each"},
        {"sigma", ARGUMENT_REAL, &o->sigma, NULL, "standard deviation of the perturbations"},
        {"rate", ARGUMENT_REAL, &o->rate, NULL, "of AdamW, on the weights of the network"},
        {"decay", ARGUMENT_REAL, &o->decay, NULL, "of the weights, times the rate: holds what no run asks for"},
        {"seed", ARGUMENT_COUNT, &o->seed, NULL, "of tasks and perturbations"},
        {"threads", ARGUMENT_COUNT, &o->threads, NULL, "runs at a time; the result does not depend on it"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "tasks: each is drawn log-uniformly between"},
        {"least-width", ARGUMENT_COUNT, &o->least_width, NULL, "hidden units"},
        {"most-width", ARGUMENT_COUNT, &o->most_width, NULL, "and"},
        {"least-steps", ARGUMENT_COUNT, &o->least_steps, NULL, "steps of a run"},
        {"most-steps", ARGUMENT_COUNT, &o->most_steps, NULL, "and"},
        {"lowest-rate", ARGUMENT_REAL, &o->lowest_rate, NULL, "radii that the network multiplies, at their highest"},
        {"highest-rate", ARGUMENT_REAL, &o->highest_rate, NULL, "and"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "evaluation"},
        {"evaluate", ARGUMENT_FLAG, &o->evaluate, NULL, "the network against the schedule alone, on held-out sizes"},
        {"gate-steps", ARGUMENT_COUNT, &o->gate_steps, NULL, "0: three times most-steps"},
        {"gate-narrow", ARGUMENT_COUNT, &o->widths[0], NULL, "0: three quarters of least-width"},
        {"gate-wide", ARGUMENT_COUNT, &o->widths[1], NULL, "0: one and a half times most-width"},
        {"seeds", ARGUMENT_COUNT, &o->seeds, NULL, "runs of each family, width and learning rate"},
    };
    const char *about = "Trains the network for the learning rate on many short runs, and says whether it is of use.";
    arguments_result result = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    if (result != ARGUMENTS_OK)
        return result == ARGUMENTS_HELP ? 0 : 2;
    int sizes = o->pairs >= 1 && o->pairs <= 65536 && o->threads >= 1 && o->least_width >= 1 && o->least_steps >= 1 &&
                o->most_width >= o->least_width && o->most_width <= 65536 && o->most_steps >= o->least_steps;
    int rates = o->sigma > 0 && o->rate > 0 && o->decay >= 0 && o->lowest_rate > 0 && o->highest_rate >= o->lowest_rate;
    if (!sizes || !rates || (!o->evaluate && o->out == NULL)) {
        fprintf(stderr, "sizes are 1 or more, the lower of two first; rates and sigma are above 0; training needs --out\n");
        return 2;
    }
    return -1;
}

static int good(setun_status status)
{
    if (status != SETUN_OK)
        fprintf(stderr, "%s: %s\n", setun_status_name(status), setun_last_error());
    return status == SETUN_OK;
}

/* The weights of a file, or, for NULL, those that the library comes with; and a file of weights. */
static int read_weights(const char *path, double *weights)
{
    setun_lr_net *net = NULL;
    int done = good(setun_lr_net_create(NULL, &net)) && (path == NULL || good(setun_lr_net_load(net, path))) &&
               good(setun_lr_net_weights(net, weights, META_WEIGHTS));
    setun_lr_net_free(net);
    return done;
}

static int write_weights(const char *path, const double *weights)
{
    setun_lr_net *net = NULL;
    int done = good(setun_lr_net_create(NULL, &net)) && good(setun_lr_net_set_weights(net, weights, META_WEIGHTS)) &&
               good(setun_lr_net_save(net, path));
    setun_lr_net_free(net);
    return done;
}

/* A generation: what its pairs have in common, and the loss of each run. */
typedef struct {
    const options *o;
    const setun_context *context;
    const meta_progress *now;
    double (*losses)[2]; /* [pairs] */
} generation;

static double bounded(double weight)
{
    return weight < -16 ? -16 : weight > 16 ? 16 : weight;
}

/* What a pair draws: its task from stream 0, its perturbation from stream 1. */
static meta_random pair_stream(const generation *g, int64_t pair, uint64_t which)
{
    return meta_stream((uint64_t)g->o->seed, (uint64_t)g->now->generation, (uint64_t)pair, which);
}

static int run_pair(void *data, int64_t pair)
{
    const generation *g = data;
    const options *o = g->o;
    meta_random noise = pair_stream(g, pair, 1), random = pair_stream(g, pair, 0);
    meta_task task = {(int32_t)(pair % META_FAMILIES), 0, 0, 0, 0};
    double weights[2][META_WEIGHTS];
    task.width = (int64_t)meta_log_uniform(&random, (double)o->least_width, (double)o->most_width + 1);
    task.steps = (int64_t)meta_log_uniform(&random, (double)o->least_steps, (double)o->most_steps + 1);
    task.rate = meta_log_uniform(&random, o->lowest_rate, o->highest_rate);
    task.seed = (1ull << 63) | (uint64_t)(9007199254740992. * meta_uniform(&random)); /* none of the gate's */
    for (int i = 0; i < META_WEIGHTS; i++) {
        double e = o->sigma * meta_normal(&noise);
        weights[0][i] = bounded(g->now->weights[i] + e);
        weights[1][i] = bounded(g->now->weights[i] - e);
    }
    for (int i = 0; i < 2; i++) {
        meta_outcome outcome;
        if (!meta_run(&task, weights[i], g->context, &outcome))
            return 0;
        /* A run that broke, or went astray, is twice as bad as its beginning: no single one decides a generation. */
        double most = 2 * outcome.first;
        g->losses[pair][i] = (outcome.last < most ? outcome.last : most) / outcome.first;
    }
    return 1;
}

/* One step of AdamW (arXiv 1711.05101) down the estimate; returns the mean of |d|. */
static double learn(const generation *g, meta_progress *next)
{
    const options *o = g->o;
    double gradient[META_WEIGHTS] = {0}, sum = 0, t = (double)++next->generation;
    for (int64_t pair = 0; pair < o->pairs; pair++) {
        double a = g->losses[pair][0], b = g->losses[pair][1], d = a + b > 0 ? (a - b) / (a + b) : 0;
        meta_random noise = pair_stream(g, pair, 1);
        for (int i = 0; i < META_WEIGHTS; i++)
            gradient[i] += d * meta_normal(&noise) / (2 * o->sigma * (double)o->pairs);
        sum += fabs(d);
    }
    for (int i = 0; i < META_WEIGHTS; i++) {
        next->m[i] += .1 * (gradient[i] - next->m[i]);
        next->v[i] += .01 * (gradient[i] * gradient[i] - next->v[i]);
        double m = next->m[i] / (1 - pow(.9, t)), v = next->v[i] / (1 - pow(.99, t));
        next->weights[i] = bounded(next->weights[i] - o->rate * (m / (sqrt(v) + 1e-12) + o->decay * next->weights[i]));
    }
    return sum / (double)o->pairs;
}

/* What the result of training depends on, beside the seed. */
static void name_run(options *o, const double *weights)
{
    snprintf(o->key, sizeof o->key, "w%lld-%lld t%lld-%lld r%g-%g p%lld s%g a%g d%g from %llx text %llx",
             (long long)o->least_width, (long long)o->most_width, (long long)o->least_steps, (long long)o->most_steps,
             o->lowest_rate, o->highest_rate, (long long)o->pairs, o->sigma, o->rate, o->decay,
             (unsigned long long)meta_name(weights, META_WEIGHTS * sizeof *weights), (unsigned long long)meta_text_name());
}

static int train(const options *o, const setun_context *context, meta_progress *now)
{
    generation g = {o, context, now, calloc((size_t)o->pairs, sizeof *g.losses)};
    int going = g.losses != NULL;
    if (o->results != NULL)
        meta_read_progress(o->results, o->key, o->seed, now);
    if (now->generation > 0)
        printf("from generation %lld\n", (long long)now->generation);
    while (going && now->generation < o->generations && (going = meta_parallel(o->threads, o->pairs, run_pair, &g))) {
        meta_progress next = *now;
        double loss = 0, change = learn(&g, &next);
        for (int64_t pair = 0; pair < o->pairs; pair++)
            loss += (g.losses[pair][0] + g.losses[pair][1]) / (2 * (double)o->pairs);
        *now = next;
        printf("generation %4lld: %.5f of the loss is left, the two of a pair differ by %.3f%%\n", (long long)now->generation,
               loss, 200 * change);
        fflush(stdout);
        going = o->results == NULL || meta_append_progress(o->results, o->key, o->seed, now, change, loss);
    }
    free(g.losses);
    return going && write_weights(o->out, now->weights);
}

int main(int argc, char **argv)
{
    options o = {.generations = 100, .pairs = 16, .sigma = .1, .rate = .02, .decay = .1, .seed = 1, .threads = 2,
                 .least_width = 32, .most_width = 512, .least_steps = 30, .most_steps = 1000, .lowest_rate = 4e-3,
                 .highest_rate = .025, .seeds = 3};
    static meta_progress now;
    setun_context *context = NULL;
    setun_context_options where;
    int status = read_options(argc, argv, &o);
    if (status >= 0)
        return status;
    setun_context_options_init(&where, sizeof where);
    where.backend = SETUN_BACKEND_SIMD; /* of one thread: the runs are what is parallel */
    int done = good(setun_context_create(&where, &context)) && (o.text == NULL || meta_read_text(o.text)) &&
               read_weights(o.start, now.weights);
    if (done && o.evaluate) {
        meta_gate gate = {{o.widths[0], o.widths[1]}, o.gate_steps, o.seeds, o.threads, o.lowest_rate, o.highest_rate, o.results};
        if (gate.widths[0] == 0)
            gate.widths[0] = (3 * o.least_width + 3) / 4;
        if (gate.widths[1] == 0)
            gate.widths[1] = 3 * o.most_width / 2;
        if (gate.steps == 0)
            gate.steps = 3 * o.most_steps;
        done = meta_evaluate(&gate, now.weights, context);
    } else if (done) {
        name_run(&o, now.weights);
        done = train(&o, context, &now);
    }
    meta_free_text();
    setun_context_free(context);
    return !done;
}
