/* Keys that stand in one text with a NUL byte between neighbours. */
#ifndef GKV_KEYS_H
#define GKV_KEYS_H

#include <stddef.h>
#include <string.h>

/* Where the key at `text` ends, of keys that go up to `end`; NULL if there are more or fewer keys than there should be: `last`
 * says whether it is to be the last one. Behind the end of another than the last, the next one begins. */
static inline const char *gkv_key_end(const char *text, const char *end, int last)
{
    const char *stop = memchr(text, 0, (size_t)(end - text));
    if ((stop == NULL) != last)
        return NULL;
    return stop == NULL ? end : stop;
}

#endif
