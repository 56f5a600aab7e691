/* A cursor over JSON text, and the parts that can be taken from it. Between scan.c and json.c alone; Python does not see it.
 *
 * A part that is taken is right by RFC 8259, with UTF-8 after RFC 3629; one that is not may be wrong or only odd. A
 * function that takes returns 1, or 0 with the cursor anywhere. */

/* The text that is left to read. */
typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} cursor;

typedef struct {
    const uint8_t *start;
    size_t size;
    int escaped; /* whether there is a backslash in it */
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

static inline size_t take_digits(cursor *c)
{
    const uint8_t *start = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
        c->at++;
    return (size_t)(c->at - start);
}

/* Takes a string from behind its opening quote; `text` gets the bytes between the quotes. */
int json_take_string(cursor *c, span *text);

/* Takes a number that is certainly within the range of a double. */
int json_take_number(cursor *c);

/* Takes one value of any kind, of 64 levels and 64 members in an object at most, no two of one name. */
int json_take_value(cursor *c);

/* Writes a taken string without its escapes to `out`; returns its size, or `room` + 1 when it has more than `room` bytes. */
size_t json_unescape(const span *text, uint8_t *out, size_t room);

/* Writes a string to `out` as a JSON text, in quotes; returns its size. */
size_t json_quote(const uint8_t *text, size_t size, uint8_t *out);
