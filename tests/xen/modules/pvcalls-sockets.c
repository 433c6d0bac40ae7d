// SPDX-License-Identifier: GPL-2.0
/*
 * Sockets over Linux's pvcalls-front: an address family whose calls are the
 * driver's functions, which no program can reach otherwise.
 *
 * socket(FAMILY, SOCK_STREAM, 0) gives a descriptor for connect, bind, listen,
 * accept, send, recv, poll and close. Addresses are struct sockaddr_in with
 * AF_INET in it, the only ones the driver takes. FAMILY is 19 (AF_ECONET),
 * a number that Linux keeps and no longer implements.
 */
#include <linux/in.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/version.h>
#include <net/sock.h>
#include "pvcalls-front.h"

#define FAMILY 19

static struct proto pvs_proto = {
	.name = "PVCALLS",
	.owner = THIS_MODULE,
	.obj_size = sizeof(struct sock),
};

static void pvs_drop_sock(struct socket *sock)
{
	struct sock *sk = sock->sk;

	sock_orphan(sk);
	sock->sk = NULL;
	sock_put(sk);
}

static int pvs_release(struct socket *sock)
{
	int ret;

	if (!sock->sk)
		return 0;
	ret = pvcalls_front_release(sock);
	pvs_drop_sock(sock);
	return ret;
}

static int pvs_bind(struct socket *sock, struct sockaddr *address, int length)
{
	if (length < (int)sizeof(struct sockaddr_in))
		return -EINVAL;
	return pvcalls_front_bind(sock, address, sizeof(struct sockaddr_in));
}

static int pvs_connect(struct socket *sock, struct sockaddr *address,
		       int length, int flags)
{
	if (length < (int)sizeof(struct sockaddr_in))
		return -EINVAL;
	return pvcalls_front_connect(sock, address, sizeof(struct sockaddr_in),
				     flags);
}

static int pvs_accept_one(struct socket *sock, struct socket *newsock,
			  int flags)
{
	int ret = pvcalls_front_accept(sock, newsock, flags);
	struct sk_buff *mapping;

	if (!newsock->sk)
		return ret;
	/* The driver leaves its new sock uninitialised but for the pointer
	 * to its own structure, which it keeps in sk_send_head.
	 */
	mapping = newsock->sk->sk_send_head;
	sock_init_data(newsock, newsock->sk);
	newsock->sk->sk_send_head = mapping;
	if (!ret)
		newsock->state = SS_CONNECTED;
	return ret;
}

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
static int pvs_accept(struct socket *sock, struct socket *newsock,
		      struct proto_accept_arg *arg)
{
	return pvs_accept_one(sock, newsock, arg->flags);
}
#else
static int pvs_accept(struct socket *sock, struct socket *newsock, int flags,
		      bool kern)
{
	return pvs_accept_one(sock, newsock, flags);
}
#endif

/* No response of the protocol carries an address. */
static int pvs_getname(struct socket *sock, struct sockaddr *address, int peer)
{
	struct sockaddr_in *any = (struct sockaddr_in *)address;

	memset(any, 0, sizeof(*any));
	any->sin_family = AF_INET;
	return sizeof(*any);
}

/* Nor is there a command for a half close. */
static int pvs_shutdown(struct socket *sock, int how)
{
	return -EOPNOTSUPP;
}

static const struct proto_ops pvs_ops = {
	.owner = THIS_MODULE,
	.release = pvs_release,
	.bind = pvs_bind,
	.connect = pvs_connect,
	.socketpair = sock_no_socketpair,
	.accept = pvs_accept,
	.getname = pvs_getname,
	.poll = pvcalls_front_poll,
	.listen = pvcalls_front_listen,
	.shutdown = pvs_shutdown,
	.sendmsg = pvcalls_front_sendmsg,
	.recvmsg = pvcalls_front_recvmsg,
	.mmap = sock_no_mmap,
};

static int pvs_create(struct net *net, struct socket *sock, int protocol,
		      int kern)
{
	struct sock *sk;
	int ret;

	if (sock->type != SOCK_STREAM)
		return -ESOCKTNOSUPPORT;
	if (protocol)
		return -EPROTONOSUPPORT;
	sk = sk_alloc(net, PF_INET, GFP_KERNEL, &pvs_proto, kern);
	if (!sk)
		return -ENOMEM;
	sock_init_data(sock, sk);
	sock->ops = &pvs_ops;
	ret = pvcalls_front_socket(sock);
	if (ret) {
		if (sk->sk_send_head)
			pvcalls_front_release(sock);
		pvs_drop_sock(sock);
	}
	return ret;
}

static const struct net_proto_family pvs_family = {
	.family = FAMILY,
	.owner = THIS_MODULE,
	.create = pvs_create,
};

static int __init pvs_init(void)
{
	return sock_register(&pvs_family);
}

static void __exit pvs_exit(void)
{
	sock_unregister(FAMILY);
}

module_init(pvs_init);
module_exit(pvs_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Sockets over the Xen PV Calls frontend driver");
