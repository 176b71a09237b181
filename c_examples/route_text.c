/* The text of route: its bytes, the windows that are trained on, and those that are predicted. */
#include "route.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int told(const char *name, const char *what)
{
    fprintf(stderr, "%s: %s\n", name, what);
    return -1;
}

static int read_all(route_text *t, const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t room = 0, got = 1;
    while (file != NULL && got > 0) {
        if (room - t->count < 2) {
            char *more = room > SIZE_MAX / 4 ? NULL : realloc(t->bytes, room = room == 0 ? 1 << 16 : 2 * room);
            if (more == NULL) {
                fclose(file);
                return told(path, "there is not enough memory for it");
            }
            t->bytes = more;
        }
        got = fread(t->bytes + t->count, 1, room - t->count - 1, file);
        t->count += got;
    }
    int failed = file == NULL || ferror(file);
    if (failed)
        told(path, strerror(errno));
    if (file != NULL)
        fclose(file);
    return failed ? -1 : 0;
}

/* The training part ends where a character does. */
static size_t nine_tenths(const route_text *t)
{
    size_t cut = t->count / 10 * 9 + t->count % 10 * 9 / 10;
    while (cut < t->count && ((unsigned char)t->bytes[cut] & 0xC0) == 0x80)
        cut++;
    return cut;
}

int route_text_open(route_text *t, route_options *o)
{
    if (read_all(t, o->text) != 0 || route_name(o, t->bytes, t->count) != 0)
        return -1;
    t->cut = nine_tenths(t);
    if (check(setun_tokenizer_train(o->tokenizer, o->text, o->vocabulary, &t->tokenizer), "tokenizer") != 0 ||
        check(setun_tokenizer_vocabulary(t->tokenizer, &o->model.vocabulary), "tokenizer") != 0 ||
        check(setun_text_windows(t->bytes, t->cut, o->window, o->window, NULL, NULL, 0, &t->windows), "windows") != 0)
        return -1;
    if (t->windows < o->clusters) {
        fprintf(stderr, "%s: the first nine tenths are %" PRId64 " windows of %" PRId64 " bytes, too few for %" PRId64
                        " clusters\n", o->text, t->windows, o->window, o->clusters);
        return -1;
    }
    t->begins = calloc((size_t)t->windows, sizeof *t->begins);
    t->ends = calloc((size_t)t->windows, sizeof *t->ends);
    if (t->begins == NULL || t->ends == NULL)
        return told(o->text, "there is not enough memory for its windows");
    return check(setun_text_windows(t->bytes, t->cut, o->window, o->window, t->begins, t->ends, t->windows, &t->windows),
                 "windows");
}

void route_text_free(route_text *t)
{
    setun_tokenizer_free(t->tokenizer);
    free(t->bytes), free(t->begins), free(t->ends);
}

uint32_t *route_tokens(const route_text *t, const int32_t *labels, int32_t label, int64_t *count)
{
    size_t room = 1; /* no tokenizer makes more tokens than there are bytes */
    for (int64_t i = 0; i < t->windows; i++)
        if (labels == NULL || labels[i] == label)
            room += (size_t)(t->ends[i] - t->begins[i]);
    uint32_t *tokens = calloc(room, sizeof *tokens);
    if (tokens == NULL)
        told("tokens", "there is not enough memory for them");
    *count = 0;
    for (int64_t i = 0; i < t->windows && tokens != NULL; i++) {
        int64_t here = 0;
        if (labels != NULL && labels[i] != label)
            continue;
        if (check(setun_tokenizer_encode(t->tokenizer, t->bytes + t->begins[i], (size_t)(t->ends[i] - t->begins[i]),
                                         tokens + *count, (int64_t)room - *count, &here), "tokens") != 0) {
            free(tokens);
            tokens = NULL;
        }
        *count += here;
    }
    return tokens;
}

static int blank(const route_text *t, size_t at)
{
    return isspace((unsigned char)t->bytes[at]);
}

/* Where each window begins in the text, and what stands before it, up to --window bytes: words that are cut are left out. */
static int place(route_validation *v, const route_options *o, const route_text *t)
{
    size_t at = t->cut;
    for (int64_t i = 0; i < v->windows; i++) {
        size_t bytes = 0, begin = at > (size_t)o->window ? at - (size_t)o->window : 0, end = at;
        while (begin > 0 && begin < at && !blank(t, begin - 1))
            begin++;
        while (end > begin && end < t->count && !blank(t, end) && !blank(t, end - 1))
            end--;
        v->starts[i] = i * v->context, v->begins[i] = (int64_t)begin, v->ends[i] = (int64_t)end;
        if (check(setun_tokenizer_decode(t->tokenizer, v->tokens + v->starts[i], v->context, NULL, 0, &bytes), "text") != 0)
            return -1;
        at += bytes;
    }
    return 0;
}

/* Keeps `chosen` of the windows, as evenly as can be. */
static void choose(route_validation *v, int64_t chosen)
{
    if (chosen == 0 || chosen >= v->windows)
        return;
    for (int64_t i = 0; i < chosen; i++) {
        int64_t from = (int64_t)((double)v->windows / (double)chosen * (double)i);
        v->starts[i] = v->starts[from], v->begins[i] = v->begins[from], v->ends[i] = v->ends[from];
    }
    v->windows = chosen;
}

int route_validation_open(route_validation *v, const route_options *o, const route_text *t)
{
    int64_t count = 0;
    size_t left = t->count - t->cut;
    v->context = o->model.context_length;
    v->tokens = calloc(left + 1, sizeof *v->tokens);
    if (v->tokens == NULL)
        return told(o->text, "there is not enough memory for its tokens");
    if (check(setun_tokenizer_encode(t->tokenizer, t->bytes + t->cut, left, v->tokens, (int64_t)left + 1, &count), "text") != 0)
        return -1;
    if (count <= v->context) {
        fprintf(stderr, "%s: the last tenth has %" PRId64 " tokens, and a window takes %" PRId64 "\n", o->text, count,
                v->context + 1);
        return -1;
    }
    v->windows = (count - 1) / v->context;
    v->starts = calloc((size_t)v->windows, sizeof *v->starts);
    v->begins = calloc((size_t)v->windows, sizeof *v->begins);
    v->ends = calloc((size_t)v->windows, sizeof *v->ends);
    if (v->starts == NULL || v->begins == NULL || v->ends == NULL)
        return told(o->text, "there is not enough memory for its windows");
    if (place(v, o, t) != 0)
        return -1;
    choose(v, o->eval_windows);
    return 0;
}

void route_validation_free(route_validation *v)
{
    free(v->tokens), free(v->starts), free(v->begins), free(v->ends);
}
