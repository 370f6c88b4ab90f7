/*
 * uAPI of npu, version 3. Made from its definition by `uaccel uapi`: do not edit.
 *
 * Numbers are little-endian, on every machine. What is reserved or unused is zero, or the
 * structure is refused (ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an
 * older version is extended with zeroes, a longer one is taken while what is not known of it is
 * zero.
 */

#ifndef UACCEL_NPU_UAPI_H
#define UACCEL_NPU_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define UACCEL_NPU_UAPI_VERSION 3

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_NPU_UAPI_DIGEST \
	"\x40\x4d\x76\xf2\x42\x27\x7a\xea" \
	"\x19\x36\xc5\xa8\x24\x2a\xff\x76" \
	"\xb8\x4c\x3a\x83\xca\x1d\xd4\x7d" \
	"\x96\x9d\x95\x5e\x0d\x35\x7d\x5c"

/* What the device can do; the fields are those of its capability registers. */
#define UACCEL_NPU_CMD_IDENTIFY 0x0040

/* The performance counters as of one moment; `clear` sets them to 0 after they were read. */
#define UACCEL_NPU_CMD_COUNTERS 0x0041

/* Resets the controller. Jobs under way end with an error; contexts and their memory stay. */
#define UACCEL_NPU_CMD_RESET 0x0042

/**
 * struct uaccel_npu_identify_out - what UACCEL_NPU_CMD_IDENTIFY answers
 * @version_length: Bytes of @version: at most 16.
 * @version: Version of the specification: major.minor.patch. UTF-8, not terminated, zero where
 *	unused.
 * @queues: Queues of the device.
 * @windows: Windows of each queue.
 * @min_ring_entries: Entries of the smallest ring.
 * @max_ring_entries: Entries of the largest ring.
 * @max_dimension: The largest dimension, kernel size, stride, dilation and pad.
 * @max_elements: Elements that one tensor may have at most.
 * @max_macs: Multiply-accumulates that one descriptor may take at most.
 * @opcodes: Bit n is set where the device has opcode n.
 * @data_types: Bit n is set where the device has data type n.
 * @clock_khz: Rate of the cycles that are counted.
 * @card_bytes: Memory on the card.
 * @ready_timeout_ms: The longest time that the controller takes to start or to stop.
 * @reserved_84: Zero.
 */
struct uaccel_npu_identify_out {
	uint32_t version_length;
	char version[16];
	uint32_t queues;
	uint32_t windows;
	uint32_t min_ring_entries;
	uint32_t max_ring_entries;
	uint32_t max_dimension;
	uint64_t max_elements;
	uint64_t max_macs;
	uint64_t opcodes;
	uint32_t data_types;
	uint32_t clock_khz;
	uint64_t card_bytes;
	uint32_t ready_timeout_ms;
	uint8_t reserved_84[4];
};
static_assert(sizeof(struct uaccel_npu_identify_out) == 88, "size");
static_assert(offsetof(struct uaccel_npu_identify_out, version_length) == 0, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, version) == 4, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, queues) == 20, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, windows) == 24, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, min_ring_entries) == 28, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, max_ring_entries) == 32, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, max_dimension) == 36, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, max_elements) == 40, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, max_macs) == 48, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, opcodes) == 56, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, data_types) == 64, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, clock_khz) == 68, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, card_bytes) == 72, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, ready_timeout_ms) == 80, "offset");
static_assert(offsetof(struct uaccel_npu_identify_out, reserved_84) == 84, "offset");

/**
 * struct uaccel_npu_counters_in - what UACCEL_NPU_CMD_COUNTERS takes
 * @clear: Whether to start again from 0. 0 or 1.
 */
struct uaccel_npu_counters_in {
	uint8_t clear;
};
static_assert(sizeof(struct uaccel_npu_counters_in) == 1, "size");
static_assert(offsetof(struct uaccel_npu_counters_in, clear) == 0, "offset");

/**
 * struct uaccel_npu_counters_out - what UACCEL_NPU_CMD_COUNTERS answers
 * @cycles_busy: Cycles in which at least one descriptor was being executed.
 * @descriptors: Completions posted.
 * @errors: Of these, with a status other than success.
 * @bytes_read: Bytes of tensors, tables and parameter blocks read.
 * @bytes_written: Bytes of tensors written.
 * @macs: Multiply-accumulates done.
 */
struct uaccel_npu_counters_out {
	uint64_t cycles_busy;
	uint64_t descriptors;
	uint64_t errors;
	uint64_t bytes_read;
	uint64_t bytes_written;
	uint64_t macs;
};
static_assert(sizeof(struct uaccel_npu_counters_out) == 48, "size");
static_assert(offsetof(struct uaccel_npu_counters_out, cycles_busy) == 0, "offset");
static_assert(offsetof(struct uaccel_npu_counters_out, descriptors) == 8, "offset");
static_assert(offsetof(struct uaccel_npu_counters_out, errors) == 16, "offset");
static_assert(offsetof(struct uaccel_npu_counters_out, bytes_read) == 24, "offset");
static_assert(offsetof(struct uaccel_npu_counters_out, bytes_written) == 32, "offset");
static_assert(offsetof(struct uaccel_npu_counters_out, macs) == 40, "offset");

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_NPU_UAPI_H */
