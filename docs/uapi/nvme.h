/*
 * uAPI of nvme, version 1. Made from its definition by `uaccel uapi`: do not edit.
 *
 * Numbers are little-endian, on every machine. What is reserved or unused is zero, or the
 * structure is refused (ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an
 * older version is extended with zeroes, a longer one is taken while what is not known of it is
 * zero.
 */

#ifndef UACCEL_NVME_UAPI_H
#define UACCEL_NVME_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define UACCEL_NVME_UAPI_VERSION 1

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_NVME_UAPI_DIGEST \
	"\x10\x86\x9c\x5d\x9d\xcc\x90\x26" \
	"\x61\x09\x34\x64\x4a\x85\xcf\x69" \
	"\xe9\x8f\x5e\x4e\x89\x04\xa5\x9c" \
	"\x7e\x51\xa0\x64\x61\xb9\x0f\x8b"

/* What the controller says of itself, and how the driver uses it. */
#define UACCEL_NVME_CMD_IDENTIFY 0x0040

/* The active namespaces after number `after`, ascending, as many as there is room for. */
#define UACCEL_NVME_CMD_NAMESPACES 0x0041

/* The health log page. Counters that go beyond 64 bits end at the largest number. */
#define UACCEL_NVME_CMD_HEALTH 0x0042

/*
 * An admin command as it is, for the owner of the node alone. It moves a page at most, in the
 * direction that its opcode says; commands that name other memory, whose length is unknown, or
 * that the driver issues itself are refused.
 */
#define UACCEL_NVME_CMD_ADMIN 0x0043

/* Resets the controller. Commands under way end with an error, and may be repeated. */
#define UACCEL_NVME_CMD_RESET 0x0044

/* Flags: bits of UACCEL_NVME_IDENTIFY_OUT_FEATURES. */
#define UACCEL_NVME_IDENTIFY_OUT_FEATURES_COMPARE (UINT32_C(1) << 0)
#define UACCEL_NVME_IDENTIFY_OUT_FEATURES_WRITE_ZEROES (UINT32_C(1) << 1)
#define UACCEL_NVME_IDENTIFY_OUT_FEATURES_DEALLOCATE (UINT32_C(1) << 2)
#define UACCEL_NVME_IDENTIFY_OUT_FEATURES_VOLATILE_WRITE_CACHE (UINT32_C(1) << 3)
#define UACCEL_NVME_IDENTIFY_OUT_FEATURES_COPY (UINT32_C(1) << 4)

/**
 * struct uaccel_nvme_identify_out - what UACCEL_NVME_CMD_IDENTIFY answers
 * @vendor: PCI vendor id.
 * @serial_length: Bytes of @serial: at most 20.
 * @serial: Serial number. UTF-8, not terminated, zero where unused.
 * @model_length: Bytes of @model: at most 40.
 * @model: Model number. UTF-8, not terminated, zero where unused.
 * @firmware_length: Bytes of @firmware: at most 8.
 * @firmware: Firmware revision. UTF-8, not terminated, zero where unused.
 * @version_length: Bytes of @version: at most 16.
 * @version: Of the specification: major.minor.tertiary. UTF-8, not terminated, zero where
 *	unused.
 * @queues: I/O queue pairs in use.
 * @queue_depth: Commands that each has under way at most.
 * @max_transfer_bytes: What one command moves at most; the driver splits what is longer.
 * @features: Optional commands that it has. Bits of UACCEL_NVME_IDENTIFY_OUT_FEATURES_*.
 */
struct uaccel_nvme_identify_out {
	uint32_t vendor;
	uint32_t serial_length;
	char serial[20];
	uint32_t model_length;
	char model[40];
	uint32_t firmware_length;
	char firmware[8];
	uint32_t version_length;
	char version[16];
	uint32_t queues;
	uint32_t queue_depth;
	uint32_t max_transfer_bytes;
	uint32_t features;
};
static_assert(sizeof(struct uaccel_nvme_identify_out) == 120, "size");
static_assert(offsetof(struct uaccel_nvme_identify_out, vendor) == 0, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, serial_length) == 4, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, serial) == 8, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, model_length) == 28, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, model) == 32, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, firmware_length) == 72, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, firmware) == 76, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, version_length) == 84, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, version) == 88, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, queues) == 104, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, queue_depth) == 108, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, max_transfer_bytes) == 112, "offset");
static_assert(offsetof(struct uaccel_nvme_identify_out, features) == 116, "offset");

/**
 * struct uaccel_nvme_namespaces_in - what UACCEL_NVME_CMD_NAMESPACES takes
 * @after: 0 at first; then the last of the answer before.
 */
struct uaccel_nvme_namespaces_in {
	uint32_t after;
};
static_assert(sizeof(struct uaccel_nvme_namespaces_in) == 4, "size");
static_assert(offsetof(struct uaccel_nvme_namespaces_in, after) == 0, "offset");

/**
 * struct uaccel_nvme_namespaces_out_namespaces - a part of the structure that follows
 * @nsid: Its number.
 * @block_bytes: Bytes of a block.
 * @metadata_bytes: Bytes of metadata beside each block.
 * @usable: Whether this driver reads and writes it. 0 or 1.
 * @reserved_13: Zero.
 * @blocks: Blocks it has.
 */
struct uaccel_nvme_namespaces_out_namespaces {
	uint32_t nsid;
	uint32_t block_bytes;
	uint32_t metadata_bytes;
	uint8_t usable;
	uint8_t reserved_13[3];
	uint64_t blocks;
};
static_assert(sizeof(struct uaccel_nvme_namespaces_out_namespaces) == 24, "size");
static_assert(offsetof(struct uaccel_nvme_namespaces_out_namespaces, nsid) == 0, "offset");
static_assert(offsetof(struct uaccel_nvme_namespaces_out_namespaces, block_bytes) == 4, "offset");
static_assert(offsetof(struct uaccel_nvme_namespaces_out_namespaces, metadata_bytes) == 8, "offset");
static_assert(offsetof(struct uaccel_nvme_namespaces_out_namespaces, usable) == 12, "offset");
static_assert(offsetof(struct uaccel_nvme_namespaces_out_namespaces, reserved_13) == 13, "offset");
static_assert(offsetof(struct uaccel_nvme_namespaces_out_namespaces, blocks) == 16, "offset");

/**
 * struct uaccel_nvme_namespaces_out - what UACCEL_NVME_CMD_NAMESPACES answers
 * @namespaces_count: Elements of @namespaces: at most 64.
 * @reserved_4: Zero.
 * @namespaces: Zero where unused.
 */
struct uaccel_nvme_namespaces_out {
	uint32_t namespaces_count;
	uint8_t reserved_4[4];
	struct uaccel_nvme_namespaces_out_namespaces namespaces[64];
};
static_assert(sizeof(struct uaccel_nvme_namespaces_out) == 1544, "size");
static_assert(offsetof(struct uaccel_nvme_namespaces_out, namespaces_count) == 0, "offset");
static_assert(offsetof(struct uaccel_nvme_namespaces_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_nvme_namespaces_out, namespaces) == 8, "offset");

/* Flags: bits of UACCEL_NVME_HEALTH_OUT_CRITICAL_WARNING. */
#define UACCEL_NVME_HEALTH_OUT_CRITICAL_WARNING_SPARE (UINT32_C(1) << 0)
#define UACCEL_NVME_HEALTH_OUT_CRITICAL_WARNING_TEMPERATURE (UINT32_C(1) << 1)
#define UACCEL_NVME_HEALTH_OUT_CRITICAL_WARNING_RELIABILITY (UINT32_C(1) << 2)
#define UACCEL_NVME_HEALTH_OUT_CRITICAL_WARNING_READ_ONLY (UINT32_C(1) << 3)
#define UACCEL_NVME_HEALTH_OUT_CRITICAL_WARNING_BACKUP (UINT32_C(1) << 4)
#define UACCEL_NVME_HEALTH_OUT_CRITICAL_WARNING_PERSISTENT_REGION (UINT32_C(1) << 5)

/**
 * struct uaccel_nvme_health_out - what UACCEL_NVME_CMD_HEALTH answers
 * @critical_warning: Why to worry. Bits of UACCEL_NVME_HEALTH_OUT_CRITICAL_WARNING_*.
 * @temperature_kelvin: Of the controller.
 * @available_spare_percent: Spare capacity that is left.
 * @spare_threshold_percent: Below which there is a warning.
 * @used_percent: Of its life, as the vendor sees it; may exceed 100.
 * @reserved_20: Zero.
 * @bytes_read: By the host, in units of 512,000.
 * @bytes_written: By the host, in units of 512,000.
 * @read_commands:
 * @write_commands:
 * @busy_minutes:
 * @power_cycles:
 * @power_on_hours:
 * @unsafe_shutdowns:
 * @media_errors:
 * @error_log_entries:
 */
struct uaccel_nvme_health_out {
	uint32_t critical_warning;
	uint32_t temperature_kelvin;
	uint32_t available_spare_percent;
	uint32_t spare_threshold_percent;
	uint32_t used_percent;
	uint8_t reserved_20[4];
	uint64_t bytes_read;
	uint64_t bytes_written;
	uint64_t read_commands;
	uint64_t write_commands;
	uint64_t busy_minutes;
	uint64_t power_cycles;
	uint64_t power_on_hours;
	uint64_t unsafe_shutdowns;
	uint64_t media_errors;
	uint64_t error_log_entries;
};
static_assert(sizeof(struct uaccel_nvme_health_out) == 104, "size");
static_assert(offsetof(struct uaccel_nvme_health_out, critical_warning) == 0, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, temperature_kelvin) == 4, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, available_spare_percent) == 8, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, spare_threshold_percent) == 12, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, used_percent) == 16, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, reserved_20) == 20, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, bytes_read) == 24, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, bytes_written) == 32, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, read_commands) == 40, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, write_commands) == 48, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, busy_minutes) == 56, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, power_cycles) == 64, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, power_on_hours) == 72, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, unsafe_shutdowns) == 80, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, media_errors) == 88, "offset");
static_assert(offsetof(struct uaccel_nvme_health_out, error_log_entries) == 96, "offset");

/**
 * struct uaccel_nvme_admin_in - what UACCEL_NVME_CMD_ADMIN takes
 * @opcode: Opcode of the admin command set.
 * @reserved_1: Zero.
 * @nsid: Namespace; 0 for none.
 * @cdw10:
 * @cdw11:
 * @cdw12:
 * @cdw13:
 * @cdw14:
 * @cdw15:
 * @data_length: Bytes of @data: at most 4096.
 * @data: For the device, where the command takes some. Zero where unused.
 */
struct uaccel_nvme_admin_in {
	uint8_t opcode;
	uint8_t reserved_1[3];
	uint32_t nsid;
	uint32_t cdw10;
	uint32_t cdw11;
	uint32_t cdw12;
	uint32_t cdw13;
	uint32_t cdw14;
	uint32_t cdw15;
	uint32_t data_length;
	uint8_t data[4096];
};
static_assert(sizeof(struct uaccel_nvme_admin_in) == 4132, "size");
static_assert(offsetof(struct uaccel_nvme_admin_in, opcode) == 0, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, reserved_1) == 1, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, nsid) == 4, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, cdw10) == 8, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, cdw11) == 12, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, cdw12) == 16, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, cdw13) == 20, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, cdw14) == 24, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, cdw15) == 28, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, data_length) == 32, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_in, data) == 36, "offset");

/**
 * struct uaccel_nvme_admin_out - what UACCEL_NVME_CMD_ADMIN answers
 * @result: DW0 of the completion.
 * @data_length: Bytes of @data: at most 4096.
 * @data: From the device, where the command gives some. Zero where unused.
 */
struct uaccel_nvme_admin_out {
	uint32_t result;
	uint32_t data_length;
	uint8_t data[4096];
};
static_assert(sizeof(struct uaccel_nvme_admin_out) == 4104, "size");
static_assert(offsetof(struct uaccel_nvme_admin_out, result) == 0, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_out, data_length) == 4, "offset");
static_assert(offsetof(struct uaccel_nvme_admin_out, data) == 8, "offset");

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_NVME_UAPI_H */
