/* MurmurHash3_x64_128, after the published algorithm by Austin Appleby (public domain). */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gkv.h"
#include "keys.h"

static const uint64_t C1 = 0x87c37b91114253d5ULL;
static const uint64_t C2 = 0x4cf5ad432745937fULL;

static inline uint64_t rotate_left(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

/* Little-endian load from any address: the hash of a key must not depend on the machine. */
static inline uint64_t load64(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    x = __builtin_bswap64(x);
#endif
    return x;
}

/* The last 0 to 8 bytes of a key as one little-endian number. */
static inline uint64_t load_tail(const uint8_t *p, size_t size)
{
    uint64_t x = 0;
    for (size_t i = 0; i < size; i++)
        x |= (uint64_t)p[i] << (8 * i);
    return x;
}

static inline uint64_t mix1(uint64_t k)
{
    return rotate_left(k * C1, 31) * C2;
}

static inline uint64_t mix2(uint64_t k)
{
    return rotate_left(k * C2, 33) * C1;
}

static inline uint64_t avalanche(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    h ^= h >> 33;
    return h;
}

void gkv_murmur3_x64_128(const uint8_t *data, size_t size, uint32_t seed, uint64_t out[2])
{
    uint64_t h1 = seed;
    uint64_t h2 = seed;
    const uint8_t *tail = data + (size & ~(size_t)15);
    size_t left = size & 15;

    for (; data < tail; data += 16) {
        h1 ^= mix1(load64(data));
        h1 = (rotate_left(h1, 27) + h2) * 5 + 0x52dce729;
        h2 ^= mix2(load64(data + 8));
        h2 = (rotate_left(h2, 31) + h1) * 5 + 0x38495ab5;
    }
    if (left > 8) {
        h2 ^= mix2(load_tail(tail + 8, left - 8));
        h1 ^= mix1(load64(tail));
    } else {
        h1 ^= mix1(load_tail(tail, left));
    }

    h1 ^= size;
    h2 ^= size;
    h1 += h2;
    h2 += h1;
    h1 = avalanche(h1);
    h2 = avalanche(h2);
    h1 += h2;
    h2 += h1;
    out[0] = h1;
    out[1] = h2;
}

uint64_t gkv_token(const uint8_t *key, size_t size)
{
    uint64_t hash[2];
    gkv_murmur3_x64_128(key, size, 0, hash);
    return hash[0];
}

static uint8_t *store64(uint64_t x, uint8_t *out)
{
    for (int byte = 0; byte < 8; byte++)
        *out++ = (uint8_t)(x >> (56 - 8 * byte));
    return out;
}

int32_t gkv_tokens(const char *text, size_t size, uint32_t count, uint8_t *out)
{
    const char *end = text + size;

    for (uint32_t i = 0; i < count; i++) {
        const char *stop = gkv_key_end(text, end, i + 1 == count);
        if (stop == NULL)
            return -1;
        out = store64(gkv_token((const uint8_t *)text, (size_t)(stop - text)), out);
        text = stop == end ? end : stop + 1;
    }
    return 0;
}

void gkv_tokens_of_bytes(const uint8_t *data, const uint32_t *ends, uint32_t count, uint8_t *out)
{
    uint32_t start = 0;

    for (uint32_t i = 0; i < count; i++) {
        out = store64(gkv_token(data + start, ends[i] - start), out);
        start = ends[i];
    }
}
