#include "options.h"

#include <stdio.h>
#include <string.h>

static const char about[] =
    "train: makes a ternary language model from a text.\n\n"
    "  train --text corpus.txt --out run\n\n"
    "The text is a UTF-8 file or a folder of them. Checkpoints, metrics.jsonl, the loss curve (loss.svg) and the\n"
    "packed model (model.safetensors) go into the out folder. Ctrl-C saves and stops; --resume goes on. Defaults in\n"
    "brackets.";

static void defaults(options *o)
{
    memset(o, 0, sizeof *o);
    setun_model_options_init(&o->model, sizeof o->model);
    setun_train_options_init(&o->train, sizeof o->train);
    o->out = "run";
    o->vocabulary = o->train.vocabulary;
    o->tokenizer = o->train.tokenizer;
    o->validation = o->train.validation_fraction;
    o->sample = 400;
    o->temperature = .8;
}

static int consistent(const options *o)
{
    if (o->text == NULL) {
        fprintf(stderr, "--text is needed: the file or folder to learn from; --help lists all options\n");
        return 0;
    }
    if (*o->out == '\0') {
        fprintf(stderr, "--out needs the name of a folder\n");
        return 0;
    }
    if (o->threads > 4096 || o->sample > 1000000) {
        fprintf(stderr, "--threads is at most 4096 and --sample at most 1000000\n");
        return 0;
    }
    return 1;
}

static void distribute(options *o)
{
    o->model.seed = o->train.seed = (uint64_t)o->seed;
    o->model.quantize_weights = o->train.quantize_weights = !o->f32;
    o->model.tied_embedding = !o->untied;
    if (o->float_gradients)
        o->train.quantize_gradients = 0;
    if (o->no_adaptive_lr)
        o->train.use_adaptive_lr = 0;
    o->train.checkpoint_dir = o->out;
}

arguments_result options_read(options *o, int argc, char **argv)
{
    defaults(o);
    const argument table[] = {
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Text"},
        {"text", ARGUMENT_TEXT, &o->text, NULL, "the file or folder to learn from"},
        {"tokenizer", ARGUMENT_CHOICE, &o->tokenizer, "byte|character|bpe", "how text becomes tokens"},
        {"vocabulary", ARGUMENT_COUNT, &o->vocabulary, NULL, "tokens that bpe learns"},
        {"validation", ARGUMENT_REAL, &o->validation, NULL, "share of the text, at its end, that is only measured"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Model"},
        {"layers", ARGUMENT_COUNT, &o->model.layers, NULL, "transformer blocks"},
        {"width", ARGUMENT_COUNT, &o->model.width, NULL, "size of a token's vector, a multiple of 2 x heads"},
        {"heads", ARGUMENT_COUNT, &o->model.heads, NULL, "attention heads"},
        {"kv-heads", ARGUMENT_COUNT, &o->model.kv_heads, NULL, "key and value heads; 0 = as many as heads"},
        {"hidden", ARGUMENT_COUNT, &o->model.hidden, NULL, "inner size of the feed-forward; 0 = 4 x width"},
        {"context", ARGUMENT_COUNT, &o->model.context_length, NULL, "tokens that attention sees"},
        {"gated", ARGUMENT_FLAG, &o->model.ffn_gated, NULL, "a gated feed-forward"},
        {"untied", ARGUMENT_FLAG, &o->untied, NULL, "an output layer of its own"},
        {"weight-threshold", ARGUMENT_REAL, &o->model.weight_threshold, NULL, "share of the mean up to which a weight is 0"},
        {"dropout", ARGUMENT_REAL, &o->model.dropout, NULL, "share of block outputs dropped in training"},
        {"f32", ARGUMENT_FLAG, &o->f32, NULL, "the same model in plain floats, to compare with"},
        {"start", ARGUMENT_TEXT, &o->start, NULL, "a model file to go on from, whatever it holds: geometry and tokenizer are its own"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Training"},
        {"batch", ARGUMENT_COUNT, &o->train.batch_size, NULL, "windows of text a step"},
        {"accumulation", ARGUMENT_COUNT, &o->train.accumulation, NULL, "batches added up before a step"},
        {"steps", ARGUMENT_COUNT, &o->train.max_steps, NULL, "steps; 0 = as many as --epochs takes"},
        {"epochs", ARGUMENT_COUNT, &o->train.max_epochs, NULL, "passes over the text"},
        {"lr", ARGUMENT_REAL, &o->train.learning_rate, NULL, "highest learning rate"},
        {"schedule", ARGUMENT_CHOICE, &o->train.schedule, "cosine|constant|linear|stable", "its way down"},
        {"warmup", ARGUMENT_COUNT, &o->train.warmup_steps, NULL, "steps of its rise from 0; a shorter run never gets there"},
        {"minimum-lr", ARGUMENT_REAL, &o->train.minimum_lr_ratio, NULL, "its lowest value, as a share of --lr; nan: by the method"},
        {"no-adaptive-lr", ARGUMENT_FLAG, &o->no_adaptive_lr, NULL, "the schedule as it is, however far from what the weights ask"},
        {"weight-decay", ARGUMENT_REAL, &o->train.weight_decay, NULL, "of AdamW, for matrices"},
        {"beta1", ARGUMENT_REAL, &o->train.beta1, NULL, "of AdamW"},
        {"beta2", ARGUMENT_REAL, &o->train.beta2, NULL, "of AdamW"},
        {"epsilon", ARGUMENT_REAL, &o->train.epsilon, NULL, "of AdamW"},
        {"clip", ARGUMENT_REAL, &o->train.clip, NULL, "largest gradient norm; 0 = any"},
        {"method", ARGUMENT_CHOICE, &o->train.method, "adamw|muon|momentum", "direction of a step"},
        {"momentum", ARGUMENT_REAL, &o->train.momentum, NULL, "of muon and momentum"},
        {"muon-rms", ARGUMENT_REAL, &o->train.muon_rms, NULL, "size of muon's direction"},
        {"states", ARGUMENT_CHOICE, &o->train.states, "f32|int8|compact", "numbers that the optimizer keeps"},
        {"radius-mode", ARGUMENT_CHOICE, &o->train.radius_mode, "off|cap|exact", "steps at most, or exactly, as long as the radius"},
        {"radius", ARGUMENT_REAL, &o->train.radius, NULL, "length of a step, as a share of the weights of a matrix"},
        {"vector-radius", ARGUMENT_REAL, &o->train.vector_radius, NULL, "that of gains; nan: the same"},
        {"radius-base", ARGUMENT_CHOICE, &o->train.radius_base, "current|initial", "the weights that it is a share of"},
        {"flip-budget", ARGUMENT_REAL, &o->train.flip_budget, NULL, "largest share of trits that change in a step"},
        {"guard", ARGUMENT_FLAG, &o->train.guard, NULL, "skip batches that are spikes, undo steps that did harm"},
        {"guard-interval", ARGUMENT_COUNT, &o->train.guard_interval, NULL, "steps between two checks; 0 = none"},
        {"clusters", ARGUMENT_COUNT, &o->train.n_clusters, NULL, "clusters of the text that batches are spread over; 0 = none"},
        {"cluster-balance", ARGUMENT_REAL, &o->train.cluster_balance, NULL, "0: by size, to 1: all clusters as often"},
        {"float-gradients", ARGUMENT_FLAG, &o->float_gradients, NULL, "those to weights are not rounded to 8 bits before the update"},
        {"input-gradient", ARGUMENT_CHOICE, &o->train.input_gradient, "f32|int8", "numbers of the gradients to activations"},
        {"weight-gradient", ARGUMENT_CHOICE, &o->train.weight_gradient, "f32|int8", "numbers of the gradients to weights"},
        {"activation-checkpointing", ARGUMENT_FLAG, &o->train.activation_checkpointing, NULL, "less memory, more work, the same numbers"},
        {"gradient-release", ARGUMENT_FLAG, &o->train.gradient_release, NULL, "room for the gradients of a part of a layer; with --clip 0"},
        {"teacher", ARGUMENT_TEXT, &o->teacher, NULL, "a model file to learn from beside the text, with the same tokenizer"},
        {"distillation", ARGUMENT_REAL, &o->train.distillation, NULL, "weight of its probabilities; the text has the rest"},
        {"seed", ARGUMENT_COUNT, &o->seed, NULL, "of the first weights, the batches and the sample"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Where and how often"},
        {"backend", ARGUMENT_CHOICE, &o->backend, "auto|scalar|simd|parallel|cuda", "what computes"},
        {"threads", ARGUMENT_COUNT, &o->threads, NULL, "of the parallel backend; 0 = as many as there are"},
        {"log-interval", ARGUMENT_COUNT, &o->train.log_interval, NULL, "steps between two reports"},
        {"eval-interval", ARGUMENT_COUNT, &o->train.evaluation_interval, NULL, "between validations; 0 = at the end"},
        {"eval-windows", ARGUMENT_COUNT, &o->train.evaluation_windows, NULL, "windows in one; 0 = all"},
        {"checkpoint-interval", ARGUMENT_COUNT, &o->train.checkpoint_interval, NULL, "0 = at the end only"},
        {"keep", ARGUMENT_COUNT, &o->train.keep_checkpoints, NULL, "checkpoints that stay"},
        {NULL, ARGUMENT_FLAG, NULL, NULL, "Results"},
        {"out", ARGUMENT_TEXT, &o->out, NULL, "folder of the run"},
        {"resume", ARGUMENT_FLAG, &o->resume, NULL, "go on from the newest checkpoint in the out folder"},
        {"resume-from", ARGUMENT_TEXT, &o->resume_from, NULL, "go on from this checkpoint"},
        {"any-backend", ARGUMENT_FLAG, &o->any_backend, NULL, "resume what another backend or CPU level began"},
        {"export", ARGUMENT_TEXT, &o->export_path, NULL, "the packed model; default: model.safetensors in the folder"},
        {"packing", ARGUMENT_CHOICE, &o->packing, "five-per-byte|two-bit|mask-sign", "how the trits lie in it"},
        {"codebook", ARGUMENT_COUNT, &o->codebook, NULL, "entries that its other matrices are written by, up to 256; 0 = in 16 bits, of --f32 in 32"},
        {"sample", ARGUMENT_COUNT, &o->sample, NULL, "tokens of text to write at the end"},
        {"prompt", ARGUMENT_TEXT, &o->prompt, NULL, "its beginning; default: a piece of the validation text"},
        {"temperature", ARGUMENT_REAL, &o->temperature, NULL, "of the sample"},
        {"quiet", ARGUMENT_FLAG, &o->quiet, NULL, "no progress, only results"},
        {"verbose", ARGUMENT_FLAG, &o->verbose, NULL, "tell more of what the library does"},
    };
    arguments_result result = arguments_read(argc, argv, table, sizeof table / sizeof *table, about);
    if (result == ARGUMENTS_OK && !consistent(o))
        result = ARGUMENTS_WRONG;
    distribute(o);
    return result;
}
