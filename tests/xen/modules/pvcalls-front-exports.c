// SPDX-License-Identifier: GPL-2.0
/*
 * Linux's pvcalls-front has functions for every socket call, and nothing in
 * the kernel calls them. Export them, so that pvcalls-sockets can.
 */
#include <linux/export.h>
#include <linux/net.h>
#include <linux/poll.h>
#include "pvcalls-front.h"

EXPORT_SYMBOL_GPL(pvcalls_front_socket);
EXPORT_SYMBOL_GPL(pvcalls_front_connect);
EXPORT_SYMBOL_GPL(pvcalls_front_bind);
EXPORT_SYMBOL_GPL(pvcalls_front_listen);
EXPORT_SYMBOL_GPL(pvcalls_front_accept);
EXPORT_SYMBOL_GPL(pvcalls_front_sendmsg);
EXPORT_SYMBOL_GPL(pvcalls_front_recvmsg);
EXPORT_SYMBOL_GPL(pvcalls_front_poll);
EXPORT_SYMBOL_GPL(pvcalls_front_release);
