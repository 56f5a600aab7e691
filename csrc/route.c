/* From a scanned batch to one frame for each owner, and from their answers to one for the client. gkv/wire/batch.py is the
 * definition. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gkv.h"

/* Where the next byte is written. Room is checked once for everything, before the first byte. */
static inline uint8_t *put(uint8_t *out, const void *data, size_t size)
{
    memcpy(out, data, size);
    return out + size;
}

#define PUT(out, literal) put(out, literal, sizeof(literal) - 1)

static inline uint8_t *put_number(uint8_t *out, uint64_t number)
{
    uint8_t digits[20];
    size_t size = 0;
    do {
        digits[sizeof digits - ++size] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(out, digits + sizeof digits - size, size);
}

/* What a batch consists of; its keys stand in the body or in `texts`. */
typedef struct {
    const uint8_t *body;
    size_t size;
    const uint8_t *texts;
} source;

/* Writes a key in quotes. */
static inline uint8_t *put_quoted(uint8_t *out, const source *from, const gkv_item *item)
{
    const uint8_t *text = item->key < from->size ? from->body + item->key : from->texts + (item->key - from->size);
    return put(out, text - 1, (size_t)item->key_size + 2);
}

/* Writes one owner's frame; `order` holds the positions of its items. */
static uint8_t *put_frame(uint8_t *out, const source *from, const gkv_item *items, const uint32_t *order, uint32_t count,
                          int with_values, const int64_t *ttls, const uint8_t *prefix, size_t prefix_size)
{
    out = put(out, prefix, prefix_size);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            *out++ = ',';
        out = put_quoted(out, from, &items[order[i]]);
    }
    *out++ = ']';
    if (ttls != NULL) {
        out = PUT(out, ",\"ttls\":[");
        for (uint32_t i = 0; i < count; i++) {
            if (i > 0)
                *out++ = ',';
            out = put_number(out, (uint64_t)ttls[order[i]]);
        }
        *out++ = ']';
    }
    if (with_values) {
        out = PUT(out, ",\"sizes\":[");
        for (uint32_t i = 0; i < count; i++) {
            if (i > 0)
                *out++ = ',';
            out = put_number(out, items[order[i]].value_size);
        }
        *out++ = ']';
    }
    out = PUT(out, "}\n");
    if (with_values)
        for (uint32_t i = 0; i < count; i++)
            out = put(out, from->body + items[order[i]].value, items[order[i]].value_size);
    return out;
}

int32_t gkv_route(const gkv_ring *ring, const uint16_t *places, const uint8_t *body, size_t size, const uint8_t *texts,
                  gkv_item *items, uint32_t count, int with_values, const int64_t *ttls, const uint8_t *prefix,
                  size_t prefix_size, uint32_t *out, uint8_t *frames, size_t frames_room)
{
    const source from = {body, size, texts};
    uint32_t *groups = out + count;
    const uint32_t nodes = ring->nodes + 1; /* with nobody, the last one */
    uint32_t *cursors = groups + 3 * (size_t)nodes;
    size_t needed = 0;

    memset(cursors, 0, nodes * sizeof *cursors);
    for (uint32_t i = 0; i < count; i++) {
        gkv_item *item = &items[i];
        uint32_t place = places[gkv_ring_find(ring, item->token)];
        item->owner = place == GKV_NOBODY ? ring->nodes : place;
        cursors[item->owner]++;
        needed += (size_t)item->key_size + item->value_size + 14; /* quotes, commas, ten digits */
        if (ttls != NULL)
            needed += 20;
    }

    int32_t found = 0;
    uint32_t start = 0;
    for (uint32_t node = 0; node < nodes; node++) {
        uint32_t keys = cursors[node];
        cursors[node] = start;
        start += keys;
        if (keys > 0) {
            groups[3 * found] = node;
            groups[3 * found + 1] = start;
            groups[3 * found + 2] = 0;
            needed += prefix_size + 28;
            found++;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        out[cursors[items[i].owner]++] = i;
    if (needed > frames_room || needed > UINT32_MAX)
        return found;

    uint8_t *at = frames;
    start = 0;
    for (int32_t g = 0; g < found; g++) {
        uint32_t end = groups[3 * g + 1];
        at = put_frame(at, &from, items, out + start, end - start, with_values, ttls, prefix, prefix_size);
        groups[3 * g + 2] = (uint32_t)(at - frames);
        start = end;
    }
    return found;
}

/* Reads one size and what follows it, a comma or the closing bracket; returns the place behind it, or NULL. */
static const uint8_t *read_size(const uint8_t *at, const uint8_t *end, int last, uint32_t *size)
{
    uint64_t number = 0;
    if (end - at >= 2 && at[0] == '-' && at[1] == '1') {
        number = GKV_MISSING;
        at += 2;
    } else {
        const uint8_t *digits = at;
        while (at < end && *at >= '0' && *at <= '9' && at - digits < 10)
            number = number * 10 + (uint64_t)(*at++ - '0');
        if (at == digits || number == 0 || number >= GKV_MISSING) /* no JSON text is empty */
            return NULL;
    }
    if (at == end || *at != (last ? ']' : ','))
        return NULL;
    *size = (uint32_t)number;
    return at + 1;
}

/* Reads one owner's answer, which is [at, end); `order` holds the positions of its `count` items. An item gets the place of its
 * value, counted from `frames`, and its size, or GKV_MISSING. */
static int read_answer(const uint8_t *frames, const uint8_t *at, const uint8_t *end, gkv_item *items, const uint32_t *order,
                       uint32_t count)
{
    static const char head[] = "{\"sizes\":[";

    if ((size_t)(end - at) < sizeof head - 1 || memcmp(at, head, sizeof head - 1) != 0)
        return 0;
    at += sizeof head - 1;
    for (uint32_t i = 0; i < count; i++) {
        at = read_size(at, end, i + 1 == count, &items[order[i]].value_size);
        if (at == NULL)
            return 0;
    }
    if (end - at < 2 || at[0] != '}' || at[1] != '\n')
        return 0;
    at += 2;
    for (uint32_t i = 0; i < count; i++) {
        gkv_item *item = &items[order[i]];
        if (item->value_size == GKV_MISSING)
            continue;
        if (item->value_size > (size_t)(end - at))
            return 0;
        item->value = (uint32_t)(at - frames);
        at += item->value_size;
    }
    return at == end;
}

int32_t gkv_read_answer(const uint8_t *frame, size_t size, gkv_item *items, const uint32_t *order, uint32_t count)
{
    return size <= UINT32_MAX && read_answer(frame, frame, frame + size, items, order, count);
}

/* Writes what stands before each of the items of one list: the key, and the name of its value. */
static inline uint8_t *put_key(uint8_t *at, const source *from, const gkv_item *item, int first)
{
    at = first ? PUT(at, "{\"key\":") : PUT(at, ",{\"key\":");
    at = put_quoted(at, from, item);
    return PUT(at, ",\"value\":");
}

int64_t gkv_splice(const uint8_t *body, size_t size, const uint8_t *texts, gkv_item *items, uint32_t count,
                   const uint32_t *routed, uint32_t found, const uint8_t *frames, const uint64_t *ends, uint8_t *out, size_t room)
{
    const source from = {body, size, texts};
    const uint32_t *groups = routed + count;
    size_t needed = 48;
    uint64_t start = 0;
    uint32_t covered = 0, missing = 0;

    for (uint32_t g = 0; g < found; g++) {
        uint32_t end = groups[3 * g + 1];
        if (ends[g] < start || ends[g] > UINT32_MAX || end < covered || end > count ||
            !read_answer(frames, frames + start, frames + ends[g], items, routed + covered, end - covered))
            return -1;
        start = ends[g];
        covered = end;
    }
    if (covered != count)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        needed += (size_t)items[i].key_size + 24;
        if (items[i].value_size == GKV_MISSING)
            missing++;
        else
            needed += items[i].value_size;
    }
    if (needed > room)
        return -1;

    uint8_t *at = PUT(out, "{\"existedKey\":[");
    for (uint32_t i = 0, first = 1; i < count; i++) {
        if (items[i].value_size == GKV_MISSING)
            continue;
        at = put_key(at, &from, &items[i], (int)first);
        at = put(at, frames + items[i].value, items[i].value_size);
        *at++ = '}';
        first = 0;
    }
    *at++ = ']';
    if (missing > 0) {
        at = PUT(at, ",\"notExistedKey\":[");
        for (uint32_t i = 0, first = 1; i < count; i++) {
            if (items[i].value_size != GKV_MISSING)
                continue;
            at = put_key(at, &from, &items[i], (int)first);
            at = PUT(at, "\"\"}");
            first = 0;
        }
        *at++ = ']';
    }
    *at++ = '}';
    return at - out;
}
