/*
 * Reads from an NVMe controller that is bound to vfio-pci, by group and type 1 (linux/vfio.h; Documentation/driver-api/vfio.rst). It has its
 * IOMMU group to itself. Arguments: BDF LOOK_AHEAD LOOK_LIMIT DEPTH...
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "nvme-reads.h"

#define REGISTERS_BYTES (DOORBELLS + PAGE)

static const char *bdf;
static int container, group, device;
static volatile char *registers;

static uint32_t read_register(uint32_t offset)
{
	return *(volatile uint32_t *)(registers + offset);
}

static void write_register(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(registers + offset) = value;
}

static int call(int fd, unsigned long request, const void *argument, const char *what)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		fail(what);
	return result;
}

static int open_group(void)
{
	char link[PATH_MAX], target[PATH_MAX];
	ssize_t length;
	int fd;

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", bdf);
	length = readlink(link, target, sizeof(target) - 1);
	if (length < 0)
		fail(link);
	target[length] = 0;
	snprintf(link, sizeof(link), "/dev/vfio/%s", strrchr(target, '/') + 1);
	fd = open(link, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail(link);
	return fd;
}

static void map_memory(void)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.iova = MEMORY_IOVA,
		.size = MEMORY_BYTES,
	};

	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	map.vaddr = (uintptr_t)memory;
	call(container, VFIO_IOMMU_MAP_DMA, &map, "VFIO_IOMMU_MAP_DMA");
}

static void open_device(void)
{
	struct vfio_region_info bar = {.argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX};
	struct vfio_region_info config = {.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX};
	const uint16_t command = 6; /* memory decoding and bus mastering (PCI 3.0, 6.2.2) */

	container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container < 0)
		fail("/dev/vfio/vfio");
	group = open_group();
	call(group, VFIO_GROUP_SET_CONTAINER, &container, "VFIO_GROUP_SET_CONTAINER");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		fail("VFIO_SET_IOMMU");
	device = call(group, VFIO_GROUP_GET_DEVICE_FD, bdf, "VFIO_GROUP_GET_DEVICE_FD");
	call(device, VFIO_DEVICE_GET_REGION_INFO, &bar, "VFIO_DEVICE_GET_REGION_INFO");
	call(device, VFIO_DEVICE_GET_REGION_INFO, &config, "VFIO_DEVICE_GET_REGION_INFO");
	check(bar.flags & VFIO_REGION_INFO_FLAG_MMAP && bar.size >= REGISTERS_BYTES, "vfio: BAR 0 cannot be mapped");
	if (pwrite(device, &command, sizeof(command), config.offset + 4) != sizeof(command))
		fail("pwrite to config space");
	registers = mmap(NULL, REGISTERS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset);
	if (registers == MAP_FAILED)
		fail("mmap of BAR 0");
	doorbells = (volatile uint32_t *)(registers + DOORBELLS);
	map_memory();
}

/* The kernel takes mappings back with the container. */
static void close_device(void)
{
	munmap((void *)registers, REGISTERS_BYTES);
	close(device);
	close(group);
	close(container);
	munmap(memory, MEMORY_BYTES);
}

int main(int argc, char **argv)
{
	bdf = argc > 1 ? argv[1] : "";
	return serve_reads(argc, argv);
}
