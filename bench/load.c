/* load: measures how long an HTTP/1.1 server on this machine takes to answer one fixed request.
 *
 * One thread, one epoll loop, N keep-alive connections with at most one request under way on each. Every latency is kept
 * and sorted, so the percentiles are exact. The result is one line of JSON on stdout.
 *
 * What a latency is: from just before a request is sent to the last byte of its answer. A server that closes the
 * connection after an answer pays for the new connection in the next latency.
 * What counts: requests that start within the measured window, which begins after the warm-up; those under way when it
 * ends are waited for, so that slow answers are not lost. A wrong status, a wrong body, a broken or missing answer is an
 * error and gives no latency.
 * Open loop: with --rate, requests are due at fixed times, whether or not earlier ones were answered; one that finds no free
 * connection waits for it. Its latency counts from the time it was due, so a server that stalls cannot hide those who waited.
 * With --leave-out such a request is not sent at all, and counted: more than the connections can carry was never offered.
 *
 * Safety: IPv4 loopback addresses only (127.0.0.0/8); time, requests, connections and errors are all bounded.
 *
 * Exit status: 0 measured (errors are in the JSON), 1 the system refused something, 2 wrong usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_US UINT64_C(1000)
#define MAX_CONNECTIONS 256
#define MAX_SECONDS 600.0
#define MAX_REQUESTS 10000000
#define MAX_RESPONSE_BYTES (16u << 20)
#define FIRST_BUFFER_BYTES (16u << 10)
#define LATE_NS (NS_PER_S / 1000) /* a request that is sent so much later than it was due was left out, if that is wanted */
#define TICK_MS 100 /* how often timeouts are looked at */

static const char USAGE[] =
    "usage: load --port PORT [options]\n"
    "  --host ADDRESS          IPv4 loopback address (default 127.0.0.1)\n"
    "  --path PATH             default /\n"
    "  --method METHOD         GET, POST, PUT, PATCH or DELETE (default GET, or POST with --body)\n"
    "  --header 'NAME: VALUE'  may be given several times\n"
    "  --body TEXT             body of every request\n"
    "  --connections N         1 to 256 (default 1)\n"
    "  --seconds S             length of the measured window, at most 600 (default 2)\n"
    "  --requests N            end the window after N requests, if that is sooner\n"
    "  --warmup-seconds S      requests before the window, not measured (default 0)\n"
    "  --pace-us US            pause of each connection between an answer and its next request (default 0)\n"
    "  --rate N                so many requests a second at fixed times, on whatever connection is free (default: closed loop)\n"
    "  --leave-out             with --rate: what is due while all connections are busy is not sent, and counted\n"
    "  --timeout-seconds S     longest wait for one answer (default 10)\n"
    "  --max-errors N          give up after so many errors (default 100)\n"
    "  --expect-body TEXT      the body of every answer must be this text\n"
    "  --expect-contains TEXT  the body of every answer must contain this text\n"
    "  --dump FILE             write every latency in nanoseconds, one a line, in order of completion\n";

/* ---- Options ------------------------------------------------------------------------------------------------------ */

struct options {
    struct sockaddr_in address;
    const char *path;
    const char *method;
    const char *body;
    const char *expect_body;
    const char *expect_contains;
    const char *dump;
    char *header_lines; /* all --header options, each ended by CR LF */
    int connections;
    uint64_t window_ns;
    uint64_t warmup_ns;
    uint64_t pace_ns;
    bool leaves_out;
    uint64_t interval_ns; /* between two requests of an open loop; 0: closed loop */
    uint64_t timeout_ns;
    uint64_t requests; /* 0: no bound */
    uint64_t max_errors;
};

__attribute__((noreturn, format(printf, 1, 2))) static void usage_error(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

__attribute__((noreturn)) static void system_error(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *checked(void *memory) {
    if (memory == NULL)
        system_error("memory");
    return memory;
}

static double number_option(const char *name, const char *text, double low, double high) {
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(value >= low && value <= high))
        usage_error("--%s: expected a number from %g to %g, got '%s'", name, low, high, text);
    return value;
}

static uint64_t count_option(const char *name, const char *text, uint64_t low, uint64_t high) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value < low || value > high)
        usage_error("--%s: expected a whole number from %" PRIu64 " to %" PRIu64 ", got '%s'", name, low, high, text);
    return value;
}

static struct in_addr loopback_option(const char *text) {
    struct in_addr address;
    if (inet_pton(AF_INET, text, &address) != 1)
        usage_error("--host: '%s' is not an IPv4 address", text);
    if (ntohl(address.s_addr) >> 24 != 127)
        usage_error("--host: %s is refused, only loopback addresses (127.0.0.0/8) are measured", text);
    return address;
}

static void refuse_line_breaks(const char *name, const char *text) {
    if (strpbrk(text, "\r\n") != NULL)
        usage_error("--%s: line breaks are not allowed", name);
}

static void add_header(struct options *options, const char *line) {
    refuse_line_breaks("header", line);
    if (strchr(line, ':') == NULL || *line == ':')
        usage_error("--header: expected 'NAME: VALUE', got '%s'", line);
    char *joined;
    if (asprintf(&joined, "%s%s\r\n", options->header_lines ? options->header_lines : "", line) < 0)
        system_error("memory");
    free(options->header_lines);
    options->header_lines = joined;
}

static struct options parse_options(int argc, char **argv) {
    enum { HOST = 1, PORT, PATH, METHOD, HEADER, BODY, CONNECTIONS, SECONDS, REQUESTS, WARMUP, PACE, RATE, LEAVE_OUT, TIMEOUT, MAX_ERRORS,
           EXPECT_BODY, EXPECT_CONTAINS, DUMP, HELP };
    static const struct option known[] = {
        {"host", required_argument, NULL, HOST},
        {"port", required_argument, NULL, PORT},
        {"path", required_argument, NULL, PATH},
        {"method", required_argument, NULL, METHOD},
        {"header", required_argument, NULL, HEADER},
        {"body", required_argument, NULL, BODY},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"seconds", required_argument, NULL, SECONDS},
        {"requests", required_argument, NULL, REQUESTS},
        {"warmup-seconds", required_argument, NULL, WARMUP},
        {"pace-us", required_argument, NULL, PACE},
        {"rate", required_argument, NULL, RATE},
        {"leave-out", no_argument, NULL, LEAVE_OUT},
        {"timeout-seconds", required_argument, NULL, TIMEOUT},
        {"max-errors", required_argument, NULL, MAX_ERRORS},
        {"expect-body", required_argument, NULL, EXPECT_BODY},
        {"expect-contains", required_argument, NULL, EXPECT_CONTAINS},
        {"dump", required_argument, NULL, DUMP},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    struct options options = {
        .address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)},
        .path = "/",
        .connections = 1,
        .window_ns = 2 * NS_PER_S,
        .timeout_ns = 10 * NS_PER_S,
        .max_errors = 100,
    };
    int choice;
    while ((choice = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (choice) {
        case HOST: options.address.sin_addr = loopback_option(optarg); break;
        case PORT: options.address.sin_port = htons((uint16_t)count_option("port", optarg, 1, 65535)); break;
        case PATH: options.path = optarg; break;
        case METHOD: options.method = optarg; break;
        case HEADER: add_header(&options, optarg); break;
        case BODY: options.body = optarg; break;
        case CONNECTIONS: options.connections = (int)count_option("connections", optarg, 1, MAX_CONNECTIONS); break;
        case SECONDS: options.window_ns = (uint64_t)(number_option("seconds", optarg, 0.01, MAX_SECONDS) * 1e9); break;
        case REQUESTS: options.requests = count_option("requests", optarg, 1, MAX_REQUESTS); break;
        case WARMUP: options.warmup_ns = (uint64_t)(number_option("warmup-seconds", optarg, 0, 60) * 1e9); break;
        case PACE: options.pace_ns = count_option("pace-us", optarg, 0, 10000000) * NS_PER_US; break;
        case RATE: options.interval_ns = (uint64_t)(1e9 / number_option("rate", optarg, 0.1, 100000)); break;
        case LEAVE_OUT: options.leaves_out = true; break;
        case TIMEOUT: options.timeout_ns = (uint64_t)(number_option("timeout-seconds", optarg, 0.01, 60) * 1e9); break;
        case MAX_ERRORS: options.max_errors = count_option("max-errors", optarg, 1, 1000000); break;
        case EXPECT_BODY: options.expect_body = optarg; break;
        case EXPECT_CONTAINS: options.expect_contains = optarg; break;
        case DUMP: options.dump = optarg; break;
        case HELP: fputs(USAGE, stdout); exit(0);
        default: fputs(USAGE, stderr); exit(2);
        }
    }
    if (optind != argc)
        usage_error("unexpected argument '%s'", argv[optind]);
    if (options.address.sin_port == 0)
        usage_error("--port is required");
    if (options.interval_ns != 0 && options.pace_ns != 0)
        usage_error("--rate and --pace-us exclude each other");
    if (options.leaves_out && options.interval_ns == 0)
        usage_error("--leave-out is for --rate");
    if (options.method == NULL)
        options.method = options.body ? "POST" : "GET";
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};
    bool is_known_method = false;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        is_known_method |= strcmp(options.method, methods[i]) == 0;
    if (!is_known_method)
        usage_error("--method: '%s' is not one of GET, POST, PUT, PATCH, DELETE", options.method);
    if (*options.path != '/' || strpbrk(options.path, " \r\n") != NULL)
        usage_error("--path: expected '/...' without spaces and line breaks");
    return options;
}

/* The bytes of the one request that is sent again and again. */
static char *build_request(const struct options *options, size_t *length) {
    char address[INET_ADDRSTRLEN];
    if (inet_ntop(AF_INET, &options->address.sin_addr, address, sizeof address) == NULL)
        system_error("inet_ntop");
    char length_line[64] = "";
    if (options->body != NULL || strcmp(options->method, "GET") != 0)
        snprintf(length_line, sizeof length_line, "Content-Length: %zu\r\n", options->body ? strlen(options->body) : 0);
    char *request;
    int written = asprintf(&request, "%s %s HTTP/1.1\r\nHost: %s:%d\r\n%s%s\r\n%s", options->method, options->path, address,
                           ntohs(options->address.sin_port), options->header_lines ? options->header_lines : "",
                           length_line, options->body ? options->body : "");
    if (written < 0)
        system_error("memory");
    *length = (size_t)written;
    return request;
}

/* ---- Answers ------------------------------------------------------------------------------------------------------ */

enum parse_state { INCOMPLETE, COMPLETE, BROKEN };

struct answer {
    int status;
    bool keep_alive;
    const char *body;
    size_t body_length;
    size_t total_length; /* bytes of the buffer that this answer takes */
};

/* Whether the header line [line, end) has this name; gives its value without white space around it. */
static bool header_value(const char *line, const char *end, const char *name, const char **value, size_t *length) {
    size_t name_length = strlen(name);
    if ((size_t)(end - line) <= name_length || line[name_length] != ':' || strncasecmp(line, name, name_length) != 0)
        return false;
    const char *from = line + name_length + 1;
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    while (end > from && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *value = from;
    *length = (size_t)(end - from);
    return true;
}

static bool value_is(const char *value, size_t length, const char *expected) {
    return length == strlen(expected) && strncasecmp(value, expected, length) == 0;
}

/* Decodes a chunked body (RFC 9112 section 7.1) that starts at `from` into `to`, which has room for `available` bytes. */
static enum parse_state decode_chunks(const char *from, size_t available, char *to, size_t *body_length, size_t *used) {
    const char *position = from, *end = from + available;
    size_t decoded = 0;
    for (;;) {
        const char *line_end = memmem(position, (size_t)(end - position), "\r\n", 2);
        if (line_end == NULL)
            return INCOMPLETE;
        char *size_end;
        unsigned long size = strtoul(position, &size_end, 16); /* stops at the CR at the latest */
        if (size_end == position || (*size_end != '\r' && *size_end != ';') || size > MAX_RESPONSE_BYTES)
            return BROKEN;
        position = line_end + 2;
        if (size == 0)
            break;
        if ((size_t)(end - position) < size + 2)
            return INCOMPLETE;
        memcpy(to + decoded, position, size);
        decoded += size;
        position += size;
        if (memcmp(position, "\r\n", 2) != 0)
            return BROKEN;
        position += 2;
    }
    for (;;) { /* trailer lines, ended by an empty one */
        const char *line_end = memmem(position, (size_t)(end - position), "\r\n", 2);
        if (line_end == NULL)
            return INCOMPLETE;
        bool is_last = line_end == position;
        position = line_end + 2;
        if (is_last)
            break;
    }
    *body_length = decoded;
    *used = (size_t)(position - from);
    return COMPLETE;
}

/* Reads one answer from the buffer. `scratch` is as large as the buffer and takes a decoded chunked body.
 * The buffer is parsed anew after every read; answers are small here. */
static enum parse_state parse_answer(const char *buffer, size_t used, bool at_eof, char *scratch, struct answer *answer) {
    static const char version[] = "HTTP/1.";
    const char *head_end = memmem(buffer, used, "\r\n\r\n", 4);
    if (head_end == NULL)
        return at_eof ? BROKEN : INCOMPLETE;
    if (head_end - buffer < 12 || memcmp(buffer, version, sizeof version - 1) != 0 || buffer[8] != ' ')
        return BROKEN;
    int status = 0;
    for (int i = 9; i < 12; i++) {
        if (buffer[i] < '0' || buffer[i] > '9')
            return BROKEN;
        status = status * 10 + (buffer[i] - '0');
    }
    const char *body = head_end + 4;
    size_t available = used - (size_t)(body - buffer);
    if (status < 200) { /* an interim answer: the real one follows */
        enum parse_state state = parse_answer(body, available, at_eof, scratch, answer);
        if (state == COMPLETE)
            answer->total_length += (size_t)(body - buffer);
        return state;
    }

    bool keep_alive = buffer[7] == '1', is_chunked = false, has_length = false;
    size_t content_length = 0;
    const char *line = memmem(buffer, (size_t)(body - buffer), "\r\n", 2);
    for (line += 2; line < head_end + 2;) {
        const char *line_end = memmem(line, (size_t)(body - line), "\r\n", 2);
        const char *value;
        size_t length;
        if (header_value(line, line_end, "content-length", &value, &length)) {
            char *digits_end;
            content_length = strtoul(value, &digits_end, 10);
            if (length == 0 || digits_end != value + length || content_length > MAX_RESPONSE_BYTES)
                return BROKEN;
            has_length = true;
        } else if (header_value(line, line_end, "transfer-encoding", &value, &length)) {
            if (!value_is(value, length, "chunked"))
                return BROKEN;
            is_chunked = true;
        } else if (header_value(line, line_end, "connection", &value, &length)) {
            keep_alive = value_is(value, length, "keep-alive") || (keep_alive && !value_is(value, length, "close"));
        }
        line = line_end + 2;
    }

    answer->status = status;
    answer->keep_alive = keep_alive;
    if (status == 204 || status == 304) {
        answer->body = body;
        answer->body_length = 0;
        answer->total_length = (size_t)(body - buffer);
        return COMPLETE;
    }
    if (is_chunked) {
        size_t chunked_length;
        enum parse_state state = decode_chunks(body, available, scratch, &answer->body_length, &chunked_length);
        if (state != COMPLETE)
            return at_eof ? BROKEN : state;
        answer->body = scratch;
        answer->total_length = (size_t)(body - buffer) + chunked_length;
        return COMPLETE;
    }
    if (has_length && available < content_length)
        return at_eof ? BROKEN : INCOMPLETE;
    if (!has_length && !at_eof) /* the body ends with the connection */
        return INCOMPLETE;
    answer->body = body;
    answer->body_length = has_length ? content_length : available;
    answer->keep_alive = keep_alive && has_length;
    answer->total_length = (size_t)(body - buffer) + answer->body_length;
    return COMPLETE;
}

/* ---- The run ------------------------------------------------------------------------------------------------------ */

enum error_kind { ERROR_CONNECT, ERROR_CLOSED, ERROR_TIMEOUT, ERROR_PROTOCOL, ERROR_STATUS, ERROR_BODY, ERROR_KINDS };
static const char *const ERROR_NAMES[ERROR_KINDS] = {"connect", "closed", "timeout", "protocol", "status", "body"};

enum connection_state {
    WAITING,    /* for its next request; the socket may be open or not */
    CONNECTING, /* the request is under way, the connection is not made yet */
    SENDING,
    RECEIVING,
};

struct connection {
    int fd; /* -1: none */
    enum connection_state state;
    bool watches_output; /* whether epoll was asked for EPOLLOUT */
    bool is_measured;    /* the request under way started within the window */
    uint64_t due_ns; /* when it may send its next request, in a closed loop */
    uint64_t started_ns; /* from here its latency counts */
    uint64_t sent_ns;    /* from here its time-out counts */
    size_t sent;
    char *buffer;
    char *scratch;
    size_t capacity;
    size_t used;
};

struct run {
    const struct options *options;
    const char *request;
    size_t request_length;
    int epoll_fd;
    int timer_fd;
    uint64_t window_start_ns;
    uint64_t window_end_ns;
    uint64_t arrival_ns;        /* when the next request of an open loop is due */
    uint64_t first_start_ns;    /* of a measured request */
    uint64_t last_answer_ns;    /* of a measured request */
    uint64_t measured_requests; /* started, answered or not */
    uint64_t connections_opened;
    uint64_t left_out;
    uint64_t *latencies_ns;
    size_t latency_count;
    size_t latency_capacity;
    uint64_t errors[ERROR_KINDS];
    uint64_t error_count;
    char first_error[256];
};

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

/* Whether a request may start whose latency counts from this time. */
static bool may_start(const struct run *run, uint64_t start_ns) {
    return start_ns < run->window_end_ns && run->error_count < run->options->max_errors &&
           (run->options->requests == 0 || run->measured_requests < run->options->requests);
}

static void close_connection(struct connection *connection) {
    if (connection->fd >= 0)
        close(connection->fd); /* also leaves the epoll set */
    connection->fd = -1;
    connection->watches_output = false;
}

static void count_error(struct run *run, enum error_kind kind, const char *format, va_list arguments) {
    if (run->error_count == 0)
        vsnprintf(run->first_error, sizeof run->first_error, format, arguments);
    run->errors[kind]++;
    run->error_count++;
}

/* The request was answered, but wrongly: the connection goes on. */
__attribute__((format(printf, 3, 4))) static void note_error(struct run *run, enum error_kind kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    count_error(run, kind, format, arguments);
    va_end(arguments);
}

__attribute__((format(printf, 4, 5))) static void fail(struct run *run, struct connection *connection,
                                                       enum error_kind kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    count_error(run, kind, format, arguments);
    va_end(arguments);
    close_connection(connection);
    connection->state = WAITING;
    connection->due_ns = now_ns() + run->options->pace_ns;
}

static void watch(struct run *run, struct connection *connection, bool output) {
    if (connection->watches_output == output)
        return;
    struct epoll_event event = {.events = EPOLLIN | (output ? EPOLLOUT : 0u), .data.ptr = connection};
    if (epoll_ctl(run->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event) != 0)
        system_error("epoll_ctl");
    connection->watches_output = output;
}

static void send_rest(struct run *run, struct connection *connection) {
    while (connection->sent < run->request_length) {
        ssize_t sent = send(connection->fd, run->request + connection->sent, run->request_length - connection->sent,
                            MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN) {
            watch(run, connection, true);
            return;
        }
        if (sent < 0) {
            fail(run, connection, ERROR_CLOSED, "send: %s", strerror(errno));
            return;
        }
        connection->sent += (size_t)sent;
    }
    watch(run, connection, false);
    connection->state = RECEIVING;
}

/* Makes the socket and starts to connect; false after a failure, which is then counted. */
static bool open_connection(struct run *run, struct connection *connection) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        system_error("socket");
    int yes = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        system_error("TCP_NODELAY");
    connection->fd = fd;
    connection->state = SENDING;
    if (connect(fd, (const struct sockaddr *)&run->options->address, sizeof run->options->address) != 0) {
        if (errno != EINPROGRESS) {
            fail(run, connection, ERROR_CONNECT, "connect: %s", strerror(errno));
            return false;
        }
        connection->state = CONNECTING;
    }
    connection->watches_output = connection->state == CONNECTING;
    struct epoll_event event = {.events = EPOLLIN | (connection->watches_output ? EPOLLOUT : 0u), .data.ptr = connection};
    if (epoll_ctl(run->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        system_error("epoll_ctl");
    return true;
}

/* Starts a request whose latency counts from start_ns. */
static void start_request(struct run *run, struct connection *connection, uint64_t start_ns) {
    connection->started_ns = start_ns;
    connection->sent_ns = run->options->interval_ns ? now_ns() : start_ns;
    connection->sent = 0;
    connection->used = 0;
    connection->is_measured = start_ns >= run->window_start_ns;
    if (connection->is_measured) {
        if (run->measured_requests == 0)
            run->first_start_ns = start_ns;
        run->measured_requests++;
    }
    if (connection->fd < 0) {
        run->connections_opened++;
        if (!open_connection(run, connection))
            return;
    } else {
        connection->state = SENDING;
    }
    if (connection->state == SENDING)
        send_rest(run, connection);
}

/* Starts the next request on a free connection, if one is due now. */
static void start_if_due(struct run *run, struct connection *connection, uint64_t now) {
    if (run->options->interval_ns == 0) {
        if (connection->due_ns <= now && may_start(run, now))
            start_request(run, connection, now_ns());
        return;
    }
    if (run->options->leaves_out)
        for (; run->arrival_ns + LATE_NS < now && run->arrival_ns < run->window_end_ns; run->arrival_ns += run->options->interval_ns)
            run->left_out += run->arrival_ns >= run->window_start_ns;
    if (run->arrival_ns <= now && may_start(run, run->arrival_ns)) {
        uint64_t start_ns = run->arrival_ns;
        run->arrival_ns += run->options->interval_ns;
        start_request(run, connection, start_ns);
    }
}

static void record_latency(struct run *run, uint64_t latency_ns) {
    if (run->latency_count == run->latency_capacity) {
        run->latency_capacity = run->latency_capacity ? 2 * run->latency_capacity : 1u << 16;
        run->latencies_ns = checked(realloc(run->latencies_ns, run->latency_capacity * sizeof *run->latencies_ns));
    }
    run->latencies_ns[run->latency_count++] = latency_ns;
}

static void finish_request(struct run *run, struct connection *connection, const struct answer *answer) {
    const struct options *options = run->options;
    uint64_t now = now_ns();
    int shown = answer->body_length < 160 ? (int)answer->body_length : 160;
    if (connection->is_measured)
        run->last_answer_ns = now;
    if (answer->total_length != connection->used) {
        fail(run, connection, ERROR_PROTOCOL, "%zu bytes follow the answer", connection->used - answer->total_length);
        return;
    }
    bool is_right = answer->status / 100 == 2;
    if (!is_right)
        note_error(run, ERROR_STATUS, "status %d: %.*s", answer->status, shown, answer->body);
    else if (options->expect_body != NULL)
        is_right = answer->body_length == strlen(options->expect_body) &&
                   memcmp(answer->body, options->expect_body, answer->body_length) == 0;
    if (is_right && options->expect_contains != NULL)
        is_right = memmem(answer->body, answer->body_length, options->expect_contains,
                          strlen(options->expect_contains)) != NULL;
    if (!is_right && answer->status / 100 == 2)
        note_error(run, ERROR_BODY, "unexpected body: %.*s", shown, answer->body);
    if (is_right && connection->is_measured)
        record_latency(run, now - connection->started_ns);
    if (!answer->keep_alive)
        close_connection(connection);
    connection->state = WAITING;
    connection->due_ns = now + options->pace_ns;
    if (options->pace_ns == 0)
        start_if_due(run, connection, now);
}

static void make_room(struct run *run, struct connection *connection) {
    if (connection->capacity - connection->used > 1)
        return;
    if (connection->capacity >= MAX_RESPONSE_BYTES) {
        fail(run, connection, ERROR_PROTOCOL, "the answer is longer than %u bytes", MAX_RESPONSE_BYTES);
        return;
    }
    connection->capacity *= 2;
    connection->buffer = checked(realloc(connection->buffer, connection->capacity));
    connection->scratch = checked(realloc(connection->scratch, connection->capacity));
}

static void receive_some(struct run *run, struct connection *connection) {
    make_room(run, connection);
    if (connection->fd < 0)
        return;
    ssize_t received = recv(connection->fd, connection->buffer + connection->used,
                            connection->capacity - connection->used - 1, 0);
    if (received < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (connection->state == WAITING) { /* between two requests: the server closes, or talks out of turn */
        if (received > 0)
            fail(run, connection, ERROR_PROTOCOL, "bytes without a request");
        else
            close_connection(connection);
        return;
    }
    if (received < 0) {
        fail(run, connection, ERROR_CLOSED, "recv: %s", strerror(errno));
        return;
    }
    connection->used += (size_t)received;
    connection->buffer[connection->used] = '\0'; /* strtoul never runs past the end */
    if (received == 0 && connection->used == 0) {
        fail(run, connection, ERROR_CLOSED, "the connection was closed without an answer");
        return;
    }
    struct answer answer;
    switch (parse_answer(connection->buffer, connection->used, received == 0, connection->scratch, &answer)) {
    case INCOMPLETE:
        break;
    case BROKEN:
        fail(run, connection, ERROR_PROTOCOL, "the answer is cut off or is not HTTP/1.x");
        break;
    case COMPLETE:
        finish_request(run, connection, &answer);
        break;
    }
}

static void handle_event(struct run *run, struct connection *connection, uint32_t events) {
    if (connection->state == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
            system_error("SO_ERROR");
        if (error != 0) {
            fail(run, connection, ERROR_CONNECT, "connect: %s", strerror(error));
            return;
        }
        connection->state = SENDING;
    }
    if (connection->state == SENDING && (events & EPOLLOUT))
        send_rest(run, connection);
    if (connection->fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        receive_some(run, connection);
}

/* The window is long over and requests of it still wait for a connection: they are errors. Always false. */
static bool give_up_waiting(struct run *run, struct connection *connections) {
    for (int i = 0; i < run->options->connections; i++)
        if (connections[i].state != WAITING)
            fail(run, &connections[i], ERROR_TIMEOUT, "no answer in time");
    for (; run->arrival_ns < run->window_end_ns; run->arrival_ns += run->options->interval_ns) {
        if (run->error_count++ == 0)
            snprintf(run->first_error, sizeof run->first_error, "never sent: all connections were busy");
        run->errors[ERROR_TIMEOUT]++;
    }
    return false;
}

/* Starts what is due, gives up what takes too long, and arms the timer for the next start. False when nothing is left. */
static bool advance(struct run *run, struct connection *connections) {
    uint64_t now = now_ns(), next_due_ns = UINT64_MAX;
    bool is_busy = false;
    for (int i = 0; i < run->options->connections; i++) {
        struct connection *connection = &connections[i];
        if (connection->state != WAITING && now > connection->sent_ns && now - connection->sent_ns > run->options->timeout_ns)
            fail(run, connection, ERROR_TIMEOUT, "no answer in time");
        if (connection->state == WAITING)
            start_if_due(run, connection, now);
        if (connection->state != WAITING) {
            is_busy = true;
            continue;
        }
        uint64_t due_ns = run->options->interval_ns ? run->arrival_ns : connection->due_ns;
        if (may_start(run, run->options->interval_ns ? due_ns : now) && due_ns < next_due_ns)
            next_due_ns = due_ns;
    }
    if (run->options->interval_ns != 0 && now > run->window_end_ns + run->options->timeout_ns)
        return give_up_waiting(run, connections);
    if (next_due_ns == UINT64_MAX)
        return is_busy;
    struct itimerspec timer = {
        .it_value = {.tv_sec = (time_t)(next_due_ns / NS_PER_S), .tv_nsec = (long)(next_due_ns % NS_PER_S)}};
    if (timerfd_settime(run->timer_fd, TFD_TIMER_ABSTIME, &timer, NULL) != 0)
        system_error("timerfd_settime");
    return true;
}

static void measure(struct run *run) {
    const struct options *options = run->options;
    run->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    run->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (run->epoll_fd < 0 || run->timer_fd < 0)
        system_error("epoll and timer");
    struct epoll_event timer_event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(run->epoll_fd, EPOLL_CTL_ADD, run->timer_fd, &timer_event) != 0)
        system_error("epoll_ctl");

    struct connection *connections = checked(calloc((size_t)options->connections, sizeof *connections));
    uint64_t start_ns = now_ns();
    for (int i = 0; i < options->connections; i++) {
        connections[i] = (struct connection){.fd = -1, .state = WAITING, .due_ns = start_ns, .capacity = FIRST_BUFFER_BYTES};
        connections[i].buffer = checked(malloc(FIRST_BUFFER_BYTES));
        connections[i].scratch = checked(malloc(FIRST_BUFFER_BYTES));
    }
    run->window_start_ns = start_ns + options->warmup_ns;
    run->window_end_ns = run->window_start_ns + options->window_ns;
    run->arrival_ns = start_ns;

    struct epoll_event events[MAX_CONNECTIONS + 1];
    while (advance(run, connections)) {
        int count = epoll_wait(run->epoll_fd, events, MAX_CONNECTIONS + 1, TICK_MS);
        if (count < 0 && errno != EINTR)
            system_error("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;
            if (connection == NULL) {
                uint64_t expirations; /* the timer; reading it disarms the event */
                if (read(run->timer_fd, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
                    system_error("timer");
            } else if (connection->fd >= 0) {
                handle_event(run, connection, events[i].events);
            }
        }
    }
    for (int i = 0; i < options->connections; i++) {
        close_connection(&connections[i]);
        free(connections[i].buffer);
        free(connections[i].scratch);
    }
    free(connections);
    close(run->timer_fd);
    close(run->epoll_fd);
}

/* ---- Results ------------------------------------------------------------------------------------------------------ */

static int compare_ns(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Nearest rank: the smallest latency that at least permille/1000 of all latencies do not exceed. In microseconds. */
static double percentile_us(const uint64_t *sorted_ns, size_t count, size_t permille) {
    size_t rank = (count * permille + 999) / 1000;
    return (double)sorted_ns[rank > 0 ? rank - 1 : 0] / 1e3;
}

static void print_json_text(const char *text) {
    putchar('"');
    for (const unsigned char *byte = (const unsigned char *)text; *byte != '\0'; byte++) {
        if (*byte == '"' || *byte == '\\')
            printf("\\%c", *byte);
        else if (*byte < 0x20 || *byte >= 0x7f)
            printf("\\u%04x", *byte); /* bytes beyond ASCII are shown one by one */
        else
            putchar(*byte);
    }
    putchar('"');
}

static void dump_latencies(const struct run *run) {
    FILE *file = fopen(run->options->dump, "w");
    if (file == NULL)
        system_error(run->options->dump);
    for (size_t i = 0; i < run->latency_count; i++)
        fprintf(file, "%" PRIu64 "\n", run->latencies_ns[i]);
    if (ferror(file) || fclose(file) != 0)
        system_error(run->options->dump);
}

static void report(struct run *run) {
    size_t count = run->latency_count;
    double elapsed_s = run->last_answer_ns > run->first_start_ns
                           ? (double)(run->last_answer_ns - run->first_start_ns) / (double)NS_PER_S
                           : 0.0;
    printf("{\"n\": %zu, \"errors\": %" PRIu64 ", \"error_kinds\": {", count, run->error_count);
    const char *separator = "";
    for (int kind = 0; kind < ERROR_KINDS; kind++) {
        if (run->errors[kind] == 0)
            continue;
        printf("%s\"%s\": %" PRIu64, separator, ERROR_NAMES[kind], run->errors[kind]);
        separator = ", ";
    }
    printf("}, \"first_error\": ");
    print_json_text(run->first_error);
    printf(", \"connections_opened\": %" PRIu64 ", \"left_out\": %" PRIu64 ", \"elapsed_s\": %.6f, \"rps\": %.2f, ",
           run->connections_opened, run->left_out, elapsed_s,
           elapsed_s > 0 ? (double)count / elapsed_s : 0.0);
    if (count == 0) {
        printf("\"latency_us\": null}\n");
        return;
    }
    double sum_ns = 0;
    for (size_t i = 0; i < count; i++)
        sum_ns += (double)run->latencies_ns[i];
    qsort(run->latencies_ns, count, sizeof *run->latencies_ns, compare_ns);
    const uint64_t *sorted = run->latencies_ns;
    printf("\"latency_us\": {\"min\": %.3f, \"mean\": %.3f, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, "
           "\"max\": %.3f}}\n",
           (double)sorted[0] / 1e3, sum_ns / (double)count / 1e3, percentile_us(sorted, count, 500),
           percentile_us(sorted, count, 900), percentile_us(sorted, count, 990), percentile_us(sorted, count, 999),
           (double)sorted[count - 1] / 1e3);
}

int main(int argc, char **argv) {
    struct options options = parse_options(argc, argv);
    struct run run = {.options = &options};
    char *request = build_request(&options, &run.request_length);
    run.request = request;
    /* The loop ends by itself; the alarm is for the case that it does not. */
    alarm((unsigned)((options.warmup_ns + options.window_ns + 2 * options.timeout_ns) / NS_PER_S) + 10);
    measure(&run);
    if (options.dump != NULL)
        dump_latencies(&run); /* before report() sorts them */
    report(&run);
    free(run.latencies_ns);
    free(request);
    free(options.header_lines);
    if (fflush(stdout) != 0)
        system_error("stdout");
    return 0;
}
