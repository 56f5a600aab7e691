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

static inline uint8_t *put_number(uint8_t *out, uint32_t number)
{
    uint8_t digits[10];
    size_t size = 0;
    do {
        digits[sizeof digits - ++size] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return put(out, digits + sizeof digits - size, size);
}

/* Writes one owner's frame; `order` holds the positions of its items. */
static uint8_t *put_frame(uint8_t *out, const uint8_t *body, const gkv_item *items, const uint32_t *order, uint32_t count,
                          int with_values, const uint8_t *prefix, size_t prefix_size)
{
    out = put(out, prefix, prefix_size);
    for (uint32_t i = 0; i < count; i++) {
        const gkv_item *item = &items[order[i]];
        if (i > 0)
            *out++ = ',';
        /* With the quotes around it: the scan lets no key with an escape pass, so its text is what it was sent as. */
        out = put(out, body + item->key - 1, (size_t)item->key_size + 2);
    }
    *out++ = ']';
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
            out = put(out, body + items[order[i]].value, items[order[i]].value_size);
    return out;
}

int32_t gkv_route(const gkv_ring *ring, const uint8_t *body, gkv_item *items, uint32_t count, int with_values,
                  const uint8_t *prefix, size_t prefix_size, uint32_t *out, uint8_t *frames, size_t frames_room)
{
    uint32_t *groups = out + count;
    uint32_t *cursors = groups + 3 * (size_t)ring->nodes;
    size_t needed = 0;

    memset(cursors, 0, ring->nodes * sizeof *cursors);
    for (uint32_t i = 0; i < count; i++) {
        gkv_item *item = &items[i];
        item->owner = gkv_ring_owner_of_key(ring, body + item->key, item->key_size);
        cursors[item->owner]++;
        needed += (size_t)item->key_size + item->value_size + 14; /* quotes, commas, ten digits */
    }

    int32_t found = 0;
    uint32_t start = 0;
    for (uint32_t node = 0; node < ring->nodes; node++) {
        uint32_t keys = cursors[node];
        cursors[node] = start;
        start += keys;
        if (keys > 0) {
            groups[3 * found] = node;
            groups[3 * found + 1] = start;
            needed += prefix_size + 16;
            found++;
        }
    }
    if (needed > frames_room || needed > UINT32_MAX)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        out[cursors[items[i].owner]++] = i;

    uint8_t *at = frames;
    start = 0;
    for (int32_t g = 0; g < found; g++) {
        uint32_t end = groups[3 * g + 1];
        at = put_frame(at, body, items, out + start, end - start, with_values, prefix, prefix_size);
        groups[3 * g + 2] = (uint32_t)(at - frames);
        start = end;
    }
    return found;
}

static const uint32_t MISSING = UINT32_MAX;

/* Reads one size and what follows it, a comma or the closing bracket; returns the place behind it, or NULL. */
static const uint8_t *read_size(const uint8_t *at, const uint8_t *end, int last, uint32_t *size)
{
    uint64_t number = 0;
    if (end - at >= 2 && at[0] == '-' && at[1] == '1') {
        number = MISSING;
        at += 2;
    } else {
        const uint8_t *digits = at;
        while (at < end && *at >= '0' && *at <= '9' && at - digits < 10)
            number = number * 10 + (uint64_t)(*at++ - '0');
        if (at == digits || number == 0 || number >= MISSING) /* no JSON text is empty */
            return NULL;
    }
    if (at == end || *at != (last ? ']' : ','))
        return NULL;
    *size = (uint32_t)number;
    return at + 1;
}

/* Reads one owner's answer, which is [at, end); `order` holds the positions of its `count` items. An item gets the place of its
 * value, counted from `frames`, and its size, or MISSING. */
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
        if (item->value_size == MISSING)
            continue;
        if (item->value_size > (size_t)(end - at))
            return 0;
        item->value = (uint32_t)(at - frames);
        at += item->value_size;
    }
    return at == end;
}

/* Writes what stands before each of the items of one list: the key, and the name of its value. */
static inline uint8_t *put_key(uint8_t *at, const uint8_t *body, const gkv_item *item, int first)
{
    at = first ? PUT(at, "{\"key\":") : PUT(at, ",{\"key\":");
    at = put(at, body + item->key - 1, (size_t)item->key_size + 2);
    return PUT(at, ",\"value\":");
}

int64_t gkv_splice(const uint8_t *body, gkv_item *items, uint32_t count, const uint32_t *routed, uint32_t found,
                   const uint8_t *frames, const uint64_t *ends, uint8_t *out, size_t room)
{
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
        if (items[i].value_size == MISSING)
            missing++;
        else
            needed += items[i].value_size;
    }
    if (needed > room)
        return -1;

    uint8_t *at = PUT(out, "{\"existedKey\":[");
    for (uint32_t i = 0, first = 1; i < count; i++) {
        if (items[i].value_size == MISSING)
            continue;
        at = put_key(at, body, &items[i], (int)first);
        at = put(at, frames + items[i].value, items[i].value_size);
        *at++ = '}';
        first = 0;
    }
    *at++ = ']';
    if (missing > 0) {
        at = PUT(at, ",\"notExistedKey\":[");
        for (uint32_t i = 0, first = 1; i < count; i++) {
            if (items[i].value_size != MISSING)
                continue;
            at = put_key(at, body, &items[i], (int)first);
            at = PUT(at, "\"\"}");
            first = 0;
        }
        *at++ = ']';
    }
    *at++ = '}';
    return at - out;
}
