/* libFuzzer target for what takes data sets off a socket: run_c.sh builds and runs it.

   The first bytes of an input choose sizes; every byte after them is a PDU of the stream that is
   read, most of the length of the one before, some of another kind, wrong, or no PDU at all. In half
   of the inputs a C-STORE-RQ comes before them, which is like a model or nearly so. The stream comes through a socket pair. Both buffers have exactly the size they are said to
   have, so AddressSanitizer sees every byte too many. What must hold:
     - nothing is written outside of them, and the positions that come back lie within them;
     - what was taken are the fragments that a plain reading of the stream finds, in order, and the
       bytes after them are next, in the buffer and the socket;
     - a request is taken where a plain look at the stream finds it like the model, and then only,
       and a data set with it only where that is next in the stream. */

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

static void check_fragments(intake *in, const uint8_t *stream, size_t length, uint8_t *expected)
{
    size_t filled, taken;
    outcome wanted = read_plainly(in, stream, length, expected, &filled, &taken);
    outcome ended = take_fragments(in);
    if (ended == MORE) {
        in->only_here = false;
        ended = take_fragments(in);
    }
    require(ended == wanted);
    require(in->start <= in->end && in->end <= in->size && in->filled <= in->room);
    require(in->filled >= filled && memcmp(in->target, expected, filled) == 0);
    if (ended != CLOSED) {
        require(in->filled == filled);
        check_rest(in, stream + taken, length - taken);
    }
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
static size_t make_stream(uint8_t *stream, size_t length, const uint8_t *codes, size_t count,
                          uint8_t cut)
{
    size_t payload = 10;
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

/* The body of a PDU with a C-STORE-RQ, as far as the kernel looks: group length, Message ID, SOP
   Instance UID. */
static const uint8_t MODEL[] = {0, 0, 0, 38, CONTEXT_ID, 3, 0, 0, 0, 0, 4, 0, 0, 0, 24, 0, 0, 0,
                                0, 0, 0x10, 1, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0x10, 6, 0, 0, 0,
                                '1', '.', '2', '.', '3', 0};
static const pattern LIKE = {MODEL, 26, 36};

static size_t append_request(uint8_t *stream, const uint8_t *choices)
{
    const uint8_t header[] = {P_DATA_TF, 0, 0, 0, 0, sizeof MODEL};
    memcpy(stream, header, sizeof header);
    memcpy(stream + sizeof header, MODEL, sizeof MODEL);
    stream[sizeof header + 26] = choices[0]; /* Message ID */
    stream[sizeof header + 40] = choices[1] % 10 + '0';
    const size_t length = sizeof header + sizeof MODEL;
    if (choices[2] & 128)
        stream[choices[2] % length] ^= choices[3];
    return length;
}

static void check_repeated(intake *in, const uint8_t *stream, size_t length)
{
    outcome wanted;
    size_t body, instance_length, said = length < 6 ? 0 : big_endian(stream + 2);
    if (length < HEADER_BYTES)
        wanted = (length && stream[0] != P_DATA_TF) ||
                         (length >= 6 && (said < LENGTH_BYTES || said > in->longest))
                     ? OTHER
                     : CLOSED;
    else if (stream[0] != P_DATA_TF || said > in->longest || said > 36 + LONGEST_UID ||
             memcmp(stream + 10, MODEL + 4, 2) != 0 || in->size < 6 + said)
        wanted = OTHER;
    else if (length < 6 + said)
        wanted = CLOSED;
    else
        wanted = is_repeated(&LIKE, stream + 6, said, &instance_length) ? LAST : OTHER;
    outcome ended = take_repeated(in, &LIKE, &body, &instance_length);
    if (ended == MORE) {
        in->only_here = false;
        ended = take_repeated(in, &LIKE, &body, &instance_length);
    }
    require(ended == wanted);
    require(in->start <= in->end && in->end <= in->size);
    if (ended == CLOSED)
        return;
    size_t taken = 0, data_length;
    if (ended == LAST) {
        require(body == said && memcmp(in->buffer + in->start - body, stream + 6, body) == 0);
        require(instance_length <= LONGEST_UID && 36 + instance_length <= body);
        taken = 6 + said;
        const uint8_t *data = take_small(in, &data_length);
        if (data) {
            require(data_length <= in->room && is_fragment(in, stream + taken));
            require(data_length == big_endian(stream + taken + 2) - LENGTH_BYTES);
            require(stream[taken + 11] & IS_LAST);
            require(memcmp(data, stream + taken + HEADER_BYTES, data_length) == 0);
            taken += HEADER_BYTES + data_length;
        }
    }
    check_rest(in, stream + taken, length - taken);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    int ends[2];
    static uint8_t stream[MOST_STREAM];
    if (size < CHOICE_BYTES)
        return 0;
    const bool asks = input[7] & 1;
    const size_t begun = asks ? append_request(stream, input + CHOICE_BYTES - 4) : 0;
    const size_t length =
        make_stream(stream, begun, input + CHOICE_BYTES, size - CHOICE_BYTES, input[6]);
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

    in.only_here = input[5] & 1;
    if (asks)
        check_repeated(&in, stream, length);
    else
        check_fragments(&in, stream, length, expected);
    free(in.buffer);
    free(in.target);
    free(expected);
    close(ends[0]);
    close(ends[1]);
    return 0;
}
