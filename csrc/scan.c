/* The strict scan of a client's batch. gkv/wire/client.py is the definition; what this lets pass is read the same there. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gkv.h"
#include "json.h"

enum { MAX_KEY = 1024, MAX_TTL_DIGITS = 9, MAX_TTL = 32, MAX_SPACE = 65536 };

/* Takes a number of seconds that is certainly above 0 and below 10^9, without an exponent. */
static int take_ttl(cursor *c, span *text)
{
    int above = 0;
    size_t whole;

    text->start = c->at;
    text->escaped = 0;
    whole = take_digits(c);
    c->at = text->start;
    if (whole == 0 || whole > MAX_TTL_DIGITS || !json_take_number(c))
        return 0;
    text->size = (size_t)(c->at - text->start);
    for (const uint8_t *at = text->start; at < c->at; at++) {
        if (*at == 'e' || *at == 'E')
            return 0;
        above |= *at >= '1' && *at <= '9';
    }
    return above && text->size <= MAX_TTL;
}

/* The buffer for the texts of keys that are written anew. */
typedef struct {
    uint8_t *at;
    uint32_t size;
    uint32_t room;
} buffer;

/* Notes a key that was taken. Returns 1; 0 for one that can be none; -1 when its text does not fit into `texts`. */
static int note_key(const span *key, const uint8_t *body, size_t size, const gkv_limits *limits, buffer *texts, gkv_item *item)
{
    if (!key->escaped) {
        item->key = (uint32_t)(key->start - body);
        item->key_size = (uint32_t)key->size;
        item->token = gkv_token(key->start, key->size);
        return key->size > 0 && key->size <= limits->max_key;
    }
    uint8_t plain[MAX_KEY];
    size_t most = limits->max_key < MAX_KEY ? limits->max_key : MAX_KEY;
    size_t plain_size = json_unescape(key, plain, most);
    if (plain_size == 0 || plain_size > most || memchr(plain, 0, plain_size) != NULL)
        return 0;
    if (key->size + 2 > texts->room - texts->size)
        return -1;
    uint32_t start = texts->size;
    texts->size += (uint32_t)json_quote(plain, plain_size, texts->at + start);
    item->key = (uint32_t)size + start + 1;
    item->key_size = texts->size - start - 2;
    item->token = gkv_token(plain, plain_size);
    return 1;
}

/* Which of an item's members a name is: 'k', 'v' or 't' for "key", "value" and "ttl"; 0 for another. */
static uint8_t member_of_item(const span *name)
{
    uint8_t plain[5];
    const uint8_t *text = name->start;
    size_t size = name->size;

    if (name->escaped) {
        size = json_unescape(name, plain, sizeof plain);
        text = plain;
    }
    if (size == 3 && memcmp(text, "key", 3) == 0)
        return 'k';
    if (size == 5 && memcmp(text, "value", 5) == 0)
        return 'v';
    return size == 3 && memcmp(text, "ttl", 3) == 0 ? 't' : 0;
}

/* Takes one item, from behind its opening brace to behind its closing one. Returns 1, 0 or -1 as `note_key` does. */
static int take_item(cursor *c, const uint8_t *body, size_t size, int with_values, const gkv_limits *limits, buffer *texts,
                     gkv_item *item)
{
    span key = {NULL, 0, 0};
    item->value = item->value_size = item->ttl = item->ttl_size = 0;
    do {
        span name;
        if (!take(c, '"') || !json_take_string(c, &name) || !take(c, ':'))
            return 0;
        skip_space(c);
        uint8_t member = member_of_item(&name);
        if (member == 'k' && key.start == NULL) {
            if (!take(c, '"') || !json_take_string(c, &key))
                return 0;
        } else if (with_values && member == 'v' && item->value_size == 0) {
            const uint8_t *start = c->at;
            if (!json_take_value(c) || (size_t)(c->at - start) > limits->max_value)
                return 0;
            item->value = (uint32_t)(start - body);
            item->value_size = (uint32_t)(c->at - start);
        } else if (with_values && member == 't' && item->ttl_size == 0) {
            span ttl;
            if (!take_ttl(c, &ttl))
                return 0;
            item->ttl = (uint32_t)(ttl.start - body);
            item->ttl_size = (uint32_t)ttl.size;
        } else {
            return 0;
        }
    } while (take(c, ','));
    if (!take(c, '}') || key.start == NULL || (with_values && item->value_size == 0))
        return 0;
    return note_key(&key, body, size, limits, texts, item);
}

int32_t gkv_scan(const uint8_t *body, size_t size, int with_values, const gkv_limits *limits, gkv_cursor *reached,
                 gkv_item *items, uint32_t room, uint8_t *texts, uint32_t texts_room, uint32_t budget)
{
    const uint8_t *end = body + size;
    /* An item, with the comma in front of it, that is longer than this is too long or has much white space. */
    uint64_t window = (uint64_t)limits->max_value + 6 * (uint64_t)limits->max_key + MAX_SPACE;
    buffer keys = {texts, reached->texts, texts_room};
    uint32_t start = reached->at;

    if (size > UINT32_MAX / 2 || texts_room > UINT32_MAX / 2)
        return GKV_DOUBT;
    for (;;) {
        size_t left = size - reached->at;
        cursor c = {body + reached->at, left > window ? body + reached->at + window : end};
        int closed = 0, taken;
        if (reached->at == 0) {
            if (!take(&c, '['))
                return GKV_DOUBT;
            reached->at = (uint32_t)(c.at - body);
            closed = take(&c, ']');
        } else if (reached->count > 0) {
            closed = take(&c, ']');
            if (!closed && !take(&c, ','))
                return GKV_DOUBT;
        }
        if (closed) {
            skip_space(&c);
            if (c.at != end)
                return GKV_DOUBT;
            reached->at = (uint32_t)size;
            return GKV_END;
        }
        if (reached->count == limits->max_items || reached->count == room || !take(&c, '{'))
            return GKV_DOUBT;
        taken = take_item(&c, body, size, with_values, limits, &keys, &items[reached->count]);
        if (taken <= 0)
            return taken < 0 ? GKV_ROOM : GKV_DOUBT;
        reached->at = (uint32_t)(c.at - body);
        reached->texts = keys.size;
        reached->ttls += items[reached->count].ttl_size > 0;
        reached->count++;
        if (reached->at - start >= budget)
            return GKV_MORE;
    }
}

int32_t gkv_scan_plain(const uint8_t *body, size_t size, int with_values, const gkv_limits *limits, gkv_item *items,
                       uint32_t room)
{
    gkv_cursor reached = {0, 0, 0, 0};

    if (gkv_scan(body, size, with_values, limits, &reached, items, room, NULL, 0, UINT32_MAX) != GKV_END || reached.ttls > 0)
        return -1;
    return (int32_t)reached.count;
}
