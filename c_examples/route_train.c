/* The models of route, each trained by a process of its own that reads the seed model and its part of the text, and writes a
   file: nothing else passes between them. A file is written whole or not at all, so that what is there is finished. */
#define _POSIX_C_SOURCE 200809L /* fork, waitpid, getppid */

#include "route.h"

#include "output.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    const route_options *options;
    const route_text *text;
    const route_set *set;
    int64_t index; /* of the model in its set; -1: it is the only one */
    int64_t threads;
    uint64_t name; /* of its batches */
    pid_t parent;
} job;

typedef struct {
    setun_context *context;
    setun_dataset *dataset;
    setun_model *model;
    setun_trainer *trainer;
} work;

static int is_seed(const route_set *set)
{
    return strcmp(set->name, "seed") == 0;
}

/* A setun_progress_callback: a process whose parent was killed ends too. */
static int32_t on_step(const setun_metrics *metrics, void *user_data)
{
    const job *j = user_data;
    (void)metrics;
    return getppid() == j->parent;
}

static int open_work(work *w, const job *j)
{
    char seed[ROUTE_PATH];
    const route_options *o = j->options;
    setun_context_options where;
    setun_context_options_init(&where, sizeof where);
    /* The same bits with any number of threads. */
    where.backend = j->threads > 1 ? SETUN_BACKEND_PARALLEL : SETUN_BACKEND_SIMD;
    where.threads = (int32_t)j->threads;
    if (check(setun_context_create(&where, &w->context), "context") != 0)
        return -1;
    if (is_seed(j->set)) {
        setun_model_options model = o->model;
        model.seed = (uint64_t)o->seed;
        return check(setun_model_create(w->context, &model, &w->model), "seed model");
    }
    return route_path(o, seed, "seed", -1, "safetensors") != 0
               ? -1
               : check(setun_model_load(w->context, seed, &w->model), "seed model");
}

/* The library's rule for an exact radius (src/step/radius.rs), but for all the steps that the model will have had: by those of
   this run alone, the first of a short one would undo what the seed model has learned. */
static void set_radius(setun_train_options *how, const job *j)
{
    const route_options *o = j->options;
    double steps = (double)(o->seed_steps + j->set->steps) / 1000, width = pow((double)o->model.width / 128, -.25);
    if (is_seed(j->set) || how->radius_mode != SETUN_RADIUS_MODE_EXACT || !isnan(how->radius))
        return;
    how->vector_radius = .0078 * pow(steps, -.45);
    how->radius = (how->method == SETUN_STEP_METHOD_MUON ? .0125 * pow(steps, -.55) : how->vector_radius) * width;
}

static int open_trainer(work *w, const job *j)
{
    const route_options *o = j->options;
    int64_t count = 0;
    setun_train_options how = o->train;
    uint32_t *tokens = route_tokens(j->text, j->set->labels, (int32_t)j->index, &count);
    int failed = tokens == NULL || check(setun_dataset_from_tokens(tokens, count, o->model.vocabulary, 0, &w->dataset),
                                         "tokens") != 0;
    free(tokens);
    how.max_steps = j->set->steps;
    how.warmup_steps = how.max_steps < 1000 ? how.max_steps / 10 : 100;
    how.seed = j->name;
    set_radius(&how, j);
    how.progress = on_step, how.user_data = (void *)j;
    return failed ? -1 : check(setun_trainer_create(w->model, w->dataset, NULL, &how, &w->trainer), j->set->name);
}

/* What it took, and then the model: where that is there, both are. */
static int save(const work *w, const job *j)
{
    char path[ROUTE_PATH], beside[ROUTE_PATH];
    output o;
    const route_options *options = j->options;
    setun_save_options how;
    setun_save_options_init(&how, sizeof how);
    /* The seed model is trained further; the others predict with the same bits as their masters. */
    how.packing = is_seed(j->set) ? SETUN_PACKING_FULL : SETUN_PACKING_FIVE_PER_BYTE;
    how.rest = SETUN_DTYPE_F32;
    how.tokenizer = j->text->tokenizer;
    if (route_path(options, path, j->set->name, j->index, "safetensors") != 0 ||
        route_path(options, beside, j->set->name, j->index, "json") != 0 || output_open(&o, beside) != 0)
        return -1;
    fprintf(o.file, "{\"steps\":%" PRId64 ",\"tokens\":%" PRId64 ",\"core_seconds\":%.17g}\n", j->set->steps,
            j->set->steps * options->train.batch_size * options->model.context_length, route_seconds());
    return output_close(&o, 0) != 0 ? -1 : check(setun_model_save(w->model, path, &how, NULL), path);
}

static int train(const job *j)
{
    work w = {NULL, NULL, NULL, NULL};
    int32_t finished = 1;
    int failed = open_work(&w, j) != 0;
    if (!failed && j->set->steps > 0)
        failed = open_trainer(&w, j) != 0 || check(setun_trainer_run(w.trainer, &finished), j->set->name) != 0;
    failed = failed || !finished || save(&w, j) != 0;
    setun_trainer_free(w.trainer);
    setun_dataset_free(w.dataset);
    setun_model_free(w.model);
    setun_context_free(w.context);
    return failed;
}

/* --- the processes ----------------------------------------------------------------------------------------------------- */

static int start(const job *j)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(train(j));
    if (child < 0)
        perror("a process cannot be started");
    return child < 0 ? -1 : 0;
}

/* Waits until one of them has ended, well or not. */
static int await(void)
{
    int status = 0;
    pid_t child;
    do
        child = waitpid(-1, &status, 0);
    while (child < 0 && errno == EINTR);
    if (child > 0 && WIFSIGNALED(status))
        fprintf(stderr, "a training process was ended by signal %d\n", WTERMSIG(status));
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* What the batches of a model are drawn by: those of two models have nothing to do with each other. */
static uint64_t name_of(const job *j)
{
    uint64_t kind = 0;
    for (const char *at = j->set->name; *at != '\0'; at++)
        kind = 31 * kind + (unsigned char)*at;
    return route_random(j->options->seed, kind, (uint64_t)j->index);
}

static int tell(const job *j)
{
    fprintf(stderr, "training %s", j->set->name);
    if (j->index >= 0)
        fprintf(stderr, "-%" PRId64, j->index);
    fprintf(stderr, ": %" PRId64 " steps\n", j->set->steps);
    return 0;
}

int route_train(const route_options *o, const route_text *t, const route_set *sets, int64_t count, int64_t workers,
                int64_t threads)
{
    int64_t running = 0;
    int failed = 0;
    for (int64_t s = 0; s < count && !failed; s++) {
        int64_t models = sets[s].models > 0 ? sets[s].models : 1;
        for (int64_t i = 0; i < models && !failed; i++) {
            char path[ROUTE_PATH];
            job j = {o, t, &sets[s], sets[s].models > 0 ? i : -1, threads, 0, getpid()};
            j.name = name_of(&j);
            if ((failed = route_path(o, path, j.set->name, j.index, "safetensors") != 0) || route_exists(path))
                continue;
            if (running == workers)
                failed = await() != 0, running--;
            if (!failed && (failed = tell(&j) != 0 || start(&j) != 0) == 0)
                running++;
        }
    }
    for (; running > 0; running--)
        failed |= await() != 0;
    return failed ? -1 : 0;
}

int route_cost_of(const route_options *o, const route_set *set, route_cost *cost)
{
    int64_t models = set->models > 0 ? set->models : 1;
    route_cost all = {0, 0, 0};
    for (int64_t i = 0; i < models; i++) {
        char path[ROUTE_PATH], line[256] = "";
        if (route_path(o, path, set->name, set->models > 0 ? i : -1, "json") != 0)
            return -1;
        FILE *file = fopen(path, "r");
        int read = file != NULL && fgets(line, sizeof line, file) != NULL;
        double seconds = route_number(line, "core_seconds"), tokens = route_number(line, "tokens");
        if (file != NULL)
            fclose(file);
        if (!read || !(seconds >= 0) || !(tokens >= 0)) {
            fprintf(stderr, "%s does not say what its model has taken\n", path);
            return -1;
        }
        all.tokens += tokens, all.core_seconds += seconds;
        all.longest = seconds > all.longest ? seconds : all.longest;
    }
    *cost = all;
    return 0;
}
