/* RLE Lossless, PS3.5 Annex G: one native frame to one encoded frame and back.

   Contract
     encode   native frame -> header of 64 bytes and one segment per byte plane, most significant
              byte first, sample after sample (G.2). Each row is encoded on its own, each segment
              has an even length (G.3). The parse of a row is optimal: no other choice of runs and
              literals gives fewer bytes, so no other frame that keeps these rules is smaller.
     decode   encoded frame -> native frame, planar configuration 0 or 1, either byte order. Takes
              what other writers produce: no-op bytes, runs that cross rows, segments that are too
              long. Refuses what cannot fill the frame.
     crc32    the CRC-32 of zlib (ISO 3309) over as many bytes as can be folded here: none on machines
              without carry-less multiplication. The rest is for zlib, which is five times slower.
     matches  decodes and compares with a native frame as it goes, in fixed scratch memory. The
              decoder shares only the geometry with the encoder, so one is a witness of the other.

   Memory   Nothing outside a caller's buffer is read or written, whatever the arguments, and even
            if another thread changes a buffer meanwhile: a byte that decides about a length is read
            once, or from a private copy. Sizes are 64 bit and cannot overflow within the limits of
            check_layout(). A claim in an encoded frame allocates nothing.
   Threads  The GIL is released while pixels are worked on, but for a small frame that is encoded.
            No state but the chosen instruction set.
   Raises   ValueError for arguments, _rle.Malformed for an encoded frame, OverflowError where the
            result does not fit an item, MemoryError.

   The fuzz target includes this file with RLE_WITHOUT_PYTHON defined. */

#ifndef RLE_WITHOUT_PYTHON
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define RLE_X86 1
#include <immintrin.h>
#elif defined(__AARCH64EL__) && defined(__ARM_NEON) && defined(__GNUC__)
#define RLE_NEON 1
#include <arm_neon.h>
#endif

/* ---- 1. The layout of a native frame --------------------------------------------------------- */

enum {
    HEADER_BYTES = 64, /* PS3.5 G.5: sixteen 32-bit words */
    MAX_SEGMENTS = 15, /* G.5: one word is their number, the others their offsets */
    MAX_RUN = 128,     /* G.3.1: bytes in a replicate or a literal run, at most */
    BLOCK = 32,        /* bytes are copied in blocks of this size, past the end if need be */
    SLACK = 256,       /* ... so buffers of our own are longer by this: MAX_RUN twice */
};

typedef struct {
    uint64_t rows, columns; /* 1 to 65535: both have VR US (PS3.3 C.7.6.3) */
    uint64_t samples;
    uint64_t sample_bytes; /* Bits Allocated / 8 */
    bool planar;           /* Planar Configuration (0028,0006) is 1 */
    bool big_endian;
} layout;

/* Null, or what is wrong with the arguments. */
static const char *check_layout(const layout *frame)
{
    if (frame->rows < 1 || frame->rows > 65535 || frame->columns < 1 || frame->columns > 65535)
        return "rows and columns must be 1 to 65535";
    if (frame->sample_bytes != 1 && frame->sample_bytes != 2 && frame->sample_bytes != 4 &&
        frame->sample_bytes != 8)
        return "bits allocated must be 8, 16, 32 or 64";
    if (frame->samples < 1 || frame->samples > MAX_SEGMENTS ||
        frame->samples * frame->sample_bytes > MAX_SEGMENTS)
        return "samples times bytes allocated must be 1 to 15, the number of segments";
    if (frame->rows * frame->columns * 2 * MAX_SEGMENTS > PTRDIFF_MAX - SLACK)
        return "the frame is too large for this machine";
    return NULL;
}

static uint64_t plane_bytes(const layout *frame) { return frame->rows * frame->columns; }

static uint64_t segment_count(const layout *frame) { return frame->samples * frame->sample_bytes; }

static uint64_t frame_bytes(const layout *frame)
{
    return plane_bytes(frame) * segment_count(frame);
}

/* A row is never longer than all literals: one more byte for each 128. */
static uint64_t row_bound(const layout *frame)
{
    return frame->columns + (frame->columns + MAX_RUN - 1) / MAX_RUN;
}

static uint64_t encoded_bound(const layout *frame)
{
    uint64_t segment = frame->rows * row_bound(frame);
    return HEADER_BYTES + segment_count(frame) * (segment + segment % 2);
}

/* Where one byte plane lies in the native frame: every `stride` bytes from `first` on. */
typedef struct {
    uint64_t first, offset, stride;
} plane_position;

static plane_position locate_plane(const layout *frame, uint64_t segment)
{
    uint64_t sample = segment / frame->sample_bytes;
    uint64_t significance = segment % frame->sample_bytes; /* 0 is the most significant byte */
    uint64_t byte = frame->big_endian ? significance : frame->sample_bytes - 1 - significance;
    if (frame->planar)
        return (plane_position){sample * plane_bytes(frame) * frame->sample_bytes, byte,
                                frame->sample_bytes};
    return (plane_position){0, sample * frame->sample_bytes + byte, segment_count(frame)};
}

static uint32_t load_le32(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static void store_le32(uint8_t *to, uint32_t value)
{
    for (int byte = 0; byte < 4; byte++)
        to[byte] = (uint8_t)(value >> (8 * byte));
}

/* Copies at least `count` bytes, at most MAX_RUN: whole blocks. */
static inline void copy_blocks(uint8_t *to, const uint8_t *from, size_t count)
{
    memcpy(to, from, BLOCK);
    for (size_t done = BLOCK; done < count; done += BLOCK)
        memcpy(to + done, from + done, BLOCK);
}

/* ---- 2. What depends on the machine ---------------------------------------------------------- */

/* gather  takes byte `offset` of each of `count` pixels that are `stride` bytes long, no other byte
           being touched.
   weave   the opposite: pixel i is made of byte i of each of `stride` planes.
   mark    sets bit i where row[i] == row[i + 1], whole words at a time. The row is followed by
           SLACK bytes; bits from count - 1 on mean nothing. */
typedef struct {
    const char *name;
    void (*gather)(uint8_t *plane, const uint8_t *pixels, size_t count, size_t stride,
                   size_t offset);
    void (*weave)(uint8_t *pixels, uint8_t *const planes[], size_t count, size_t stride);
    void (*mark)(uint64_t *equal, const uint8_t *row, size_t count);
} instruction_set;

static inline void gather_from(size_t done, uint8_t *plane, const uint8_t *pixels, size_t count,
                               size_t stride, size_t offset)
{
    for (size_t i = done; i < count; i++)
        plane[i] = pixels[i * stride + offset];
}

/* A constant stride lets the compiler do better than a variable one. */
static void gather_portable(uint8_t *plane, const uint8_t *pixels, size_t count, size_t stride,
                            size_t offset)
{
    switch (stride) {
    case 1: memcpy(plane, pixels, count); break;
    case 2: gather_from(0, plane, pixels, count, 2, offset); break;
    case 3: gather_from(0, plane, pixels, count, 3, offset); break;
    case 4: gather_from(0, plane, pixels, count, 4, offset); break;
    case 6: gather_from(0, plane, pixels, count, 6, offset); break;
    case 8: gather_from(0, plane, pixels, count, 8, offset); break;
    default: gather_from(0, plane, pixels, count, stride, offset);
    }
}

static inline void weave_from(size_t done, uint8_t *pixels, uint8_t *const planes[], size_t count,
                              size_t stride)
{
    for (size_t i = done; i < count; i++)
        for (size_t byte = 0; byte < stride; byte++)
            pixels[i * stride + byte] = planes[byte][i];
}

static void weave_portable(uint8_t *pixels, uint8_t *const planes[], size_t count, size_t stride)
{
    switch (stride) {
    case 1: memcpy(pixels, planes[0], count); break;
    case 2: weave_from(0, pixels, planes, count, 2); break;
    case 3: weave_from(0, pixels, planes, count, 3); break;
    case 4: weave_from(0, pixels, planes, count, 4); break;
    case 6: weave_from(0, pixels, planes, count, 6); break;
    case 8: weave_from(0, pixels, planes, count, 8); break;
    default: weave_from(0, pixels, planes, count, stride);
    }
}

/* Eight bytes, the first one the least significant on every machine. */
static inline uint64_t load_le64(const uint8_t *from)
{
    return load_le32(from) | (uint64_t)load_le32(from + 4) << 32;
}

static void mark_portable(uint64_t *equal, const uint8_t *row, size_t count)
{
    const uint64_t low7 = 0x7F7F7F7F7F7F7F7F;
    for (size_t word = 0; word * 64 < count; word++) {
        uint64_t bits = 0;
        for (int byte = 0; byte < 8; byte++) {
            const uint8_t *at = row + word * 64 + byte * 8;
            uint64_t differ = load_le64(at) ^ load_le64(at + 1);
            /* The top bit of each byte: set where `differ` is zero; nothing carries over. */
            uint64_t same = ~(((differ & low7) + low7) | differ | low7);
            /* The eight top bits, side by side in the top byte. */
            bits |= ((same >> 7) * 0x0102040810204080 >> 56) << (8 * byte);
        }
        equal[word] = bits;
    }
}

static const instruction_set PORTABLE = {"portable", gather_portable, weave_portable,
                                         mark_portable};

#ifdef RLE_X86

static void gather_sse2(uint8_t *plane, const uint8_t *pixels, size_t count, size_t stride,
                        size_t offset)
{
    size_t i = 0;
    const __m128i shift = _mm_cvtsi64_si128((long long)(8 * offset));
    if (stride == 2) {
        const __m128i low = _mm_set1_epi16(0xFF);
        for (; i + 16 <= count; i += 16) {
            const __m128i *from = (const __m128i *)(pixels + 2 * i);
            __m128i a = _mm_and_si128(_mm_srl_epi16(_mm_loadu_si128(from), shift), low);
            __m128i b = _mm_and_si128(_mm_srl_epi16(_mm_loadu_si128(from + 1), shift), low);
            _mm_storeu_si128((__m128i *)(plane + i), _mm_packus_epi16(a, b));
        }
    } else if (stride == 4) {
        const __m128i low = _mm_set1_epi32(0xFF);
        for (; i + 16 <= count; i += 16) {
            const __m128i *from = (const __m128i *)(pixels + 4 * i);
            __m128i a = _mm_and_si128(_mm_srl_epi32(_mm_loadu_si128(from), shift), low);
            __m128i b = _mm_and_si128(_mm_srl_epi32(_mm_loadu_si128(from + 1), shift), low);
            __m128i c = _mm_and_si128(_mm_srl_epi32(_mm_loadu_si128(from + 2), shift), low);
            __m128i d = _mm_and_si128(_mm_srl_epi32(_mm_loadu_si128(from + 3), shift), low);
            __m128i packed = _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
            _mm_storeu_si128((__m128i *)(plane + i), packed);
        }
    } else {
        gather_portable(plane, pixels, count, stride, offset);
        return;
    }
    gather_from(i, plane, pixels, count, stride, offset);
}

static void weave_sse2(uint8_t *pixels, uint8_t *const planes[], size_t count, size_t stride)
{
    size_t i = 0;
    if (stride == 2) {
        for (; i + 16 <= count; i += 16) {
            __m128i *to = (__m128i *)(pixels + 2 * i);
            __m128i a = _mm_loadu_si128((const __m128i *)(planes[0] + i));
            __m128i b = _mm_loadu_si128((const __m128i *)(planes[1] + i));
            _mm_storeu_si128(to, _mm_unpacklo_epi8(a, b));
            _mm_storeu_si128(to + 1, _mm_unpackhi_epi8(a, b));
        }
    } else if (stride == 4) {
        for (; i + 16 <= count; i += 16) {
            __m128i *to = (__m128i *)(pixels + 4 * i);
            __m128i a = _mm_loadu_si128((const __m128i *)(planes[0] + i));
            __m128i b = _mm_loadu_si128((const __m128i *)(planes[1] + i));
            __m128i c = _mm_loadu_si128((const __m128i *)(planes[2] + i));
            __m128i d = _mm_loadu_si128((const __m128i *)(planes[3] + i));
            __m128i ab_low = _mm_unpacklo_epi8(a, b), ab_high = _mm_unpackhi_epi8(a, b);
            __m128i cd_low = _mm_unpacklo_epi8(c, d), cd_high = _mm_unpackhi_epi8(c, d);
            _mm_storeu_si128(to, _mm_unpacklo_epi16(ab_low, cd_low));
            _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(ab_low, cd_low));
            _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(ab_high, cd_high));
            _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(ab_high, cd_high));
        }
    } else {
        weave_portable(pixels, planes, count, stride);
        return;
    }
    weave_from(i, pixels, planes, count, stride);
}

static void mark_sse2(uint64_t *equal, const uint8_t *row, size_t count)
{
    for (size_t word = 0; word * 64 < count; word++) {
        uint64_t bits = 0;
        for (int part = 0; part < 4; part++) {
            const uint8_t *at = row + word * 64 + part * 16;
            __m128i here = _mm_loadu_si128((const __m128i *)at);
            __m128i next = _mm_loadu_si128((const __m128i *)(at + 1));
            uint64_t mask = (uint16_t)_mm_movemask_epi8(_mm_cmpeq_epi8(here, next));
            bits |= mask << (16 * part);
        }
        equal[word] = bits;
    }
}

static const instruction_set SSE2 = {"sse2", gather_sse2, weave_sse2, mark_sse2};

#define AVX2_FUNCTION __attribute__((target("avx2")))

/* Shuffles for pixels of three bytes, as rows of sixteen indices; 0x80 gives zero.
   Gathering byte k: byte j of the plane is byte 3 j + k of 48, taken from the m-th sixteen.
   Weaving: byte j of the m-th sixteen is byte (16 m + j) / 3 of plane k, if that is its plane. */
#define SIXTEEN(F, k, m)                                                                           \
    {F(0, k, m), F(1, k, m), F(2, k, m), F(3, k, m), F(4, k, m), F(5, k, m), F(6, k, m),           \
     F(7, k, m), F(8, k, m), F(9, k, m), F(10, k, m), F(11, k, m), F(12, k, m), F(13, k, m),       \
     F(14, k, m), F(15, k, m)}
#define THREE_BY_THREE(F)                                                                          \
    {{SIXTEEN(F, 0, 0), SIXTEEN(F, 0, 1), SIXTEEN(F, 0, 2)},                                       \
     {SIXTEEN(F, 1, 0), SIXTEEN(F, 1, 1), SIXTEEN(F, 1, 2)},                                       \
     {SIXTEEN(F, 2, 0), SIXTEEN(F, 2, 1), SIXTEEN(F, 2, 2)}}
#define GATHER_INDEX(j, k, m) ((3 * (j) + (k)) / 16 == (m) ? (3 * (j) + (k)) % 16 : 0x80)
#define WEAVE_INDEX(j, k, m) ((16 * (m) + (j)) % 3 == (k) ? (16 * (m) + (j)) / 3 : 0x80)

static const uint8_t GATHER3[3][3][16] = THREE_BY_THREE(GATHER_INDEX);
static const uint8_t WEAVE3[3][3][16] = THREE_BY_THREE(WEAVE_INDEX);

AVX2_FUNCTION static inline __m128i shuffle3(__m128i a, __m128i b, __m128i c,
                                             const uint8_t *for_a, const uint8_t *for_b,
                                             const uint8_t *for_c)
{
    a = _mm_shuffle_epi8(a, _mm_loadu_si128((const __m128i *)for_a));
    b = _mm_shuffle_epi8(b, _mm_loadu_si128((const __m128i *)for_b));
    c = _mm_shuffle_epi8(c, _mm_loadu_si128((const __m128i *)for_c));
    return _mm_or_si128(_mm_or_si128(a, b), c);
}

AVX2_FUNCTION static void gather3_avx2(uint8_t *plane, const uint8_t *pixels, size_t count,
                                       size_t offset)
{
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m128i *from = (const __m128i *)(pixels + 3 * i);
        __m128i taken = shuffle3(_mm_loadu_si128(from), _mm_loadu_si128(from + 1),
                                 _mm_loadu_si128(from + 2), GATHER3[offset][0],
                                 GATHER3[offset][1], GATHER3[offset][2]);
        _mm_storeu_si128((__m128i *)(plane + i), taken);
    }
    gather_from(i, plane, pixels, count, 3, offset);
}

AVX2_FUNCTION static void gather_avx2(uint8_t *plane, const uint8_t *pixels, size_t count,
                                      size_t stride, size_t offset)
{
    if (stride == 3) {
        gather3_avx2(plane, pixels, count, offset);
        return;
    }
    if (stride != 2) {
        gather_sse2(plane, pixels, count, stride, offset);
        return;
    }
    size_t i = 0;
    const __m256i low = _mm256_set1_epi16(0xFF);
    const __m128i shift = _mm_cvtsi64_si128((long long)(8 * offset));
    for (; i + 32 <= count; i += 32) {
        const __m256i *from = (const __m256i *)(pixels + 2 * i);
        __m256i a = _mm256_and_si256(_mm256_srl_epi16(_mm256_loadu_si256(from), shift), low);
        __m256i b = _mm256_and_si256(_mm256_srl_epi16(_mm256_loadu_si256(from + 1), shift), low);
        __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xD8);
        _mm256_storeu_si256((__m256i *)(plane + i), packed);
    }
    gather_from(i, plane, pixels, count, 2, offset);
}

AVX2_FUNCTION static void weave_avx2(uint8_t *pixels, uint8_t *const planes[], size_t count,
                                     size_t stride)
{
    if (stride != 3) {
        weave_sse2(pixels, planes, count, stride);
        return;
    }
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        __m128i a = _mm_loadu_si128((const __m128i *)(planes[0] + i));
        __m128i b = _mm_loadu_si128((const __m128i *)(planes[1] + i));
        __m128i c = _mm_loadu_si128((const __m128i *)(planes[2] + i));
        for (int m = 0; m < 3; m++)
            _mm_storeu_si128((__m128i *)(pixels + 3 * i) + m,
                             shuffle3(a, b, c, WEAVE3[0][m], WEAVE3[1][m], WEAVE3[2][m]));
    }
    weave_from(i, pixels, planes, count, 3);
}

AVX2_FUNCTION static void mark_avx2(uint64_t *equal, const uint8_t *row, size_t count)
{
    for (size_t word = 0; word * 64 < count; word++) {
        const uint8_t *at = row + word * 64;
        __m256i here = _mm256_loadu_si256((const __m256i *)at);
        __m256i next = _mm256_loadu_si256((const __m256i *)(at + 1));
        uint32_t first = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(here, next));
        here = _mm256_loadu_si256((const __m256i *)(at + 32));
        next = _mm256_loadu_si256((const __m256i *)(at + 33));
        uint32_t second = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(here, next));
        equal[word] = first | (uint64_t)second << 32;
    }
}

static const instruction_set AVX2 = {"avx2", gather_avx2, weave_avx2, mark_avx2};

#endif /* RLE_X86 */

#ifdef RLE_NEON

static void gather_neon(uint8_t *plane, const uint8_t *pixels, size_t count, size_t stride,
                        size_t offset)
{
    size_t i = 0;
    if (stride == 2)
        for (; i + 16 <= count; i += 16)
            vst1q_u8(plane + i, vld2q_u8(pixels + 2 * i).val[offset]);
    else if (stride == 3)
        for (; i + 16 <= count; i += 16)
            vst1q_u8(plane + i, vld3q_u8(pixels + 3 * i).val[offset]);
    else if (stride == 4)
        for (; i + 16 <= count; i += 16)
            vst1q_u8(plane + i, vld4q_u8(pixels + 4 * i).val[offset]);
    else {
        gather_portable(plane, pixels, count, stride, offset);
        return;
    }
    gather_from(i, plane, pixels, count, stride, offset);
}

static void weave_neon(uint8_t *pixels, uint8_t *const planes[], size_t count, size_t stride)
{
    size_t i = 0;
    if (stride == 2)
        for (; i + 16 <= count; i += 16) {
            uint8x16x2_t two = {{vld1q_u8(planes[0] + i), vld1q_u8(planes[1] + i)}};
            vst2q_u8(pixels + 2 * i, two);
        }
    else if (stride == 3)
        for (; i + 16 <= count; i += 16) {
            uint8x16x3_t three = {{vld1q_u8(planes[0] + i), vld1q_u8(planes[1] + i),
                                   vld1q_u8(planes[2] + i)}};
            vst3q_u8(pixels + 3 * i, three);
        }
    else if (stride == 4)
        for (; i + 16 <= count; i += 16) {
            uint8x16x4_t four = {{vld1q_u8(planes[0] + i), vld1q_u8(planes[1] + i),
                                  vld1q_u8(planes[2] + i), vld1q_u8(planes[3] + i)}};
            vst4q_u8(pixels + 4 * i, four);
        }
    else {
        weave_portable(pixels, planes, count, stride);
        return;
    }
    weave_from(i, pixels, planes, count, stride);
}

/* NEON has no movemask: give each byte of eight its own bit, then add neighbours three times. */
static void mark_neon(uint64_t *equal, const uint8_t *row, size_t count)
{
    static const uint8_t WEIGHTS[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t weights = vld1q_u8(WEIGHTS);
    for (size_t word = 0; word * 64 < count; word++) {
        uint8x16_t same[4];
        for (int part = 0; part < 4; part++) {
            const uint8_t *at = row + word * 64 + part * 16;
            same[part] = vandq_u8(vceqq_u8(vld1q_u8(at), vld1q_u8(at + 1)), weights);
        }
        uint8x16_t sum = vpaddq_u8(vpaddq_u8(same[0], same[1]), vpaddq_u8(same[2], same[3]));
        equal[word] = vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sum, sum)), 0);
    }
}

static const instruction_set NEON = {"neon", gather_neon, weave_neon, mark_neon};

#endif /* RLE_NEON */

/* Fills `found` with the sets this machine has, the fastest first; returns their number. */
static int find_instruction_sets(const instruction_set *found[3])
{
    int count = 0;
#ifdef RLE_X86
    if (__builtin_cpu_supports("avx2"))
        found[count++] = &AVX2;
    found[count++] = &SSE2;
#endif
#ifdef RLE_NEON
    found[count++] = &NEON;
#endif
    found[count++] = &PORTABLE;
    return count;
}

static const instruction_set *machine = &PORTABLE;

/* ---- 3. The encoder -------------------------------------------------------------------------- */

/* Some rows of one byte plane, as many as fit BAND_BYTES or one, and two bits for each byte.
   `equal`: it equals the next one in its row. `triple`: it equals the next two, which is where a
   literal has to end. */
typedef struct {
    uint64_t *equal, *triple;
    uint8_t *bytes;
    size_t columns, rows;
} row_band;

enum { BAND_BYTES = 8192 }; /* with its bits it stays in the first cache */

static bool allocate_band(row_band *band, const layout *frame)
{
    uint64_t rows = frame->columns < BAND_BYTES ? BAND_BYTES / frame->columns : 1;
    band->columns = (size_t)frame->columns;
    band->rows = (size_t)(rows < frame->rows ? rows : frame->rows);
    size_t count = band->columns * band->rows;
    size_t words = count / 64 + 4; /* a literal's end is looked for 128 bits ahead */
    band->equal = malloc(2 * words * sizeof(uint64_t) + count + SLACK);
    if (!band->equal)
        return false;
    band->triple = band->equal + words;
    band->bytes = (uint8_t *)(band->triple + words);
    return true;
}

static void fill_band(row_band *band, const uint8_t *pixels, size_t rows, plane_position plane)
{
    size_t count = rows * band->columns, words = count / 64 + 1;
    machine->gather(band->bytes, pixels, count, plane.stride, plane.offset);
    memset(band->bytes + count, 0, 128); /* as far as mark and copy_blocks read */
    machine->mark(band->equal, band->bytes, count);
    for (size_t last = band->columns - 1; last < count; last += band->columns)
        band->equal[last / 64] &= ~((uint64_t)1 << last % 64);
    band->equal[count / 64] &= ((uint64_t)1 << count % 64) - 1;
    band->equal[words] = 0;
    for (size_t word = 0; word < words; word++) {
        uint64_t next = band->equal[word] >> 1 | band->equal[word + 1] << 63;
        band->triple[word] = band->equal[word] & next;
    }
    memset(band->triple + words, 0, 3 * sizeof(uint64_t));
}

static inline bool bit_at(const uint64_t *bits, size_t index)
{
    return bits[index / 64] >> index % 64 & 1;
}

/* The number of equal bytes from `at` on, in its row. */
static inline size_t run_length(const row_band *band, size_t at)
{
    size_t word = at / 64;
    uint64_t differ = ~band->equal[word] & ~(uint64_t)0 << at % 64;
    while (!differ)
        differ = ~band->equal[++word]; /* the bit of a row's last byte is 0, so this ends */
    return word * 64 + (size_t)__builtin_ctzll(differ) + 1 - at;
}

/* The distance from `at` to the next three equal bytes; any number above MAX_RUN if that is far. */
static inline size_t literal_length(const row_band *band, size_t at)
{
    size_t word = at / 64, last = (at + MAX_RUN) / 64;
    uint64_t found = band->triple[word] & ~(uint64_t)0 << at % 64;
    while (!found) {
        if (word == last)
            return MAX_RUN + 1;
        found = band->triple[++word];
    }
    return word * 64 + (size_t)__builtin_ctzll(found) - at;
}

static inline uint8_t *put_literal(uint8_t *out, const uint8_t *bytes, size_t length)
{
    *out++ = (uint8_t)(length - 1);
    copy_blocks(out, bytes, length);
    return out + length;
}

/* A single byte that is left over begins the literal that follows: it is not put here. */
static inline uint8_t *put_run(uint8_t *out, uint8_t value, size_t length)
{
    for (; length >= MAX_RUN; length -= MAX_RUN) {
        *out++ = 257 - MAX_RUN;
        *out++ = value;
    }
    if (length > 1) {
        *out++ = (uint8_t)(257 - length);
        *out++ = value;
    }
    return out;
}

/* The shortest encoding of a row.

   After any number of bytes what matters is how many bytes were put, and how many more the literal
   that is open may take. Fewer bytes always win: for one byte a literal with all its 128 places can
   be opened. Of equal many, more places win. So there is one best state at each byte, and it is
   found without looking back:
     - three or more equal bytes are a run: 2 bytes against 3;
     - two are a run where no literal is open, or where the open one has less than two places left;
       otherwise they stay in the literal, as a run would save nothing and close it;
     - a run of 128 k + 1 leaves one byte over; an open literal with a place left takes it first.
   The tests hold this against an exhaustive search. */
static inline uint8_t *encode_row(uint8_t *out, const row_band *band, size_t at, size_t end)
{
    while (at < end) {
        size_t run = 0;
        if (bit_at(band->equal, at)) {
            run = run_length(band, at);
        } else {
            size_t literal = literal_length(band, at), rest = end - at;
            if (literal > rest)
                literal = rest;
            if (literal > MAX_RUN) {
                literal = bit_at(band->equal, at + MAX_RUN - 1) ? MAX_RUN - 1 : MAX_RUN;
            } else if (literal < rest) {
                run = run_length(band, at + literal);
                bool odd = run % MAX_RUN == 1 && literal < MAX_RUN;
                literal += odd;
                run -= odd;
            }
            out = put_literal(out, band->bytes + at, literal);
            at += literal;
        }
        out = put_run(out, band->bytes[at], run);
        at += run - (run % MAX_RUN == 1);
    }
    return out;
}

/* Null if `limit` is too near. */
static uint8_t *encode_segment(uint8_t *out, const uint8_t *limit, row_band *band,
                               const layout *frame, const uint8_t *native, uint64_t segment)
{
    const plane_position plane = locate_plane(frame, segment);
    const uint8_t *pixels = native + plane.first, *start = out;
    for (uint64_t done = 0; done < frame->rows; done += band->rows) {
        size_t rows = frame->rows - done < band->rows ? (size_t)(frame->rows - done) : band->rows;
        if ((uint64_t)(limit - out) < rows * row_bound(frame) + SLACK)
            return NULL;
        fill_band(band, pixels, rows, plane);
        for (size_t row = 0; row < rows; row++)
            out = encode_row(out, band, row * band->columns, (row + 1) * band->columns);
        pixels += rows * band->columns * plane.stride;
    }
    if ((out - start) % 2)
        *out++ = 0; /* G.3 */
    return out;
}

typedef enum { ENCODED, NO_MEMORY, TOO_LARGE } encode_result;

/* `out` has encoded_bound() + SLACK bytes. */
static encode_result encode_frame(const layout *frame, const uint8_t *native, uint8_t *out,
                                  uint64_t *written)
{
    uint8_t *const header = out;
    const uint8_t *limit = out + encoded_bound(frame) + SLACK;
    encode_result result = ENCODED;
    row_band band;
    if (!allocate_band(&band, frame))
        return NO_MEMORY;
    memset(header, 0, HEADER_BYTES);
    store_le32(header, (uint32_t)segment_count(frame));
    out += HEADER_BYTES;
    for (uint64_t segment = 0; segment < segment_count(frame) && result == ENCODED; segment++) {
        if ((uint64_t)(out - header) > UINT32_MAX) {
            result = TOO_LARGE; /* an offset has 32 bits */
            break;
        }
        store_le32(header + 4 + 4 * segment, (uint32_t)(out - header));
        out = encode_segment(out, limit, &band, frame, native, segment);
        if (!out)
            result = TOO_LARGE; /* never: the bound is proven, and memory safe if it is not */
    }
    free(band.equal);
    /* An item's length has 32 bits, is even, and FFFFFFFFH means undefined (PS3.5 7.5, A.4). */
    if (result == ENCODED && (uint64_t)(out - header) > UINT32_MAX - 1)
        result = TOO_LARGE;
    *written = result == ENCODED ? (uint64_t)(out - header) : 0;
    return result;
}

/* ---- 4. The decoder: nothing above is used but the layout, the blocks and weave -------------- */

/* A segment being read. `spill` bytes were decoded beyond what was asked for. */
typedef struct {
    const uint8_t *at, *end;
    size_t spill;
} segment_reader;

typedef enum {
    DECODED,
    DIFFERENT,      /* from the native frame it is compared with */
    NO_HEADER,      /* less than 64 bytes */
    WRONG_SEGMENTS, /* the number of segments is not that of the layout */
    WRONG_OFFSET,   /* an offset is not between the one before it and the end */
    SHORT_SEGMENT,  /* a segment ends before its plane is full */
} decode_result;

enum { SMALL_FRAME = 2048 }; /* copied when it is opened: reading in blocks pays most here */

typedef struct {
    segment_reader readers[MAX_SEGMENTS];
    uint64_t segment;     /* which one is wrong, or the number that is claimed */
    const uint8_t *limit; /* how far it may be read */
    uint8_t copy[SMALL_FRAME + SLACK];
} encoded_frame;

/* Two bytes give 128 at most, so a segment cannot fill a plane of more than 64 times its size. This
   is known before anything is allocated or decoded. */
static bool can_fill(uint64_t segment_bytes, uint64_t wanted)
{
    return wanted / 64 <= segment_bytes;
}

static decode_result open_frame(encoded_frame *encoded, const layout *frame, const uint8_t *bytes,
                                uint64_t length)
{
    uint64_t end = length;
    if (length < HEADER_BYTES)
        return NO_HEADER;
    encoded->limit = bytes + length;
    if (length <= SMALL_FRAME) { /* with space behind it, all of it is read in whole blocks */
        memcpy(encoded->copy, bytes, (size_t)length);
        memset(encoded->copy + length, 0, SLACK);
        bytes = encoded->copy;
        encoded->limit = bytes + length + SLACK;
    }
    encoded->segment = load_le32(bytes);
    if (encoded->segment != segment_count(frame))
        return WRONG_SEGMENTS;
    for (uint64_t segment = segment_count(frame); segment-- > 0;) {
        uint64_t start = load_le32(bytes + 4 + 4 * segment);
        encoded->segment = segment;
        if (start < HEADER_BYTES || start > end)
            return WRONG_OFFSET;
        if (!can_fill(end - start, plane_bytes(frame)))
            return SHORT_SEGMENT;
        encoded->readers[segment] = (segment_reader){bytes + start, bytes + end, 0};
        end = start;
    }
    return DECODED;
}

static inline void fill_blocks(uint8_t *to, uint8_t value, size_t count)
{
    memset(to, value, BLOCK);
    for (size_t done = BLOCK; done < count; done += BLOCK)
        memset(to + done, value, BLOCK);
}

/* Reads codes until `to` holds `wanted` bytes or the segment ends; returns how many it holds. The
   last code may give up to 127 bytes more: `to` has SLACK for them. A literal cut off by the end of
   its segment gives what there is of it. */
static size_t read_codes(segment_reader *reader, const uint8_t *limit, uint8_t *to, size_t wanted)
{
    const uint8_t *at = reader->at, *end = reader->end;
    size_t filled = reader->spill;
    /* Before this a code and the longest literal may be read in blocks. */
    const uint8_t *fast = limit - at > MAX_RUN ? limit - MAX_RUN : at;
    if (fast > end - 1)
        fast = end - 1;
    while (filled < wanted && at < fast) {
        const uint8_t code = *at++;
        if (code < 128) {
            size_t length = code + 1u, rest = (size_t)(end - at);
            length = length < rest ? length : rest;
            copy_blocks(to + filled, at, length);
            filled += length;
            at += length;
        } else if (code > 128) {
            fill_blocks(to + filled, *at++, 257u - code);
            filled += 257u - code;
        } /* 128 says nothing (G.3.2) */
    }
    while (filled < wanted && end - at > 1) {
        const uint8_t code = *at++;
        if (code < 128) {
            size_t length = code + 1u, rest = (size_t)(end - at);
            length = length < rest ? length : rest;
            memcpy(to + filled, at, length);
            filled += length;
            at += length;
        } else if (code > 128) {
            memset(to + filled, *at++, 257u - code);
            filled += 257u - code;
        }
    }
    reader->at = at;
    return filled;
}

enum { SCRATCH = 8192 }; /* what a group of planes is decoded to at a time: half of an L1 cache */

/* Planes that share pixels, decoded together: all of them, or those of one sample. */
typedef struct {
    segment_reader *readers[MAX_SEGMENTS];
    uint8_t *planes[MAX_SEGMENTS];
    size_t count, step; /* of planes; pixels in one step */
    uint8_t scratch[SCRATCH + MAX_SEGMENTS * SLACK];
} plane_group;

static void open_group(plane_group *group, encoded_frame *encoded, const layout *frame,
                       uint64_t first, uint64_t count)
{
    group->count = (size_t)count;
    group->step = (size_t)(SCRATCH / count) & ~(size_t)63;
    for (uint64_t segment = first; segment < first + count; segment++) {
        size_t byte = (size_t)locate_plane(frame, segment).offset;
        group->readers[byte] = &encoded->readers[segment];
        group->planes[byte] = group->scratch + byte * (group->step + SLACK);
    }
}

/* The next `pixels` of each plane; the number of the plane that ends too early, or `count`. */
static size_t read_planes(plane_group *group, const uint8_t *limit, size_t pixels)
{
    for (size_t byte = 0; byte < group->count; byte++) {
        segment_reader *reader = group->readers[byte];
        size_t filled = read_codes(reader, limit, group->planes[byte], pixels);
        if (filled < pixels)
            return byte;
        reader->spill = filled - pixels;
    }
    return group->count;
}

static void keep_spill(plane_group *group, size_t pixels)
{
    for (size_t byte = 0; byte < group->count; byte++)
        memmove(group->planes[byte], group->planes[byte] + pixels, group->readers[byte]->spill);
}

/* Decodes a group to `out`, or compares it with `native`; one of them is null. */
static decode_result decode_group(plane_group *group, encoded_frame *encoded, uint64_t plane,
                                  uint8_t *out, const uint8_t *native)
{
    uint8_t woven[SCRATCH];
    for (uint64_t done = 0; done < plane; done += group->step) {
        size_t pixels = plane - done < group->step ? (size_t)(plane - done) : group->step;
        size_t short_plane = read_planes(group, encoded->limit, pixels);
        if (short_plane < group->count) {
            encoded->segment = (uint64_t)(group->readers[short_plane] - encoded->readers);
            return SHORT_SEGMENT;
        }
        machine->weave(out ? out : woven, group->planes, pixels, group->count);
        size_t bytes = pixels * group->count;
        if (out)
            out += bytes;
        else if (memcmp(woven, native, bytes) != 0)
            return DIFFERENT;
        else
            native += bytes;
        keep_spill(group, pixels);
    }
    return DECODED;
}

/* After open_frame(). Decodes to `out`, or compares with `native`; one of them is null, the other
   has frame_bytes(). */
static decode_result decode_frame(encoded_frame *encoded, const layout *frame, uint8_t *out,
                                  const uint8_t *native)
{
    uint64_t count = frame->planar ? frame->sample_bytes : segment_count(frame);
    decode_result result = DECODED;
    plane_group group;
    for (uint64_t first = 0; first < segment_count(frame) && result == DECODED; first += count) {
        uint64_t begin = first * plane_bytes(frame);
        open_group(&group, encoded, frame, first, count);
        result = decode_group(&group, encoded, plane_bytes(frame), out ? out + begin : NULL,
                              native ? native + begin : NULL);
    }
    return result;
}

/* ---- 5. The checksum ------------------------------------------------------------------------- */

/* Four lanes of 128 bits, each folded over the next 64 bytes: V. Gopal et al., "Fast CRC
   Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009. The constants are
   powers of x modulo the polynomial, bits reflected, as given there. */

enum { FOLD_BYTES = 64 };

#ifdef RLE_X86

#define FOLD_FUNCTION __attribute__((target("pclmul,sse4.1")))

FOLD_FUNCTION static inline __m128i load128(const uint8_t *from)
{
    return _mm_loadu_si128((const __m128i *)from);
}

/* `lane`, moved by as many bits as `powers` stand for, and `next` added to it. */
FOLD_FUNCTION static inline __m128i fold(__m128i lane, __m128i powers, __m128i next)
{
    __m128i low = _mm_clmulepi64_si128(lane, powers, 0x00);
    __m128i high = _mm_clmulepi64_si128(lane, powers, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* `count` is a multiple of FOLD_BYTES, and not zero. */
FOLD_FUNCTION static uint32_t crc32_folded(const uint8_t *at, size_t count, uint32_t crc)
{
    const __m128i by_512 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_128 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const __m128i by_64 = _mm_set_epi64x(0, 0x0163cd6124);
    const __m128i reduce = _mm_set_epi64x(0x01f7011641, 0x01db710641); /* Barrett's, and P */
    const __m128i low32 = _mm_setr_epi32(~0, 0, ~0, 0);
    const uint8_t *end = at + count;
    __m128i a = _mm_xor_si128(load128(at), _mm_cvtsi32_si128((int)~crc));
    __m128i b = load128(at + 16), c = load128(at + 32), d = load128(at + 48);
    for (at += FOLD_BYTES; at < end; at += FOLD_BYTES) {
        a = fold(a, by_512, load128(at));
        b = fold(b, by_512, load128(at + 16));
        c = fold(c, by_512, load128(at + 32));
        d = fold(d, by_512, load128(at + 48));
    }
    a = fold(fold(fold(a, by_128, b), by_128, c), by_128, d);
    /* 128 bits to 64, to 32 */
    a = _mm_xor_si128(_mm_srli_si128(a, 8), _mm_clmulepi64_si128(a, by_128, 0x10));
    b = _mm_srli_si128(a, 4);
    a = _mm_xor_si128(b, _mm_clmulepi64_si128(_mm_and_si128(a, low32), by_64, 0x00));
    b = _mm_clmulepi64_si128(_mm_and_si128(a, low32), reduce, 0x10);
    b = _mm_clmulepi64_si128(_mm_and_si128(b, low32), reduce, 0x00);
    return ~(uint32_t)_mm_extract_epi32(_mm_xor_si128(a, b), 1);
}

#endif /* RLE_X86 */

/* Returns how many of `count` bytes were taken into `crc`. */
static size_t take_crc32(const uint8_t *bytes, size_t count, uint32_t *crc)
{
    count -= count % FOLD_BYTES;
#ifdef RLE_X86
    if (count && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
        *crc = crc32_folded(bytes, count, *crc);
        return count;
    }
#endif
    (void)bytes;
    (void)crc;
    return 0;
}

/* ---- 6. Python ------------------------------------------------------------------------------- */

#ifndef RLE_WITHOUT_PYTHON

typedef struct {
    PyObject *malformed;
} module_state;

/* The arguments that describe a frame are the last six of each function, all of them integers. */
enum { LAYOUT_ARGUMENTS = 6 };

static bool read_layout(layout *frame, PyObject *const *args)
{
    long long given[LAYOUT_ARGUMENTS];
    for (int i = 0; i < LAYOUT_ARGUMENTS; i++) {
        given[i] = PyLong_AsLongLong(args[i]);
        if (given[i] == -1 && PyErr_Occurred())
            return false;
    }
    *frame = (layout){(uint64_t)given[0],     (uint64_t)given[1], (uint64_t)given[2],
                      (uint64_t)given[3] / 8, given[4] == 1,      given[5] != 0};
    const char *wrong = check_layout(frame);
    if (given[3] % 8)
        wrong = "bits allocated must be 8, 16, 32 or 64";
    if (given[4] != 0 && given[4] != 1)
        wrong = "planar configuration must be 0 or 1";
    if (wrong)
        PyErr_SetString(PyExc_ValueError, wrong);
    return !wrong;
}

/* Reads the layout, then opens the `buffers` buffers before it. On failure none stays open. */
static bool read_arguments(PyObject *const *args, Py_ssize_t count, int buffers, Py_buffer *opened,
                           layout *frame)
{
    int done = 0;
    if (count != buffers + LAYOUT_ARGUMENTS)
        PyErr_Format(PyExc_TypeError, "%d arguments expected", buffers + LAYOUT_ARGUMENTS);
    else if (read_layout(frame, args + buffers))
        while (done < buffers && PyObject_GetBuffer(args[done], &opened[done], PyBUF_SIMPLE) == 0)
            done++;
    if (done == buffers)
        return true;
    while (done > 0)
        PyBuffer_Release(&opened[--done]);
    return false;
}

static bool check_native(const layout *frame, const Py_buffer *native)
{
    if ((uint64_t)native->len == frame_bytes(frame))
        return true;
    PyErr_Format(PyExc_ValueError, "the native frame has %zd bytes, its layout says %llu",
                 native->len, (unsigned long long)frame_bytes(frame));
    return false;
}

static void raise_malformed(PyObject *module, const layout *frame, decode_result result,
                            const encoded_frame *encoded)
{
    PyObject *malformed = ((module_state *)PyModule_GetState(module))->malformed;
    unsigned long long segment = encoded->segment;
    switch (result) {
    case NO_HEADER:
        PyErr_SetString(malformed, "the frame is shorter than the RLE header of 64 bytes");
        break;
    case WRONG_SEGMENTS:
        PyErr_Format(malformed, "the RLE header says %llu segments where there must be %llu",
                     segment, (unsigned long long)segment_count(frame));
        break;
    case WRONG_OFFSET:
        PyErr_Format(malformed, "the offset of segment %llu is not within the frame", segment + 1);
        break;
    default:
        PyErr_Format(malformed, "segment %llu ends before its %llu bytes are decoded", segment + 1,
                     (unsigned long long)plane_bytes(frame));
    }
}

/* Encoded to memory of our own and copied: the limited API cannot shorten a bytes object. */
static PyObject *encode_checked(const layout *frame, const Py_buffer *native)
{
    uint64_t written = 0;
    encode_result result = NO_MEMORY;
    PyObject *encoded = NULL;
    uint8_t *out = malloc((size_t)(encoded_bound(frame) + SLACK));
    if (!out)
        return PyErr_NoMemory();
    if (frame_bytes(frame) <= SMALL_FRAME) { /* to hand the GIL over and back takes as long */
        result = encode_frame(frame, native->buf, out, &written);
    } else {
        Py_BEGIN_ALLOW_THREADS
        result = encode_frame(frame, native->buf, out, &written);
        Py_END_ALLOW_THREADS
    }
    if (result == ENCODED)
        encoded = PyBytes_FromStringAndSize((const char *)out, (Py_ssize_t)written);
    else if (result == NO_MEMORY)
        PyErr_NoMemory();
    else
        PyErr_SetString(PyExc_OverflowError, "the encoded frame does not fit 2^32 - 2 bytes");
    free(out);
    return encoded;
}

static PyObject *py_encode(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    Py_buffer native;
    layout frame;
    PyObject *encoded = NULL;
    if (!read_arguments(args, count, 1, &native, &frame))
        return NULL;
    if (check_native(&frame, &native))
        encoded = encode_checked(&frame, &native);
    PyBuffer_Release(&native);
    return encoded;
}

static PyObject *decode_checked(PyObject *module, const layout *frame, const Py_buffer *bytes)
{
    encoded_frame encoded;
    decode_result result = open_frame(&encoded, frame, bytes->buf, (uint64_t)bytes->len);
    PyObject *native = NULL;
    if (result == DECODED) {
        native = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)frame_bytes(frame));
        if (!native)
            return NULL;
        uint8_t *out = (uint8_t *)PyBytes_AsString(native);
        Py_BEGIN_ALLOW_THREADS
        result = decode_frame(&encoded, frame, out, NULL);
        Py_END_ALLOW_THREADS
    }
    if (result == DECODED)
        return native;
    Py_XDECREF(native);
    raise_malformed(module, frame, result, &encoded);
    return NULL;
}

static PyObject *py_decode(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer encoded;
    layout frame;
    if (!read_arguments(args, count, 1, &encoded, &frame))
        return NULL;
    PyObject *native = decode_checked(module, &frame, &encoded);
    PyBuffer_Release(&encoded);
    return native;
}

static bool matches(const layout *frame, const Py_buffer *bytes, const Py_buffer *native)
{
    encoded_frame encoded;
    return open_frame(&encoded, frame, bytes->buf, (uint64_t)bytes->len) == DECODED &&
           decode_frame(&encoded, frame, NULL, native->buf) == DECODED;
}

static PyObject *py_matches(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    Py_buffer buffers[2]; /* encoded, native */
    layout frame;
    bool answer = false;
    if (!read_arguments(args, count, 2, buffers, &frame))
        return NULL;
    bool fits = check_native(&frame, &buffers[1]);
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        answer = matches(&frame, &buffers[0], &buffers[1]);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&buffers[1]);
    PyBuffer_Release(&buffers[0]);
    return fits ? PyBool_FromLong(answer) : NULL;
}

static PyObject *py_crc32(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer bytes;
    unsigned long given;
    if (!PyArg_ParseTuple(args, "y*k:crc32", &bytes, &given))
        return NULL;
    uint32_t crc = (uint32_t)given;
    size_t taken;
    Py_BEGIN_ALLOW_THREADS
    taken = take_crc32(bytes.buf, (size_t)bytes.len, &crc);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&bytes);
    return Py_BuildValue("(kn)", (unsigned long)crc, (Py_ssize_t)taken);
}

static PyObject *py_instruction_sets(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    const instruction_set *found[3];
    int count = find_instruction_sets(found);
    PyObject *names = PyTuple_New(count);
    for (int i = 0; names && i < count; i++) {
        PyObject *name = PyUnicode_FromString(found[i]->name);
        if (!name || PyTuple_SetItem(names, i, name) < 0) {
            Py_DECREF(names);
            return NULL;
        }
    }
    return names;
}

static PyObject *py_use(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *name;
    const instruction_set *found[3];
    int count = find_instruction_sets(found);
    if (!PyArg_ParseTuple(args, "s:use", &name))
        return NULL;
    for (int i = 0; i < count; i++)
        if (strcmp(found[i]->name, name) == 0) {
            machine = found[i];
            Py_RETURN_NONE;
        }
    PyErr_Format(PyExc_ValueError, "this machine has no instruction set %s", name);
    return NULL;
}

static PyMethodDef METHODS[] = {
    {"encode", (PyCFunction)(void (*)(void))py_encode, METH_FASTCALL,
     "encode(native, rows, columns, samples, bits_allocated, planar_configuration, big_endian)"},
    {"decode", (PyCFunction)(void (*)(void))py_decode, METH_FASTCALL,
     "decode(encoded, rows, columns, samples, bits_allocated, planar_configuration, big_endian)"},
    {"matches", (PyCFunction)(void (*)(void))py_matches, METH_FASTCALL,
     "matches(encoded, native, rows, columns, samples, bits_allocated, planar_configuration, "
     "big_endian)"},
    {"crc32", py_crc32, METH_VARARGS,
     "crc32(data, crc) -> the CRC-32 over the beginning of data, and the length of that"},
    {"instruction_sets", py_instruction_sets, METH_NOARGS,
     "instruction_sets() -> those of this machine, the fastest first, which is used"},
    {"use", py_use, METH_VARARGS, "use(name): for tests; not while a frame is worked on"},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    const instruction_set *found[3];
    find_instruction_sets(found);
    machine = found[0];
    state->malformed = PyErr_NewException("node.pixels._rle.Malformed", PyExc_ValueError, NULL);
    if (!state->malformed)
        return -1;
    return PyModule_AddObjectRef(module, "Malformed", state->malformed);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->malformed);
    return 0;
}

static int module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->malformed);
    return 0;
}

static PyModuleDef_Slot SLOTS[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "node.pixels._rle",
    .m_doc = "RLE Lossless, PS3.5 Annex G: encoder and decoder for one frame.",
    .m_size = sizeof(module_state),
    .m_methods = METHODS,
    .m_slots = SLOTS,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__rle(void) { return PyModuleDef_Init(&MODULE); }

#endif /* RLE_WITHOUT_PYTHON */
