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
    unsigned long cases, scans, get, set, items, routed, spliced, right, changed, random, refused;
} counts;

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

    CHECK(gkv_ring_owner(ring, token) < ring->nodes);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        uint32_t limit = limits[i] < ring->nodes ? limits[i] : ring->nodes;
        uint16_t *out = exactly(limit * sizeof *out);
        CHECK(gkv_ring_preference(ring, token, limits[i], out) == limit);
        CHECK(limit == 0 || out[0] == gkv_ring_owner(ring, token));
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

/* Splits a text into as many keys as there are, and into other numbers, which must be refused. */
static void split(const gkv_ring *ring, const void *text, size_t size)
{
    char *keys = copy_of(text, size);
    uint32_t count = 1;
    for (size_t i = 0; i < size; i++)
        count += keys[i] == 0;
    for (uint32_t asked = count > 1 ? count - 1 : 1; asked <= count + 1; asked++) {
        uint32_t *out = exactly((2 * (size_t)asked + 3 * (size_t)ring->nodes) * sizeof *out);
        int32_t found = gkv_ring_split(ring, keys, size, asked, out);
        CHECK((found > 0) == (asked == count));
        if (found > 0)
            CHECK(out[count + 2 * (uint32_t)found - 1] == count);
        free(out);
        uint8_t *tokens = exactly(8 * (size_t)asked);
        CHECK((gkv_tokens(keys, size, asked, tokens) == 0) == (asked == count));
        free(tokens);
    }
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

static int64_t splice(const uint8_t *body, const gkv_item *items, uint32_t count, const uint32_t *order,
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
    int64_t size = gkv_splice(body, own, count, order, reply_count, frames, ends, out, room);
    CHECK(size >= -1 && size <= (int64_t)room);
    if (size >= 0)
        CHECK(memcmp(out, "{\"existedKey\":[", 15) == 0 && out[size - 1] == '}');
    free(frames);
    free(ends);
    free(out);
    free(own);
    counts.spliced++;
    return size;
}

static void splice_all(const uint8_t *body, size_t body_size, const gkv_item *items, uint32_t count, const uint32_t *order,
                       uint32_t found, chance *c)
{
    const uint32_t *groups = order + count;
    answer *replies = exactly(found * sizeof *replies);
    size_t room = 64 + 40 * (size_t)count + body_size; /* as gkv/wire/_native.py has it */

    for (uint32_t g = 0; g < found; g++) {
        replies[g] = right_reply(c, g == 0 ? 0 : groups[3 * g - 2], groups[3 * g + 1]);
        room += replies[g].size;
    }
    int64_t size = splice(body, items, count, order, replies, found, room);
    CHECK(size >= 0);
    counts.right++;
    splice(body, items, count, order, replies, found, (size_t)size);
    CHECK(splice(body, items, count, order, replies, found, (size_t)size - 1) == -1);
    splice(body, items, count, order, replies, found, draw(c, (uint32_t)room));
    if (found > 0)
        CHECK(splice(body, items, count, order, replies, found - 1, room) == -1);

    for (int any = 0; any < 2; any++)
        for (uint32_t g = 0; g < found && g < 3; g++) {
            answer kept = replies[g];
            replies[g] = other_reply(c, kept, any);
            size = splice(body, items, count, order, replies, found, room + replies[g].size);
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

static void route_all(const gkv_ring *ring, const uint8_t *body, size_t size, gkv_item *items, uint32_t count, int with_values,
                      chance *c)
{
    uint8_t *prefix = copy_of("{\"keys\":[", PREFIX);
    size_t owners = count < ring->nodes ? count : ring->nodes;
    size_t full = size + 16 * (size_t)count + (PREFIX + 16) * owners; /* as gkv/wire/_native.py has it */
    size_t rooms[] = {full, 0, 0, draw(c, (uint32_t)full + 1)};

    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        uint32_t *out = exactly((count + 4 * (size_t)ring->nodes) * sizeof *out);
        uint8_t *frames = exactly(rooms[i]);
        int32_t found = gkv_route(ring, body, items, count, with_values, prefix, PREFIX, out, frames, rooms[i]);
        CHECK(found >= 0 || i > 0);
        if (found > 0) {
            CHECK(out[count + 3 * (uint32_t)found - 2] == count);
            uint32_t written = out[count + 3 * (uint32_t)found - 1];
            CHECK(written <= rooms[i]);
            CHECK(memcmp(frames, "{\"keys\":[\"", PREFIX + 1) == 0);
            if (i == 0) {
                rooms[1] = written; /* fits, if the room is reckoned that closely */
                rooms[2] = written - 1;
            }
        }
        if (i == 0)
            splice_all(body, size, items, count, out, (uint32_t)found, c);
        free(frames);
        free(out);
        counts.routed++;
    }
    free(prefix);
}

static void check_items(const uint8_t *body, size_t size, const gkv_item *items, uint32_t count, int with_values,
                        const gkv_limits *limits)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        const gkv_item *item = &items[i];
        CHECK(item->key > last && (uint64_t)item->key + item->key_size < size);
        CHECK(item->key_size >= 1 && item->key_size <= limits->max_key);
        CHECK(body[item->key - 1] == '"' && body[item->key + item->key_size] == '"');
        CHECK(with_values ? item->value_size >= 1 && item->value_size <= limits->max_value : item->value_size == 0);
        CHECK((uint64_t)item->value + item->value_size < size);
        last = with_values && item->value > item->key ? item->value : item->key;
        uint8_t *key = copy_of(body + item->key, item->key_size);
        uint64_t hash[2];
        gkv_murmur3_x64_128(key, item->key_size, 0, hash);
        CHECK(hash[0] == gkv_token(key, item->key_size));
        free(key);
    }
}

static void run_case(const gkv_ring *ring, const uint8_t *body, size_t size, chance *c)
{
    static const gkv_limits all_limits[] = {{10000, 480, 1 << 20}, {3, 8, 12}, {0, 0, 0}};

    for (size_t l = 0; l < sizeof all_limits / sizeof *all_limits; l++) {
        gkv_limits *limits = copy_of(&all_limits[l], sizeof *limits);
        size_t room = size / LEAST_ITEM < limits->max_items ? size / LEAST_ITEM + 1 : limits->max_items + 1;
        for (int with_values = 0; with_values < 2; with_values++) {
            gkv_item *items = exactly(room * sizeof *items);
            int32_t count = gkv_scan(body, size, with_values, limits, items, (uint32_t)room);
            CHECK(count >= -1 && count <= (int32_t)limits->max_items);
            counts.scans++;
            if (count >= 0) {
                gkv_item *closely = exactly((size_t)count * sizeof *closely);
                CHECK(gkv_scan(body, size, with_values, limits, closely, (uint32_t)count) == count);
                free(closely);
                for (uint32_t less = 1; less <= 2 && less <= (uint32_t)count; less++) {
                    gkv_item *few = exactly(((size_t)count - less) * sizeof *few);
                    CHECK(gkv_scan(body, size, with_values, limits, few, (uint32_t)count - less) == -1);
                    free(few);
                }
                check_items(body, size, items, (uint32_t)count, with_values, limits);
            }
            if (count >= 0 && l == 0) {
                counts.items += (unsigned long)count;
                *(with_values ? &counts.set : &counts.get) += 1;
                route_all(ring, body, size, items, (uint32_t)count, with_values, c);
            }
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
    printf("cases %lu scans %lu get %lu set %lu items %lu routed %lu spliced %lu right %lu changed %lu random %lu refused %lu\n",
           counts.cases, counts.scans, counts.get, counts.set, counts.items, counts.routed, counts.spliced, counts.right,
           counts.changed, counts.random, counts.refused);
    return 0;
}
