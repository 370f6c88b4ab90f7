/* The listener: an epoll loop whose handler notes how long ago the event was signalled. Answers the p50 and p99. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include "eventfd.h"

static struct page *page;
static int epoll;
static uint32_t handled;

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void run(long operations, double *out)
{
	uint64_t *latency = calloc(operations, sizeof(*latency));
	struct epoll_event event;
	eventfd_t count;
	uint64_t now;

	if (latency == NULL)
		fail("calloc");
	for (long i = 0; i < operations; i++) {
		check(epoll_wait(epoll, &event, 1, PATIENCE_MS) == 1, "eventfd-epoll: no event came");
		now = now_ns();
		if (eventfd_read(event.data.fd, &count) < 0)
			fail("eventfd_read");
		latency[i] = now - page->signalled_ns;
		page->handled = ++handled;
	}
	qsort(latency, operations, sizeof(*latency), ascending);
	out[0] = latency[operations / 2] / 1000.0;
	out[1] = latency[operations * 99 / 100] / 1000.0;
	free(latency);
}

int main(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = EVENT_FD};

	page = map_page();
	epoll = epoll_create1(0);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, EVENT_FD, &event) < 0)
		fail("epoll");
	return serve(run, 2);
}
