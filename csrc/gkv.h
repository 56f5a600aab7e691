/* The whole interface between C and Python.
 *
 * This file is read twice: by the compiler, and as it stands by cffi's cdef(). So it has no
 * preprocessor lines but plain numbers, and every .c file includes it exactly once, after <stddef.h>
 * and <stdint.h>.
 *
 * Promises of every function here: no allocation, no global state, no call back into Python, no
 * reading past a given length. Buffers belong to the caller. */

/* Raised with every change of this file; the loader refuses a library that was built from another one. */
#define GKV_ABI 1

/* Vnode tokens in ascending order, and what finds one quickly.
 *
 * index[b] is the position of the first token whose leading bits are >= b, for b in 0 .. 2^bits; the
 * last entry is `vnodes`. A token's leading bits are token >> shift, with shift = 64 - bits, 1 <= bits <= 32. */
typedef struct {
    uint64_t *tokens;  /* [vnodes], ascending */
    uint16_t *owners;  /* [vnodes], the node of each token; equal tokens are in ascending order of it */
    uint32_t *index;   /* [2^bits + 1] */
    uint32_t vnodes;   /* >= 1 */
    uint32_t nodes;    /* 1 .. 65536 */
    uint32_t shift;
} gkv_ring;

/* MurmurHash3_x64_128 (Austin Appleby, public domain): out[0] and out[1] are its two 64-bit halves. */
void gkv_murmur3_x64_128(const uint8_t *data, size_t size, uint32_t seed, uint64_t out[2]);

/* The token of a key: the first 64 bits of its hash with seed 0. */
uint64_t gkv_token(const uint8_t *key, size_t size);

/* Writes the tokens of the vnodes "<id>:0" .. "<id>:<count - 1>" to out. `name` holds the id and has
 * room for 11 bytes more; those are overwritten. */
void gkv_ring_vnode_tokens(uint8_t *name, size_t id_size, uint32_t count, uint64_t *out);

/* Fills ring->tokens, owners and index. `unsorted` holds the tokens of node 0, then those of node 1 and
 * so on; ends[i] is where those of node i stop. O(vnodes) for tokens that are spread evenly. */
void gkv_ring_order(gkv_ring *ring, const uint64_t *unsorted, const uint32_t *ends);

/* The owner of a token: the node of the first vnode token >= token, wrapping round. */
uint32_t gkv_ring_owner(const gkv_ring *ring, uint64_t token);

/* The owner of a key. */
uint32_t gkv_ring_owner_of_key(const gkv_ring *ring, const uint8_t *key, size_t size);

/* Writes the first `limit` distinct nodes clockwise from a token to out, and returns how many there are. */
uint32_t gkv_ring_preference(const gkv_ring *ring, uint64_t token, uint32_t limit, uint16_t *out);

/* Groups a batch by owner. `text` holds `count` keys with one NUL byte between neighbours. Writes to out
 *
 *     [0, count)                  the positions of the keys, sorted by owner, in batch order within an owner
 *     [count, count + 2 * found)  for each owner that has keys, ascending: the owner, and where its positions end
 *
 * and returns `found`, or -1 if `text` does not hold `count` keys (one of them has a NUL in it). `out` has
 * room for 2 * count + 3 * ring->nodes numbers; those past the answer are working space. */
int32_t gkv_ring_split(const gkv_ring *ring, const char *text, size_t size, uint32_t count, uint32_t *out);
