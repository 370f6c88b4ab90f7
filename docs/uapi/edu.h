/*
 * uAPI of edu, version 1. Made from its definition by `uaccel uapi`: do not edit.
 *
 * Numbers are little-endian, on every machine. What is reserved or unused is zero, or the
 * structure is refused (ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an
 * older version is extended with zeroes, a longer one is taken while what is not known of it is
 * zero.
 */

#ifndef UACCEL_EDU_UAPI_H
#define UACCEL_EDU_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define UACCEL_EDU_UAPI_VERSION 1

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_EDU_UAPI_DIGEST \
	"\x5e\x73\xf2\x4d\x6c\x8a\x99\x58" \
	"\xc6\x9f\xf6\xf2\x3a\x87\xcc\xaa" \
	"\x24\x25\xee\xdb\xcf\x77\xa0\x22" \
	"\x7d\x6c\x92\x29\x83\xf7\x58\xf2"

/* n! modulo 2^32, computed by the device. */
#define UACCEL_EDU_CMD_FACTORIAL 0x0040

/* Moves data into the device's buffer and back by DMA. */
#define UACCEL_EDU_CMD_ECHO 0x0041

/* The device's version. */
#define UACCEL_EDU_CMD_IDENTIFY 0x0042

/* Answers the inverse of a value, as the liveness register gives it. */
#define UACCEL_EDU_CMD_LIVENESS 0x0043

/* Moves data to an offset of the device's buffer by DMA. */
#define UACCEL_EDU_CMD_DMA_WRITE 0x0044

/* Moves data out of the device's buffer by DMA. */
#define UACCEL_EDU_CMD_DMA_READ 0x0045

/* How interrupts arrive, and how many were received since probe. */
#define UACCEL_EDU_CMD_INTERRUPTS 0x0046

/**
 * struct uaccel_edu_factorial_in - what UACCEL_EDU_CMD_FACTORIAL takes
 * @n: The number; from 13 on, n! exceeds 32 bits.
 */
struct uaccel_edu_factorial_in {
	uint32_t n;
};
static_assert(sizeof(struct uaccel_edu_factorial_in) == 4, "size");
static_assert(offsetof(struct uaccel_edu_factorial_in, n) == 0, "offset");

/**
 * struct uaccel_edu_factorial_out - what UACCEL_EDU_CMD_FACTORIAL answers
 * @value: n! modulo 2^32.
 */
struct uaccel_edu_factorial_out {
	uint32_t value;
};
static_assert(sizeof(struct uaccel_edu_factorial_out) == 4, "size");
static_assert(offsetof(struct uaccel_edu_factorial_out, value) == 0, "offset");

/**
 * struct uaccel_edu_echo_in - what UACCEL_EDU_CMD_ECHO takes
 * @data_length: Bytes of @data: at most 4095.
 * @data: What goes to the device. Zero where unused.
 * @reserved_4099: Zero.
 */
struct uaccel_edu_echo_in {
	uint32_t data_length;
	uint8_t data[4095];
	uint8_t reserved_4099[1];
};
static_assert(sizeof(struct uaccel_edu_echo_in) == 4100, "size");
static_assert(offsetof(struct uaccel_edu_echo_in, data_length) == 0, "offset");
static_assert(offsetof(struct uaccel_edu_echo_in, data) == 4, "offset");
static_assert(offsetof(struct uaccel_edu_echo_in, reserved_4099) == 4099, "offset");

/**
 * struct uaccel_edu_echo_out - what UACCEL_EDU_CMD_ECHO answers
 * @data_length: Bytes of @data: at most 4095.
 * @data: What came back. Zero where unused.
 * @reserved_4099: Zero.
 */
struct uaccel_edu_echo_out {
	uint32_t data_length;
	uint8_t data[4095];
	uint8_t reserved_4099[1];
};
static_assert(sizeof(struct uaccel_edu_echo_out) == 4100, "size");
static_assert(offsetof(struct uaccel_edu_echo_out, data_length) == 0, "offset");
static_assert(offsetof(struct uaccel_edu_echo_out, data) == 4, "offset");
static_assert(offsetof(struct uaccel_edu_echo_out, reserved_4099) == 4099, "offset");

/**
 * struct uaccel_edu_identify_out - what UACCEL_EDU_CMD_IDENTIFY answers
 * @major: Major version.
 * @minor: Minor version.
 */
struct uaccel_edu_identify_out {
	uint8_t major;
	uint8_t minor;
};
static_assert(sizeof(struct uaccel_edu_identify_out) == 2, "size");
static_assert(offsetof(struct uaccel_edu_identify_out, major) == 0, "offset");
static_assert(offsetof(struct uaccel_edu_identify_out, minor) == 1, "offset");

/**
 * struct uaccel_edu_liveness_in - what UACCEL_EDU_CMD_LIVENESS takes
 * @value: Any value.
 */
struct uaccel_edu_liveness_in {
	uint32_t value;
};
static_assert(sizeof(struct uaccel_edu_liveness_in) == 4, "size");
static_assert(offsetof(struct uaccel_edu_liveness_in, value) == 0, "offset");

/**
 * struct uaccel_edu_liveness_out - what UACCEL_EDU_CMD_LIVENESS answers
 * @inverse: The value with each bit inverted.
 */
struct uaccel_edu_liveness_out {
	uint32_t inverse;
};
static_assert(sizeof(struct uaccel_edu_liveness_out) == 4, "size");
static_assert(offsetof(struct uaccel_edu_liveness_out, inverse) == 0, "offset");

/**
 * struct uaccel_edu_dma_write_in - what UACCEL_EDU_CMD_DMA_WRITE takes
 * @offset: First byte, counted from the start of the device's buffer. 0 to 4095.
 * @data_length: Bytes of @data: at most 4095.
 * @data: What goes there. Zero where unused.
 * @reserved_4103: Zero.
 */
struct uaccel_edu_dma_write_in {
	uint32_t offset;
	uint32_t data_length;
	uint8_t data[4095];
	uint8_t reserved_4103[1];
};
static_assert(sizeof(struct uaccel_edu_dma_write_in) == 4104, "size");
static_assert(offsetof(struct uaccel_edu_dma_write_in, offset) == 0, "offset");
static_assert(offsetof(struct uaccel_edu_dma_write_in, data_length) == 4, "offset");
static_assert(offsetof(struct uaccel_edu_dma_write_in, data) == 8, "offset");
static_assert(offsetof(struct uaccel_edu_dma_write_in, reserved_4103) == 4103, "offset");

/**
 * struct uaccel_edu_dma_read_in - what UACCEL_EDU_CMD_DMA_READ takes
 * @offset: First byte, counted from the start of the device's buffer. 0 to 4095.
 * @size_bytes: How many bytes; offset + sizeBytes ends within 4095. 0 to 4095.
 */
struct uaccel_edu_dma_read_in {
	uint32_t offset;
	uint32_t size_bytes;
};
static_assert(sizeof(struct uaccel_edu_dma_read_in) == 8, "size");
static_assert(offsetof(struct uaccel_edu_dma_read_in, offset) == 0, "offset");
static_assert(offsetof(struct uaccel_edu_dma_read_in, size_bytes) == 4, "offset");

/**
 * struct uaccel_edu_dma_read_out - what UACCEL_EDU_CMD_DMA_READ answers
 * @data_length: Bytes of @data: at most 4095.
 * @data: What was there. Zero where unused.
 * @reserved_4099: Zero.
 */
struct uaccel_edu_dma_read_out {
	uint32_t data_length;
	uint8_t data[4095];
	uint8_t reserved_4099[1];
};
static_assert(sizeof(struct uaccel_edu_dma_read_out) == 4100, "size");
static_assert(offsetof(struct uaccel_edu_dma_read_out, data_length) == 0, "offset");
static_assert(offsetof(struct uaccel_edu_dma_read_out, data) == 4, "offset");
static_assert(offsetof(struct uaccel_edu_dma_read_out, reserved_4099) == 4099, "offset");

/* Values of UACCEL_EDU_INTERRUPTS_OUT_TYPE. */
#define UACCEL_EDU_INTERRUPTS_OUT_TYPE_INTX UINT32_C(0)
#define UACCEL_EDU_INTERRUPTS_OUT_TYPE_MSI UINT32_C(1)
#define UACCEL_EDU_INTERRUPTS_OUT_TYPE_MSIX UINT32_C(2)

/**
 * struct uaccel_edu_interrupts_out - what UACCEL_EDU_CMD_INTERRUPTS answers
 * @type: The kind in use. One of UACCEL_EDU_INTERRUPTS_OUT_TYPE_*.
 * @count: Interrupts since probe, modulo 2^32.
 */
struct uaccel_edu_interrupts_out {
	uint32_t type;
	uint32_t count;
};
static_assert(sizeof(struct uaccel_edu_interrupts_out) == 8, "size");
static_assert(offsetof(struct uaccel_edu_interrupts_out, type) == 0, "offset");
static_assert(offsetof(struct uaccel_edu_interrupts_out, count) == 4, "offset");

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_EDU_UAPI_H */
