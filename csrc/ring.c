/* The ring: vnode tokens in order, and the searches in them. gkv/ring/_pure.py is the definition. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "gkv.h"
#include "keys.h"

void gkv_ring_vnode_tokens(uint8_t *name, size_t id_size, uint32_t count, uint64_t *out)
{
    name[id_size] = ':';
    uint8_t *digits = name + id_size + 1;
    size_t size = 1; /* how many digits */
    digits[0] = '0';

    for (uint32_t i = 0; i < count; i++) {
        out[i] = gkv_token(name, id_size + 1 + size);
        /* Counts up in decimal where the digits stand: cheaper than printing each number anew. */
        size_t at = size;
        while (at > 0 && digits[at - 1] == '9')
            digits[--at] = '0';
        if (at > 0) {
            digits[at - 1]++;
        } else {
            digits[0] = '1';
            digits[size++] = '0';
        }
    }
}

void gkv_ring_order(gkv_ring *ring, const uint64_t *unsorted, const uint32_t *ends)
{
    uint64_t *tokens = ring->tokens;
    uint16_t *owners = ring->owners;
    uint32_t *index = ring->index;
    size_t buckets = (size_t)1 << (64 - ring->shift);

    /* A counting sort by the leading bits. Its table of bucket starts is the index that lookups use. */
    memset(index, 0, (buckets + 1) * sizeof *index);
    for (uint32_t i = 0; i < ring->vnodes; i++)
        index[(unsorted[i] >> ring->shift) + 1]++;
    for (size_t b = 0; b < buckets; b++)
        index[b + 1] += index[b];

    uint32_t owner = 0;
    for (uint32_t i = 0; i < ring->vnodes; i++) {
        while (i == ends[owner])
            owner++;
        uint32_t at = index[unsorted[i] >> ring->shift]++;
        tokens[at] = unsorted[i];
        owners[at] = (uint16_t)owner;
    }
    /* Scattering moved each start to the next bucket's: move them back by one place. */
    memmove(index + 1, index, buckets * sizeof *index);
    index[0] = 0;

    /* A bucket holds one token on average. The sort is stable, so equal tokens stay in order of owner. */
    for (size_t b = 0; b < buckets; b++) {
        for (uint32_t i = index[b] + 1; i < index[b + 1]; i++) {
            uint64_t token = tokens[i];
            uint16_t node = owners[i];
            uint32_t at = i;
            for (; at > index[b] && tokens[at - 1] > token; at--) {
                tokens[at] = tokens[at - 1];
                owners[at] = owners[at - 1];
            }
            tokens[at] = token;
            owners[at] = node;
        }
    }
}

uint32_t gkv_ring_find(const gkv_ring *ring, uint64_t token)
{
    uint64_t bucket = token >> ring->shift;
    uint32_t low = ring->index[bucket];
    uint32_t high = ring->index[bucket + 1];

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ring->tokens[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low == ring->vnodes ? 0 : low;
}

int32_t gkv_ring_find_all(const gkv_ring *ring, const char *text, size_t size, uint32_t count, uint32_t *out)
{
    const char *end = text + size;

    for (uint32_t i = 0; i < count; i++) {
        const char *stop = gkv_key_end(text, end, i + 1 == count);
        if (stop == NULL)
            return -1;
        out[i] = gkv_ring_find(ring, gkv_token((const uint8_t *)text, (size_t)(stop - text)));
        text = stop == end ? end : stop + 1;
    }
    return 0;
}

uint32_t gkv_ring_node_of_key(const gkv_ring *ring, const uint16_t *places, const uint8_t *key, size_t size)
{
    return places[gkv_ring_find(ring, gkv_token(key, size))];
}

uint32_t gkv_ring_preference(const gkv_ring *ring, uint64_t token, uint32_t limit, uint16_t *out)
{
    uint32_t at = gkv_ring_find(ring, token);
    uint32_t found = 0;

    if (limit > ring->nodes)
        limit = ring->nodes;
    for (uint32_t step = 0; step < ring->vnodes && found < limit; step++) {
        uint16_t owner = ring->owners[at];
        uint32_t seen = 0;
        while (seen < found && out[seen] != owner)
            seen++;
        if (seen == found)
            out[found++] = owner;
        if (++at == ring->vnodes)
            at = 0;
    }
    return found;
}

int32_t gkv_ring_split(const gkv_ring *ring, const uint16_t *places, const char *text, size_t size, uint32_t count,
                       uint32_t *out)
{
    uint32_t *order = out;
    uint32_t *groups = out + count;
    const uint32_t nodes = ring->nodes + 1; /* with nobody, the last one */
    uint32_t *cursors = groups + 2 * (size_t)nodes;
    uint32_t *owners = cursors + nodes;
    const char *end = text + size;

    memset(cursors, 0, nodes * sizeof *cursors);
    for (uint32_t i = 0; i < count; i++) {
        const char *stop = gkv_key_end(text, end, i + 1 == count);
        if (stop == NULL)
            return -1;
        uint32_t place = gkv_ring_node_of_key(ring, places, (const uint8_t *)text, (size_t)(stop - text));
        owners[i] = place == GKV_NOBODY ? ring->nodes : place;
        cursors[owners[i]]++;
        text = stop == end ? end : stop + 1;
    }

    int32_t found = 0;
    uint32_t start = 0;
    for (uint32_t node = 0; node < nodes; node++) {
        uint32_t keys = cursors[node];
        cursors[node] = start;
        start += keys;
        if (keys > 0) {
            groups[2 * found] = node;
            groups[2 * found + 1] = start;
            found++;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        order[cursors[owners[i]]++] = i;
    return found;
}
