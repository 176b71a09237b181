#include "run.h"

#include "curve.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* PATH: characters of a path. PROMPT: tokens of text before a sample. */
enum { PATH = 4096, PROMPT = 24 };

int results_curve(const run *r)
{
    char path[PATH];
    if (curve_write(r->options.out, path, sizeof path) != 0)
        return -1;
    if (*path != '\0')
        printf("curve  %s\n", path);
    return 0;
}

/* The validation loss of the run's end; NaN where the text has no validation part. */
static int final_validation(run *r, double *loss)
{
    int64_t tokens = 0;
    *loss = NAN;
    if (check(setun_dataset_tokens(r->dataset, SETUN_SPLIT_VALIDATION, &tokens), "text") != 0)
        return -1;
    if (tokens <= r->options.model.context_length)
        return 0;
    *loss = r->progress.last.validation_loss;
    if (r->progress.last.step > 0 && !isnan(*loss))
        return 0;
    return check(setun_trainer_evaluate(r->trainer, loss), "validation");
}

static int report(run *r)
{
    char time[24];
    double validation;
    setun_metrics m = {.struct_size = sizeof m};
    if (final_validation(r, &validation) != 0 || check(setun_trainer_metrics(r->trainer, &m), "trainer") != 0)
        return -1;
    printf("done   %" PRId64 " steps in %s", m.step, progress_time(m.elapsed_seconds, time));
    if (r->progress.first_step > 0)
        printf(": loss %.4f at step %" PRId64 ", %.4f at step %" PRId64, r->progress.first_loss, r->progress.first_step,
               r->progress.last.loss, r->progress.last.step);
    if (!isnan(validation))
        printf("; validation %.4f nats a token", validation);
    printf("\n");
    return results_curve(r);
}

/* Writes the model that others load: packed, with its tokenizer. Floats cannot be packed, and stay floats where no codebook is
   asked for. */
static int export(run *r, const char *path)
{
    setun_save_options o;
    setun_file_report f = {.struct_size = sizeof f};
    setun_save_options_init(&o, sizeof o);
    static const int32_t packings[] = {SETUN_PACKING_FIVE_PER_BYTE, SETUN_PACKING_TWO_BIT, SETUN_PACKING_MASK_SIGN};
    o.tokenizer = r->tokenizer;
    o.packing = packings[r->options.packing];
    o.codebook = r->options.codebook;
    if (r->options.f32 && o.codebook == 0)
        o.packing = SETUN_PACKING_FULL;
    if (check(setun_model_save(r->model, path, &o, &f), "export") != 0)
        return -1;
    printf("model  %s: %" PRId64 " bytes, %.1fx smaller than f32 in all, %.1fx in its linear layers\n", path,
           f.file_bytes, 4. * (double)f.parameters / (double)f.file_bytes,
           4. * (double)f.linear_parameters / (double)f.linear_bytes);
    return 0;
}

/* The tokens that a sample begins with: those of --prompt, or a piece of the text. The caller frees them. */
static uint32_t *prompt_tokens(const run *r, int64_t *count)
{
    const char *prompt = r->options.prompt;
    size_t bytes = prompt != NULL ? strlen(prompt) : 0;
    int64_t validation = 0;
    *count = PROMPT;
    if (prompt != NULL && check(setun_tokenizer_encode(r->tokenizer, prompt, bytes, NULL, 0, count), "prompt") != 0)
        return NULL;
    uint32_t *tokens = malloc(2 * sizeof *tokens * (size_t)(*count + 1));
    if (tokens == NULL || check(setun_dataset_tokens(r->dataset, SETUN_SPLIT_VALIDATION, &validation), "text") != 0) {
        free(tokens);
        return NULL;
    }
    int32_t split = validation > PROMPT ? SETUN_SPLIT_VALIDATION : SETUN_SPLIT_TRAIN;
    setun_status status = prompt != NULL
                              ? setun_tokenizer_encode(r->tokenizer, prompt, bytes, tokens, *count, count)
                              : setun_dataset_batch(r->dataset, split, r->options.train.seed, 0, 1, PROMPT, tokens,
                                                    tokens + PROMPT);
    if (check(status, "prompt") != 0) {
        free(tokens);
        return NULL;
    }
    return tokens;
}

static int print_tokens(const run *r, const uint32_t *tokens, int64_t count)
{
    size_t bytes = 0;
    if (check(setun_tokenizer_decode(r->tokenizer, tokens, count, NULL, 0, &bytes), "sample") != 0)
        return -1;
    char *text = malloc(bytes + 1);
    if (text == NULL ||
        check(setun_tokenizer_decode(r->tokenizer, tokens, count, text, bytes, &bytes), "sample") != 0) {
        free(text);
        return -1;
    }
    fwrite(text, 1, bytes, stdout);
    free(text);
    return 0;
}

/* Loads the exported file, as another program would, and lets it write. */
static int sample(const run *r, const char *path)
{
    setun_sample_options o;
    setun_model *model = NULL;
    setun_sampler *sampler = NULL;
    int64_t prompt = 0;
    int result = -1;
    setun_sample_options_init(&o, sizeof o);
    o.temperature = (float)r->options.temperature;
    o.seed = r->options.train.seed;
    uint32_t *tokens = malloc(sizeof *tokens * (size_t)(r->options.sample + 1));
    uint32_t *start = prompt_tokens(r, &prompt);
    if (tokens != NULL && start != NULL && check(setun_model_load(r->context, path, &model), "load") == 0 &&
        check(setun_sampler_create(model, &o, &sampler), "sampler") == 0 &&
        check(setun_sampler_prompt(sampler, start, prompt), "prompt") == 0)
        result = 0;
    for (int64_t i = 0; result == 0 && i < r->options.sample; i++)
        result = check(setun_sampler_next(sampler, &tokens[i]), "sample");
    if (result == 0) {
        printf("\n--- %" PRId64 " tokens that the exported model writes after [the prompt] ---\n[", r->options.sample);
        result = print_tokens(r, start, prompt);
        printf("]");
    }
    if (result == 0)
        result = print_tokens(r, tokens, r->options.sample);
    printf("\n");
    setun_sampler_free(sampler);
    setun_model_free(model);
    free(start);
    free(tokens);
    return result;
}

int results(run *r)
{
    char path[PATH];
    const char *to = r->options.export_path;
    if (to == NULL) {
        if (snprintf(path, sizeof path, "%s/model.safetensors", r->options.out) >= (int)sizeof path) {
            fprintf(stderr, "the name of the folder %s is too long\n", r->options.out);
            return -1;
        }
        to = path;
    }
    if (report(r) != 0 || export(r, to) != 0)
        return -1;
    return r->options.sample > 0 ? sample(r, to) : 0;
}
