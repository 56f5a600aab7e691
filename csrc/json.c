/* Strict JSON: strings, numbers and values of any kind. gkv/wire/strict.py is the definition. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "json.h"

enum { MAX_DEPTH = 64, MAX_NAMES = 256, MAX_MEMBERS = 64, MAX_NUMBER = 100, MAX_EXPONENT_DIGITS = 2 };

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

static inline int is_plain(uint8_t x)
{
    return x >= 0x20 && x < 0x80 && x != '"' && x != '\\';
}

/* Takes a string from behind its opening quote. `text` gets what is between the quotes. */
int json_take_string(cursor *c, span *text)
{
    text->start = c->at;
    text->escaped = 0;
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
            text->escaped = 1;
            if (!take_escape(c))
                return 0;
        } else if (x < 0x20) {
            return 0;
        } else {
            /* A special one is near: to look at eight bytes again for each would take half of the time of a short key. */
            do
                c->at++;
            while (c->at < c->end && is_plain(*c->at));
        }
    }
}

/* Takes a number that is certainly within the range of a double. */
int json_take_number(cursor *c)
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

/* Reads one character of a string that was taken, or a byte of one, from `at`; writes it to `out` as UTF-8 without escape, and
 * its size to `size`. Returns the place behind it. */
static const uint8_t *unescape(const uint8_t *at, uint8_t out[4], size_t *size)
{
    static const char letters[] = "bfnrt", controls[] = "\b\f\n\r\t";
    cursor c = {at + 2, at + 6};
    uint32_t code;

    *size = 1;
    out[0] = *at;
    if (*at != '\\')
        return at + 1;
    if (at[1] != 'u') {
        const char *letter = strchr(letters, at[1]);
        out[0] = letter == NULL ? at[1] : (uint8_t)controls[letter - letters];
        return at + 2;
    }
    code = (uint32_t)take_code_unit(&c);
    at = c.at;
    if (code >= 0xD800 && code <= 0xDBFF) {
        c = (cursor){at + 2, at + 6};
        code = 0x10000 + ((code - 0xD800) << 10) + ((uint32_t)take_code_unit(&c) - 0xDC00);
        at = c.at;
    }
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return at;
    }
    *size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = *size - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (uint8_t)((*size == 2 ? 0xC0 : *size == 3 ? 0xE0 : 0xF0) | code);
    return at;
}

/* Writes a taken string without its escapes to `out`; returns its size, or `room` + 1 when it has more than `room` bytes. */
size_t json_unescape(const span *text, uint8_t *out, size_t room)
{
    const uint8_t *at = text->start, *end = text->start + text->size;
    size_t size = 0;

    while (at < end) {
        uint8_t bytes[4];
        size_t more;
        at = unescape(at, bytes, &more);
        if (more > room - size)
            return room + 1;
        memcpy(out + size, bytes, more);
        size += more;
    }
    return size;
}

/* Writes a string to `out` as a JSON text, in quotes; returns its size. */
size_t json_quote(const uint8_t *text, size_t size, uint8_t *out)
{
    static const char controls[] = "\b\f\n\r\t", letters[] = "bfnrt", digits[] = "0123456789abcdef";
    uint8_t *at = out;

    *at++ = '"';
    for (size_t i = 0; i < size; i++) {
        uint8_t x = text[i];
        if (x >= 0x20 && x != '"' && x != '\\') {
            *at++ = x;
            continue;
        }
        *at++ = '\\';
        const char *control = x == 0 ? NULL : strchr(controls, x);
        if (x >= 0x20) {
            *at++ = x;
        } else if (control != NULL) {
            *at++ = (uint8_t)letters[control - controls];
        } else {
            memcpy(at, "u00", 3);
            at[3] = (uint8_t)digits[x >> 4];
            at[4] = (uint8_t)digits[x & 15];
            at += 5;
        }
    }
    *at++ = '"';
    return (size_t)(at - out);
}

/* The hashes of the names of the members of all open objects. Two that are equal stand for one name that is there twice, or
 * for names that somebody has sought: to compare the texts of those would take a time that grows with the square of them. */
typedef struct {
    uint32_t hashes[MAX_NAMES];
    uint32_t count;
} names;

/* The hash of a name (FNV-1a), the same with and without escapes. */
static uint32_t hash_name(const span *name)
{
    const uint8_t *at = name->start, *end = name->start + name->size;
    uint32_t hash = 2166136261u;

    if (!name->escaped) {
        while (at < end)
            hash = (hash ^ *at++) * 16777619u;
        return hash;
    }
    while (at < end) {
        uint8_t bytes[4];
        size_t size;
        at = unescape(at, bytes, &size);
        for (size_t i = 0; i < size; i++)
            hash = (hash ^ bytes[i]) * 16777619u;
    }
    return hash;
}

/* Takes a member's name and the colon behind it; the names from `base` on are those of the same object. */
static int take_name(cursor *c, names *seen, uint32_t base)
{
    span name;
    if (!take(c, '"') || !json_take_string(c, &name) || !take(c, ':'))
        return 0;
    if (seen->count == MAX_NAMES || seen->count - base == MAX_MEMBERS)
        return 0;
    uint32_t hash = hash_name(&name);
    for (uint32_t i = base; i < seen->count; i++)
        if (seen->hashes[i] == hash)
            return 0;
    seen->hashes[seen->count++] = hash;
    return 1;
}

/* Takes one value of any kind. */
int json_take_value(cursor *c)
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
            if (!json_take_string(c, &ignored))
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
            if (!json_take_number(c))
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
