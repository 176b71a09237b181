/* Tokenizers and data sets: round trips, counting, unknown characters, damaged files, batches. */
#include "check.h"

#include <sys/stat.h>

static void write_file(const char *path, const char *text) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(fwrite(text, 1, strlen(text), file) == strlen(text));
    CHECK(fclose(file) == 0);
}

/* Encodes and decodes again; the tokens are counted first. */
static int64_t round_trip(const setun_tokenizer *tokenizer, const char *text, size_t bytes) {
    uint32_t tokens[256];
    char back[256];
    int64_t count = -1, again = -1;
    size_t length = 0, counted = 0;
    CHECK_OK(setun_tokenizer_encode(tokenizer, text, bytes, NULL, 0, &count));
    CHECK(count >= 0 && count <= 256);
    CHECK_OK(setun_tokenizer_encode(tokenizer, text, bytes, tokens, 256, &again));
    CHECK(again == count);
    CHECK_OK(setun_tokenizer_decode(tokenizer, tokens, count, NULL, 0, &counted));
    CHECK_OK(setun_tokenizer_decode(tokenizer, tokens, count, back, sizeof back, &length));
    CHECK(length == bytes && counted == bytes && memcmp(back, text, bytes) == 0);
    return count;
}

static void byte_tokenizer(void) {
    static const char odd[4] = {'a', '\0', (char)0xFF, 'b'};
    setun_tokenizer *tokenizer = NULL;
    uint32_t tokens[4] = {7, 7, 7, 7}, wrong[2] = {1, 256};
    char text[2] = {'x', 'x'};
    int64_t count = -1, vocabulary = 0;
    size_t bytes = 0;
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_BYTE, NULL, 0, &tokenizer));
    CHECK_OK(setun_tokenizer_vocabulary(tokenizer, &vocabulary));
    CHECK(vocabulary == 256);
    CHECK(round_trip(tokenizer, "h\xc3\xa9llo", 6) == 6);
    CHECK(round_trip(tokenizer, odd, sizeof odd) == 4);
    CHECK(round_trip(tokenizer, "", 0) == 0);
    /* Too little room: told how much is needed, nothing written. */
    CHECK_FAILS(setun_tokenizer_encode(tokenizer, "hello", 5, tokens, 4, &count), SETUN_ERR_ARGUMENT,
                "capacity is 4, the text has 5 tokens");
    CHECK(count == 5 && tokens[0] == 7);
    CHECK_OK(setun_tokenizer_encode(tokenizer, "hell", 4, tokens, 4, &count));
    CHECK_FAILS(setun_tokenizer_decode(tokenizer, tokens, 4, text, 2, &bytes), SETUN_ERR_ARGUMENT,
                "capacity is 2, the text has 4 bytes");
    CHECK(bytes == 4 && text[0] == 'x');
    CHECK_FAILS(setun_tokenizer_decode(tokenizer, wrong, 2, text, 2, &bytes), SETUN_ERR_ARGUMENT,
                "tokens[1] is 256, the vocabulary is 256");
    CHECK_FAILS(setun_tokenizer_encode(tokenizer, NULL, 3, tokens, 4, &count), SETUN_ERR_ARGUMENT, "text is NULL");
    CHECK_FAILS(setun_tokenizer_encode(tokenizer, "abc", 3, NULL, 4, &count), SETUN_ERR_ARGUMENT, "tokens is NULL");
    CHECK_FAILS(setun_tokenizer_encode(tokenizer, "abc", 3, tokens, -1, &count), SETUN_ERR_ARGUMENT,
                "capacity is -1");
    CHECK_FAILS(setun_tokenizer_encode(tokenizer, "abc", 3, tokens, 4, NULL), SETUN_ERR_ARGUMENT, "count is NULL");
    setun_tokenizer_free(tokenizer);
}

static void character_tokenizer(void) {
    setun_tokenizer *tokenizer = NULL, *loaded = NULL;
    int64_t vocabulary = 0, count = 0;
    write_file("text.txt", "to be or not to be \xc3\xa9");
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_CHARACTER, "text.txt", 0, &tokenizer));
    CHECK_OK(setun_tokenizer_vocabulary(tokenizer, &vocabulary));
    CHECK(vocabulary == 8); /* t o space b e r n and e-acute */
    CHECK(round_trip(tokenizer, "not one", 7) == 7);
    CHECK(round_trip(tokenizer, "b\xc3\xa9", 3) == 2);
    CHECK_FAILS(setun_tokenizer_encode(tokenizer, "to see", 6, NULL, 0, &count), SETUN_ERR_FORMAT, "'s'");
    CHECK(strstr(setun_last_error(), "3") != NULL);
    CHECK_FAILS(setun_tokenizer_encode(tokenizer, "to\xff", 3, NULL, 0, &count), SETUN_ERR_ARGUMENT,
                "text is not UTF-8 at byte 2");
    CHECK_OK(setun_tokenizer_save(tokenizer, "character.json"));
    CHECK_OK(setun_tokenizer_load("character.json", &loaded));
    CHECK(round_trip(loaded, "b\xc3\xa9", 3) == 2);
    setun_tokenizer_free(loaded);
    setun_tokenizer_free(tokenizer);
}

static void bpe_tokenizer(void) {
    setun_tokenizer *tokenizer = NULL, *loaded = NULL;
    int64_t vocabulary = 0, count;
    char text[4096] = "";
    int i;
    for (i = 0; i < 60; i++) strcat(text, "the cat and the hat sat on the mat; ");
    write_file("cats.txt", text);
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_BPE, "cats.txt", 270, &tokenizer));
    CHECK_OK(setun_tokenizer_vocabulary(tokenizer, &vocabulary));
    CHECK(vocabulary > 256 && vocabulary <= 270);
    count = round_trip(tokenizer, "the cat and the hat", 19);
    CHECK(count < 19);
    CHECK(round_trip(tokenizer, "never seen: \xe2\x82\xac", 15) > 0);
    CHECK_OK(setun_tokenizer_save(tokenizer, "tokenizer.json"));
    CHECK_OK(setun_tokenizer_load("tokenizer.json", &loaded));
    CHECK(round_trip(loaded, "the cat and the hat", 19) == count);
    setun_tokenizer_free(loaded);
    setun_tokenizer_free(tokenizer);
    tokenizer = NULL;
    CHECK_STATUS(setun_tokenizer_train(SETUN_TOKENIZER_BPE, "cats.txt", 255, &tokenizer), SETUN_ERR_ARGUMENT);
    CHECK_FAILS(setun_tokenizer_train(SETUN_TOKENIZER_BPE, "cats.txt", -1, &tokenizer), SETUN_ERR_ARGUMENT,
                "vocabulary is -1");
    CHECK(tokenizer == NULL);
}

static void bad_files(void) {
    setun_tokenizer *tokenizer = NULL;
    CHECK_FAILS(setun_tokenizer_train(SETUN_TOKENIZER_CHARACTER, "missing.txt", 0, &tokenizer), SETUN_ERR_IO,
                "missing.txt");
    CHECK_FAILS(setun_tokenizer_load("missing.json", &tokenizer), SETUN_ERR_IO, "missing.json");
    CHECK_FAILS(setun_tokenizer_train(3, "text.txt", 0, &tokenizer), SETUN_ERR_ARGUMENT, "is 3");
    CHECK_FAILS(setun_tokenizer_train(SETUN_TOKENIZER_CHARACTER, NULL, 0, &tokenizer), SETUN_ERR_ARGUMENT,
                "path is NULL");
    CHECK_FAILS(setun_tokenizer_load("", &tokenizer), SETUN_ERR_ARGUMENT, "path is empty");
    CHECK_FAILS(setun_tokenizer_load("\xff", &tokenizer), SETUN_ERR_ARGUMENT, "path is not UTF-8");
    write_file("nonsense.json", "{\"format\": 3");
    CHECK_STATUS(setun_tokenizer_load("nonsense.json", &tokenizer), SETUN_ERR_FORMAT);
    CHECK(tokenizer == NULL);
}

static void datasets(void) {
    setun_tokenizer *tokenizer = NULL;
    setun_dataset *dataset = NULL, *none = NULL;
    int64_t training = 0, validation = 0;
    uint32_t numbers[1000], tokens[3 * 8], targets[3 * 8], again[3 * 8], wrong[2] = {3, 9};
    int i;
    CHECK(mkdir("corpus", 0755) == 0);
    write_file("corpus/b.txt", "world");
    write_file("corpus/a.txt", "hello");
    write_file("corpus/.hidden", "not this");
    CHECK_OK(setun_tokenizer_train(SETUN_TOKENIZER_BYTE, NULL, 0, &tokenizer));
    CHECK_OK(setun_dataset_open("corpus", tokenizer, 0, &dataset));
    CHECK_OK(setun_dataset_tokens(dataset, SETUN_SPLIT_TRAIN, &training));
    CHECK_OK(setun_dataset_tokens(dataset, SETUN_SPLIT_VALIDATION, &validation));
    CHECK(training == 11 && validation == 0); /* "hello\nworld" */
    CHECK_OK(setun_dataset_batch(dataset, SETUN_SPLIT_TRAIN, 1, 0, 1, 10, tokens, targets));
    CHECK(tokens[0] == 'h' && tokens[5] == '\n' && targets[9] == 'd');
    CHECK_STATUS(setun_dataset_batch(dataset, SETUN_SPLIT_TRAIN, 1, 0, 1, 11, tokens, targets), SETUN_ERR_SHAPE);
    setun_dataset_free(dataset);

    for (i = 0; i < 1000; i++) numbers[i] = (uint32_t)i;
    CHECK_OK(setun_dataset_from_tokens(numbers, 1000, 1000, .25, &dataset));
    CHECK_OK(setun_dataset_tokens(dataset, SETUN_SPLIT_TRAIN, &training));
    CHECK_OK(setun_dataset_tokens(dataset, SETUN_SPLIT_VALIDATION, &validation));
    CHECK(training == 750 && validation == 250);
    CHECK_OK(setun_dataset_batch(dataset, SETUN_SPLIT_VALIDATION, 5, 7, 3, 8, tokens, targets));
    for (i = 0; i < 24; i++) {
        CHECK(tokens[i] >= 750 && targets[i] == tokens[i] + 1 && targets[i] < 1000);
        if (i % 8) CHECK(tokens[i] == targets[i - 1]);
    }
    /* The same numbers give the same batch, others another. */
    CHECK_OK(setun_dataset_batch(dataset, SETUN_SPLIT_VALIDATION, 5, 7, 3, 8, again, targets));
    CHECK(memcmp(tokens, again, sizeof tokens) == 0);
    CHECK_OK(setun_dataset_batch(dataset, SETUN_SPLIT_VALIDATION, 5, 8, 3, 8, again, targets));
    CHECK(memcmp(tokens, again, sizeof tokens) != 0);
    CHECK_OK(setun_dataset_batch(dataset, SETUN_SPLIT_VALIDATION, 6, 7, 3, 8, again, targets));
    CHECK(memcmp(tokens, again, sizeof tokens) != 0);
    CHECK_FAILS(setun_dataset_batch(dataset, 2, 5, 7, 3, 8, again, targets), SETUN_ERR_ARGUMENT, "split is 2");
    CHECK_FAILS(setun_dataset_batch(dataset, 0, 5, 7, 3, 8, tokens, tokens + 1), SETUN_ERR_ARGUMENT,
                "targets overlaps tokens");
    setun_dataset_free(dataset);

    CHECK_FAILS(setun_dataset_from_tokens(wrong, 2, 9, 0, &none), SETUN_ERR_ARGUMENT, "tokens[1] is 9");
    CHECK_STATUS(setun_dataset_from_tokens(numbers, 1000, 1000, 1, &none), SETUN_ERR_ARGUMENT);
    CHECK_STATUS(setun_dataset_from_tokens(numbers, 1000, 1000, -.1, &none), SETUN_ERR_ARGUMENT);
    CHECK_FAILS(setun_dataset_open("nowhere", tokenizer, 0, &none), SETUN_ERR_IO, "nowhere");
    CHECK_FAILS(setun_dataset_open("corpus", NULL, 0, &none), SETUN_ERR_ARGUMENT, "tokenizer is NULL");
    CHECK(none == NULL);
    setun_tokenizer_free(tokenizer);
}

int main(void) {
    byte_tokenizer();
    character_tokenizer();
    bpe_tokenizer();
    bad_files();
    datasets();
    return 0;
}
