#include "topics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* WORDS: told of each cluster. SHOWN: bytes of a part. */
enum { WORDS = 8, SHOWN = 100 };

typedef struct {
    const char *begin;
    size_t length;
    int64_t parts, here; /* that it is in: of all, of the cluster that is looked at */
    int64_t last;        /* the part that was counted last */
} word;

typedef struct {
    const points *points;
    const int32_t *labels;
    const int64_t *sizes;
    int64_t k, examples;
    int64_t *order, *starts; /* parts by cluster [n], and where each cluster begins there [k + 1] */
    int64_t *nearest;        /* [k, examples], -1 where there are fewer */
    double *distances;       /* of these */
    word *words;             /* open addressing: `begin` is NULL where there is none */
    size_t room, used;
    size_t *touched, touches, touched_room; /* words of the cluster that is looked at */
} topics;

static unsigned char small(char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 'a' - 'A') : (unsigned char)c;
}

/* ASCII letters and digits, and what is not ASCII but for the quotation marks and dashes of U+2000 to U+203F. */
static int is_letter(const char *at, const char *end)
{
    unsigned char c = (unsigned char)*at, lower = small(*at);
    if (c == 0xE2 && end - at >= 3 && (unsigned char)at[1] == 0x80)
        return 0;
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c >= 0x80;
}

static size_t bytes_of(const char *at, const char *end)
{
    return (unsigned char)*at == 0xE2 && end - at >= 3 ? 3 : 1;
}

/* The next word from *at on, of three bytes or more; its length is 0 at the end. */
static size_t next_word(const char **at, const char *end)
{
    const char *stop = *at;
    do {
        *at = stop;
        while (*at < end && !is_letter(*at, end))
            *at += bytes_of(*at, end);
        stop = *at;
        while (stop < end && is_letter(stop, end))
            stop += bytes_of(stop, end);
    } while (stop > *at && stop - *at < 3);
    return (size_t)(stop - *at);
}

static int same(const word *w, const char *begin, size_t length)
{
    size_t i = 0;
    while (i < length && w->length == length && small(w->begin[i]) == small(begin[i]))
        i++;
    return i == length;
}

/* Where a word is, or is to be. FNV-1a. */
static size_t slot(const topics *t, const char *begin, size_t length)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ small(begin[i])) * UINT64_C(1099511628211);
    size_t at = (size_t)(hash ^ hash >> 32) & (t->room - 1);
    while (t->words[at].begin != NULL && !same(&t->words[at], begin, length))
        at = (at + 1) & (t->room - 1);
    return at;
}

static int grow(topics *t)
{
    word *old = t->words;
    size_t room = t->room;
    if (room > SIZE_MAX / 2 / sizeof *old || (t->words = calloc(2 * room, sizeof *old)) == NULL) {
        t->words = old;
        return -1;
    }
    t->room = 2 * room;
    for (size_t i = 0; i < room; i++)
        if (old[i].begin != NULL)
            t->words[slot(t, old[i].begin, old[i].length)] = old[i];
    free(old);
    return 0;
}

/* Counts in how many parts each word is. */
static int count_words(topics *t)
{
    const points *p = t->points;
    for (int64_t i = 0; i < p->n; i++) {
        const char *at = p->text + p->begins[i], *end = p->text + p->ends[i];
        for (size_t length; (length = next_word(&at, end)) > 0; at += length) {
            if (2 * t->used >= t->room && grow(t) != 0)
                return -1;
            word *w = &t->words[slot(t, at, length)];
            if (w->begin == NULL) {
                w->begin = at, w->length = length, w->last = -1;
                t->used++;
            }
            w->parts += w->last != i;
            w->last = i;
        }
    }
    for (size_t i = 0; i < t->room; i++)
        t->words[i].last = -1;
    return 0;
}

static int touch(topics *t, size_t at)
{
    if (t->touches == t->touched_room) {
        size_t room = t->touched_room == 0 ? 1024 : 2 * t->touched_room;
        size_t *more = room > SIZE_MAX / 2 / sizeof *more ? NULL : realloc(t->touched, room * sizeof *more);
        if (more == NULL)
            return -1;
        t->touched = more, t->touched_room = room;
    }
    t->touched[t->touches++] = at;
    return 0;
}

/* Counts in how many parts of a cluster each word is. */
static int count_here(topics *t, int64_t cluster)
{
    const points *p = t->points;
    t->touches = 0;
    for (int64_t o = t->starts[cluster]; o < t->starts[cluster + 1]; o++) {
        int64_t i = t->order[o];
        const char *at = p->text + p->begins[i], *end = p->text + p->ends[i];
        for (size_t length; (length = next_word(&at, end)) > 0; at += length) {
            size_t found = slot(t, at, length);
            word *w = &t->words[found];
            if (w->here == 0 && touch(t, found) != 0)
                return -1;
            w->here += w->last != i;
            w->last = i;
        }
    }
    return 0;
}

/* What a word says of a cluster: in how many of its parts it is, by how much more often that is than in all (its part of the
   information that both share). */
static double score(const topics *t, const word *w, int64_t cluster)
{
    double usual = (double)w->parts / (double)t->points->n;
    return (double)w->here * log((double)w->here / (double)t->sizes[cluster] / usual);
}

static void print_words(topics *t, int64_t cluster)
{
    const word *best[WORDS];
    double scores[WORDS];
    int count = 0;
    for (size_t i = 0; i < t->touches; i++) {
        const word *w = &t->words[t->touched[i]];
        double here = score(t, w, cluster);
        int at = count;
        while (at > 0 && here > scores[at - 1])
            at--;
        if (here <= 0 || at == WORDS)
            continue;
        count += count < WORDS;
        memmove(best + at + 1, best + at, (size_t)(count - 1 - at) * sizeof *best);
        memmove(scores + at + 1, scores + at, (size_t)(count - 1 - at) * sizeof *scores);
        best[at] = w, scores[at] = here;
    }
    for (int i = 0; i < count; i++) {
        printf(i == 0 ? ": " : " ");
        for (size_t j = 0; j < best[i]->length; j++)
            putchar(small(best[i]->begin[j]));
    }
    for (size_t i = 0; i < t->touches; i++)
        t->words[t->touched[i]].here = 0;
}

/* The beginning of a part on one line, spaces for what is none, whole characters. */
static void print_part(const points *p, int64_t i)
{
    const char *at = p->text + p->begins[i], *end = p->text + p->ends[i];
    int blank = 1;
    printf("   ");
    for (int shown = 0; at < end && (shown < SHOWN || ((unsigned char)*at & 0xC0) == 0x80); at++) {
        int space = (unsigned char)*at <= ' ' || *at == 127;
        if (!space || !blank)
            putchar(space ? ' ' : *at), shown++;
        blank = space;
    }
    printf("\n");
}

/* The parts of all clusters that are nearest to their centroids, nearest first. */
static void find_nearest(topics *t, const float *centroids)
{
    const points *p = t->points;
    for (int64_t i = 0; i < t->k * t->examples; i++)
        t->nearest[i] = -1, t->distances[i] = INFINITY;
    for (int64_t i = 0; i < p->n; i++) {
        const float *row = p->x + i * p->d, *centroid = centroids + t->labels[i] * p->d;
        int64_t *nearest = t->nearest + t->labels[i] * t->examples, at = t->examples;
        double *distances = t->distances + t->labels[i] * t->examples, here = 0;
        for (int64_t j = 0; j < p->d; j++)
            here += ((double)row[j] - centroid[j]) * ((double)row[j] - centroid[j]);
        while (at > 0 && here < distances[at - 1])
            at--;
        if (at == t->examples)
            continue;
        memmove(nearest + at + 1, nearest + at, (size_t)(t->examples - 1 - at) * sizeof *nearest);
        memmove(distances + at + 1, distances + at, (size_t)(t->examples - 1 - at) * sizeof *distances);
        nearest[at] = i, distances[at] = here;
    }
}

static void sort_parts(topics *t)
{
    int64_t n = t->points->n;
    for (int64_t c = 0; c < t->k; c++)
        t->starts[c + 1] = t->starts[c] + t->sizes[c];
    for (int64_t i = 0; i < n; i++)
        t->order[t->starts[t->labels[i]]++] = i;
    for (int64_t c = t->k; c > 0; c--)
        t->starts[c] = t->starts[c - 1];
    t->starts[0] = 0;
}

static int print_cluster(topics *t, int64_t cluster)
{
    if (count_here(t, cluster) != 0)
        return -1;
    printf("cluster %" PRId64 ", %" PRId64 " part%s", cluster, t->sizes[cluster], t->sizes[cluster] == 1 ? "" : "s");
    print_words(t, cluster);
    printf("\n");
    for (int64_t m = 0; m < t->examples && t->nearest[cluster * t->examples + m] >= 0; m++)
        print_part(t->points, t->nearest[cluster * t->examples + m]);
    return 0;
}

int topics_print(const points *p, const int32_t *labels, const float *centroids, const int64_t *sizes, int64_t k,
                 int64_t examples)
{
    topics t = {0};
    t.points = p, t.labels = labels, t.sizes = sizes, t.k = k, t.examples = examples < p->n ? examples : p->n;
    t.room = 4096;
    int fits = t.examples == 0 || (uint64_t)k < SIZE_MAX / sizeof(double) / (uint64_t)t.examples;
    size_t all = fits ? (size_t)k * (size_t)t.examples + 1 : 0;
    t.order = calloc((size_t)p->n, sizeof *t.order);
    t.starts = calloc((size_t)k + 1, sizeof *t.starts);
    t.words = calloc(t.room, sizeof *t.words);
    t.nearest = fits ? malloc(all * sizeof *t.nearest) : NULL;
    t.distances = fits ? malloc(all * sizeof *t.distances) : NULL;
    int failed = t.order == NULL || t.starts == NULL || t.words == NULL || t.nearest == NULL || t.distances == NULL ||
                 count_words(&t) != 0;
    if (!failed) {
        sort_parts(&t);
        find_nearest(&t, centroids);
    }
    for (int64_t c = 0; c < k && !failed; c++)
        failed = print_cluster(&t, c);
    if (failed)
        fprintf(stderr, "there is no memory for what the clusters are about\n");
    free(t.order), free(t.starts), free(t.words), free(t.nearest), free(t.distances), free(t.touched);
    return failed ? -1 : 0;
}
