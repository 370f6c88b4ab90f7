/* Signals an eventfd, one event at a time: the next only when the last was handled and the listener sleeps again. */
#include <sys/eventfd.h>
#include "eventfd.h"

static struct page *page;
static uint32_t sent;

static void run(long operations, double *out)
{
	const struct timespec rest = {0, 30000};

	for (long i = 0; i < operations; i++) {
		page->signalled_ns = now_ns();
		if (eventfd_write(EVENT_FD, 1) < 0)
			fail("eventfd_write");
		sent++;
		do {
			nanosleep(&rest, NULL);
			check(now_ns() - page->signalled_ns < PATIENCE_MS * 1000000ull, "eventfd-writer: an event was not handled");
		} while (page->handled != sent);
	}
	out[0] = operations;
}

int main(void)
{
	page = map_page();
	return serve(run, 1);
}
