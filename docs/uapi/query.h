/*
 * uAPI of query, version 1. Made from its definition by `uaccel uapi`: do not edit.
 *
 * Numbers are little-endian, on every machine. What is reserved or unused is zero, or the
 * structure is refused (ERR_ACCEL_RESERVED). A structure grows at its end: a shorter one of an
 * older version is extended with zeroes, a longer one is taken while what is not known of it is
 * zero.
 */

#ifndef UACCEL_QUERY_UAPI_H
#define UACCEL_QUERY_UAPI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define UACCEL_QUERY_UAPI_VERSION 1

/* The 32 bytes that a node of the same binary form answers as `digest`. */
#define UACCEL_QUERY_UAPI_DIGEST \
	"\x9c\x24\x43\xe3\xaf\x46\xaf\x9a" \
	"\xd9\xc0\xb0\xb3\xe3\x45\x74\x9d" \
	"\x82\x67\x33\x0e\x61\xbb\xbc\xe3" \
	"\xff\x47\xcc\x62\x57\x51\x55\x53"

/*
 * Which device this is. `known.pci`: the numbers are those of its config space. `uapi` and
 * `uapi_version` are what its driver speaks; `name` and `firmware` are what the driver says of
 * the device.
 */
#define UACCEL_QUERY_KIND_IDENTITY 0x0000

/*
 * Whether the device works. `reason` says why, where it does not; `opens` are those that hold
 * it now.
 */
#define UACCEL_QUERY_KIND_STATUS 0x0001

/* The most, or least, that the device and its node take, by name. */
#define UACCEL_QUERY_KIND_LIMITS 0x0002

/*
 * Memory of the device: its BARs, and what the driver says is behind them. `mappable`: a part
 * of it at least.
 */
#define UACCEL_QUERY_KIND_MEMORY_REGIONS 0x0003

/*
 * What executes work. `command` is the turn that commands take, `job` what runs jobs where the
 * driver takes some, as many at once as it has `instances`; the others are the driver’s.
 * `busy_ns` adds up over all of `instances`, up to `at_ns`; `utilisation_permille` is of the
 * interval, at least 100 ms long, before the latest queries.
 */
#define UACCEL_QUERY_KIND_ENGINES 0x0004

/* The rates at which parts of the device run. */
#define UACCEL_QUERY_KIND_CLOCKS 0x0005

/* What the device takes. */
#define UACCEL_QUERY_KIND_POWER 0x0006

/*
 * What the device measures. Each value counts in `unit` times 10 to the power of `exponent`.
 */
#define UACCEL_QUERY_KIND_SENSORS 0x0007

/*
 * The opens that there are. `self` is the one that asks. Counters as in `counters`; `busy_ns`
 * is its part of engines `command` and `job`.
 */
#define UACCEL_QUERY_KIND_CONTEXTS 0x0008

/*
 * Commands of the driver and jobs since the node is there. Each of `submissions` becomes one of
 * `completions` or `failures`; `drops` are the failures that the driver never saw. `refusals`
 * never became a submission. `errors` are the failures by number of the error table, and
 * `events_lost` the events that were overwritten in the history.
 */
#define UACCEL_QUERY_KIND_COUNTERS 0x0009

/*
 * The latest resets, newest first; `error` is the number of what one failed with, or 0. `total`
 * counts all that there were.
 */
#define UACCEL_QUERY_KIND_RESETS 0x000a

/* The latest opens, newest first; `total` counts all that there were. */
#define UACCEL_QUERY_KIND_OPENS 0x000b

/*
 * The device’s clocks beside those of the host, as of one moment, which lies within
 * `uncertainty_ns` before or after: CLOCK_MONOTONIC and CLOCK_REALTIME.
 */
#define UACCEL_QUERY_KIND_TIME_SYNC 0x000c

/*
 * What each open uses, with the keys of DRM’s fdinfo (Documentation/gpu/drm-usage-stats.rst):
 * lines of `key:<tab>value`.
 */
#define UACCEL_QUERY_KIND_USAGE 0x000d

/* Flags: bits of UACCEL_QUERY_IDENTITY_OUT_KNOWN. */
#define UACCEL_QUERY_IDENTITY_OUT_KNOWN_PCI (UINT32_C(1) << 0)

/* Values of UACCEL_QUERY_IDENTITY_OUT_BUS. */
#define UACCEL_QUERY_IDENTITY_OUT_BUS_PCI UINT32_C(0)
#define UACCEL_QUERY_IDENTITY_OUT_BUS_PLATFORM UINT32_C(1)

/* Values of UACCEL_QUERY_IDENTITY_OUT_EMULATED. */
#define UACCEL_QUERY_IDENTITY_OUT_EMULATED_UNKNOWN UINT32_C(0)
#define UACCEL_QUERY_IDENTITY_OUT_EMULATED_NO UINT32_C(1)
#define UACCEL_QUERY_IDENTITY_OUT_EMULATED_YES UINT32_C(2)

/**
 * struct uaccel_query_identity_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_IDENTITY
 * @known: Bits of UACCEL_QUERY_IDENTITY_OUT_KNOWN_*.
 * @bus: One of UACCEL_QUERY_IDENTITY_OUT_BUS_*.
 * @vendor:
 * @device:
 * @subsystem_vendor: Of the config space, as `vendor` and `device`.
 * @subsystem:
 * @class_code: 24 bits: base class, subclass, interface.
 * @revision:
 * @reserved_21: Zero.
 * @emulated: Whether the device is software. One of UACCEL_QUERY_IDENTITY_OUT_EMULATED_*.
 * @uapi_version: Version of the driver's uAPI.
 * @node_length: Bytes of @node: at most 32.
 * @node: Name of the node, such as accel0. UTF-8, not terminated, zero where unused.
 * @driver_length: Bytes of @driver: at most 32.
 * @driver: UTF-8, not terminated, zero where unused.
 * @driver_version_length: Bytes of @driver_version: at most 32.
 * @driver_version: As the driver says; empty where it does not. UTF-8, not terminated, zero
 *	where unused.
 * @uapi_length: Bytes of @uapi: at most 32.
 * @uapi: UTF-8, not terminated, zero where unused.
 * @name_length: Bytes of @name: at most 64.
 * @name: UTF-8, not terminated, zero where unused.
 * @firmware_length: Bytes of @firmware: at most 64.
 * @firmware: UTF-8, not terminated, zero where unused.
 * @transport_length: Bytes of @transport: at most 16.
 * @transport: How the driver reaches the device: vfio, uio, vfio-user, loopback. UTF-8, not
 *	terminated, zero where unused.
 * @address_length: Bytes of @address: at most 256.
 * @address: Where the transport found it: a PCI address, a socket. UTF-8, not terminated, zero
 *	where unused.
 * @iommu_length: Bytes of @iommu: at most 16.
 * @iommu: Interface to the IOMMU: type1, iommufd, or none; empty where the kernel does not hold
 *	the device. UTF-8, not terminated, zero where unused.
 * @tainted_length: Bytes of @tainted: at most 256.
 * @tainted: Why the device can reach memory that is not its own; empty where an IOMMU isolates
 *	it. UTF-8, not terminated, zero where unused.
 */
struct uaccel_query_identity_out {
	uint32_t known;
	uint32_t bus;
	uint16_t vendor;
	uint16_t device;
	uint16_t subsystem_vendor;
	uint16_t subsystem;
	uint32_t class_code;
	uint8_t revision;
	uint8_t reserved_21[3];
	uint32_t emulated;
	uint32_t uapi_version;
	uint32_t node_length;
	char node[32];
	uint32_t driver_length;
	char driver[32];
	uint32_t driver_version_length;
	char driver_version[32];
	uint32_t uapi_length;
	char uapi[32];
	uint32_t name_length;
	char name[64];
	uint32_t firmware_length;
	char firmware[64];
	uint32_t transport_length;
	char transport[16];
	uint32_t address_length;
	char address[256];
	uint32_t iommu_length;
	char iommu[16];
	uint32_t tainted_length;
	char tainted[256];
};
static_assert(sizeof(struct uaccel_query_identity_out) == 872, "size");
static_assert(offsetof(struct uaccel_query_identity_out, known) == 0, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, bus) == 4, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, vendor) == 8, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, device) == 10, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, subsystem_vendor) == 12, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, subsystem) == 14, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, class_code) == 16, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, revision) == 20, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, reserved_21) == 21, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, emulated) == 24, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, uapi_version) == 28, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, node_length) == 32, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, node) == 36, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, driver_length) == 68, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, driver) == 72, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, driver_version_length) == 104, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, driver_version) == 108, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, uapi_length) == 140, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, uapi) == 144, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, name_length) == 176, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, name) == 180, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, firmware_length) == 244, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, firmware) == 248, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, transport_length) == 312, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, transport) == 316, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, address_length) == 332, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, address) == 336, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, iommu_length) == 592, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, iommu) == 596, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, tainted_length) == 612, "offset");
static_assert(offsetof(struct uaccel_query_identity_out, tainted) == 616, "offset");

/* Values of UACCEL_QUERY_STATUS_OUT_STATE. */
#define UACCEL_QUERY_STATUS_OUT_STATE_OPERATIONAL UINT32_C(0)
#define UACCEL_QUERY_STATUS_OUT_STATE_IN_RESET UINT32_C(1)
#define UACCEL_QUERY_STATUS_OUT_STATE_NEEDS_RESET UINT32_C(2)
#define UACCEL_QUERY_STATUS_OUT_STATE_MALFUNCTION UINT32_C(3)
#define UACCEL_QUERY_STATUS_OUT_STATE_BEING_CREATED UINT32_C(4)
#define UACCEL_QUERY_STATUS_OUT_STATE_BEING_CLEANED UINT32_C(5)
#define UACCEL_QUERY_STATUS_OUT_STATE_REMOVED UINT32_C(6)

/**
 * struct uaccel_query_status_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_STATUS
 * @state: One of UACCEL_QUERY_STATUS_OUT_STATE_*.
 * @opens:
 * @reason_length: Bytes of @reason: at most 256.
 * @reason: UTF-8, not terminated, zero where unused.
 */
struct uaccel_query_status_out {
	uint32_t state;
	uint32_t opens;
	uint32_t reason_length;
	char reason[256];
};
static_assert(sizeof(struct uaccel_query_status_out) == 268, "size");
static_assert(offsetof(struct uaccel_query_status_out, state) == 0, "offset");
static_assert(offsetof(struct uaccel_query_status_out, opens) == 4, "offset");
static_assert(offsetof(struct uaccel_query_status_out, reason_length) == 8, "offset");
static_assert(offsetof(struct uaccel_query_status_out, reason) == 12, "offset");

/**
 * struct uaccel_query_limits_out_entries - a part of the structure that follows
 * @name_length: Bytes of @name: at most 32.
 * @name: UTF-8, not terminated, zero where unused.
 * @unit_length: Bytes of @unit: at most 16.
 * @unit: Of `value`, such as bytes; empty for a plain number. UTF-8, not terminated, zero where
 *	unused.
 * @value:
 */
struct uaccel_query_limits_out_entries {
	uint32_t name_length;
	char name[32];
	uint32_t unit_length;
	char unit[16];
	uint64_t value;
};
static_assert(sizeof(struct uaccel_query_limits_out_entries) == 64, "size");
static_assert(offsetof(struct uaccel_query_limits_out_entries, name_length) == 0, "offset");
static_assert(offsetof(struct uaccel_query_limits_out_entries, name) == 4, "offset");
static_assert(offsetof(struct uaccel_query_limits_out_entries, unit_length) == 36, "offset");
static_assert(offsetof(struct uaccel_query_limits_out_entries, unit) == 40, "offset");
static_assert(offsetof(struct uaccel_query_limits_out_entries, value) == 56, "offset");

/**
 * struct uaccel_query_limits_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_LIMITS
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 64.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_limits_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_limits_out_entries entries[64];
};
static_assert(sizeof(struct uaccel_query_limits_out) == 4112, "size");
static_assert(offsetof(struct uaccel_query_limits_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_limits_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_limits_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_limits_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_limits_out, entries) == 16, "offset");

/* Values of UACCEL_QUERY_MEMORY_REGIONS_OUT_ENTRIES_KIND. */
#define UACCEL_QUERY_MEMORY_REGIONS_OUT_ENTRIES_KIND_BAR UINT32_C(0)
#define UACCEL_QUERY_MEMORY_REGIONS_OUT_ENTRIES_KIND_DEVICE UINT32_C(1)

/* Flags: bits of UACCEL_QUERY_MEMORY_REGIONS_OUT_ENTRIES_KNOWN. */
#define UACCEL_QUERY_MEMORY_REGIONS_OUT_ENTRIES_KNOWN_USED (UINT32_C(1) << 0)

/**
 * struct uaccel_query_memory_regions_out_entries - a part of the structure that follows
 * @name_length: Bytes of @name: at most 32.
 * @name: UTF-8, not terminated, zero where unused.
 * @kind: A BAR, or memory behind it that the driver knows of. One of
 *	UACCEL_QUERY_MEMORY_REGIONS_OUT_ENTRIES_KIND_*.
 * @known: Bits of UACCEL_QUERY_MEMORY_REGIONS_OUT_ENTRIES_KNOWN_*.
 * @mappable: Whether a part of it, at least, can be mapped. 0 or 1.
 * @reserved_45: Zero.
 * @size_bytes:
 * @used_bytes: Where `known` says so.
 */
struct uaccel_query_memory_regions_out_entries {
	uint32_t name_length;
	char name[32];
	uint32_t kind;
	uint32_t known;
	uint8_t mappable;
	uint8_t reserved_45[3];
	uint64_t size_bytes;
	uint64_t used_bytes;
};
static_assert(sizeof(struct uaccel_query_memory_regions_out_entries) == 64, "size");
static_assert(offsetof(struct uaccel_query_memory_regions_out_entries, name_length) == 0, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out_entries, name) == 4, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out_entries, kind) == 36, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out_entries, known) == 40, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out_entries, mappable) == 44, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out_entries, reserved_45) == 45, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out_entries, size_bytes) == 48, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out_entries, used_bytes) == 56, "offset");

/**
 * struct uaccel_query_memory_regions_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_MEMORY_REGIONS
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 64.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_memory_regions_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_memory_regions_out_entries entries[64];
};
static_assert(sizeof(struct uaccel_query_memory_regions_out) == 4112, "size");
static_assert(offsetof(struct uaccel_query_memory_regions_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_memory_regions_out, entries) == 16, "offset");

/* Flags: bits of UACCEL_QUERY_ENGINES_OUT_ENTRIES_KNOWN. */
#define UACCEL_QUERY_ENGINES_OUT_ENTRIES_KNOWN_BUSY (UINT32_C(1) << 0)
#define UACCEL_QUERY_ENGINES_OUT_ENTRIES_KNOWN_UTILISATION (UINT32_C(1) << 1)
#define UACCEL_QUERY_ENGINES_OUT_ENTRIES_KNOWN_HEARTBEAT (UINT32_C(1) << 2)

/**
 * struct uaccel_query_engines_out_entries - a part of the structure that follows
 * @name_length: Bytes of @name: at most 32.
 * @name: UTF-8, not terminated, zero where unused.
 * @instances: How many of it work side by side.
 * @known: Bits of UACCEL_QUERY_ENGINES_OUT_ENTRIES_KNOWN_*.
 * @utilisation_permille: Where `known` says so: thousandths of the interval before.
 * @busy_ns: Where `known` says so: of all instances, up to `at_ns`.
 * @heartbeat: Where `known` says so: a counter that rises while the device lives.
 * @at_ns: When the others were read.
 */
struct uaccel_query_engines_out_entries {
	uint32_t name_length;
	char name[32];
	uint32_t instances;
	uint32_t known;
	uint32_t utilisation_permille;
	uint64_t busy_ns;
	uint64_t heartbeat;
	uint64_t at_ns;
};
static_assert(sizeof(struct uaccel_query_engines_out_entries) == 72, "size");
static_assert(offsetof(struct uaccel_query_engines_out_entries, name_length) == 0, "offset");
static_assert(offsetof(struct uaccel_query_engines_out_entries, name) == 4, "offset");
static_assert(offsetof(struct uaccel_query_engines_out_entries, instances) == 36, "offset");
static_assert(offsetof(struct uaccel_query_engines_out_entries, known) == 40, "offset");
static_assert(offsetof(struct uaccel_query_engines_out_entries, utilisation_permille) == 44, "offset");
static_assert(offsetof(struct uaccel_query_engines_out_entries, busy_ns) == 48, "offset");
static_assert(offsetof(struct uaccel_query_engines_out_entries, heartbeat) == 56, "offset");
static_assert(offsetof(struct uaccel_query_engines_out_entries, at_ns) == 64, "offset");

/**
 * struct uaccel_query_engines_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_ENGINES
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 64.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_engines_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_engines_out_entries entries[64];
};
static_assert(sizeof(struct uaccel_query_engines_out) == 4624, "size");
static_assert(offsetof(struct uaccel_query_engines_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_engines_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_engines_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_engines_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_engines_out, entries) == 16, "offset");

/* Flags: bits of UACCEL_QUERY_CLOCKS_OUT_ENTRIES_KNOWN. */
#define UACCEL_QUERY_CLOCKS_OUT_ENTRIES_KNOWN_MAX (UINT32_C(1) << 0)

/**
 * struct uaccel_query_clocks_out_entries - a part of the structure that follows
 * @name_length: Bytes of @name: at most 32.
 * @name: UTF-8, not terminated, zero where unused.
 * @known: Bits of UACCEL_QUERY_CLOCKS_OUT_ENTRIES_KNOWN_*.
 * @hz:
 * @max_hz: Where `known` says so.
 */
struct uaccel_query_clocks_out_entries {
	uint32_t name_length;
	char name[32];
	uint32_t known;
	uint64_t hz;
	uint64_t max_hz;
};
static_assert(sizeof(struct uaccel_query_clocks_out_entries) == 56, "size");
static_assert(offsetof(struct uaccel_query_clocks_out_entries, name_length) == 0, "offset");
static_assert(offsetof(struct uaccel_query_clocks_out_entries, name) == 4, "offset");
static_assert(offsetof(struct uaccel_query_clocks_out_entries, known) == 36, "offset");
static_assert(offsetof(struct uaccel_query_clocks_out_entries, hz) == 40, "offset");
static_assert(offsetof(struct uaccel_query_clocks_out_entries, max_hz) == 48, "offset");

/**
 * struct uaccel_query_clocks_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_CLOCKS
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 64.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_clocks_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_clocks_out_entries entries[64];
};
static_assert(sizeof(struct uaccel_query_clocks_out) == 3600, "size");
static_assert(offsetof(struct uaccel_query_clocks_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_clocks_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_clocks_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_clocks_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_clocks_out, entries) == 16, "offset");

/* Flags: bits of UACCEL_QUERY_POWER_OUT_KNOWN. */
#define UACCEL_QUERY_POWER_OUT_KNOWN_DRAWN (UINT32_C(1) << 0)
#define UACCEL_QUERY_POWER_OUT_KNOWN_CAP (UINT32_C(1) << 1)
#define UACCEL_QUERY_POWER_OUT_KNOWN_ENERGY (UINT32_C(1) << 2)

/**
 * struct uaccel_query_power_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_POWER
 * @known: Bits of UACCEL_QUERY_POWER_OUT_KNOWN_*.
 * @reserved_4: Zero.
 * @drawn_microwatts:
 * @cap_microwatts:
 * @energy_microjoules:
 * @state_length: Bytes of @state: at most 32.
 * @state: As the driver names it; empty where it does not. UTF-8, not terminated, zero where
 *	unused.
 * @reserved_68: Zero.
 */
struct uaccel_query_power_out {
	uint32_t known;
	uint8_t reserved_4[4];
	uint64_t drawn_microwatts;
	uint64_t cap_microwatts;
	uint64_t energy_microjoules;
	uint32_t state_length;
	char state[32];
	uint8_t reserved_68[4];
};
static_assert(sizeof(struct uaccel_query_power_out) == 72, "size");
static_assert(offsetof(struct uaccel_query_power_out, known) == 0, "offset");
static_assert(offsetof(struct uaccel_query_power_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_power_out, drawn_microwatts) == 8, "offset");
static_assert(offsetof(struct uaccel_query_power_out, cap_microwatts) == 16, "offset");
static_assert(offsetof(struct uaccel_query_power_out, energy_microjoules) == 24, "offset");
static_assert(offsetof(struct uaccel_query_power_out, state_length) == 32, "offset");
static_assert(offsetof(struct uaccel_query_power_out, state) == 36, "offset");
static_assert(offsetof(struct uaccel_query_power_out, reserved_68) == 68, "offset");

/* Values of UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND. */
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_OTHER UINT32_C(0)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_TEMPERATURE UINT32_C(1)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_VOLTAGE UINT32_C(2)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_CURRENT UINT32_C(3)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_POWER UINT32_C(4)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_ENERGY UINT32_C(5)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_FAN UINT32_C(6)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_HUMIDITY UINT32_C(7)

/* Flags: bits of UACCEL_QUERY_SENSORS_OUT_ENTRIES_KNOWN. */
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KNOWN_MIN (UINT32_C(1) << 0)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KNOWN_MAX (UINT32_C(1) << 1)
#define UACCEL_QUERY_SENSORS_OUT_ENTRIES_KNOWN_CRITICAL (UINT32_C(1) << 2)

/**
 * struct uaccel_query_sensors_out_entries - a part of the structure that follows
 * @name_length: Bytes of @name: at most 32.
 * @name: UTF-8, not terminated, zero where unused.
 * @kind: One of UACCEL_QUERY_SENSORS_OUT_ENTRIES_KIND_*.
 * @unit_length: Bytes of @unit: at most 16.
 * @unit: Of the values, before `exponent`. UTF-8, not terminated, zero where unused.
 * @exponent: Power of 10 that the values are multiplied by.
 * @known: Bits of UACCEL_QUERY_SENSORS_OUT_ENTRIES_KNOWN_*.
 * @reserved_68: Zero.
 * @value:
 * @min:
 * @max:
 * @critical:
 */
struct uaccel_query_sensors_out_entries {
	uint32_t name_length;
	char name[32];
	uint32_t kind;
	uint32_t unit_length;
	char unit[16];
	int32_t exponent;
	uint32_t known;
	uint8_t reserved_68[4];
	int64_t value;
	int64_t min;
	int64_t max;
	int64_t critical;
};
static_assert(sizeof(struct uaccel_query_sensors_out_entries) == 104, "size");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, name_length) == 0, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, name) == 4, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, kind) == 36, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, unit_length) == 40, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, unit) == 44, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, exponent) == 60, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, known) == 64, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, reserved_68) == 68, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, value) == 72, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, min) == 80, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, max) == 88, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out_entries, critical) == 96, "offset");

/**
 * struct uaccel_query_sensors_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_SENSORS
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 64.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_sensors_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_sensors_out_entries entries[64];
};
static_assert(sizeof(struct uaccel_query_sensors_out) == 6672, "size");
static_assert(offsetof(struct uaccel_query_sensors_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_sensors_out, entries) == 16, "offset");

/* Flags: bits of UACCEL_QUERY_CONTEXTS_OUT_ENTRIES_KNOWN. */
#define UACCEL_QUERY_CONTEXTS_OUT_ENTRIES_KNOWN_PEER (UINT32_C(1) << 0)

/* Flags: bits of UACCEL_QUERY_CONTEXTS_OUT_ENTRIES_RIGHTS. */
#define UACCEL_QUERY_CONTEXTS_OUT_ENTRIES_RIGHTS_RESET (UINT32_C(1) << 0)
#define UACCEL_QUERY_CONTEXTS_OUT_ENTRIES_RIGHTS_OWNER (UINT32_C(1) << 1)
#define UACCEL_QUERY_CONTEXTS_OUT_ENTRIES_RIGHTS_GROUP (UINT32_C(1) << 2)

/**
 * struct uaccel_query_contexts_out_entries - a part of the structure that follows
 * @id: Number of the open, as events name it.
 * @self: The open that asks. 0 or 1.
 * @reserved_5: Zero.
 * @known: Bits of UACCEL_QUERY_CONTEXTS_OUT_ENTRIES_KNOWN_*.
 * @pid: Of the process at the other end, where `known` has peer.
 * @uid:
 * @gid:
 * @rights: What it may do beyond calling commands. Bits of
 *	UACCEL_QUERY_CONTEXTS_OUT_ENTRIES_RIGHTS_*.
 * @reserved_28: Zero.
 * @opened_ns:
 * @busy_ns:
 * @submissions:
 * @completions:
 * @failures:
 */
struct uaccel_query_contexts_out_entries {
	uint32_t id;
	uint8_t self;
	uint8_t reserved_5[3];
	uint32_t known;
	uint32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint32_t rights;
	uint8_t reserved_28[4];
	uint64_t opened_ns;
	uint64_t busy_ns;
	uint64_t submissions;
	uint64_t completions;
	uint64_t failures;
};
static_assert(sizeof(struct uaccel_query_contexts_out_entries) == 72, "size");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, id) == 0, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, self) == 4, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, reserved_5) == 5, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, known) == 8, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, pid) == 12, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, uid) == 16, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, gid) == 20, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, rights) == 24, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, reserved_28) == 28, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, opened_ns) == 32, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, busy_ns) == 40, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, submissions) == 48, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, completions) == 56, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out_entries, failures) == 64, "offset");

/**
 * struct uaccel_query_contexts_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_CONTEXTS
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 64.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_contexts_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_contexts_out_entries entries[64];
};
static_assert(sizeof(struct uaccel_query_contexts_out) == 4624, "size");
static_assert(offsetof(struct uaccel_query_contexts_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_contexts_out, entries) == 16, "offset");

/**
 * struct uaccel_query_counters_out_errors - a part of the structure that follows
 * @error:
 * @reserved_4: Zero.
 * @count:
 */
struct uaccel_query_counters_out_errors {
	uint32_t error;
	uint8_t reserved_4[4];
	uint64_t count;
};
static_assert(sizeof(struct uaccel_query_counters_out_errors) == 16, "size");
static_assert(offsetof(struct uaccel_query_counters_out_errors, error) == 0, "offset");
static_assert(offsetof(struct uaccel_query_counters_out_errors, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_counters_out_errors, count) == 8, "offset");

/**
 * struct uaccel_query_counters_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_COUNTERS
 * @submissions:
 * @completions:
 * @failures:
 * @drops:
 * @refusals:
 * @opens:
 * @resets:
 * @events:
 * @events_lost:
 * @errors_count: Elements of @errors: at most 128.
 * @reserved_76: Zero.
 * @errors: Zero where unused.
 */
struct uaccel_query_counters_out {
	uint64_t submissions;
	uint64_t completions;
	uint64_t failures;
	uint64_t drops;
	uint64_t refusals;
	uint64_t opens;
	uint64_t resets;
	uint64_t events;
	uint64_t events_lost;
	uint32_t errors_count;
	uint8_t reserved_76[4];
	struct uaccel_query_counters_out_errors errors[128];
};
static_assert(sizeof(struct uaccel_query_counters_out) == 2128, "size");
static_assert(offsetof(struct uaccel_query_counters_out, submissions) == 0, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, completions) == 8, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, failures) == 16, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, drops) == 24, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, refusals) == 32, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, opens) == 40, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, resets) == 48, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, events) == 56, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, events_lost) == 64, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, errors_count) == 72, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, reserved_76) == 76, "offset");
static_assert(offsetof(struct uaccel_query_counters_out, errors) == 80, "offset");

/* Values of UACCEL_QUERY_RESETS_OUT_ENTRIES_KIND. */
#define UACCEL_QUERY_RESETS_OUT_ENTRIES_KIND_DEFAULT UINT32_C(0)
#define UACCEL_QUERY_RESETS_OUT_ENTRIES_KIND_FUNCTION UINT32_C(1)
#define UACCEL_QUERY_RESETS_OUT_ENTRIES_KIND_HOT UINT32_C(2)

/**
 * struct uaccel_query_resets_out_entries - a part of the structure that follows
 * @kind: One of UACCEL_QUERY_RESETS_OUT_ENTRIES_KIND_*.
 * @error: Number of the error that it failed with, or 0.
 * @started_ns:
 * @duration_ns:
 * @reason_length: Bytes of @reason: at most 160.
 * @reason: UTF-8, not terminated, zero where unused.
 * @reserved_188: Zero.
 */
struct uaccel_query_resets_out_entries {
	uint32_t kind;
	uint32_t error;
	uint64_t started_ns;
	uint64_t duration_ns;
	uint32_t reason_length;
	char reason[160];
	uint8_t reserved_188[4];
};
static_assert(sizeof(struct uaccel_query_resets_out_entries) == 192, "size");
static_assert(offsetof(struct uaccel_query_resets_out_entries, kind) == 0, "offset");
static_assert(offsetof(struct uaccel_query_resets_out_entries, error) == 4, "offset");
static_assert(offsetof(struct uaccel_query_resets_out_entries, started_ns) == 8, "offset");
static_assert(offsetof(struct uaccel_query_resets_out_entries, duration_ns) == 16, "offset");
static_assert(offsetof(struct uaccel_query_resets_out_entries, reason_length) == 24, "offset");
static_assert(offsetof(struct uaccel_query_resets_out_entries, reason) == 28, "offset");
static_assert(offsetof(struct uaccel_query_resets_out_entries, reserved_188) == 188, "offset");

/**
 * struct uaccel_query_resets_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_RESETS
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 32.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_resets_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_resets_out_entries entries[32];
};
static_assert(sizeof(struct uaccel_query_resets_out) == 6160, "size");
static_assert(offsetof(struct uaccel_query_resets_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_resets_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_resets_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_resets_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_resets_out, entries) == 16, "offset");

/* Flags: bits of UACCEL_QUERY_OPENS_OUT_ENTRIES_KNOWN. */
#define UACCEL_QUERY_OPENS_OUT_ENTRIES_KNOWN_CLOSED (UINT32_C(1) << 0)
#define UACCEL_QUERY_OPENS_OUT_ENTRIES_KNOWN_PEER (UINT32_C(1) << 1)

/**
 * struct uaccel_query_opens_out_entries - a part of the structure that follows
 * @id:
 * @known: Bits of UACCEL_QUERY_OPENS_OUT_ENTRIES_KNOWN_*.
 * @pid: Of the process at the other end, where `known` has peer.
 * @uid:
 * @gid:
 * @reserved_20: Zero.
 * @opened_ns:
 * @closed_ns: Where `known` has closed.
 */
struct uaccel_query_opens_out_entries {
	uint32_t id;
	uint32_t known;
	uint32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint8_t reserved_20[4];
	uint64_t opened_ns;
	uint64_t closed_ns;
};
static_assert(sizeof(struct uaccel_query_opens_out_entries) == 40, "size");
static_assert(offsetof(struct uaccel_query_opens_out_entries, id) == 0, "offset");
static_assert(offsetof(struct uaccel_query_opens_out_entries, known) == 4, "offset");
static_assert(offsetof(struct uaccel_query_opens_out_entries, pid) == 8, "offset");
static_assert(offsetof(struct uaccel_query_opens_out_entries, uid) == 12, "offset");
static_assert(offsetof(struct uaccel_query_opens_out_entries, gid) == 16, "offset");
static_assert(offsetof(struct uaccel_query_opens_out_entries, reserved_20) == 20, "offset");
static_assert(offsetof(struct uaccel_query_opens_out_entries, opened_ns) == 24, "offset");
static_assert(offsetof(struct uaccel_query_opens_out_entries, closed_ns) == 32, "offset");

/**
 * struct uaccel_query_opens_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_OPENS
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 64.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_opens_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_opens_out_entries entries[64];
};
static_assert(sizeof(struct uaccel_query_opens_out) == 2576, "size");
static_assert(offsetof(struct uaccel_query_opens_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_opens_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_opens_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_opens_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_opens_out, entries) == 16, "offset");

/**
 * struct uaccel_query_time_sync_out_entries - a part of the structure that follows
 * @name_length: Bytes of @name: at most 32.
 * @name: UTF-8, not terminated, zero where unused.
 * @reserved_36: Zero.
 * @device_ticks: The device's own clock.
 * @ticks_per_second:
 * @monotonic_ns:
 * @realtime_ns:
 * @uncertainty_ns: How far the moment may lie from the one of `monotonic_ns`, either way.
 */
struct uaccel_query_time_sync_out_entries {
	uint32_t name_length;
	char name[32];
	uint8_t reserved_36[4];
	uint64_t device_ticks;
	uint64_t ticks_per_second;
	uint64_t monotonic_ns;
	uint64_t realtime_ns;
	uint64_t uncertainty_ns;
};
static_assert(sizeof(struct uaccel_query_time_sync_out_entries) == 80, "size");
static_assert(offsetof(struct uaccel_query_time_sync_out_entries, name_length) == 0, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out_entries, name) == 4, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out_entries, reserved_36) == 36, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out_entries, device_ticks) == 40, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out_entries, ticks_per_second) == 48, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out_entries, monotonic_ns) == 56, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out_entries, realtime_ns) == 64, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out_entries, uncertainty_ns) == 72, "offset");

/**
 * struct uaccel_query_time_sync_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_TIME_SYNC
 * @total:
 * @reserved_4: Zero.
 * @entries_count: Elements of @entries: at most 32.
 * @reserved_12: Zero.
 * @entries: Zero where unused.
 */
struct uaccel_query_time_sync_out {
	uint32_t total;
	uint8_t reserved_4[4];
	uint32_t entries_count;
	uint8_t reserved_12[4];
	struct uaccel_query_time_sync_out_entries entries[32];
};
static_assert(sizeof(struct uaccel_query_time_sync_out) == 2576, "size");
static_assert(offsetof(struct uaccel_query_time_sync_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out, reserved_4) == 4, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out, entries_count) == 8, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out, reserved_12) == 12, "offset");
static_assert(offsetof(struct uaccel_query_time_sync_out, entries) == 16, "offset");

/**
 * struct uaccel_query_usage_out_entries - a part of the structure that follows
 * @open:
 * @self: 0 or 1.
 * @reserved_5: Zero.
 * @text_length: Bytes of @text: at most 1000.
 * @text: UTF-8, not terminated, zero where unused.
 */
struct uaccel_query_usage_out_entries {
	uint32_t open;
	uint8_t self;
	uint8_t reserved_5[3];
	uint32_t text_length;
	char text[1000];
};
static_assert(sizeof(struct uaccel_query_usage_out_entries) == 1012, "size");
static_assert(offsetof(struct uaccel_query_usage_out_entries, open) == 0, "offset");
static_assert(offsetof(struct uaccel_query_usage_out_entries, self) == 4, "offset");
static_assert(offsetof(struct uaccel_query_usage_out_entries, reserved_5) == 5, "offset");
static_assert(offsetof(struct uaccel_query_usage_out_entries, text_length) == 8, "offset");
static_assert(offsetof(struct uaccel_query_usage_out_entries, text) == 12, "offset");

/**
 * struct uaccel_query_usage_out - `data` of the answer to a query of kind
 * UACCEL_QUERY_KIND_USAGE
 * @total:
 * @entries_count: Elements of @entries: at most 8.
 * @entries: Zero where unused.
 */
struct uaccel_query_usage_out {
	uint32_t total;
	uint32_t entries_count;
	struct uaccel_query_usage_out_entries entries[8];
};
static_assert(sizeof(struct uaccel_query_usage_out) == 8104, "size");
static_assert(offsetof(struct uaccel_query_usage_out, total) == 0, "offset");
static_assert(offsetof(struct uaccel_query_usage_out, entries_count) == 4, "offset");
static_assert(offsetof(struct uaccel_query_usage_out, entries) == 8, "offset");

#if defined(__cplusplus)
}
#endif

#endif /* UACCEL_QUERY_UAPI_H */
