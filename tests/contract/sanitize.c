/* Runs everything in csrc/ under the address and undefined-behaviour sanitizers; tests/contract/test_sanitizers.py builds it.
 *
 *     sanitize FILE
 *
 * FILE holds cases: the sizes of a body and a tail as two 32-bit numbers in native order, then the body and the tail. Each
 * piece is copied to a buffer of exactly its size, and each answer gets exactly the room that csrc/gkv.h asks for, so one byte
 * too far is an error. The tail is what chance makes of replies and rooms. Prints how far the cases came. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gkv.h"

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);  \
            exit(3);                                                                 \
        }                                                                            \
    } while (0)

enum { RINGS = 5, LEAST_ITEM = 12, PREFIX = 9 };

static struct {
    unsigned long cases, scans, get, set, items, routed, spliced, right, changed, random, refused, escaped, ttls;
} counts;

/* A body, and the texts of its keys that had an escape. */
typedef struct {
    const uint8_t *body;
    size_t size;
    const uint8_t *texts;
} source;

/* A buffer of exactly this size. */
static void *exactly(size_t size)
{
    void *buffer = malloc(size);
    CHECK(buffer != NULL || size == 0);
    return buffer;
}

static void *copy_of(const void *data, size_t size)
{
    void *copy = exactly(size);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

/* --- rings ---------------------------------------------------------------------------------------------------------- */

static gkv_ring make_ring(uint32_t nodes, uint32_t vnodes, int weighted)
{
    gkv_ring ring = {.nodes = nodes};
    uint32_t *ends = exactly(nodes * sizeof *ends);
    uint32_t bits = 1;

    for (uint32_t i = 0; i < nodes; i++) {
        ring.vnodes += weighted ? vnodes * (i % 7 + 1) : vnodes;
        ends[i] = ring.vnodes;
    }
    while (bits < 32 && (1ULL << bits) < ring.vnodes)
        bits++;
    ring.shift = 64 - bits;
    ring.tokens = exactly(ring.vnodes * sizeof *ring.tokens);
    ring.owners = exactly(ring.vnodes * sizeof *ring.owners);
    ring.index = exactly((((size_t)1 << bits) + 1) * sizeof *ring.index);

    uint64_t *unsorted = exactly(ring.vnodes * sizeof *unsorted);
    for (uint32_t i = 0; i < nodes; i++) {
        char id[16];
        size_t size = (size_t)snprintf(id, sizeof id, "n%u", i);
        uint32_t start = i == 0 ? 0 : ends[i - 1];
        uint8_t *name = exactly(size + 11);
        memcpy(name, id, size);
        gkv_ring_vnode_tokens(name, size, ends[i] - start, unsorted + start);
        free(name);
    }
    gkv_ring_order(&ring, unsorted, ends);
    free(unsorted);
    free(ends);
    return ring;
}

static void free_ring(gkv_ring *ring)
{
    free(ring->tokens);
    free(ring->owners);
    free(ring->index);
}

static void ask_ring(const gkv_ring *ring, uint64_t token)
{
    const uint32_t limits[] = {0, 1, 2, ring->nodes, ring->nodes + 1, UINT32_MAX};

    uint16_t owner = ring->owners[gkv_ring_find(ring, token)];
    CHECK(owner < ring->nodes);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        uint32_t limit = limits[i] < ring->nodes ? limits[i] : ring->nodes;
        uint16_t *out = exactly(limit * sizeof *out);
        CHECK(gkv_ring_preference(ring, token, limits[i], out) == limit);
        CHECK(limit == 0 || out[0] == owner);
        free(out);
    }
}

static void check_ring(const gkv_ring *ring)
{
    ask_ring(ring, 0);
    ask_ring(ring, UINT64_MAX);
    for (uint32_t i = 0; i < ring->vnodes; i++) {
        CHECK(i == 0 || ring->tokens[i - 1] <= ring->tokens[i]);
        if (i < 64 || i + 64 > ring->vnodes)
            for (int step = -1; step <= 1; step++)
                ask_ring(ring, ring->tokens[i] + (uint64_t)(int64_t)step);
    }
}

/* The owners' places, every third of them nobody's: as lookups may be given them. */
static uint16_t *thinned(const gkv_ring *ring)
{
    uint16_t *places = exactly(ring->vnodes * sizeof *places);
    for (uint32_t i = 0; i < ring->vnodes; i++)
        places[i] = i % 3 == 0 ? GKV_NOBODY : ring->owners[i];
    return places;
}

/* Splits a text into as many keys as there are, and into other numbers, which must be refused. */
/* Pieces of bytes have the tokens of the keys that they are. */
static void tokens_of_bytes(const char *keys, size_t size, uint32_t count)
{
    uint8_t *data = exactly(size);
    uint32_t *ends = exactly(count * sizeof *ends);
    uint8_t *tokens = exactly(8 * (size_t)count), *again = exactly(8 * (size_t)count);
    uint32_t end = 0, piece = 0;
    for (size_t i = 0; i < size; i++) {
        if (keys[i] == 0)
            ends[piece++] = end;
        else
            data[end++] = (uint8_t)keys[i];
    }
    ends[piece++] = end;
    CHECK(piece == count && gkv_tokens(keys, size, count, tokens) == 0);
    gkv_tokens_of_bytes(data, ends, count, again);
    CHECK(memcmp(tokens, again, 8 * (size_t)count) == 0);
    free(data);
    free(ends);
    free(tokens);
    free(again);
}

static void split(const gkv_ring *ring, const void *text, size_t size)
{
    char *keys = copy_of(text, size);
    uint32_t count = 1;
    for (size_t i = 0; i < size; i++)
        count += keys[i] == 0;
    uint16_t *some = thinned(ring);
    for (uint32_t asked = count > 1 ? count - 1 : 1; asked <= count + 1; asked++) {
        for (int all = 0; all < 2; all++) {
            uint32_t *out = exactly((2 * (size_t)asked + 3 * ((size_t)ring->nodes + 1)) * sizeof *out);
            int32_t found = gkv_ring_split(ring, all ? ring->owners : some, keys, size, asked, out);
            CHECK((found > 0) == (asked == count));
            if (found > 0)
                CHECK(out[count + 2 * (uint32_t)found - 1] == count);
            free(out);
        }
        uint8_t *tokens = exactly(8 * (size_t)asked);
        CHECK((gkv_tokens(keys, size, asked, tokens) == 0) == (asked == count));
        free(tokens);
    }
    tokens_of_bytes(keys, size, count);
    free(some);
    free(keys);
}

/* --- the way of a batch --------------------------------------------------------------------------------------------- */

/* What chance there is: the bytes of the tail, round and round. */
typedef struct {
    const uint8_t *data;
    size_t size;
    size_t at;
} chance;

static uint32_t draw(chance *c, uint32_t below)
{
    uint32_t number = 0;
    for (int i = 0; i < 3 && c->size > 0; i++)
        number = number << 8 | c->data[c->at++ % c->size];
    return number % below;
}

/* A reply as a node writes it, for this many keys, in a buffer of exactly its size. */
/* One owner's answer, for the positions [start, end) of gkv_route's. */
typedef struct {
    const uint8_t *frame;
    size_t size;
    uint32_t start;
    uint32_t end;
} answer;

static answer right_reply(chance *c, uint32_t start, uint32_t end)
{
    size_t room = 32 + (size_t)(end - start) * 64, size = 0, payload = 0;
    char *text = exactly(room);

    size += (size_t)snprintf(text, room, "{\"sizes\":[");
    for (uint32_t i = start; i < end; i++) {
        int number = (int)draw(c, 40) - 8;
        if (number <= 0)
            number = -1;
        else
            payload += (size_t)number;
        size += (size_t)snprintf(text + size, room - size, i + 1 < end ? "%d," : "%d", number);
    }
    size += (size_t)snprintf(text + size, room - size, "]}\n");
    memset(text + size, 'v', payload);
    size += payload;
    answer reply = {.frame = copy_of(text, size), .size = size, .start = start, .end = end};
    free(text);
    return reply;
}

/* The same with one change, or any bytes at all. */
static answer other_reply(chance *c, answer from, int any)
{
    static const char pieces[] = "-10,9]}{\n \"4294967295-1,";
    answer reply = from;
    uint8_t *text;

    if (any) {
        size_t at = c->size > 0 && draw(c, 3) == 0 ? draw(c, (uint32_t)c->size) : 0;
        reply.size = c->size - at;
        reply.frame = copy_of(c->size > 0 ? c->data + at : NULL, reply.size);
        return reply;
    }
    switch (draw(c, 4)) {
    case 0: /* cut */
        reply.size = draw(c, (uint32_t)from.size);
        reply.frame = copy_of(from.frame, reply.size);
        return reply;
    case 1: /* more behind */
        reply.size = from.size + 1 + draw(c, 4);
        text = exactly(reply.size);
        memset(text, 'v', reply.size);
        memcpy(text, from.frame, from.size);
        reply.frame = text;
        return reply;
    case 2: { /* a digit becomes ten */
        size_t at = 10 + draw(c, (uint32_t)from.size - 10);
        reply.size = from.size + 9;
        text = exactly(reply.size);
        memcpy(text, from.frame, at);
        memcpy(text + at, "4294967295", 10);
        memcpy(text + at + 10, from.frame + at + 1, from.size - at - 1);
        reply.frame = text;
        return reply;
    }
    default: /* another byte */
        text = copy_of(from.frame, from.size);
        text[draw(c, (uint32_t)from.size)] = (uint8_t)pieces[draw(c, sizeof pieces - 1)];
        reply.frame = text;
        return reply;
    }
}

static int64_t splice(const source *from, const gkv_item *items, uint32_t count, const uint32_t *order,
                      const answer *replies, uint32_t reply_count, size_t room)
{
    gkv_item *own = copy_of(items, count * sizeof *items);
    uint8_t *out = exactly(room);
    uint64_t *ends = exactly(reply_count * sizeof *ends);
    size_t total = 0, at = 0;
    for (uint32_t r = 0; r < reply_count; r++)
        total += replies[r].size;
    uint8_t *frames = exactly(total);
    for (uint32_t r = 0; r < reply_count; r++) {
        memcpy(frames + at, replies[r].frame, replies[r].size);
        ends[r] = at += replies[r].size;
    }
    int64_t size = gkv_splice(from->body, from->size, from->texts, own, count, order, reply_count, frames, ends, out, room);
    CHECK(size >= -1 && size <= (int64_t)room);
    if (size >= 0)
        CHECK(memcmp(out, "{\"existedKey\":[", 15) == 0 && out[size - 1] == '}');
    /* Each answer alone is as right or wrong as all are together. */
    int all = 1;
    uint32_t covered = 0;
    for (uint32_t r = 0; r < reply_count; r++) {
        uint32_t end = replies[r].end;
        all &= replies[r].start == covered &&
               gkv_read_answer(replies[r].frame, replies[r].size, own, order + covered, end - covered);
        covered = end;
    }
    CHECK(size < 0 || all);
    free(frames);
    free(ends);
    free(out);
    free(own);
    counts.spliced++;
    return size;
}

static void splice_all(const source *from, const gkv_item *items, uint32_t count, const uint32_t *order,
                       uint32_t found, chance *c)
{
    const uint32_t *groups = order + count;
    answer *replies = exactly(found * sizeof *replies);
    size_t room = 64 + 40 * (size_t)count + from->size; /* as gkv/wire/_native.py has it */

    for (uint32_t g = 0; g < found; g++) {
        replies[g] = right_reply(c, g == 0 ? 0 : groups[3 * g - 2], groups[3 * g + 1]);
        room += replies[g].size;
    }
    int64_t size = splice(from, items, count, order, replies, found, room);
    CHECK(size >= 0);
    counts.right++;
    splice(from, items, count, order, replies, found, (size_t)size);
    CHECK(splice(from, items, count, order, replies, found, (size_t)size - 1) == -1);
    splice(from, items, count, order, replies, found, draw(c, (uint32_t)room));
    if (found > 0)
        CHECK(splice(from, items, count, order, replies, found - 1, room) == -1);

    for (int any = 0; any < 2; any++)
        for (uint32_t g = 0; g < found && g < 3; g++) {
            answer kept = replies[g];
            replies[g] = other_reply(c, kept, any);
            size = splice(from, items, count, order, replies, found, room + replies[g].size);
            if (size < 0)
                counts.refused++;
            else if (any)
                counts.random++;
            else
                counts.changed++;
            free((void *)replies[g].frame);
            replies[g] = kept;
        }
    for (uint32_t g = 0; g < found; g++)
        free((void *)replies[g].frame);
    free(replies);
}

static void route_all(const gkv_ring *ring, const source *from, gkv_item *items, uint32_t count, int with_values,
                      chance *c)
{
    int64_t *expires = NULL;
    uint16_t *some = draw(c, 8) == 0 ? thinned(ring) : NULL;
    const uint16_t *places = some != NULL ? some : ring->owners;
    uint8_t *prefix = copy_of("{\"keys\":[", PREFIX);
    size_t owners = count < ring->nodes + 1 ? count : ring->nodes + 1; /* with nobody */
    if (with_values && draw(c, 2) == 0) {
        expires = exactly(count * sizeof *expires);
        for (uint32_t i = 0; i < count; i++)
            expires[i] = draw(c, 2) == 0 ? INT64_MAX : (int64_t)draw(c, 1 << 24);
    }
    /* As gkv/wire/_native.py has it. */
    size_t full = from->size + (expires != NULL ? 36 : 16) * (size_t)count + (PREFIX + 28) * owners;
    size_t rooms[] = {full, 0, 0, draw(c, (uint32_t)full + 1)};

    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        uint32_t *out = exactly((count + 4 * ((size_t)ring->nodes + 1)) * sizeof *out);
        uint8_t *frames = exactly(rooms[i]);
        int32_t found = gkv_route(ring, places, from->body, from->size, from->texts, items, count, with_values, expires, prefix,
                                  PREFIX, out, frames, rooms[i]);
        CHECK((found > 0) == (count > 0));
        uint32_t written = found > 0 ? out[count + 3 * (uint32_t)found - 1] : 0;
        CHECK(found == 0 || written > 0 || i > 0);
        if (found > 0)
            CHECK(out[count + 3 * (uint32_t)found - 2] == count);
        if (written > 0) {
            CHECK(written <= rooms[i]);
            CHECK(memcmp(frames, "{\"keys\":[\"", PREFIX + 1) == 0);
            if (i == 0) {
                rooms[1] = written; /* fits, if the room is reckoned that closely */
                rooms[2] = written - 1;
            }
        }
        if (i == 0)
            splice_all(from, items, count, out, (uint32_t)found, c);
        free(frames);
        free(out);
        counts.routed++;
    }
    free(expires);
    free(some);
    free(prefix);
}

static void check_items(const source *from, const gkv_item *items, uint32_t count, int with_values, const gkv_limits *limits)
{
    const uint8_t *body = from->body;
    size_t size = from->size;
    uint64_t last = 0, last_text = size;

    for (uint32_t i = 0; i < count; i++) {
        const gkv_item *item = &items[i];
        CHECK(item->key_size >= 1);
        CHECK(with_values ? item->value_size >= 1 && item->value_size <= limits->max_value : item->value_size == 0);
        CHECK((uint64_t)item->value + item->value_size < size);
        CHECK((uint64_t)item->ttl + item->ttl_size < size);
        if (with_values) {
            CHECK(item->value > last);
            last = item->value;
        }
        counts.ttls += item->ttl_size > 0;
        if (item->key < size) {
            CHECK(item->key_size <= limits->max_key);
            CHECK(body[item->key - 1] == '"' && body[item->key + item->key_size] == '"');
            uint8_t *key = copy_of(body + item->key, item->key_size);
            uint64_t hash[2];
            gkv_murmur3_x64_128(key, item->key_size, 0, hash);
            CHECK(hash[0] == gkv_token(key, item->key_size) && hash[0] == item->token);
            free(key);
        } else { /* they stand one behind the other */
            CHECK(item->key == last_text + 1);
            last_text = item->key + item->key_size + 1;
            CHECK(from->texts[item->key - size - 1] == '"' && from->texts[last_text - size - 1] == '"');
            counts.escaped++;
        }
    }
}

/* Scans a body in steps of some budget, with room for the texts of keys only when there has to be some; returns what the last
 * step answered. */
static int32_t scan(const source *from, int with_values, const gkv_limits *limits, gkv_cursor *reached, gkv_item *items,
                    uint32_t room, uint8_t **texts, uint32_t budget)
{
    uint32_t texts_room = 0;
    int32_t state;

    *reached = (gkv_cursor){0, 0, 0, 0};
    *texts = NULL;
    for (;;) {
        gkv_cursor before = *reached;
        state = gkv_scan(from->body, from->size, with_values, limits, reached, items, room, *texts, texts_room, budget);
        counts.scans++;
        CHECK(state >= GKV_END && state <= GKV_ROOM);
        CHECK(reached->at >= before.at && reached->at <= from->size && reached->count >= before.count);
        CHECK(reached->count <= room && reached->count <= limits->max_items);
        CHECK(reached->texts >= before.texts && reached->texts <= texts_room);
        if (state == GKV_MORE) {
            CHECK(reached->at > before.at);
        } else if (state == GKV_ROOM) {
            CHECK(texts_room == 0);
            texts_room = (uint32_t)from->size - reached->at;
            *texts = exactly(texts_room);
        } else {
            return state;
        }
    }
}

static void run_case(const gkv_ring *ring, const uint8_t *body, size_t size, chance *c)
{
    static const gkv_limits all_limits[] = {{10000, 480, 1 << 20}, {3, 8, 12}, {0, 0, 0}, {10000, 4000, 1 << 20}};

    for (size_t l = 0; l < sizeof all_limits / sizeof *all_limits; l++) {
        gkv_limits *limits = copy_of(&all_limits[l], sizeof *limits);
        size_t room = size / LEAST_ITEM < limits->max_items ? size / LEAST_ITEM + 1 : limits->max_items + 1;
        for (int with_values = 0; with_values < 2; with_values++) {
            gkv_item *items = exactly(room * sizeof *items);
            source from = {body, size, NULL};
            gkv_cursor reached, again;
            uint8_t *texts, *other_texts;
            int32_t state = scan(&from, with_values, limits, &reached, items, (uint32_t)room, &texts, UINT32_MAX);
            from.texts = texts;

            /* In one step without a cursor a batch is read if it needs neither texts nor a clock. */
            gkv_item *plain = exactly(room * sizeof *plain);
            int is_plain = state == GKV_END && reached.texts == 0 && reached.ttls == 0;
            CHECK(gkv_scan_plain(body, size, with_values, limits, plain, (uint32_t)room) ==
                  (is_plain ? (int32_t)reached.count : -1));
            free(plain);

            /* In the smallest steps and with no more room for items than there has to be, all is the same. */
            gkv_item *closely = exactly((size_t)reached.count * sizeof *closely);
            int32_t same = scan(&from, with_values, limits, &again, closely, reached.count, &other_texts, 1);
            CHECK(same == state && memcmp(&again, &reached, sizeof again) == 0);
            for (uint32_t i = 0; i < reached.count; i++)
                CHECK(closely[i].token == items[i].token && closely[i].key == items[i].key &&
                      closely[i].value == items[i].value && closely[i].ttl == items[i].ttl);
            free(closely);
            free(other_texts);
            if (reached.count > 0) {
                gkv_item *few = exactly(((size_t)reached.count - 1) * sizeof *few);
                CHECK(scan(&from, with_values, limits, &again, few, reached.count - 1, &other_texts, UINT32_MAX) == GKV_DOUBT);
                CHECK(again.count == reached.count - 1);
                free(few);
                free(other_texts);
            }
            check_items(&from, items, reached.count, with_values, limits);
            if (state == GKV_END && l == 0) {
                counts.items += (unsigned long)reached.count;
                *(with_values ? &counts.set : &counts.get) += 1;
                route_all(ring, &from, items, reached.count, with_values, c);
            }
            free(texts);
            free(items);
        }
        free(limits);
    }
}

int main(int argc, char **argv)
{
    gkv_ring rings[RINGS] = {make_ring(1, 1, 0), make_ring(2, 1, 0), make_ring(3, 16, 0), make_ring(16, 10, 1),
                             make_ring(300, 2, 0)};
    uint32_t sizes[2];

    CHECK(argc == 2);
    for (int i = 0; i < RINGS; i++)
        check_ring(&rings[i]);
    gkv_ring large = make_ring(2, 100001, 0);
    check_ring(&large);
    free_ring(&large);

    FILE *file = fopen(argv[1], "rb");
    CHECK(file != NULL);
    while (fread(sizes, sizeof sizes, 1, file) == 1) {
        uint8_t *body = exactly(sizes[0]);
        uint8_t *tail = exactly(sizes[1]);
        CHECK(fread(body, 1, sizes[0], file) == sizes[0]);
        CHECK(fread(tail, 1, sizes[1], file) == sizes[1]);
        chance c = {tail, sizes[1], 0};
        const gkv_ring *ring = &rings[counts.cases % RINGS];
        run_case(ring, body, sizes[0], &c);
        split(ring, tail, sizes[1]);
        split(ring, body, sizes[0]);
        free(body);
        free(tail);
        counts.cases++;
    }
    fclose(file);
    for (int i = 0; i < RINGS; i++)
        free_ring(&rings[i]);
    printf("cases %lu scans %lu get %lu set %lu items %lu routed %lu spliced %lu right %lu changed %lu random %lu refused %lu "
           "escaped %lu ttls %lu\n",
           counts.cases, counts.scans, counts.get, counts.set, counts.items, counts.routed, counts.spliced, counts.right,
           counts.changed, counts.random, counts.refused, counts.escaped, counts.ttls);
    return 0;
}
