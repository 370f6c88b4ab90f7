/* What the writer and its listener share: the eventfd on descriptor 3, and a page of memory on descriptor 4. */
#ifndef UACCEL_BENCH_EVENTFD_H
#define UACCEL_BENCH_EVENTFD_H

#include <sys/mman.h>
#include "bench.h"

#define EVENT_FD 3
#define PAGE_FD 4
/* How long each waits for the other, which may be gone. */
#define PATIENCE_MS 5000

struct page {
	volatile uint64_t signalled_ns; /* CLOCK_MONOTONIC, right before the write */
	volatile uint64_t reserved;
	volatile uint32_t handled; /* events that the listener has seen, since it began */
};

static inline struct page *map_page(void)
{
	struct page *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, PAGE_FD, 0);

	if (page == MAP_FAILED)
		fail("mmap");
	return page;
}

#endif
