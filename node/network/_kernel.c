/* The fragments of a data set, from a socket to their place (PS3.8 9.3.5 and Annex E).

   One call takes what comes of one data set: P-DATA-TF PDUs that hold one data fragment each, as
   nearly every peer sends them. Another takes a C-STORE-RQ like the one before, with its data set
   where that is small and has come with it. Both run without Python's lock and judge a header
   before a byte of what follows is put anywhere:
     - nothing is written outside `buffer` and `target`, whatever a peer sends;
     - whatever is not a PDU of that kind is left in `buffer`, unread, for Python to judge;
     - every wait has a deadline: `idle_seconds` for a PDU to begin, and for the whole of it what
       Limits.pdu_deadline allows, so that a peer gains nothing by sending a byte now and then.

   PDUs mostly have the length of the one before, but for the last. So the rest of a fragment is read
   together with the headers and fragments that should follow, each straight into its place, with
   one system call; where the guess was wrong the bytes are put back in order into `buffer`.

   Invariants: start <= end <= size, filled <= room, MOST_AHEAD guesses and what they hold fit into
   `buffer`. pdu_reader.py has the same in Python, for TLS and where there is no compiler; both pass the
   same tests, and this one fuzzing under sanitizers (tests/fuzz/kernel_fuzz.c).

   Below it, for Python alone, are what else costs too much there or cannot be done: small PDUs sent,
   command sets decoded and encoded, memory, and two ways to wait. */

#define _GNU_SOURCE
#ifndef KERNEL_WITHOUT_PYTHON
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#endif
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

enum {
    HEADER_BYTES = 12, /* of the PDU 6, of its one PDV 6 */
    LENGTH_BYTES = 6,  /* of a PDU whose fragment is empty: PDV length, context ID, flags */
    P_DATA_TF = 4,
    IS_COMMAND = 1,
    IS_LAST = 2,
    MOST_AHEAD = 32,     /* guessed PDUs in one read */
    BURST = 1 << 15,     /* read at once: more comes soon, so it is waited for awake */
    FIRST_READ = 1 << 14 /* for a header: what comes with it is copied once more */
};

/* Shorter than between messages (alertness.py): there are many waits in a data set. */
static const double BURST_AWAKE_SECONDS = 10e-6;

/* Why a run ended; as in pdu_reader.py. */
typedef enum { OTHER, LAST, FULL, CLOSED, LATE, IDLE, MORE } outcome;

typedef struct {
    int fd;
    uint8_t *buffer; /* what was read and not looked at: buffer[start:end] */
    size_t size, start, end;
    uint8_t *target; /* the data set: target[:filled], of at most `room` bytes */
    size_t room, filled;
    uint8_t context_id;
    uint32_t longest; /* PDU length */
    double idle_seconds, grace_seconds, bytes_per_second;
    double deadline;      /* of the PDU that is arriving; 0 while none was set */
    double awake_seconds; /* to wait for something before this thread sleeps */
    size_t last_read;     /* what the last read brought */
    bool only_here;       /* take what is in the buffer already; MORE where that is not all */
} intake;

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static uint32_t little_endian(const uint8_t *bytes, int count)
{
    uint32_t value = 0;
    while (count--)
        value = value << 8 | bytes[count];
    return value;
}

static const int64_t BILLION = 1000000000;

static int64_t nanoseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * BILLION + time.tv_nsec;
}

static double now(void)
{
    return (double)nanoseconds() * 1e-9;
}

/* As poll(2) and epoll_wait(2) take it: not less than `seconds`. */
static int milliseconds(double seconds)
{
    return seconds < INT_MAX / 1000 ? (int)ceil(seconds * 1000) : INT_MAX;
}

/* Wait for something to read. `inside` is the length of the PDU that has begun, 0 if none has. */
static outcome await(intake *in, uint32_t inside)
{
    double time = now(), deadline = time + in->idle_seconds;
    if (inside) {
        if (in->deadline == 0)
            in->deadline = time + in->grace_seconds + inside / in->bytes_per_second;
        deadline = in->deadline;
    }
    while (time < deadline) {
        struct pollfd readable = {.fd = in->fd, .events = POLLIN};
        int found = poll(&readable, 1, milliseconds(deadline - time));
        if (found > 0)
            return OTHER;
        if (found < 0 && errno != EINTR)
            return CLOSED;
        time = now();
    }
    return inside ? LATE : IDLE;
}

/* Wait awake until something can be read, for so long, and tell whether it can.

   The processor is kept: on a busy one sched_yield(2) gives it away for milliseconds, and who sleeps
   is woken sooner than that. And nothing is tried to be read, which would hold up who sends. */
static bool wait_awake(int fd, double seconds)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    const double asleep_at = now() + seconds;
    do {
        if (poll(&readable, 1, 0) > 0)
            return true;
    } while (now() < asleep_at);
    return false;
}

/* Read into `parts`, as much as is there; wait only where nothing is.

   To fall asleep and be woken costs as much as to copy 64 KiB, for the sender too. So a moment is
   waited awake where a fast sender is in the middle of a data set, or where `awake_seconds` says. */
static outcome receive(intake *in, struct iovec *parts, size_t count, uint32_t inside, size_t *got)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    const double awake = in->last_read >= BURST ? BURST_AWAKE_SECONDS : in->awake_seconds;
    if (in->deadline != 0 && now() >= in->deadline)
        return LATE;
    for (;;) {
        ssize_t received = recvmsg(in->fd, &message, MSG_DONTWAIT);
        if (received > 0) {
            *got = in->last_read = (size_t)received;
            return OTHER;
        }
        if (received == 0)
            return CLOSED;
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (awake > 0 && wait_awake(in->fd, awake))
                continue;
            outcome waited = await(in, inside);
            if (waited != OTHER)
                return waited;
        } else if (errno != EINTR) {
            return CLOSED;
        }
    }
}

/* Tell whether what is there of a header shows already that it is not for here: such a PDU may be
   whole in less, and one of a wrong length is answered at once. */
static bool is_foreign(const intake *in)
{
    const uint8_t *header = in->buffer + in->start;
    size_t have = in->end - in->start;
    if (!have || have >= HEADER_BYTES)
        return false;
    if (have < 6)
        return header[0] != P_DATA_TF;
    uint32_t length = big_endian(header + 2);
    return header[0] != P_DATA_TF || length < LENGTH_BYTES || length > in->longest;
}

/* Read on until a header is whole in the buffer, or something else is seen to be there. */
static outcome gather_header(intake *in)
{
    if (in->start == in->end)
        in->start = in->end = 0;
    if (in->size - in->start < HEADER_BYTES) {
        memmove(in->buffer, in->buffer + in->start, in->end - in->start);
        in->end -= in->start;
        in->start = 0;
    }
    while (in->end - in->start < HEADER_BYTES && !is_foreign(in)) {
        size_t got, space = in->size - in->end, have = in->end - in->start;
        struct iovec part = {in->buffer + in->end, space < FIRST_READ ? space : FIRST_READ};
        outcome read = receive(in, &part, 1, have ? HEADER_BYTES : 0, &got);
        if (read != OTHER)
            return read;
        in->end += got;
    }
    return OTHER;
}

/* Tell whether a header is one of those that are taken here. */
static bool is_fragment(const intake *in, const uint8_t *header)
{
    uint32_t length = big_endian(header + 2);
    return header[0] == P_DATA_TF && LENGTH_BYTES <= length && length <= in->longest &&
           big_endian(header + 6) == length - 4 && header[10] == in->context_id &&
           !(header[11] & IS_COMMAND);
}

/* Tell whether `header` is what was guessed to come after `before`, the header of a fragment of
   `payload` bytes: the same, or the last one of the data set in what was meant for the same. */
static bool is_next(const intake *in, const uint8_t *before, const uint8_t *header, size_t payload)
{
    return memcmp(header, before, HEADER_BYTES) == 0 ||
           (is_fragment(in, header) && header[11] & IS_LAST &&
            big_endian(header + 2) - LENGTH_BYTES <= payload);
}

/* Put what was read on a guess, `count` bytes from the header at `index` on, into the buffer. */
static void put_back(intake *in, struct iovec *parts, size_t index, size_t count)
{
    in->start = in->end = 0;
    for (; count; index++) {
        size_t part = parts[index].iov_len < count ? parts[index].iov_len : count;
        memcpy(in->buffer + in->end, parts[index].iov_base, part);
        in->end += part;
        count -= part;
    }
}

/* Read the last `rest` bytes of a fragment of `payload` bytes, and what should come after it: others
   like it, and then the last one, which may be shorter.

   Ends between two PDUs, with the buffer holding what was read of the next; `header` is then that of
   the last fragment taken. */
static outcome receive_rest(intake *in, uint8_t *header, size_t payload, size_t rest)
{
    uint8_t headers[MOST_AHEAD][HEADER_BYTES];
    struct iovec parts[1 + 2 * MOST_AHEAD];
    const size_t stride = HEADER_BYTES + payload;
    in->start = in->end = 0;
    while (rest) {
        size_t ahead = 0, got, part = 1;
        if (!(header[11] & IS_LAST) && payload) {
            ahead = (in->room - in->filled - rest) / payload;
            if (ahead > in->size / stride)
                ahead = in->size / stride;
            if (ahead > MOST_AHEAD)
                ahead = MOST_AHEAD;
        }
        parts[0] = (struct iovec){in->target + in->filled, rest};
        for (size_t i = 0; i < ahead; i++) {
            parts[1 + 2 * i] = (struct iovec){headers[i], HEADER_BYTES};
            parts[2 + 2 * i] =
                (struct iovec){in->target + in->filled + rest + i * payload, payload};
        }
        outcome read = receive(in, parts, 1 + 2 * ahead, (uint32_t)payload + LENGTH_BYTES, &got);
        if (read != OTHER)
            return read;
        if (got < rest) {
            in->filled += got;
            rest -= got;
            continue;
        }
        in->filled += rest;
        got -= rest;
        rest = 0;
        in->deadline = 0;
        while (got) {
            const uint8_t *next = headers[part / 2];
            if (got < HEADER_BYTES || !is_next(in, header, next, payload)) {
                put_back(in, parts, part, got);
                return OTHER;
            }
            memcpy(header, next, HEADER_BYTES);
            payload = big_endian(header + 2) - LENGTH_BYTES;
            got -= HEADER_BYTES;
            size_t here = got < payload ? got : payload;
            in->filled += here;
            rest = payload - here;
            got -= here;
            part += 2;
            if (got && header[11] & IS_LAST) {
                /* It was shorter than its part, or equal: what follows is of another PDU. */
                parts[part - 1].iov_base = (uint8_t *)parts[part - 1].iov_base + here;
                parts[part - 1].iov_len -= here;
                put_back(in, parts, part - 1, got);
                return OTHER;
            }
        }
    }
    return OTHER;
}

/* Take fragments until the data set ends, or something comes that is not for here. */
static outcome take_fragments(intake *in)
{
    for (;;) {
        if (in->only_here && in->end - in->start < HEADER_BYTES)
            return MORE;
        outcome read = gather_header(in);
        if (read != OTHER)
            return read;
        uint8_t header[HEADER_BYTES];
        if (in->end - in->start < HEADER_BYTES || !is_fragment(in, in->buffer + in->start))
            return OTHER;
        memcpy(header, in->buffer + in->start, HEADER_BYTES);
        const size_t payload = big_endian(header + 2) - LENGTH_BYTES;
        if (payload > in->room - in->filled)
            return FULL;
        if (in->only_here && payload > in->end - in->start - HEADER_BYTES)
            return MORE;
        if (in->deadline != 0) /* so far that of a header */
            in->deadline += (double)payload / in->bytes_per_second;
        size_t here = in->end - in->start - HEADER_BYTES;
        if (here > payload)
            here = payload;
        memcpy(in->target + in->filled, in->buffer + in->start + HEADER_BYTES, here);
        in->filled += here;
        if (here < payload) {
            read = receive_rest(in, header, payload, payload - here);
            if (read != OTHER)
                return read;
        } else {
            in->start += HEADER_BYTES + payload;
            in->deadline = 0;
        }
        if (header[11] & IS_LAST)
            return LAST;
    }
}

/* Tell whether `body`, of a P-DATA-TF PDU, is a C-STORE-RQ that differs from `model` only in the
   value of its Message ID and in that of its last element, the SOP Instance UID; its `instance_length`
   without padding. As repetition.py has it. */
enum { GROUP_LENGTH_AT = 14, COMMAND_AT = 18, LONGEST_UID = 64 };

static bool is_uid(const uint8_t *text, size_t length)
{
    bool after_digit = false;
    if (length > LONGEST_UID)
        return false;
    for (size_t i = 0; i < length; i++) {
        bool is_digit = '0' <= text[i] && text[i] <= '9';
        if (!is_digit && !(text[i] == '.' && after_digit))
            return false;
        after_digit = is_digit;
    }
    return after_digit;
}

typedef struct {
    const uint8_t *body; /* of the PDU of the request that was judged */
    size_t message_id_at, instance_at;
} pattern;

static bool is_repeated(const pattern *like, const uint8_t *body, size_t length,
                        size_t *instance_length)
{
    const uint8_t *const model = like->body;
    const size_t message_id_at = like->message_id_at, instance_at = like->instance_at;
    if (length <= instance_at || memcmp(body + 4, model + 4, GROUP_LENGTH_AT - 4) != 0 ||
        memcmp(body + COMMAND_AT, model + COMMAND_AT, message_id_at - COMMAND_AT) != 0 ||
        memcmp(body + message_id_at + 2, model + message_id_at + 2,
               instance_at - message_id_at - 6) != 0 ||
        big_endian(body) != length - 4 ||
        little_endian(body + GROUP_LENGTH_AT, 4) != length - COMMAND_AT ||
        little_endian(body + instance_at - 4, 4) != length - instance_at)
        return false;
    size_t end = length;
    while (end > instance_at && (body[end - 1] == ' ' || body[end - 1] == 0))
        end--;
    *instance_length = end - instance_at;
    return is_uid(body + instance_at, *instance_length);
}

/* Take the PDU of a request like `like`: LAST where `start` is after its body of `length` bytes now.
   Anything else is OTHER, and left in the buffer. */
static outcome take_repeated(intake *in, const pattern *like, size_t *length,
                             size_t *instance_length)
{
    if (in->only_here && in->end - in->start < HEADER_BYTES)
        return MORE;
    outcome read = gather_header(in);
    if (read != OTHER)
        return read;
    const uint8_t *header = in->buffer + in->start;
    if (in->end - in->start < HEADER_BYTES || header[0] != P_DATA_TF)
        return OTHER;
    *length = big_endian(header + 2);
    if (*length > in->longest || *length > like->instance_at + LONGEST_UID ||
        memcmp(header + 10, like->body + 4, 2) != 0 || in->size < 6 + *length)
        return OTHER;
    if (in->size - in->start < 6 + *length) {
        memmove(in->buffer, header, in->end - in->start);
        in->end -= in->start;
        in->start = 0;
    }
    if (in->deadline != 0) /* so far that of a header */
        in->deadline += (double)*length / in->bytes_per_second;
    while (in->end - in->start < 6 + *length) {
        size_t got;
        struct iovec part = {in->buffer + in->end, in->start + 6 + *length - in->end};
        if (in->only_here)
            return MORE;
        read = receive(in, &part, 1, (uint32_t)*length, &got);
        if (read != OTHER)
            return read;
        in->end += got;
    }
    in->deadline = 0;
    if (!is_repeated(like, in->buffer + in->start + 6, *length, instance_length))
        return OTHER;
    in->start += 6 + *length;
    return LAST;
}

/* Take a data set of one fragment that is in the buffer, whole, and return its `length` bytes there;
   NULL where it is not, or is longer than `room`. */
static const uint8_t *take_small(intake *in, size_t *length)
{
    const uint8_t *header = in->buffer + in->start;
    const size_t have = in->end - in->start;
    if (have < HEADER_BYTES || !is_fragment(in, header) || !(header[11] & IS_LAST))
        return NULL;
    *length = big_endian(header + 2) - LENGTH_BYTES;
    if (*length > in->room || *length > have - HEADER_BYTES)
        return NULL;
    in->start += HEADER_BYTES + *length;
    return header + HEADER_BYTES;
}

#ifndef KERNEL_WITHOUT_PYTHON

static PyObject *py_take(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer buffer, target;
    Py_ssize_t start, end, filled, room;
    intake in = {.deadline = 0};
    if (!PyArg_ParseTuple(args, "iw*nnw*nnbIddd:take", &in.fd, &buffer, &start, &end, &target,
                          &filled, &room, &in.context_id, &in.longest, &in.idle_seconds,
                          &in.grace_seconds, &in.bytes_per_second))
        return NULL;
    PyObject *answer = NULL;
    if (start < 0 || start > end || end > buffer.len || buffer.len < HEADER_BYTES || filled < 0 ||
        filled > room || room > target.len || !(in.idle_seconds > 0) || !(in.grace_seconds > 0) ||
        !(in.bytes_per_second > 0)) {
        PyErr_SetString(PyExc_ValueError, "arguments do not fit each other");
    } else {
        outcome ended;
        in.buffer = buffer.buf;
        in.size = (size_t)buffer.len;
        in.start = (size_t)start;
        in.end = (size_t)end;
        in.target = target.buf;
        in.room = (size_t)room;
        in.filled = (size_t)filled;
        /* A small data set has come with its command: no need to let others have Python's lock. */
        in.only_here = true;
        ended = take_fragments(&in);
        if (ended == MORE) {
            in.only_here = false;
            Py_BEGIN_ALLOW_THREADS
            ended = take_fragments(&in);
            Py_END_ALLOW_THREADS
        }
        answer = Py_BuildValue("innn", (int)ended, (Py_ssize_t)in.start, (Py_ssize_t)in.end,
                               (Py_ssize_t)in.filled);
    }
    PyBuffer_Release(&target);
    PyBuffer_Release(&buffer);
    return answer;
}

/* Memory that is not cleared: the kernel gives a page only when something is put into it. */
static PyObject *py_memory(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_ssize_t byte_count;
    if (!PyArg_ParseTuple(args, "n:memory", &byte_count))
        return NULL;
    if (byte_count < 0) {
        PyErr_SetString(PyExc_ValueError, "memory of a negative length");
        return NULL;
    }
    return PyByteArray_FromStringAndSize(NULL, byte_count);
}

/* Send what the kernel takes at once. Nothing waits, so Python's lock is kept: to get it back from
   another thread would take longer than the call. */
static PyObject *py_send(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    Py_buffer data;
    if (!PyArg_ParseTuple(args, "iy*:send", &fd, &data))
        return NULL;
    ssize_t sent;
    do
        sent = send(fd, data.buf, (size_t)data.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    PyBuffer_Release(&data);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        sent = 0;
    return sent < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromSsize_t(sent);
}

/* Decode a command set, whose group length was checked, by a table of {element: (keyword, is a US)}.

   None where an element is of another group or longer than what is left; a value that is no US of
   two bytes, or no text of ASCII without a backslash, is None (PS3.7 6.3.1, PS3.5 7.1.3). */
static PyObject *text_or_none(const char *text, Py_ssize_t length)
{
    for (Py_ssize_t i = 0; i < length; i++)
        if ((unsigned char)text[i] > 127 || text[i] == '\\')
            Py_RETURN_NONE;
    while (length && (text[length - 1] == ' ' || text[length - 1] == 0))
        length--;
    while (length && (*text == ' ' || *text == 0))
        text++, length--;
    return PyUnicode_FromStringAndSize(text, length);
}

static bool decode_element(PyObject *command, PyObject *table, uint32_t element,
                           const uint8_t *value, uint32_t length)
{
    PyObject *key = PyLong_FromUnsignedLong(element);
    PyObject *known = key ? PyDict_GetItemWithError(table, key) : NULL;
    Py_XDECREF(key);
    if (!known)
        return !PyErr_Occurred();
    PyObject *keyword = PyTuple_GetItem(known, 0), *is_number = PyTuple_GetItem(known, 1);
    if (!keyword || !is_number)
        return false;
    PyObject *decoded;
    if (is_number != Py_True)
        decoded = text_or_none((const char *)value, (Py_ssize_t)length);
    else if (length == 2)
        decoded = PyLong_FromUnsignedLong(little_endian(value, 2));
    else
        decoded = Py_NewRef(Py_None);
    bool done = decoded && PyDict_SetItem(command, keyword, decoded) == 0;
    Py_XDECREF(decoded);
    return done;
}

static PyObject *py_decode(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer data;
    PyObject *table;
    Py_ssize_t position;
    if (!PyArg_ParseTuple(args, "y*nO!:decode", &data, &position, &PyDict_Type, &table))
        return NULL;
    PyObject *command = position < 0 ? NULL : PyDict_New();
    if (position < 0)
        PyErr_SetString(PyExc_ValueError, "position is before the bytes");
    while (command && position < data.len) {
        const uint8_t *header = (const uint8_t *)data.buf + position;
        Py_ssize_t left = data.len - position;
        if (left < 8 || little_endian(header, 2) != 0 ||
            little_endian(header + 4, 4) > (uint64_t)left - 8) {
            Py_DECREF(command);
            command = Py_NewRef(Py_None);
            break;
        }
        uint32_t length = little_endian(header + 4, 4);
        if (!decode_element(command, table, little_endian(header + 2, 2), header + 8, length))
            Py_CLEAR(command);
        position += 8 + (Py_ssize_t)length;
    }
    PyBuffer_Release(&data);
    return command;
}

static bool is_pattern(const pattern *like, size_t length)
{
    return like->instance_at <= length && like->instance_at >= COMMAND_AT + 6 &&
           like->message_id_at >= COMMAND_AT && like->message_id_at <= like->instance_at - 6;
}

/* Return the command set of a request like a pattern, its message ID and SOP instance UID. */
static PyObject *what_differs(const pattern *like, const uint8_t *body, size_t length,
                              size_t instance_length)
{
    return Py_BuildValue("y#is#", (const char *)body + 6, (Py_ssize_t)length - 6,
                         (int)little_endian(body + like->message_id_at, 2),
                         (const char *)body + like->instance_at, (Py_ssize_t)instance_length);
}

static PyObject *py_repeated(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer body, model;
    pattern like;
    size_t instance_length;
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(args, "y*y*nn:repeated", &body, &model, &like.message_id_at,
                          &like.instance_at))
        return NULL;
    like.body = model.buf;
    if (!is_pattern(&like, (size_t)model.len))
        PyErr_SetString(PyExc_ValueError, "arguments do not fit each other");
    else if (is_repeated(&like, body.buf, (size_t)body.len, &instance_length))
        answer = what_differs(&like, body.buf, (size_t)body.len, instance_length);
    else
        answer = Py_NewRef(Py_None);
    PyBuffer_Release(&model);
    PyBuffer_Release(&body);
    return answer;
}

static PyObject *py_take_store(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer buffer, model;
    Py_ssize_t start, end, room;
    intake in = {.deadline = 0, .only_here = true};
    pattern like;
    PyObject *answer = NULL;
    if (!PyArg_ParseTuple(args, "iw*nny*nnnIdddd:take_store", &in.fd, &buffer, &start, &end,
                          &model, &like.message_id_at, &like.instance_at, &room, &in.longest,
                          &in.idle_seconds, &in.grace_seconds, &in.bytes_per_second,
                          &in.awake_seconds))
        return NULL;
    like.body = model.buf;
    if (start < 0 || start > end || end > buffer.len || buffer.len < HEADER_BYTES || room < 0 ||
        !is_pattern(&like, (size_t)model.len) || !(in.grace_seconds > 0) ||
        !(in.bytes_per_second > 0)) {
        PyErr_SetString(PyExc_ValueError, "arguments do not fit each other");
    } else {
        size_t length = 0, instance_length;
        in.buffer = buffer.buf;
        in.size = (size_t)buffer.len;
        in.start = (size_t)start;
        in.end = (size_t)end;
        in.room = (size_t)room;
        in.context_id = like.body[4];
        outcome ended = take_repeated(&in, &like, &length, &instance_length);
        if (ended == MORE) {
            in.only_here = false;
            Py_BEGIN_ALLOW_THREADS
            ended = take_repeated(&in, &like, &length, &instance_length);
            Py_END_ALLOW_THREADS
        }
        if (ended != LAST) {
            answer = Py_BuildValue("innOO", (int)ended, (Py_ssize_t)in.start, (Py_ssize_t)in.end,
                                   Py_None, Py_None);
        } else {
            const uint8_t *body = in.buffer + in.start - length;
            size_t data_length = 0;
            const uint8_t *data = take_small(&in, &data_length);
            PyObject *differs = what_differs(&like, body, length, instance_length);
            if (differs) /* y# makes a NULL to None */
                answer = Py_BuildValue("innNy#", (int)ended, (Py_ssize_t)in.start,
                                       (Py_ssize_t)in.end, differs, (const char *)data,
                                       (Py_ssize_t)data_length);
        }
    }
    PyBuffer_Release(&model);
    PyBuffer_Release(&buffer);
    return answer;
}

/* Encode a C-STORE-RSP or C-ECHO-RSP without a comment, in its PDU (PS3.7 Tables 9.3-2 and 9.3-13): as
   command_set.py and UpperLayer.command_pdu do together. A C-ECHO-RSP has no SOP instance. */
static uint8_t *put(uint8_t *at, uint32_t value, int count)
{
    for (; count; count--, value >>= 8)
        *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_big_endian(uint8_t *at, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *at++ = (uint8_t)(value >> shift);
    return at;
}

static uint8_t *put_number(uint8_t *at, uint32_t element, uint32_t value)
{
    return put(put(put(at, element << 16, 4), 2, 4), value, 2);
}

static uint8_t *put_uid(uint8_t *at, uint32_t element, const char *uid, size_t length)
{
    const size_t even = length + length % 2;
    at = put(put(at, element << 16, 4), (uint32_t)even, 4);
    at[even - (even > 0)] = 0;
    memcpy(at, uid, length);
    return at + even;
}

static bool is_us(int number)
{
    return 0 <= number && number <= UINT16_MAX;
}

static PyObject *py_response(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *sop_class, *sop_instance;
    Py_ssize_t class_length, instance_length;
    unsigned char context_id;
    int field, message_id, status;
    if (!PyArg_ParseTuple(args, "bis#s#ii:response", &context_id, &field, &sop_class, &class_length,
                          &sop_instance, &instance_length, &message_id, &status))
        return NULL;
    if (class_length > LONGEST_UID || instance_length > LONGEST_UID) {
        PyErr_SetString(PyExc_ValueError, "a UID is longer than 64 bytes");
        return NULL;
    }
    if (!is_us(field) || !is_us(message_id) || !is_us(status)) {
        PyErr_SetString(PyExc_ValueError, "a number does not fit into 16 bits");
        return NULL;
    }
    uint8_t pdu[HEADER_BYTES + 12 + 2 * (8 + LONGEST_UID) + 4 * 10];
    uint8_t *const command = pdu + HEADER_BYTES, *at = command + 12;
    at = put_uid(at, 0x0002, sop_class, (size_t)class_length);
    at = put_number(at, 0x0100, (uint32_t)field);
    at = put_number(at, 0x0120, (uint32_t)message_id);
    at = put_number(at, 0x0800, 0x0101);
    at = put_number(at, 0x0900, (uint32_t)status);
    if (instance_length)
        at = put_uid(at, 0x1000, sop_instance, (size_t)instance_length);
    const uint32_t length = (uint32_t)(at - command);
    put(put(put(command, 0, 4), 4, 4), length - 12, 4);
    pdu[0] = P_DATA_TF;
    pdu[1] = 0;
    put_big_endian(put_big_endian(pdu + 2, length + 6), length + 2);
    pdu[10] = context_id;
    pdu[11] = IS_COMMAND | IS_LAST;
    return PyBytes_FromStringAndSize((const char *)pdu, at - pdu);
}

static PyObject *py_wait_awake(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    double seconds;
    if (!PyArg_ParseTuple(args, "id:wait_awake", &fd, &seconds))
        return NULL;
    bool is_readable = wait_awake(fd, 0);
    if (!is_readable && seconds > 0) {
        Py_BEGIN_ALLOW_THREADS
        is_readable = wait_awake(fd, seconds);
        Py_END_ALLOW_THREADS
    }
    return PyBool_FromLong(is_readable);
}

/* A call at a moment that is put off more often than it comes (relief.py).

   To set a timer of the kernel anew costs some 10 us where the processor's own has to be set for it,
   in a virtual machine above all. So one that was put off is left to run out, and who wakes then
   sets it anew if there is still something to wait for, all without Python's lock. */
typedef struct {
    _Atomic int64_t due;   /* in nanoseconds of the monotonic clock; NEVER where nobody is called */
    _Atomic int64_t alarm; /* when the timer runs out; NEVER where it is not set */
} relief_state;

static const int64_t NEVER = INT64_MAX;

static void set_alarm(relief_state *relief, int timer, int64_t at)
{
    struct itimerspec when = {.it_value = {.tv_sec = at / BILLION, .tv_nsec = at % BILLION}};
    atomic_store(&relief->alarm, at);
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* Tell whether the call is due, now that the timer has run out.

   Whoever sets the call stores when it is due and then looks at the alarm; here it is the other way
   round. So one of both sees what the other did. Where both set the timer, the one here looks again,
   for its moment may be the later one. */
static bool is_due(relief_state *relief, int timer)
{
    for (;;) {
        atomic_store(&relief->alarm, NEVER);
        int64_t due = atomic_load(&relief->due);
        if (due == NEVER)
            return false;
        if (due <= nanoseconds())
            return true;
        set_alarm(relief, timer, due);
        if (atomic_load(&relief->due) >= due)
            return false;
    }
}

static PyObject *py_relief(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    relief_state none = {NEVER, NEVER};
    return Py_BuildValue("iN", timer, PyByteArray_FromStringAndSize((char *)&none, sizeof none));
}

static relief_state *state_in(const Py_buffer *memory)
{
    if (memory->len == sizeof(relief_state))
        return memory->buf;
    PyErr_SetString(PyExc_ValueError, "no state of a relief");
    return NULL;
}

static PyObject *py_set_relief(PyObject *Py_UNUSED(module), PyObject *args)
{
    int timer;
    long microseconds;
    Py_buffer memory;
    if (!PyArg_ParseTuple(args, "iw*l:set_relief", &timer, &memory, &microseconds))
        return NULL;
    relief_state *relief = state_in(&memory);
    if (relief && microseconds < 0) {
        atomic_store(&relief->due, NEVER);
    } else if (relief) {
        int64_t due = nanoseconds() + (int64_t)microseconds * 1000;
        atomic_store(&relief->due, due);
        if (atomic_load(&relief->alarm) > due)
            set_alarm(relief, timer, due);
    }
    PyBuffer_Release(&memory);
    return relief ? Py_NewRef(Py_None) : NULL;
}

static PyObject *py_await_relief(PyObject *Py_UNUSED(module), PyObject *args)
{
    int timer, epoll;
    double seconds;
    Py_buffer memory;
    if (!PyArg_ParseTuple(args, "iiw*d:await_relief", &timer, &epoll, &memory, &seconds))
        return NULL;
    relief_state *relief = state_in(&memory);
    bool is_broken = false;
    if (relief) {
        Py_BEGIN_ALLOW_THREADS
        const double end = now() + seconds;
        bool is_called = false;
        double left = seconds;
        while (!is_called && !is_broken && left > 0) {
            struct epoll_event event;
            int found = epoll_wait(epoll, &event, 1, milliseconds(left));
            is_broken = found < 0 && errno != EINTR;
            is_called = found > 0 && is_due(relief, timer);
            left = end - now();
        }
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&memory);
    if (is_broken)
        return PyErr_SetFromErrno(PyExc_OSError);
    return relief ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef METHODS[] = {
    {"wait_awake", py_wait_awake, METH_VARARGS,
     "wait_awake(descriptor, seconds) -> whether something can be read, as soon as that is so; False "
     "after so long"},
    {"relief", py_relief, METH_NOARGS,
     "relief() -> the descriptor of a timer (timerfd_create(2)), and the state of what it is for"},
    {"set_relief", py_set_relief, METH_VARARGS,
     "set_relief(timer, state, microseconds): call after so long, not before; never if negative"},
    {"await_relief", py_await_relief, METH_VARARGS,
     "await_relief(timer, epoll, state, seconds): until one of those who wait is called, at most so "
     "long; `epoll` watches the timer, with EPOLLET"},
    {"repeated", py_repeated, METH_VARARGS,
     "repeated(body, model, message_id_at, instance_at) -> (command set, message ID, "
     "SOP instance UID), or None"},
    {"take_store", py_take_store, METH_VARARGS,
     "take_store(descriptor, buffer, start, end, model, message_id_at, instance_at, room, longest, "
     "idle_seconds, grace_seconds, bytes_per_second, awake_seconds) -> (outcome, start, end, "
     "what `repeated` returns, the data set where it is whole in the buffer, or None)"},
    {"response", py_response, METH_VARARGS,
     "response(context_id, command_field, sop_class, sop_instance, message_id, status) -> the PDU"},
    {"memory", py_memory, METH_VARARGS, "memory(byte_count) -> a bytearray with anything in it"},
    {"send", py_send, METH_VARARGS,
     "send(descriptor, data) -> how many bytes the kernel took; OSError where the line is broken"},
    {"decode", py_decode, METH_VARARGS, "decode(data, position, table) -> parameters, or None"},
    {"take", py_take, METH_VARARGS,
     "take(descriptor, buffer, start, end, target, filled, room, context_id, longest, "
     "idle_seconds, grace_seconds, bytes_per_second) -> (outcome, start, end, filled)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "node.network._kernel",
    .m_doc = "Data sets, PDUs and waits of an association, as far as Python is too slow for them.",
    .m_size = 0,
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&MODULE); }

#endif /* KERNEL_WITHOUT_PYTHON */
