/* Trits in every packing: known bytes, every way from one to another, room that is too small, and damage. */
#include "check.h"

enum { ROWS = 3, COLUMNS = 11, COUNT = ROWS * COLUMNS };

static const int32_t packings[3] = {SETUN_PACKING_TWO_BIT, SETUN_PACKING_FIVE_PER_BYTE, SETUN_PACKING_MASK_SIGN};

static setun_quantize_options in(int32_t packing) {
    setun_quantize_options options;
    setun_quantize_options_init(&options, sizeof options);
    options.packing = packing;
    return options;
}

/* The bytes of the mask-sign packing, by hand: one block, so one offset of 0; a mask of two bytes a row; the signs. */
static void known_bytes(void) {
    static const int8_t trits[2 * 9] = {1, -1, 0, 0, 0, 0, 0, 0, -1, 0, 0, 1, 1, 0, 0, 0, 0, 0};
    static const uint8_t expected[9] = {0, 0, 0, 0, 0x03, 0x01, 0x0c, 0x00, 0x06};
    setun_quantize_options options = in(SETUN_PACKING_MASK_SIGN);
    uint8_t packed[16];
    size_t size = 0;
    int64_t counts[3];
    CHECK_OK(setun_pack_size(2, 9, SETUN_PACKING_MASK_SIGN, &size));
    CHECK(size == 4 + 4 + 3); /* room for 18 signs */
    memset(packed, 0xee, sizeof packed);
    CHECK_OK(setun_pack(trits, 2, 9, &options, packed, &size));
    CHECK(size == sizeof expected && memcmp(packed, expected, size) == 0);
    CHECK(packed[size] == 0xee);
    CHECK_OK(setun_trit_histogram(packed, size, 2, 9, &options, counts));
    CHECK(counts[0] == 2 && counts[1] == 13 && counts[2] == 3);
}

static void every_way(const int8_t *trits) {
    int from, to;
    for (from = 0; from < 3; from++) {
        setun_quantize_options options = in(packings[from]);
        uint8_t packed[64], again[64], other[64];
        int8_t back[COUNT];
        size_t size = sizeof packed, length;
        CHECK_OK(setun_pack(trits, ROWS, COLUMNS, &options, packed, &size));
        CHECK_OK(setun_unpack(packed, size, ROWS, COLUMNS, &options, back));
        CHECK(memcmp(back, trits, COUNT) == 0);
        for (to = 0; to < 3; to++) {
            setun_quantize_options target = in(packings[to]);
            size_t used = sizeof other, returned = sizeof again, small;
            CHECK_OK(setun_repack(packed, size, ROWS, COLUMNS, packings[from], &target, other, &used));
            CHECK_OK(setun_unpack(other, used, ROWS, COLUMNS, &target, back));
            CHECK(memcmp(back, trits, COUNT) == 0);
            CHECK_OK(setun_repack(other, used, ROWS, COLUMNS, packings[to], &options, again, &returned));
            CHECK(returned == size && memcmp(again, packed, size) == 0);
            /* Too little room is told, and nothing is written. */
            small = used - 1;
            other[0] = 0xee;
            CHECK_FAILS(setun_repack(packed, size, ROWS, COLUMNS, packings[from], &target, other, &small), SETUN_ERR_SHAPE,
                        "out_size is");
            CHECK(small == used - 1 && other[0] == 0xee);
        }
        for (length = 0; length < size; length++) {
            setun_status status = setun_unpack(packed, length, ROWS, COLUMNS, &options, back);
            CHECK(status == SETUN_ERR_SHAPE || status == SETUN_ERR_FORMAT);
        }
    }
}

/* A block whose mask and signs disagree is named with both numbers. */
static void damaged(void) {
    static int8_t trits[4 * 2048], back[4 * 2048];
    static uint8_t packed[4 * 600];
    setun_quantize_options options = in(SETUN_PACKING_MASK_SIGN);
    size_t size = sizeof packed, mask = 4 * 4 + 2 * 256;
    int i;
    for (i = 0; i < 4 * 2048; i++) trits[i] = i % 4 == 0 ? -1 : 0;
    memset(back, 9, sizeof back);
    CHECK_OK(setun_pack(trits, 4, 2048, &options, packed, &size));
    CHECK(size == 4 * (4 + 256 + 64));
    packed[mask] = 0xff;
    CHECK_FAILS(setun_unpack(packed, size, 4, 2048, &options, back), SETUN_ERR_FORMAT, "block 2");
    CHECK(strstr(setun_last_error(), "518") != NULL && strstr(setun_last_error(), "64") != NULL);
    CHECK(back[0] == 9);
}

int main(void) {
    int8_t trits[COUNT];
    int i;
    for (i = 0; i < COUNT; i++) trits[i] = (int8_t)(i * i % 3 - i % 2);
    known_bytes();
    every_way(trits);
    for (i = 0; i < COUNT; i++) trits[i] = 0;
    every_way(trits);
    for (i = 0; i < COUNT; i++) trits[i] = (int8_t)(i % 2 ? 1 : -1);
    every_way(trits);
    damaged();
    return 0;
}
