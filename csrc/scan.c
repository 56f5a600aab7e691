/* The strict scan of a client's batch. gkv/wire/client.py is the definition; what this lets pass is read the same there. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gkv.h"

enum { MAX_DEPTH = 64, MAX_NAMES = 256, MAX_MEMBERS = 64, MAX_NUMBER = 100, MAX_EXPONENT_DIGITS = 2 };

/* What is left to read. */
typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} cursor;

typedef struct {
    const uint8_t *start;
    size_t size;
} span;

static inline void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

/* Skips white space and takes one character if it is the expected one. */
static inline int take(cursor *c, uint8_t expected)
{
    skip_space(c);
    if (c->at == c->end || *c->at != expected)
        return 0;
    c->at++;
    return 1;
}

/* Takes one well-formed multi-byte character of UTF-8 (RFC 3629: no overlong form, no surrogate, at most U+10FFFF). */
static int take_multibyte(cursor *c)
{
    const uint8_t *p = c->at;
    size_t left = (size_t)(c->end - p);
    size_t more;
    uint8_t low = 0x80, high = 0xBF;

    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        more = 1;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        more = 2;
        if (p[0] == 0xE0)
            low = 0xA0;
        else if (p[0] == 0xED)
            high = 0x9F;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        more = 3;
        if (p[0] == 0xF0)
            low = 0x90;
        else if (p[0] == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (left <= more || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i <= more; i++)
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    c->at += more + 1;
    return 1;
}

/* Whether any of eight bytes ends the simple part of a string: a quote, a backslash, a control character, a byte >= 0x80. */
static inline int has_special(const uint8_t *p)
{
    const uint64_t ones = 0x0101010101010101ULL, highs = 0x8080808080808080ULL;
    uint64_t x, quote, backslash;
    memcpy(&x, p, sizeof x);
    quote = x ^ (ones * '"');
    backslash = x ^ (ones * '\\');
    return ((x | (x - ones * 0x20) | ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash)) & highs) != 0;
}

static int hex_digit(uint8_t x)
{
    if (x >= '0' && x <= '9')
        return x - '0';
    x |= 0x20;
    return x >= 'a' && x <= 'f' ? x - 'a' + 10 : -1;
}

/* Takes the four digits of a \u escape; returns the code unit, or -1. */
static int32_t take_code_unit(cursor *c)
{
    int32_t unit = 0;
    if (c->end - c->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*c->at++);
        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* Takes what follows a backslash. */
static int take_escape(cursor *c)
{
    if (c->at == c->end)
        return 0;
    switch (*c->at++) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return 1;
    case 'u': {
        int32_t unit = take_code_unit(c);
        if (unit < 0)
            return 0;
        if (unit < 0xD800 || unit > 0xDFFF)
            return 1;
        /* A surrogate: only a high one with a low one behind it is a character. */
        if (unit > 0xDBFF || c->end - c->at < 2 || c->at[0] != '\\' || c->at[1] != 'u')
            return 0;
        c->at += 2;
        unit = take_code_unit(c);
        return unit >= 0xDC00 && unit <= 0xDFFF;
    }
    default:
        return 0;
    }
}

/* Takes a string from behind its opening quote. `text` gets what is between the quotes; with `plain`, an escape is refused. */
static int take_string(cursor *c, span *text, int plain)
{
    text->start = c->at;
    for (;;) {
        while (c->end - c->at >= 8 && !has_special(c->at))
            c->at += 8;
        if (c->at == c->end)
            return 0;
        uint8_t x = *c->at;
        if (x == '"') {
            text->size = (size_t)(c->at++ - text->start);
            return 1;
        }
        if (x >= 0x80) {
            if (!take_multibyte(c))
                return 0;
        } else if (x == '\\') {
            c->at++;
            if (plain || !take_escape(c))
                return 0;
        } else if (x < 0x20) {
            return 0;
        } else {
            c->at++;
        }
    }
}

static inline size_t take_digits(cursor *c)
{
    const uint8_t *start = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
        c->at++;
    return (size_t)(c->at - start);
}

/* Takes a number that is certainly within the range of a double. */
static int take_number(cursor *c)
{
    const uint8_t *start = c->at;
    if (c->at < c->end && *c->at == '-')
        c->at++;
    if (c->at < c->end && *c->at == '0')
        c->at++;
    else if (take_digits(c) == 0)
        return 0;
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (take_digits(c) == 0)
            return 0;
    }
    if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
            c->at++;
        size_t digits = take_digits(c);
        if (digits == 0 || digits > MAX_EXPONENT_DIGITS)
            return 0;
    }
    return c->at - start <= MAX_NUMBER;
}

static int take_literal(cursor *c, const char *literal, size_t size)
{
    if ((size_t)(c->end - c->at) < size || memcmp(c->at, literal, size) != 0)
        return 0;
    c->at += size;
    return 1;
}

/* The names of the members of all open objects. */
typedef struct {
    span names[MAX_NAMES];
    uint32_t count;
} names;

/* Takes a member's name and the colon behind it; the names from `base` on are those of the same object. */
static int take_name(cursor *c, names *seen, uint32_t base)
{
    span name;
    if (!take(c, '"') || !take_string(c, &name, 1) || !take(c, ':'))
        return 0;
    if (seen->count == MAX_NAMES || seen->count - base == MAX_MEMBERS)
        return 0;
    for (uint32_t i = base; i < seen->count; i++)
        if (seen->names[i].size == name.size && memcmp(seen->names[i].start, name.start, name.size) == 0)
            return 0;
    seen->names[seen->count++] = name;
    return 1;
}

/* Takes one value of any kind. */
static int take_value(cursor *c)
{
    struct {
        int is_object;
        uint32_t base; /* where its names start */
    } open[MAX_DEPTH];
    names seen;
    uint32_t depth = 0;
    span ignored;

    seen.count = 0;
    for (;;) {
        int opened = 0;
        skip_space(c);
        if (c->at == c->end)
            return 0;
        switch (*c->at) {
        case '"':
            c->at++;
            if (!take_string(c, &ignored, 0))
                return 0;
            break;
        case 't':
            if (!take_literal(c, "true", 4))
                return 0;
            break;
        case 'f':
            if (!take_literal(c, "false", 5))
                return 0;
            break;
        case 'n':
            if (!take_literal(c, "null", 4))
                return 0;
            break;
        case '[':
        case '{':
            if (depth == MAX_DEPTH)
                return 0;
            open[depth].is_object = *c->at++ == '{';
            open[depth].base = seen.count;
            opened = 1;
            depth++;
            break;
        default:
            if (!take_number(c))
                return 0;
        }
        /* Behind a value, or behind an opening bracket: what closes, then what separates, until a value is due. */
        while (depth > 0) {
            int is_object = open[depth - 1].is_object;
            if (take(c, is_object ? '}' : ']')) {
                seen.count = open[--depth].base;
                opened = 0;
                continue;
            }
            if (!opened && !take(c, ','))
                return 0;
            if (is_object && !take_name(c, &seen, open[depth - 1].base))
                return 0;
            break;
        }
        if (depth == 0)
            return 1;
    }
}

/* Takes one item, from behind its opening brace to behind its closing one. */
static int take_item(cursor *c, const uint8_t *body, int with_values, const gkv_limits *limits, gkv_item *item)
{
    int has_key = 0, has_value = 0;
    item->value = item->value_size = 0;
    do {
        span name;
        if (!take(c, '"') || !take_string(c, &name, 1) || !take(c, ':'))
            return 0;
        skip_space(c);
        if (name.size == 3 && memcmp(name.start, "key", 3) == 0 && !has_key) {
            span key;
            if (!take(c, '"') || !take_string(c, &key, 1) || key.size == 0 || key.size > limits->max_key)
                return 0;
            item->key = (uint32_t)(key.start - body);
            item->key_size = (uint32_t)key.size;
            has_key = 1;
        } else if (with_values && name.size == 5 && memcmp(name.start, "value", 5) == 0 && !has_value) {
            const uint8_t *start = c->at;
            if (!take_value(c) || (size_t)(c->at - start) > limits->max_value)
                return 0;
            item->value = (uint32_t)(start - body);
            item->value_size = (uint32_t)(c->at - start);
            has_value = 1;
        } else {
            return 0;
        }
    } while (take(c, ','));
    return take(c, '}') && has_key && has_value == with_values;
}

int32_t gkv_scan(const uint8_t *body, size_t size, int with_values, const gkv_limits *limits, gkv_item *items, uint32_t room)
{
    cursor c = {body, body + size};
    uint32_t count = 0;

    if (size > UINT32_MAX || !take(&c, '['))
        return -1;
    if (!take(&c, ']')) {
        do {
            if (count == limits->max_items || count == room || !take(&c, '{') ||
                !take_item(&c, body, with_values, limits, &items[count]))
                return -1;
            count++;
        } while (take(&c, ','));
        if (!take(&c, ']'))
            return -1;
    }
    skip_space(&c);
    return c.at == c.end ? (int32_t)count : -1;
}
