/* Asks as many requests at a time as the second argument says, and waits for all answers. */
#include "node.h"

static int fd, window;

static void run(long operations, double *out)
{
	static char requests[WINDOW * REQUEST_BYTES], replies[WINDOW * REPLY_BYTES];
	uint64_t start = now_ns();

	for (long done = 0; done < operations; done += window) {
		size_t wanted = (size_t)window * REPLY_BYTES, size = 0;

		send_all(fd, requests, (size_t)window * REQUEST_BYTES);
		while (size < wanted) {
			ssize_t got = read(fd, replies, wanted - size);

			check(got > 0, "node-client: the server left");
			size += got;
		}
	}
	out[0] = (now_ns() - start) / 1000.0 / operations;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = address_of(argc > 1 ? argv[1] : "");

	window = argc > 2 ? atoi(argv[2]) : 1;
	check(window >= 1 && window <= WINDOW, "node-client: requests at a time");
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(argv[1]);
	return serve(run, 1);
}
