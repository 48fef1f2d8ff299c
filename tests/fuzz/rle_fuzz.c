/* libFuzzer target for the RLE kernel: run_c.sh builds and runs it.

   The first bytes of an input choose a layout, an instruction set and what is done; the others are
   pixels to encode, or a frame to decode. All buffers have exactly the size the kernel asks for, so
   AddressSanitizer sees every byte too many. What must hold:
     - a frame encodes to an even number of bytes within the bound, alike by all instruction sets,
       decodes to itself, matches itself, and does not match once a byte is changed;
     - the checksum is that of the definition;
     - any bytes at all decode, or are refused, alike by all instruction sets; decoding and matching
       agree. */

#define RLE_WITHOUT_PYTHON
#include "../../node/pixels/_rle.c"

enum { CHOICE_BYTES = 8, WIDE = 10000, USUAL = 1200 }; /* WIDE is more than a band */

static void require(bool holds)
{
    if (!holds)
        __builtin_trap();
}

static layout choose_layout(const uint8_t *choice)
{
    static const uint8_t BYTES[4] = {1, 2, 4, 8};
    uint64_t sample_bytes = BYTES[choice[4] % 4], columns = choice[1] | (uint64_t)choice[2] << 8;
    uint64_t most = choice[4] < 240 ? USUAL : WIDE; /* small frames are quick, and have all edges */
    layout frame = {
        .rows = 1 + choice[0] % 64u,
        .columns = 1 + columns % most,
        .samples = 1 + choice[3] % (MAX_SEGMENTS / sample_bytes),
        .sample_bytes = sample_bytes,
        .planar = choice[5] & 1,
        .big_endian = choice[5] & 2,
    };
    while (frame_bytes(&frame) > most) {
        if (frame.rows > 1)
            frame.rows /= 2;
        else
            frame.columns /= 2;
    }
    return frame;
}

/* A frame of pixels: the data over and over, each time with one more added, or as it is. */
static uint8_t *make_native(const layout *frame, const uint8_t *data, size_t size, bool drift)
{
    size_t bytes = (size_t)frame_bytes(frame);
    uint8_t *native = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        native[i] = size ? (uint8_t)(data[i % size] + (drift ? i / size : 0)) : 0;
    return native;
}

static uint8_t *exact_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

/* Decodes with all instruction sets; the native frame, or null if it is refused. */
static uint8_t *decode_by_all(const layout *frame, const uint8_t *encoded, size_t size)
{
    const instruction_set *sets[3];
    int count = find_instruction_sets(sets);
    uint8_t *first = NULL;
    for (int i = 0; i < count; i++) {
        encoded_frame opened;
        uint8_t *native = malloc((size_t)frame_bytes(frame));
        machine = sets[i];
        decode_result result = open_frame(&opened, frame, encoded, size);
        if (result == DECODED)
            result = decode_frame(&opened, frame, native, NULL);
        require(result != DIFFERENT);
        if (i == 0 && result == DECODED) {
            first = native;
            continue;
        }
        require((first != NULL) == (result == DECODED));
        require(!first || memcmp(first, native, (size_t)frame_bytes(frame)) == 0);
        free(native);
    }
    return first;
}

static bool matches(const layout *frame, const uint8_t *encoded, size_t size,
                    const uint8_t *native)
{
    encoded_frame opened;
    return open_frame(&opened, frame, encoded, size) == DECODED &&
           decode_frame(&opened, frame, NULL, native) == DECODED;
}

static void fuzz_encoder(const layout *frame, uint8_t *native, size_t place)
{
    const instruction_set *sets[3];
    int count = find_instruction_sets(sets);
    uint8_t *first = NULL;
    uint64_t first_size = 0, size = 0;
    for (int i = 0; i < count; i++) {
        uint8_t *out = malloc((size_t)encoded_bound(frame) + SLACK);
        machine = sets[i];
        require(encode_frame(frame, native, out, &size) == ENCODED);
        require(size <= encoded_bound(frame) && size % 2 == 0);
        uint8_t *encoded = exact_copy(out, (size_t)size);
        free(out);
        if (i == 0) {
            first = encoded;
            first_size = size;
            continue;
        }
        require(size == first_size && memcmp(first, encoded, (size_t)size) == 0);
        free(encoded);
    }
    uint8_t *decoded = decode_by_all(frame, first, (size_t)first_size);
    require(decoded && memcmp(decoded, native, (size_t)frame_bytes(frame)) == 0);
    require(matches(frame, first, (size_t)first_size, native));
    native[place % frame_bytes(frame)] ^= 1;
    require(!matches(frame, first, (size_t)first_size, native));
    free(decoded);
    free(first);
}

static void fuzz_decoder(const layout *frame, const uint8_t *encoded, size_t size)
{
    uint8_t *native = decode_by_all(frame, encoded, size);
    uint8_t *other = native ? native : calloc(1, (size_t)frame_bytes(frame));
    require(matches(frame, encoded, size, other) == (native != NULL));
    free(other);
}

/* What is taken of the data has the CRC-32 that the definition gives, bit by bit. */
static void fuzz_checksum(const uint8_t *data, size_t size)
{
    uint32_t taken = 0, by_bit = ~(uint32_t)0;
    size_t count = take_crc32(data, size, &taken);
    require(count <= size);
    for (size_t i = 0; i < 8 * count; i++) {
        uint32_t low = (by_bit ^ (uint32_t)data[i / 8] >> i % 8) & 1;
        by_bit = by_bit >> 1 ^ (low ? 0xEDB88320 : 0);
    }
    require(!count || taken == ~by_bit);
}

/* The data behind a header and `waste` bytes. The header is right, but for one offset if it is to
   lie: so the fuzzer gets further in than by chance. */
static uint8_t *with_header(const layout *frame, const uint8_t *data, size_t size, size_t waste,
                            uint8_t lie)
{
    size_t count = (size_t)segment_count(frame), start = HEADER_BYTES + waste;
    uint8_t *encoded = calloc(1, start + size);
    store_le32(encoded, (uint32_t)count);
    for (size_t segment = 0; segment < count; segment++)
        store_le32(encoded + 4 + 4 * segment, (uint32_t)(start + size * segment / count));
    if (size)
        memcpy(encoded + start, data, size);
    if (lie % 2 && size >= 4)
        memcpy(encoded + 4 + 4 * (lie / 2 % count), data, lie % 4 == 3 ? 4 : 2);
    return encoded;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < CHOICE_BYTES)
        return -1;
    const uint8_t *choice = data;
    layout frame = choose_layout(choice);
    require(check_layout(&frame) == NULL);
    data += CHOICE_BYTES;
    size -= CHOICE_BYTES;
    fuzz_checksum(data, size);
    uint8_t *made;
    /* Small frames are decoded from a copy. With waste before its segments one is not small. */
    size_t waste = choice[6] & 8 ? SMALL_FRAME : 0;
    switch (choice[6] % 4) {
    case 0:
    case 1:
        made = make_native(&frame, data, size, choice[6] % 4 == 1);
        fuzz_encoder(&frame, made, (size_t)choice[7] * 257);
        break;
    case 2:
        made = exact_copy(data, size);
        fuzz_decoder(&frame, made, size);
        break;
    default:
        made = with_header(&frame, data, size, waste, choice[7]);
        fuzz_decoder(&frame, made, HEADER_BYTES + waste + size);
    }
    free(made);
    return 0;
}
