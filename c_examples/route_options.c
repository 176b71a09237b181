/* The command line of route, and what names a run. */
#include "route.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char about[] =
    "route: experts of clusters of a text, trained in processes that exchange nothing, beside dense models.\n\n"
    "  route --text corpus.txt --out run\n"
    "  route --out run --prompt 'The '\n\n"
    "Windows of the text are clustered; each expert goes on from the seed model on a cluster of its own. The last tenth of\n"
    "the text is predicted by the experts that are nearest to what stands before. Models go into the out folder, results\n"
    "into a file; what is there is not made again. Defaults in brackets.";

static void defaults(route_options *o)
{
    memset(o, 0, sizeof *o);
    setun_model_options_init(&o->model, sizeof o->model);
    setun_train_options_init(&o->train, sizeof o->train);
    o->train.batch_size = 12;
    o->train.method = SETUN_STEP_METHOD_MUON;
    o->train.radius_mode = SETUN_RADIUS_MODE_EXACT;
    o->train.minimum_lr_ratio = .01;
    o->train.n_clusters = 0;
    o->train.log_interval = 0;
    o->vocabulary = o->train.vocabulary;
    o->clusters = 8, o->window = 2048, o->balance = 1, o->sharpness = 32;
    o->seed_steps = o->expert_steps = 1000;
    o->out = "experts";
    o->tokens = 300, o->top = ROUTE_TOP, o->temperature = .8;
}

static int consistent(const route_options *o)
{
    const char *why = NULL;
    if (o->text == NULL && o->prompt == NULL)
        why = "--text is needed: the file to learn from; --help lists all options";
    else if (*o->out == '\0')
        why = "--out needs the name of a folder";
    else if (o->clusters < ROUTE_TOP || o->clusters > 4096)
        why = "--clusters is 2 to 4096";
    else if (o->workers > 4096)
        why = "--workers is at most 4096";
    else if (o->window < 1 || o->window > 1 << 30)
        why = "--window is 1 or more bytes, at most 2^30";
    else if (o->balance != 0 && !(o->balance >= 1 && o->balance <= 1e6))
        why = "--balance is 0, or 1 or more";
    else if (o->sharpness < 0)
        why = "--sharpness is 0 or more";
    else if (o->seed_steps < 1 || o->seed_steps > 1000000000 || o->expert_steps > 1000000000)
        why = "--seed-steps is 1 or more, and no steps are more than 10^9";
    else if (o->top < 1 || o->top > ROUTE_TOP)
        why = "--top is 1 or 2";
    else if (o->temperature < 0 || o->tokens > 1000000)
        why = "--temperature is 0 or more, and --tokens at most 1000000";
    if (why != NULL)
        fprintf(stderr, "%s\n", why);
    return why == NULL;
}

arguments_result route_options_read(route_options *o, int argc, char **argv)
{
    defaults(o);
    const argument table[] = {
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Text and clusters"},
        {"text", ARGUMENT_TEXT, &o->text, NULL, "the file to learn from"},
        {"tokenizer", ARGUMENT_CHOICE, &o->tokenizer, "byte|character|bpe", "how text becomes tokens"},
        {"vocabulary", ARGUMENT_COUNT, &o->vocabulary, NULL, "tokens that bpe learns"},
        {"clusters", ARGUMENT_COUNT, &o->clusters, NULL, "clusters, and experts"},
        {"window", ARGUMENT_COUNT, &o->window, NULL, "bytes of a window that is clustered, and of the text to route by"},
        {"balance", ARGUMENT_REAL, &o->balance, NULL, "the largest cluster, in shares of the mean one; 0 = any"},
        {"sharpness", ARGUMENT_REAL, &o->sharpness, NULL, "weights of experts go by distance^-sharpness"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Model"},
        {"layers", ARGUMENT_COUNT, &o->model.layers, NULL, "transformer blocks"},
        {"width", ARGUMENT_COUNT, &o->model.width, NULL, "size of a token's vector, a multiple of 2 x heads"},
        {"heads", ARGUMENT_COUNT, &o->model.heads, NULL, "attention heads"},
        {"context", ARGUMENT_COUNT, &o->model.context_length, NULL, "tokens that attention sees"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Training"},
        {"seed-steps", ARGUMENT_COUNT, &o->seed_steps, NULL, "steps of the seed model, on all of the text"},
        {"expert-steps", ARGUMENT_COUNT, &o->expert_steps, NULL, "steps of each expert, on its cluster"},
        {"batch", ARGUMENT_COUNT, &o->train.batch_size, NULL, "windows of the context a step"},
        {"method", ARGUMENT_CHOICE, &o->train.method, "adamw|muon|momentum", "direction of a step"},
        {"radius-mode", ARGUMENT_CHOICE, &o->train.radius_mode, "off|cap|exact", "steps at most, or exactly, as long as the radius"},
        {"radius", ARGUMENT_REAL, &o->train.radius, NULL, "length of a step, as a share of the weights; nan: by rule"},
        {"lr", ARGUMENT_REAL, &o->train.learning_rate, NULL, "highest learning rate; an exact radius does not ask for it"},
        {"minimum-lr", ARGUMENT_REAL, &o->train.minimum_lr_ratio, NULL, "what the rate or radius comes down to, as a share of it"},
        {"seed", ARGUMENT_COUNT, &o->seed, NULL, "of first weights, batches, clusters and the sample"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Where and how much"},
        {"workers", ARGUMENT_COUNT, &o->workers, NULL, "processes that train at a time; 0 = as many as processors"},
        {"out", ARGUMENT_TEXT, &o->out, NULL, "folder of the models: one text, configuration and seed"},
        {"results", ARGUMENT_TEXT, &o->results, NULL, "file of the results, of any number of runs; default: results.jsonl in the folder"},
        {"eval-windows", ARGUMENT_COUNT, &o->eval_windows, NULL, "windows to predict, spread over the last tenth; 0 = all"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Generation"},
        {"prompt", ARGUMENT_TEXT, &o->prompt, NULL, "the beginning of a text, which the experts go on with"},
        {"tokens", ARGUMENT_COUNT, &o->tokens, NULL, "tokens to write"},
        {"top", ARGUMENT_COUNT, &o->top, NULL, "experts that are mixed, 1 or 2"},
        {"temperature", ARGUMENT_REAL, &o->temperature, NULL, "0 = always the most probable token"},
    };
    arguments_result result = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    return result == ARGUMENTS_OK && !consistent(o) ? ARGUMENTS_WRONG : result;
}

int route_name(route_options *o, const void *text, size_t bytes)
{
    const unsigned char *byte = text;
    const setun_model_options *m = &o->model;
    uint64_t name = UINT64_C(0xCBF29CE484222325); /* FNV-1a */
    for (size_t i = 0; i < bytes; i++)
        name = (name ^ byte[i]) * UINT64_C(0x100000001B3);
    int used = snprintf(o->key, sizeof o->key,
                        "text %" PRIx64 " tokenizer %" PRId32 "-%" PRId64 " model %" PRId64 "x%" PRId64 "-%" PRId64 "-%" PRId64
                        " batch %" PRId64 " method %" PRId32 "-%" PRId32 "-%g-%g-%g clusters %" PRId64 " window %" PRId64
                        " balance %g steps %" PRId64 "-%" PRId64,
                        name, o->tokenizer, o->tokenizer == SETUN_TOKENIZER_BPE ? o->vocabulary : 0, m->layers, m->width,
                        m->heads, m->context_length, o->train.batch_size, o->train.method, o->train.radius_mode,
                        o->train.radius, o->train.learning_rate, o->train.minimum_lr_ratio, o->clusters, o->window,
                        o->balance, o->seed_steps, o->expert_steps);
    if (used > 0 && used < (int)sizeof o->key)
        return 0;
    fprintf(stderr, "the options are too long to name the run by\n");
    return -1;
}
