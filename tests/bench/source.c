/* The source of streams: answers every POST with events at a fixed period, and nothing else.
 *
 *     source PORT FOLDER
 *
 * C, because the Python one saturated its core near 1,000 streams at 10 ms and then measured itself. The frames are
 * files in FOLDER, made by upstreams.py: DIALECT.first is sent at once, DIALECT.delta once each period, DIALECT.last
 * behind the last delta. How many deltas and how far apart, the client says itself: max_tokens is deltas * 1000 +
 * milliseconds, because that number reaches us through every gateway and every translation. Each stream has its own
 * phase; those due within one millisecond are written together. A socket that is full keeps its frame, and the stream
 * is late: nothing is dropped. GET /count tells streams begun and deltas written.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DIALECTS = 2, MAX_EVENTS = 1024, BUFFER = 65536, FRAME = 65536, DEFAULT_DELTAS = 10, DEFAULT_PERIOD_MS = 10 };
typedef struct { char *data; size_t size; } Frame;
typedef struct Stream {
    int fd, dialect, left, is_open, is_streaming, needs_last;
    int64_t due_us, period_us;
    const char *rest; /* of the frame that the socket had no room for */
    size_t rest_size, filled;
    struct Stream *next;
    char buffer[BUFFER];
} Stream;

static const char HEAD[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
static const char *NAMES[DIALECTS] = {"openai", "anthropic"};
static Frame opening[DIALECTS], delta[DIALECTS], last[DIALECTS];
static Stream *front, *back; /* streams by the time that they are due: all have one period */
static long begun, written;
static int events; /* of epoll */

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static Frame load(const char *folder, const char *name, const char *kind, const char *before) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, kind);
    FILE *file = fopen(path, "rb");
    if (!file) { perror(path); exit(1); }
    Frame frame = {malloc(FRAME), strlen(before)};
    memcpy(frame.data, before, frame.size);
    frame.size += fread(frame.data + frame.size, 1, FRAME - frame.size, file);
    fclose(file);
    return frame;
}

static void queue(Stream *s) {
    s->next = NULL;
    if (back) back->next = s; else front = s;
    back = s;
}

static void put(Stream *s, const char *data, size_t size) {
    ssize_t sent = write(s->fd, data, size);
    if (sent < 0) sent = 0; /* full, or gone: the read side learns of that */
    s->rest = data + sent;
    s->rest_size = size - (size_t)sent;
}

static void advance(Stream *s) { /* the next frame of a stream that is due */
    if (s->rest_size) { put(s, s->rest, s->rest_size); return; }
    if (s->left) { put(s, delta[s->dialect].data, delta[s->dialect].size); s->left--; written++; if (s->left) return; }
    if (s->needs_last && !s->rest_size) {
        put(s, last[s->dialect].data, last[s->dialect].size);
        s->needs_last = 0;
    }
}

static void run_due(int64_t now) {
    while (front && front->due_us <= now) {
        Stream *s = front;
        if (!(front = s->next)) back = NULL;
        if (!s->is_open) { close(s->fd); free(s); continue; }
        advance(s);
        s->is_streaming = s->left || s->needs_last || s->rest_size;
        if (!s->is_streaming) continue;
        s->due_us += s->period_us;
        queue(s);
    }
}

static void tell_count(Stream *s) {
    char said[64], answer[256];
    int size = snprintf(said, sizeof said, "%ld %ld", begun, written);
    int whole = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", size, said);
    put(s, answer, (size_t)whole);
}

static long asked_for(const char *body, const char *name) {
    const char *found = strstr(body, name);
    return found ? strtol(found + strlen(name), NULL, 10) : 0;
}

static void begin(Stream *s, const char *body) {
    long asked = asked_for(body, "\"max_tokens\":");
    if (!asked) asked = asked_for(body, "\"max_completion_tokens\":"); /* some gateways rename it */
    s->left = asked >= 1000 ? (int)(asked / 1000) : DEFAULT_DELTAS;
    s->period_us = (asked >= 1000 && asked % 1000 ? asked % 1000 : DEFAULT_PERIOD_MS) * 1000;
    s->dialect = !strncmp(s->buffer, "POST /v1/messages", 17);
    s->needs_last = s->is_streaming = 1;
    begun++;
    put(s, opening[s->dialect].data, opening[s->dialect].size);
    s->due_us = now_us() + s->period_us;
    queue(s);
}

static void leave(Stream *s) {
    s->is_open = 0;
    epoll_ctl(events, EPOLL_CTL_DEL, s->fd, NULL);
    if (s->is_streaming) { shutdown(s->fd, SHUT_RDWR); return; } /* freed where the queue comes to it */
    close(s->fd);
    free(s);
}

static void take(Stream *s) {
    ssize_t got = read(s->fd, s->buffer + s->filled, BUFFER - 1 - s->filled);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) { leave(s); return; }
    s->filled += (size_t)got;
    s->buffer[s->filled] = 0;
    char *body = strstr(s->buffer, "\r\n\r\n");
    if (!body) return;
    char *length = strcasestr(s->buffer, "\r\ncontent-length:");
    size_t size = length && length < body ? strtoul(length + 17, NULL, 10) : 0;
    if (s->filled < (size_t)(body + 4 - s->buffer) + size) return;
    s->filled = 0;
    if (!strncmp(s->buffer, "GET", 3)) tell_count(s); else begin(s, body + 4);
}

static void welcome(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        Stream *s = calloc(1, sizeof *s);
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        s->fd = fd;
        s->is_open = 1;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
        epoll_ctl(events, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    for (int n = 0; n < DIALECTS; n++) {
        opening[n] = load(arguments[2], NAMES[n], "first", HEAD);
        delta[n] = load(arguments[2], NAMES[n], "delta", "");
        last[n] = load(arguments[2], NAMES[n], "last", "");
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    events = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) { perror("source"); return 1; }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, ready[MAX_EVENTS];
    epoll_ctl(events, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int64_t wait_us = front ? front->due_us - now_us() : 1000000;
        int found = epoll_wait(events, ready, MAX_EVENTS, wait_us <= 0 ? 0 : (int)((wait_us + 999) / 1000));
        for (int n = 0; n < found; n++) {
            if (ready[n].data.ptr) take(ready[n].data.ptr); else welcome(listener);
        }
        run_due(now_us());
    }
}
