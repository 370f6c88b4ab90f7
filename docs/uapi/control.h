/*
 * uAPI of control, version 1. Made from its definition by `uaccel uapi`: do not edit.
 *
 * Numbers are little-endian, on every machine. What is reserved or unused is zero, or the
 * structure is refused (ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an
 * older version is extended with zeroes, a longer one is taken while what is not known of it is
 * zero.
 */

#ifndef UACCEL_CONTROL_UAPI_H
#define UACCEL_CONTROL_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define UACCEL_CONTROL_UAPI_VERSION 1

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_CONTROL_UAPI_DIGEST \
	"\xf4\x9a\xcd\xad\x17\xe4\x04\x69" \
	"\x8a\x1a\x25\xf1\xad\x50\x7c\xa7" \
	"\xbf\xa4\x5b\xcc\xf1\x89\xc0\x34" \
	"\xd3\xd7\x21\xcb\x3c\xf6\x22\x30"

/*
 * The nodes that there are or are to be, in the order of their numbers, from entry `from` on;
 * `total` counts all. `failed` is not tried again by itself, `back_off` is, `retry_ns` from
 * now; `stopped` was stopped by `stop`. `status` and `opens` are what the process of the device
 * said last. `since_ns` is when the state began, as CLOCK_REALTIME counts, `restarts` counts
 * processes after the first, and `reason` says why it does not run, or did not the last time.
 * `driver` and `transport` are empty until they are known.
 */
#define UACCEL_CONTROL_CMD_NODES 0x0040

/*
 * Reads the configuration anew. What is wrong in it changes nothing, and is the answer. Devices
 * whose configuration is the same are left alone. The answer comes when what went is gone; what
 * came may still be starting.
 */
#define UACCEL_CONTROL_CMD_RELOAD 0x0041

/*
 * Starts a node that was stopped, failed, or waits for its next attempt. The answer comes when
 * it runs, or why it does not.
 */
#define UACCEL_CONTROL_CMD_START 0x0042

/*
 * Stops a node until it is started: opens are refused, what is under way gets the time that the
 * configuration gives it, the device is brought to rest. The answer comes when its process has
 * ended.
 */
#define UACCEL_CONTROL_CMD_STOP 0x0043

/**
 * struct uaccel_control_nodes_in - what UACCEL_CONTROL_CMD_NODES takes
 * @from:
 */
struct uaccel_control_nodes_in {
	uint32_t from;
};
static_assert(sizeof(struct uaccel_control_nodes_in) == 4, "size");
static_assert(offsetof(struct uaccel_control_nodes_in, from) == 0, "offset");

/* Values of UACCEL_CONTROL_NODES_OUT_ENTRIES_STATE. */
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATE_STARTING UINT32_C(0)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATE_RUNNING UINT32_C(1)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATE_BACK_OFF UINT32_C(2)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATE_FAILED UINT32_C(3)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATE_STOPPED UINT32_C(4)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATE_STOPPING UINT32_C(5)

/* Flags: bits of UACCEL_CONTROL_NODES_OUT_ENTRIES_KNOWN. */
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_KNOWN_PID (UINT32_C(1) << 0)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_KNOWN_RETRY (UINT32_C(1) << 1)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_KNOWN_STATUS (UINT32_C(1) << 2)

/* Values of UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS. */
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS_OPERATIONAL UINT32_C(0)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS_IN_RESET UINT32_C(1)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS_NEEDS_RESET UINT32_C(2)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS_MALFUNCTION UINT32_C(3)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS_BEING_CREATED UINT32_C(4)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS_BEING_CLEANED UINT32_C(5)
#define UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS_REMOVED UINT32_C(6)

/**
 * struct uaccel_control_nodes_out_entries - a part of the structure that follows
 * @name_length: Bytes of @name: at most 32.
 * @name: UTF-8, not terminated, zero where unused.
 * @driver_length: Bytes of @driver: at most 32.
 * @driver: UTF-8, not terminated, zero where unused.
 * @transport_length: Bytes of @transport: at most 16.
 * @transport: UTF-8, not terminated, zero where unused.
 * @address_length: Bytes of @address: at most 256.
 * @address: UTF-8, not terminated, zero where unused.
 * @state: One of UACCEL_CONTROL_NODES_OUT_ENTRIES_STATE_*.
 * @known: Bits of UACCEL_CONTROL_NODES_OUT_ENTRIES_KNOWN_*.
 * @pid:
 * @restarts:
 * @since_ns:
 * @retry_ns:
 * @status: One of UACCEL_CONTROL_NODES_OUT_ENTRIES_STATUS_*.
 * @opens:
 * @exclusive: 0 or 1.
 * @reserved_393: Zero.
 * @reason_length: Bytes of @reason: at most 256.
 * @reason: UTF-8, not terminated, zero where unused.
 */
struct uaccel_control_nodes_out_entries {
	uint32_t name_length;
	char name[32];
	uint32_t driver_length;
	char driver[32];
	uint32_t transport_length;
	char transport[16];
	uint32_t address_length;
	char address[256];
	uint32_t state;
	uint32_t known;
	uint32_t pid;
	uint32_t restarts;
	uint64_t since_ns;
	uint64_t retry_ns;
	uint32_t status;
	uint32_t opens;
	uint8_t exclusive;
	uint8_t reserved_393[3];
	uint32_t reason_length;
	char reason[256];
};
static_assert(sizeof(struct uaccel_control_nodes_out_entries) == 656, "size");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, name_length) == 0, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, name) == 4, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, driver_length) == 36, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, driver) == 40, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, transport_length) == 72, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, transport) == 76, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, address_length) == 92, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, address) == 96, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, state) == 352, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, known) == 356, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, pid) == 360, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, restarts) == 364, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, since_ns) == 368, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, retry_ns) == 376, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, status) == 384, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, opens) == 388, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, exclusive) == 392, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, reserved_393) == 393, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, reason_length) == 396, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out_entries, reason) == 400, "offset");

/**
 * struct uaccel_control_nodes_out - what UACCEL_CONTROL_CMD_NODES answers
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 16.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_control_nodes_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_control_nodes_out_entries entries[16];
};
static_assert(sizeof(struct uaccel_control_nodes_out) == 10512, "size");
static_assert(offsetof(struct uaccel_control_nodes_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_control_nodes_out, entries) == 16, "offset");

/**
 * struct uaccel_control_reload_out - what UACCEL_CONTROL_CMD_RELOAD answers
 * @added:
 * @removed:
 * @changed:
 * @kept:
 */
struct uaccel_control_reload_out {
	uint32_t added;
	uint32_t removed;
	uint32_t changed;
	uint32_t kept;
};
static_assert(sizeof(struct uaccel_control_reload_out) == 16, "size");
static_assert(offsetof(struct uaccel_control_reload_out, added) == 0, "offset");
static_assert(offsetof(struct uaccel_control_reload_out, removed) == 4, "offset");
static_assert(offsetof(struct uaccel_control_reload_out, changed) == 8, "offset");
static_assert(offsetof(struct uaccel_control_reload_out, kept) == 12, "offset");

/**
 * struct uaccel_control_start_in - what UACCEL_CONTROL_CMD_START takes
 * @node_length: Bytes of @node: at most 32.
 * @node: UTF-8, not terminated, zero where unused.
 */
struct uaccel_control_start_in {
	uint32_t node_length;
	char node[32];
};
static_assert(sizeof(struct uaccel_control_start_in) == 36, "size");
static_assert(offsetof(struct uaccel_control_start_in, node_length) == 0, "offset");
static_assert(offsetof(struct uaccel_control_start_in, node) == 4, "offset");

/**
 * struct uaccel_control_stop_in - what UACCEL_CONTROL_CMD_STOP takes
 * @node_length: Bytes of @node: at most 32.
 * @node: UTF-8, not terminated, zero where unused.
 */
struct uaccel_control_stop_in {
	uint32_t node_length;
	char node[32];
};
static_assert(sizeof(struct uaccel_control_stop_in) == 36, "size");
static_assert(offsetof(struct uaccel_control_stop_in, node_length) == 0, "offset");
static_assert(offsetof(struct uaccel_control_stop_in, node) == 4, "offset");

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_CONTROL_UAPI_H */
