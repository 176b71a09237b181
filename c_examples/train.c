/* Trains a ternary language model from a text: cc -std=c99 -O2 -I../include train.c results.c options.c arguments.c
   progress.c curve.c axis.c output.c signals.c -L../target/release -lsetun -lm -lpthread -Wl,-rpath,../target/release -o train */
#define _POSIX_C_SOURCE 200809L /* getcwd */

#include "run.h"
#include "signals.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int check(setun_status status, const char *what)
{
    if (status == SETUN_OK)
        return 0;
    fprintf(stderr, "%s: %s (%s)\n", what, setun_last_error(), setun_status_name(status));
    return -1;
}

static void on_log(int32_t level, const char *message, void *user_data)
{
    run *r = user_data;
    if (r->progress.terminal && !r->options.quiet)
        fputs("\r\033[K", stderr);
    fprintf(stderr, "setun%s: %s\n", level == SETUN_LOG_WARNING ? " warning" : "", message);
}

static int open_context(run *r)
{
    setun_context_options o;
    setun_context_options_init(&o, sizeof o);
    o.backend = r->options.backend;
    o.threads = (int32_t)r->options.threads;
    o.verbose = r->options.verbose;
    return check(setun_context_create(&o, &r->context), "context");
}

static int open_text(run *r)
{
    const options *o = &r->options;
    /* The numbers of a model mean the tokens that it was trained with. */
    setun_status status = o->start != NULL ? setun_tokenizer_load(o->start, &r->tokenizer)
                                           : setun_tokenizer_train(o->tokenizer, o->text, o->vocabulary, &r->tokenizer);
    if (check(status, o->start != NULL ? "the tokenizer in the file of --start" : "tokenizer") != 0 ||
        check(setun_tokenizer_vocabulary(r->tokenizer, &r->options.model.vocabulary), "tokenizer") != 0)
        return -1;
    return check(setun_dataset_open(o->text, r->tokenizer, o->validation, &r->dataset), "text");
}

/* The geometry of a file that is gone on from is the file's: another one that was asked for is a mistake. */
static int is_of_the_start(const setun_model_options *asked, const setun_model_options *found)
{
    setun_model_options usual;
    setun_model_options_init(&usual, sizeof usual);
    const struct {
        const char *name;
        double asked, usual, found;
    } all[] = {
        {"layers", (double)asked->layers, (double)usual.layers, (double)found->layers},
        {"width", (double)asked->width, (double)usual.width, (double)found->width},
        {"heads", (double)asked->heads, (double)usual.heads, (double)found->heads},
        {"kv-heads", (double)asked->kv_heads, (double)usual.kv_heads, (double)found->kv_heads},
        {"hidden", (double)asked->hidden, (double)usual.hidden, (double)found->hidden},
        {"context", (double)asked->context_length, (double)usual.context_length, (double)found->context_length},
        {"gated", asked->ffn_gated != 0, usual.ffn_gated != 0, found->ffn_gated != 0},
        {"untied", asked->tied_embedding == 0, usual.tied_embedding == 0, found->tied_embedding == 0},
        {"weight-threshold", asked->weight_threshold, usual.weight_threshold, found->weight_threshold},
        {"dropout", asked->dropout, usual.dropout, found->dropout},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i].asked != all[i].usual && all[i].asked != all[i].found) {
            fprintf(stderr, "--%s is %g, and %g in the model that --start names, whose it is\n", all[i].name, all[i].asked,
                    all[i].found);
            return 0;
        }
    }
    return 1;
}

/* A new model, or one to train of the file that --start names, whose geometry it has. */
static int open_model(run *r)
{
    options *o = &r->options;
    const setun_model_options asked = o->model;
    setun_model *loaded = NULL;
    if (o->start == NULL)
        return check(setun_model_create(r->context, &o->model, &r->model), "model");
    int result = check(setun_model_load(r->context, o->start, &loaded), "start") == 0 &&
                         check(setun_model_copy(loaded, !o->f32, &r->model), "start") == 0 &&
                         check(setun_model_describe(r->model, &o->model), "start") == 0 && is_of_the_start(&asked, &o->model)
                     ? 0
                     : -1;
    setun_model_free(loaded);
    return result;
}

static int open_trainer(run *r)
{
    options *o = &r->options;
    const char *from = o->resume_from != NULL ? o->resume_from : o->resume ? o->out : NULL;
    o->train.progress = progress_step;
    o->train.user_data = &r->progress;
    o->train.cancel = r->cancel;
    if (open_model(r) != 0 ||
        (o->teacher != NULL && check(setun_model_load(r->context, o->teacher, &r->teacher), "teacher") != 0))
        return -1;
    o->train.teacher = r->teacher;
    if (check(setun_trainer_create(r->model, r->dataset, r->tokenizer, &o->train, &r->trainer), "trainer") != 0)
        return -1;
    return from == NULL ? 0 : check(setun_trainer_resume(r->trainer, from, o->any_backend), "resume");
}

static int describe(const run *r)
{
    static const char *const backends[] = {"auto", "scalar", "simd", "parallel", "cuda"};
    const options *o = &r->options;
    const char *level = "";
    int32_t backend = 0, threads = 0;
    int64_t parameters = 0, training = 0, validation = 0;
    setun_metrics now = {.struct_size = sizeof now};
    if (check(setun_context_backend(r->context, &backend), "context") != 0 ||
        check(setun_context_threads(r->context, &threads), "context") != 0 ||
        check(setun_context_level(r->context, &level), "context") != 0 ||
        check(setun_model_parameters(r->model, &parameters), "model") != 0 ||
        check(setun_dataset_tokens(r->dataset, SETUN_SPLIT_TRAIN, &training), "text") != 0 ||
        check(setun_dataset_tokens(r->dataset, SETUN_SPLIT_VALIDATION, &validation), "text") != 0 ||
        check(setun_trainer_metrics(r->trainer, &now), "trainer") != 0)
        return -1;
    if (o->quiet)
        return 0;
    printf("setun %s, %s (%s), %" PRId32 " thread%s\n", setun_version_string(), backends[backend], level, threads,
           threads == 1 ? "" : "s");
    printf("text   %s: %" PRId64 " training and %" PRId64 " validation tokens, vocabulary %" PRId64 "\n", o->text,
           training, validation, o->model.vocabulary);
    printf("model  %s, %" PRId64 " parameters: %" PRId64 " layers x %" PRId64 ", ", o->f32 ? "f32" : "ternary",
           parameters, o->model.layers, o->model.width);
    printf("%" PRId64 " heads, context %" PRId64 "\n", o->model.heads, o->model.context_length);
    printf("run    %s: %" PRId64 " steps of %" PRId64 " tokens, from step %" PRId64 "\n", o->out, now.total_steps,
           o->train.batch_size * o->train.accumulation * o->model.context_length, now.step);
    fflush(stdout);
    return 0;
}

static void release(run *r)
{
    setun_trainer_free(r->trainer);
    setun_model_free(r->model);
    setun_model_free(r->teacher);
    setun_dataset_free(r->dataset);
    setun_tokenizer_free(r->tokenizer);
    setun_context_free(r->context);
    setun_cancel_free(r->cancel);
}

/* Says how to go on with a run that was stopped. */
static int say_how_to_resume(const run *r, int argc, char **argv)
{
    setun_metrics m = {.struct_size = sizeof m};
    if (check(setun_trainer_metrics(r->trainer, &m), "trainer") != 0)
        return 1;
    if (m.step == 0) {
        printf("stopped before the first step: there is nothing to save\n");
        return 3;
    }
    char here[4096];
    printf("stopped after step %" PRId64 " and saved in %s; to go on:\n  ", m.step, r->options.out);
    if (getcwd(here, sizeof here) != NULL)
        printf("cd '%s' && ", here);
    arguments_print(argc, argv, "--resume", "--resume");
    return results_curve(r) == 0 ? 3 : 1;
}

/* The exit status of the program: 0 done, 1 failed, 3 stopped by a signal. */
static int train(run *r, int argc, char **argv)
{
    static const char *const stopping[] = {"stopping; once more to stop without saving"};
    if (check(setun_set_log(on_log, r, r->options.verbose ? SETUN_LOG_INFO : SETUN_LOG_WARNING), "log") != 0 ||
        check(setun_cancel_create(&r->cancel), "cancel") != 0 || signals_watch(r->cancel, stopping, 1) != 0 ||
        open_context(r) != 0 || open_text(r) != 0 || open_trainer(r) != 0 || describe(r) != 0)
        return 1;
    setun_status status = setun_trainer_run(r->trainer, NULL);
    progress_break(&r->progress);
    if (status == SETUN_ERR_CANCELLED)
        return say_how_to_resume(r, argc, argv);
    signals_release();
    return check(status, "training") == 0 && results(r) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    run r;
    memset(&r, 0, sizeof r);
    arguments_result read = options_read(&r.options, argc, argv);
    if (read != ARGUMENTS_OK)
        return read == ARGUMENTS_HELP ? 0 : 2;
    progress_init(&r.progress, r.options.quiet);
    int result = train(&r, argc, argv);
    setun_set_log(NULL, NULL, SETUN_LOG_ERROR);
    release(&r);
    return result;
}
