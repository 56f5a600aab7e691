/* The whole interface between C and Python.
 *
 * This file is read twice: by the compiler, and as it stands by cffi's cdef(). So it has no
 * preprocessor lines but plain numbers, and every .c file includes it exactly once, after <stddef.h>
 * and <stdint.h>.
 *
 * Promises of every function here: no allocation, no global state, no call back into Python, no
 * reading past a given length. Buffers belong to the caller. */

/* Raised with every change of this file; the loader refuses a library that was built from another one. */
#define GKV_ABI 10

/* Vnode tokens in ascending order, and what finds one quickly.
 *
 * index[b] is the position of the first token whose leading bits are >= b, for b in 0 .. 2^bits; the
 * last entry is `vnodes`. A token's leading bits are token >> shift, with shift = 64 - bits, 1 <= bits <= 32. */
typedef struct {
    uint64_t *tokens;  /* [vnodes], ascending */
    uint16_t *owners;  /* [vnodes], the node of each token; equal tokens are in ascending order of it */
    uint32_t *index;   /* [2^bits + 1] */
    uint32_t vnodes;   /* >= 1 */
    uint32_t nodes;    /* 1 .. 65535 */
    uint32_t shift;
} gkv_ring;

/* MurmurHash3_x64_128 (Austin Appleby, public domain): out[0] and out[1] are its two 64-bit halves. */
void gkv_murmur3_x64_128(const uint8_t *data, size_t size, uint32_t seed, uint64_t out[2]);

/* The token of a key: the first 64 bits of its hash with seed 0. */
uint64_t gkv_token(const uint8_t *key, size_t size);

/* The tokens of a batch, 8 bytes each, most significant first. `text` holds `count` keys with one NUL byte between neighbours.
 * Returns 0, or -1 if `text` does not hold `count` keys (one of them has a NUL in it). `out` has room for 8 * count bytes. */
int32_t gkv_tokens(const char *text, size_t size, uint32_t count, uint8_t *out);

/* The same for `count` pieces of any bytes, which stand in `data` one behind the other; ends[i] is where the i-th stops. */
void gkv_tokens_of_bytes(const uint8_t *data, const uint32_t *ends, uint32_t count, uint8_t *out);

/* Writes the tokens of the vnodes "<id>:0" .. "<id>:<count - 1>" to out. `name` holds the id and has
 * room for 11 bytes more; those are overwritten. */
void gkv_ring_vnode_tokens(uint8_t *name, size_t id_size, uint32_t count, uint64_t *out);

/* Fills ring->tokens, owners and index. `unsorted` holds the tokens of node 0, then those of node 1 and
 * so on; ends[i] is where those of node i stop. O(vnodes) for tokens that are spread evenly. */
void gkv_ring_order(gkv_ring *ring, const uint64_t *unsorted, const uint32_t *ends);

/* The position of the first vnode token >= token, wrapping round. */
uint32_t gkv_ring_find(const gkv_ring *ring, uint64_t token);

/* The same for the tokens of `count` keys, which `text` holds as for gkv_ring_split, written to out; returns 0, or -1 if `text`
 * does not hold `count` keys (one of them has a NUL in it). */
int32_t gkv_ring_find_all(const gkv_ring *ring, const char *text, size_t size, uint32_t count, uint32_t *out);

/* Stands for a token that no node answers for.
 *
 * Lookups take an array `places` with a node for each of the ring's tokens, or GKV_NOBODY: the ring's own `owners`, or another. */
#define GKV_NOBODY 65535

/* The node of the first vnode token >= the key's token, wrapping round. */
uint32_t gkv_ring_node_of_key(const gkv_ring *ring, const uint16_t *places, const uint8_t *key, size_t size);

/* Writes the first `limit` distinct nodes clockwise from a token to out, and returns how many there are. */
uint32_t gkv_ring_preference(const gkv_ring *ring, uint64_t token, uint32_t limit, uint16_t *out);

/* Groups a batch by node. `text` holds `count` keys with one NUL byte between neighbours. Writes to out
 *
 *     [0, count)                  the positions of the keys, sorted by node, in batch order within a node
 *     [count, count + 2 * found)  for each node that has keys, ascending: the node, and where its positions end; for the keys
 *                                 of nobody, last, ring->nodes stands in place of a node
 *
 * and returns `found`, or -1 if `text` does not hold `count` keys (one of them has a NUL in it). `out` has
 * room for 2 * count + 3 * (ring->nodes + 1) numbers; those past the answer are working space. */
int32_t gkv_ring_split(const gkv_ring *ring, const uint16_t *places, const char *text, size_t size, uint32_t count,
                       uint32_t *out);

/* One item of a client's batch: where its parts stand. */
typedef struct {
    uint64_t token;      /* of the key */
    uint32_t key;        /* of the key's text, behind the opening quote: in the body, or `size` more than where in `texts` */
    uint32_t key_size;   /* in bytes of that text */
    uint32_t value;      /* of the value's text, in the body; 0 in a batch of keys */
    uint32_t value_size;
    uint32_t ttl;        /* of the ttl's text, in the body; 0 when there is none */
    uint32_t ttl_size;
    uint32_t owner;
} gkv_item;

/* What a scan may let pass; sizes in bytes. */
typedef struct {
    uint32_t max_items;
    uint32_t max_key;
    uint32_t max_value;
} gkv_limits;

/* How far a scan has come. All 0 at the start. */
typedef struct {
    uint32_t at;     /* in the body: behind the opening bracket, or behind the last item */
    uint32_t count;  /* of the items that were read */
    uint32_t texts;  /* bytes of `texts` that are used */
    uint32_t ttls;   /* of the items that were read, how many have a ttl */
} gkv_cursor;

/* What a scan answers. */
#define GKV_END 0    /* the batch is read to its end, and right */
#define GKV_MORE 1   /* `budget` bytes were read; there is more */
#define GKV_DOUBT 2  /* what stands at the cursor is wrong, or not simple enough */
#define GKV_ROOM 3   /* the text of the next key does not fit into `texts` */

/* Reads a client's batch, [{"key": K}, ...] or with `with_values` [{"key": K, "value": V, "ttl": T}, ...], and checks it in
 * the same pass: RFC 8259, UTF-8, 64 levels, no member twice, the limits. Goes on where `reached` says, and stops behind an item: at
 * the end, when `budget` bytes were read (one item more at most), or in front of an item that is to be read by other means,
 * after which it can go on. So this function needs no errors, and never has the last word on a refusal; but what it lets pass
 * is right. Left to others are a number that might be beyond a double, an object of more than 64 members, a ttl of 10^9 or
 * with an exponent, much white space, and all that is wrong.
 *
 * A key whose text has an escape is written to `texts`, in quotes, as json.encoder.encode_basestring writes it, which is never
 * longer than what stands in the body. */
int32_t gkv_scan(const uint8_t *body, size_t size, int with_values, const gkv_limits *limits, gkv_cursor *reached,
                 gkv_item *items, uint32_t room, uint8_t *texts, uint32_t texts_room, uint32_t budget);

/* Reads a whole batch in one step, as most can be read. Returns the count of its items, none of which has a ttl or an escape in
 * its key; or -1 for every other batch, which gkv_scan has to read from the start. */
int32_t gkv_scan_plain(const uint8_t *body, size_t size, int with_values, const gkv_limits *limits, gkv_item *items,
                       uint32_t room);

/* Finds the owner of each item and writes what goes to each owner to `frames`, one behind the other:
 *
 *     <prefix>"K1","K2"]}\n                                        a batch of keys
 *     <prefix>"K1","K2"],"sizes":[N1,N2]}\n<V1><V2>                 with_values
 *     <prefix>"K1","K2"],"ttls":[T1,T2],"sizes":[N1,N2]}\n<V1><V2>  the same, with a number for each item in `ttls`
 *
 * Writes to out
 *
 *     [0, count)                  the items' positions, sorted by owner, in batch order within an owner
 *     [count, count + 3 * found)  for each owner that has items, ascending: the owner, where its positions end, and where its
 *                                 frame ends; the latter is 0 for all when `frames_room` is too small, and then there are none
 *
 * and returns `found`. The items of nobody are the last ones, and their owner is ring->nodes. `out` has room for
 * count + 4 * (ring->nodes + 1) numbers, those past the answer being working space. */
int32_t gkv_route(const gkv_ring *ring, const uint16_t *places, const uint8_t *body, size_t size, const uint8_t *texts,
                  gkv_item *items, uint32_t count, int with_values, const int64_t *ttls, const uint8_t *prefix,
                  size_t prefix_size, uint32_t *out, uint8_t *frames, size_t frames_room);

/* Joins the answers of all owners to a get into what the client gets, in the order of its batch:
 *
 *     {"existedKey":[{"key":K1,"value":V1}],"notExistedKey":[{"key":K2,"value":""}]}
 *
 * `routed` is what gkv_route wrote to `out`, `found` what it returned. `frames` holds the owners' answers in their order, one
 * behind the other, ends[i] where that of the i-th stops; each is {"sizes":[N1,-1,N3]}\n<V1><V3> for the owner's keys.
 *
 * Returns the size of what was written, or -1 when an answer is not of that form, or not for that many keys, or `room` is too
 * small. The items' owner, value and value_size are overwritten. */
int64_t gkv_splice(const uint8_t *body, size_t size, const uint8_t *texts, gkv_item *items, uint32_t count,
                   const uint32_t *routed, uint32_t found, const uint8_t *frames, const uint64_t *ends, uint8_t *out, size_t room);

/* The size of a value that is missing. */
#define GKV_MISSING 4294967295

/* Reads one owner's answer to a get, of the form above; `order` holds the positions of its `count` items. Each of them gets the
 * place of its value in `frame` and its size, or GKV_MISSING. Returns 1, or 0 when the answer is not of that form. */
int32_t gkv_read_answer(const uint8_t *frame, size_t size, gkv_item *items, const uint32_t *order, uint32_t count);
