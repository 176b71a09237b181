/* Generation: determinism, the sampler against the one-call form, sliding, stopping, refusals. */
#include "check.h"

#include <math.h>

enum { CONTEXT = 16 };

typedef struct {
    char text[4096];
    size_t bytes;
    int calls, stop_after;
} heard;

static int32_t hear(const char *piece, size_t bytes, void *user_data) {
    heard *all = user_data;
    CHECK(bytes > 0 && all->bytes + bytes < sizeof all->text);
    memcpy(all->text + all->bytes, piece, bytes);
    all->bytes += bytes;
    all->calls++;
    return all->calls != all->stop_after;
}

static void train(setun_model **model, setun_tokenizer **tokenizer) {
    setun_model_options geometry;
    setun_train_options options;
    FILE *file = fopen("corpus.txt", "wb");
    int i;
    for (i = 0; i < 300; i++) fputs("abcdefgh", file);
    fclose(file);
    setun_model_options_init(&geometry, sizeof geometry);
    geometry.context_length = CONTEXT;
    geometry.width = 32;
    geometry.layers = 1;
    geometry.heads = 2;
    setun_train_options_init(&options, sizeof options);
    options.model = &geometry;
    options.tokenizer = SETUN_TOKENIZER_CHARACTER;
    options.max_steps = 150;
    options.warmup_steps = 10;
    options.batch_size = 8;
    options.learning_rate = 5e-3;
    CHECK_OK(setun_train("corpus.txt", &options, model, tokenizer));
}

static void greedy(const setun_model *model, const setun_tokenizer *tokenizer) {
    setun_sample_options options;
    setun_sampler *sampler = NULL;
    heard all = {{0}, 0, 0, 0}, some = {{0}, 0, 0, 0};
    uint32_t tokens[8], next;
    int64_t count = 0;
    int32_t slid = -1;
    char piece[8];
    size_t bytes;
    int i;
    setun_sample_options_init(&options, sizeof options);
    options.temperature = 0;
    options.max_tokens = 12;
    CHECK_OK(setun_generate(model, tokenizer, "abc", &options, hear, &all, &slid));
    CHECK(all.bytes == 12 && memcmp(all.text, "defghabcdefg", 12) == 0);
    CHECK(slid == 0);

    /* The sampler gives the same, token by token. */
    CHECK_OK(setun_sampler_create(model, &options, &sampler));
    CHECK_FAILS(setun_sampler_next(sampler, &next), SETUN_ERR_STATE, "no prompt");
    CHECK_OK(setun_tokenizer_encode(tokenizer, "abc", 3, tokens, 8, &count));
    CHECK_OK(setun_sampler_prompt(sampler, tokens, 1));
    CHECK_OK(setun_sampler_prompt(sampler, tokens + 1, count - 1));
    for (i = 0; i < 12; i++) {
        CHECK_OK(setun_sampler_next(sampler, &next));
        CHECK_OK(setun_tokenizer_decode(tokenizer, &next, 1, piece, sizeof piece, &bytes));
        CHECK(bytes == 1 && piece[0] == all.text[i]);
    }
    CHECK_OK(setun_sampler_slid(sampler, &slid));
    CHECK(slid == 0);
    for (i = 0; i < 3; i++) CHECK_OK(setun_sampler_next(sampler, &next));
    CHECK_OK(setun_sampler_slid(sampler, &slid));
    CHECK(slid == 1);
    setun_sampler_free(sampler);

    options.max_tokens = 40;
    CHECK_OK(setun_generate(model, tokenizer, "abc", &options, hear, &some, &slid));
    CHECK(some.bytes == 40 && slid == 1);
    /* The same text from keys and values in 8 bits, also where the window moves on. */
    memset(&some, 0, sizeof some);
    options.kv_cache = SETUN_KV_CACHE_INT8;
    CHECK_OK(setun_generate(model, tokenizer, "abc", &options, hear, &some, &slid));
    CHECK(some.bytes == 40 && slid == 1 && memcmp(some.text, all.text, 12) == 0);
    options.kv_cache = SETUN_KV_CACHE_F32;
    memset(&some, 0, sizeof some);
    some.stop_after = 5;
    CHECK_OK(setun_generate(model, tokenizer, "abc", &options, hear, &some, NULL));
    CHECK(some.bytes == 5 && memcmp(some.text, all.text, 5) == 0);
}

static void sampled(const setun_model *model, const setun_tokenizer *tokenizer) {
    setun_sample_options options;
    heard first = {{0}, 0, 0, 0}, second = {{0}, 0, 0, 0}, other = {{0}, 0, 0, 0};
    setun_sample_options_init(&options, sizeof options);
    options.temperature = 3;
    options.max_tokens = 60;
    options.seed = 11;
    CHECK_OK(setun_generate(model, tokenizer, "a", &options, hear, &first, NULL));
    CHECK_OK(setun_generate(model, tokenizer, "a", &options, hear, &second, NULL));
    CHECK(first.bytes == 60 && memcmp(&first, &second, sizeof first) == 0);
    options.seed = 12;
    CHECK_OK(setun_generate(model, tokenizer, "a", &options, hear, &other, NULL));
    CHECK(memcmp(first.text, other.text, 60) != 0);
    /* Only the most probable token is left: greedy at any temperature. */
    memset(&first, 0, sizeof first);
    options.top_k = 1;
    options.max_tokens = 7;
    CHECK_OK(setun_generate(model, tokenizer, "a", &options, hear, &first, NULL));
    CHECK(memcmp(first.text, "bcdefgh", 7) == 0);
}

static void refused(const setun_model *model, const setun_tokenizer *tokenizer) {
    setun_tokenizer *bytes = NULL;
    setun_sample_options options;
    setun_sampler *sampler = NULL;
    uint32_t wrong[1] = {99};
    heard all = {{0}, 0, 0, 0};
    setun_sample_options_init(&options, sizeof options);
    options.temperature = -1;
    CHECK_FAILS(setun_sampler_create(model, &options, &sampler), SETUN_ERR_ARGUMENT, "temperature");
    options.temperature = NAN;
    CHECK_FAILS(setun_generate(model, tokenizer, "a", &options, hear, &all, NULL), SETUN_ERR_ARGUMENT, "temperature");
    setun_sample_options_init(&options, sizeof options);
    options.top_p = 0;
    CHECK_FAILS(setun_sampler_create(model, &options, &sampler), SETUN_ERR_ARGUMENT, "top_p");
    setun_sample_options_init(&options, sizeof options);
    options.top_k = -1;
    CHECK_FAILS(setun_sampler_create(model, &options, &sampler), SETUN_ERR_ARGUMENT, "top_k is -1");
    setun_sample_options_init(&options, sizeof options);
    options.kv_cache = 2;
    CHECK_FAILS(setun_sampler_create(model, &options, &sampler), SETUN_ERR_ARGUMENT, "kv_cache is 2");
    CHECK(sampler == NULL);
    CHECK_FAILS(setun_generate(model, tokenizer, "", NULL, hear, &all, NULL), SETUN_ERR_ARGUMENT, "prompt is empty");
    CHECK_FAILS(setun_generate(model, tokenizer, NULL, NULL, hear, &all, NULL), SETUN_ERR_ARGUMENT, "prompt is NULL");
    CHECK_FAILS(setun_generate(model, tokenizer, "a", NULL, NULL, NULL, NULL), SETUN_ERR_ARGUMENT, "callback is NULL");
    CHECK_STATUS(setun_generate(model, tokenizer, "xyz", NULL, hear, &all, NULL), SETUN_ERR_FORMAT);
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_BYTE, NULL, 0, &bytes));
    CHECK_FAILS(setun_generate(model, bytes, "a", NULL, hear, &all, NULL), SETUN_ERR_SHAPE, "256");
    setun_tokenizer_free(bytes);
    CHECK(all.calls == 0);
    CHECK_OK(setun_sampler_create(model, NULL, &sampler));
    CHECK_FAILS(setun_sampler_prompt(sampler, wrong, 1), SETUN_ERR_ARGUMENT, "tokens[0] is 99");
    CHECK_FAILS(setun_sampler_prompt(sampler, wrong, 0), SETUN_ERR_ARGUMENT, "no tokens");
    setun_sampler_free(sampler);
}

/* From a file, with the tokenizer inside; and a sampler that outlives the model's handle. */
static void from_a_file(const setun_model *model, const setun_tokenizer *tokenizer) {
    setun_save_options save;
    setun_sample_options options;
    setun_model *loaded = NULL;
    setun_tokenizer *inside = NULL;
    setun_sampler *sampler = NULL;
    heard before = {{0}, 0, 0, 0}, after = {{0}, 0, 0, 0};
    uint32_t token = 0;
    setun_save_options_init(&save, sizeof save);
    save.rest = SETUN_DTYPE_F32;
    save.tokenizer = tokenizer;
    CHECK_OK(setun_model_save(model, "model.safetensors", &save, NULL));
    CHECK_OK(setun_model_load(NULL, "model.safetensors", &loaded));
    CHECK_OK(setun_tokenizer_load("model.safetensors", &inside));
    setun_sample_options_init(&options, sizeof options);
    options.max_tokens = 50;
    CHECK_OK(setun_generate(model, tokenizer, "abc", &options, hear, &before, NULL));
    CHECK_OK(setun_generate(loaded, inside, "abc", &options, hear, &after, NULL));
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    CHECK_OK(setun_sampler_create(loaded, &options, &sampler));
    setun_model_free(loaded);
    CHECK_OK(setun_sampler_prompt(sampler, &token, 1));
    CHECK_OK(setun_sampler_next(sampler, &token));
    setun_sampler_free(sampler);
    setun_tokenizer_free(inside);
}

int main(void) {
    setun_model *model = NULL;
    setun_tokenizer *tokenizer = NULL;
    train(&model, &tokenizer);
    greedy(model, tokenizer);
    sampled(model, tokenizer);
    refused(model, tokenizer);
    from_a_file(model, tokenizer);
    setun_model_free(model);
    setun_tokenizer_free(tokenizer);
    return 0;
}
