/*
 * Preloaded into Debian's xenstored so that it runs with no Xen underneath, guests included.
 *
 * A guest's ring page is the file ring-<domid> in XENSTORED_RUNDIR. To signal an event channel the test writes the
 * port, a uint32_t, into the FIFO "events"; xenstored signals guest N by a byte into the FIFO wake-<N>. A guest's port
 * is its domid. Every domain exists, until there is a file dead-<domid> and the port DEATHS is signalled.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

#define DEATHS 60000
#define RING_BYTES 4096

static int a_handle;

static const char *in_rundir(const char *format, unsigned int number)
{
    static char path[512];
    const char *folder = getenv("XENSTORED_RUNDIR");
    int used = snprintf(path, sizeof(path), "%s/", folder ? folder : ".");

    snprintf(path + used, sizeof(path) - used, format, number);
    return path;
}

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *build_logger, unsigned flags)
{
    return (xc_interface *)&a_handle;
}

int xc_interface_close(xc_interface *handle)
{
    return 0;
}

int xc_domain_getinfo(xc_interface *handle, uint32_t first, unsigned int count, xc_dominfo_t *info)
{
    memset(info, 0, sizeof(*info));
    if (first >= DOMID_FIRST_RESERVED || access(in_rundir("dead-%u", first), F_OK) == 0)
        return 0;
    info->domid = first;
    info->running = 1;
    return 1;
}

xenevtchn_handle *xenevtchn_open(xentoollog_logger *logger, unsigned int flags)
{
    return (xenevtchn_handle *)&a_handle;
}

xenevtchn_handle *xenevtchn_fdopen(xentoollog_logger *logger, int fd, unsigned int flags)
{
    return (xenevtchn_handle *)&a_handle;
}

int xenevtchn_close(xenevtchn_handle *handle)
{
    return 0;
}

/* Open for reading and writing: the FIFO never reaches its end when a test lets go of it. */
int xenevtchn_fd(xenevtchn_handle *handle)
{
    static int fd = -1;

    if (fd < 0)
        fd = open(in_rundir("events", 0), O_RDWR | O_CLOEXEC);
    return fd;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *handle)
{
    uint32_t port;

    return read(xenevtchn_fd(handle), &port, sizeof(port)) == sizeof(port) ? (int)port : -1;
}

int xenevtchn_unmask(xenevtchn_handle *handle, evtchn_port_t port)
{
    return 0;
}

int xenevtchn_notify(xenevtchn_handle *handle, evtchn_port_t port)
{
    int fd = open(in_rundir("wake-%u", port), O_WRONLY | O_NONBLOCK | O_CLOEXEC);

    if (fd >= 0) {
        (void)!write(fd, "", 1);
        close(fd);
    }
    return 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *handle, uint32_t domid, evtchn_port_t port)
{
    return domid;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *handle, unsigned int virq)
{
    return DEATHS;
}

int xenevtchn_unbind(xenevtchn_handle *handle, evtchn_port_t port)
{
    return 0;
}

xengnttab_handle *xengnttab_open(xentoollog_logger *logger, unsigned flags)
{
    return (xengnttab_handle *)&a_handle;
}

int xengnttab_close(xengnttab_handle *handle)
{
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle *handle, uint32_t count)
{
    return 0;
}

void *xengnttab_map_grant_ref(xengnttab_handle *handle, uint32_t domid, uint32_t ref, int protection)
{
    int fd = open(in_rundir("ring-%u", domid), O_RDWR | O_CLOEXEC);
    void *page;

    if (fd < 0)
        return NULL;
    page = mmap(NULL, RING_BYTES, protection, MAP_SHARED, fd, 0);
    close(fd);
    return page == MAP_FAILED ? NULL : page;
}

int xengnttab_unmap(xengnttab_handle *handle, void *start, uint32_t count)
{
    return munmap(start, RING_BYTES);
}

/* The two files of a Xen kernel that tell of domain 0's own ring: its page and its port. */
static int open_of_a_xen_kernel(const char *path)
{
    int fd;

    if (strcmp(path, "/proc/xen/xsd_port") == 0) {
        fd = memfd_create("xsd_port", MFD_CLOEXEC);
        (void)!write(fd, "1", 1);
        lseek(fd, 0, SEEK_SET);
        return fd;
    }
    if (strcmp(path, "/proc/xen/xsd_kva") == 0) {
        fd = memfd_create("xsd_kva", MFD_CLOEXEC);
        (void)!ftruncate(fd, RING_BYTES);
        return fd;
    }
    return -1;
}

int open(const char *path, int flags, ...)
{
    static int (*next_open)(const char *, int, ...);
    mode_t mode = 0;
    int fd = open_of_a_xen_kernel(path);
    va_list rest;

    if (fd >= 0)
        return fd;
    if (!next_open)
        next_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    return next_open(path, flags, mode);
}
