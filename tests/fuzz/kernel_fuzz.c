/* libFuzzer target for what takes data sets off a socket: run_c.sh builds and runs it.

   The first bytes of an input choose sizes; every byte after them is a PDU of the stream that is
   read, most of the length of the one before, some of another kind, wrong, or no PDU at all. The
   stream comes through a socket pair. Both buffers have exactly the size they are said to
   have, so AddressSanitizer sees every byte too many. What must hold:
     - nothing is written outside of them, and the positions that come back lie within them;
     - what was taken are the fragments that a plain reading of the stream finds, in order, and the
       bytes after them are next, in the buffer and the socket. */

#define KERNEL_WITHOUT_PYTHON
#include "../../node/network/_kernel.c"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { CHOICE_BYTES = 8, CONTEXT_ID = 5, MOST_STREAM = 1 << 14 };

static void require(bool holds)
{
    if (!holds)
        __builtin_trap();
}

/* What take_fragments should do, said plainly: returns the outcome, CLOSED where the stream ends. */
static outcome read_plainly(const intake *in, const uint8_t *stream, size_t length,
                            uint8_t *target, size_t *filled, size_t *taken)
{
    *filled = *taken = 0;
    for (;;) {
        const uint8_t *header = stream + *taken;
        size_t left = length - *taken;
        if (left < HEADER_BYTES) {
            if (left && header[0] != P_DATA_TF)
                return OTHER;
            if (left < 6)
                return CLOSED;
            uint32_t said = big_endian(header + 2);
            return said < LENGTH_BYTES || said > in->longest ? OTHER : CLOSED;
        }
        if (!is_fragment(in, header))
            return OTHER;
        size_t payload = big_endian(header + 2) - LENGTH_BYTES;
        if (payload > in->room - *filled)
            return FULL;
        if (payload > left - HEADER_BYTES)
            return CLOSED;
        memcpy(target + *filled, header + HEADER_BYTES, payload);
        *filled += payload;
        *taken += HEADER_BYTES + payload;
        if (header[11] & IS_LAST)
            return LAST;
    }
}

static void check_rest(const intake *in, const uint8_t *rest, size_t length)
{
    uint8_t left[MOST_STREAM + 1];
    size_t have = in->end - in->start;
    require(have <= length);
    require(memcmp(in->buffer + in->start, rest, have) == 0);
    ssize_t more = recv(in->fd, left, sizeof left, MSG_DONTWAIT);
    require(more < 0 ? have == length : have + (size_t)more == length);
    require(more <= 0 || memcmp(left, rest + have, (size_t)more) == 0);
}

/* Append a PDU of one fragment, whose header may have a wrong byte; returns the new length. */
static size_t append(uint8_t *stream, size_t length, size_t payload, uint8_t flags, uint8_t wrong)
{
    if (length + HEADER_BYTES + payload > MOST_STREAM)
        return length;
    uint8_t *header = stream + length;
    const size_t pdu = payload + 6, pdv = payload + 2;
    const uint8_t made[HEADER_BYTES] = {
        P_DATA_TF, 0, (uint8_t)(pdu >> 24), (uint8_t)(pdu >> 16), (uint8_t)(pdu >> 8), (uint8_t)pdu,
        (uint8_t)(pdv >> 24), (uint8_t)(pdv >> 16), (uint8_t)(pdv >> 8), (uint8_t)pdv,
        CONTEXT_ID, flags};
    memcpy(header, made, HEADER_BYTES);
    for (size_t i = 0; i < payload; i++)
        header[HEADER_BYTES + i] = (uint8_t)(length * 7 + i);
    if (wrong)
        header[wrong % HEADER_BYTES] ^= wrong;
    return length + HEADER_BYTES + payload;
}

/* Make a stream by the bytes of the input; cut off somewhere if `cut`. */
static size_t make_stream(uint8_t *stream, const uint8_t *codes, size_t count, uint8_t cut)
{
    size_t length = 0, payload = 10;
    for (size_t i = 0; i < count; i++) {
        uint8_t code = codes[i], next = i + 1 < count ? codes[i + 1] : 0;
        switch (code % 8) {
        case 6: /* another length from here on */
            payload = (size_t)(code >> 3) * (1 + next % 32u);
            break;
        case 5:
            length = append(stream, length, payload, code & 64 ? 2 : 0, next);
            break;
        case 4:
            length = append(stream, length, payload, IS_LAST, 0);
            break;
        default:
            length = append(stream, length, payload, 0, 0);
        }
    }
    return cut < length && cut % 4 == 1 ? length - cut : length;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    int ends[2];
    static uint8_t stream[MOST_STREAM];
    if (size < CHOICE_BYTES)
        return 0;
    const size_t length =
        make_stream(stream, input + CHOICE_BYTES, size - CHOICE_BYTES, input[6]);
    require(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    require(length == 0 || write(ends[1], stream, length) == (ssize_t)length);
    shutdown(ends[1], SHUT_WR);

    intake in = {.fd = ends[0], .context_id = CONTEXT_ID, .idle_seconds = 1, .grace_seconds = 1,
                 .bytes_per_second = 1e9, .longest = LENGTH_BYTES + input[0] * 4u};
    in.size = HEADER_BYTES + 2 * (size_t)in.longest + input[1];
    in.room = (size_t)input[2] * 64 + input[3];
    in.buffer = malloc(in.size);
    in.target = malloc(in.room ? in.room : 1);
    uint8_t *expected = malloc(in.room ? in.room : 1);
    require(in.buffer && in.target && expected);
    /* Some of the stream was read before, as with the PDU of a command set. */
    size_t before = input[4] < length ? input[4] : length;
    before = before < in.size ? before : in.size;
    require(before == 0 || recv(in.fd, in.buffer, before, 0) == (ssize_t)before);
    in.end = before;

    size_t filled, taken;
    outcome wanted = read_plainly(&in, stream, length, expected, &filled, &taken);
    in.only_here = input[5] & 1;
    outcome ended = take_fragments(&in);
    if (ended == MORE) {
        in.only_here = false;
        ended = take_fragments(&in);
    }
    require(ended == wanted);
    require(in.start <= in.end && in.end <= in.size && in.filled <= in.room);
    require(in.filled >= filled && memcmp(in.target, expected, filled) == 0);
    if (ended != CLOSED) {
        require(in.filled == filled);
        check_rest(&in, stream + taken, length - taken);
    }
    free(in.buffer);
    free(in.target);
    free(expected);
    close(ends[0]);
    close(ends[1]);
    return 0;
}
