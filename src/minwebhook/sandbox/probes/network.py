"""Probes: the network, by what the policy ``sandbox_network`` allows."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from functools import partial

from minwebhook.sandbox.probes.inside import (
    Facts,
    Outcome,
    by_rights,
    held,
    judged,
    not_applicable,
    probe,
    read,
    syscall,
    tried,
)

_AF_ALG, _AF_VSOCK, _AF_PACKET, _AF_NETLINK = 38, 40, 17, 16
#: The version of Landlock that can keep a process from abstract sockets of others.
_SCOPES = 6
#: Families that some policy allows.
_USUAL = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, _AF_NETLINK}
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_NOT_BY_THE_KERNEL = (errno.EINVAL, errno.EOPNOTSUPP, errno.EADDRNOTAVAIL)


@probe(network="none")
def tcp(facts: Facts) -> Outcome:
    """connects to a service of the machine by TCP"""
    return tried(
        {
            "IPv4": lambda: _connect(socket.AF_INET, ("127.0.0.1", facts.tcp_port)),
            "IPv6": lambda: _connect(socket.AF_INET6, ("::1", facts.tcp_port)),
            "outside": lambda: _connect(socket.AF_INET, ("192.0.2.1", 9)),
        },
        also=(errno.EADDRNOTAVAIL, errno.EHOSTUNREACH),
    )


def _connect(family: int, address: tuple[str, int]) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(1)
        connection.connect(address)


@probe(network="none")
def udp(facts: Facts) -> Outcome:
    """sends a datagram to a service of the machine"""

    def send(family: int, address: tuple[str, int]) -> None:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"probe", address)

    return tried(
        {
            "IPv4": lambda: send(socket.AF_INET, ("127.0.0.1", facts.udp_port)),
            "IPv6": lambda: send(socket.AF_INET6, ("::1", facts.udp_port)),
            "broadcast": lambda: send(socket.AF_INET, ("255.255.255.255", 9)),
        },
        also=(errno.EADDRNOTAVAIL,),
    )


@probe()
def abstract_sockets_outside(facts: Facts) -> Outcome:
    """connects to a local service of the machine in the abstract namespace"""
    if facts.network == "host" and _landlock_version() < _SCOPES:
        return not_applicable("with sandbox_network = host this needs Linux 6.12, whose Landlock knows scopes")

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect("\0" + facts.abstract)

    return tried({"connect": connect})


def _landlock_version() -> int:
    try:
        return syscall("landlock_create_ruleset", 0, 0, 1)
    except OSError:
        return 0


@probe(network="none")
def abstract_sockets_of_jobs(facts: Facts) -> Outcome:
    """connects to another running job in the abstract namespace"""

    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect("\0" + facts.neighbor)

    return tried({"connect": connect})


@probe(network="none")
def interfaces(facts: Facts) -> Outcome:
    """sees network interfaces other than its own loopback"""
    found = set()
    with contextlib.suppress(OSError):
        found |= {name for _, name in socket.if_nameindex()}
    with contextlib.suppress(OSError):
        found |= {line.split(b":")[0].strip().decode() for line in read("/proc/net/dev").splitlines()[2:]}
    return judged(sorted(found - {"lo"}), "there are none")


def _made(family: int, kind: int, protocol: int) -> None:
    socket.socket(family, kind, protocol).close()


def _paired(family: int) -> None:
    for end in socket.socketpair(family):
        end.close()


@probe()
def netlink(facts: Facts) -> Outcome:
    """talks to the kernel about networks, packet filters, audits and devices (netlink)"""
    protocols = {1: "usersock", 4: "sock_diag", 6: "xfrm", 9: "audit", 12: "netfilter", 15: "uevents", 16: "generic"}
    if facts.network == "none":
        protocols[0] = "route"
    return tried({name: partial(_made, _AF_NETLINK, socket.SOCK_RAW, number) for number, name in protocols.items()})


@probe()
def raw_packets(facts: Facts) -> Outcome:
    """sends and reads packets as they are on the wire"""
    return tried(
        {
            "raw IPv4": partial(_made, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
            "raw IPv6": partial(_made, socket.AF_INET6, socket.SOCK_RAW, 58),
            "packet": partial(_made, _AF_PACKET, socket.SOCK_RAW, socket.htons(3)),
            "packet datagram": partial(_made, _AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)),
        }
    )


@probe()
def other_families(facts: Facts) -> Outcome:
    """opens sockets of every other family: vsock, kernel crypto, Bluetooth, CAN, XDP…"""
    kinds = {_AF_ALG: socket.SOCK_SEQPACKET, _AF_VSOCK: socket.SOCK_STREAM}
    steps: dict[str, Callable[[], object]] = {}
    for family in range(3, 46):
        if family not in _USUAL:
            steps[f"family {family}"] = partial(_made, family, kinds.get(family, socket.SOCK_RAW), 0)
            steps[f"family {family} pair"] = partial(_paired, family)
    return tried(steps, also=_NOT_BY_THE_KERNEL)


@probe(network="host")
def configure_network(facts: Facts) -> Outcome:
    """changes interfaces and addresses of the machine"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        same = fcntl.ioctl(control, _SIOCGIFMTU, struct.pack("16si12x", b"lo", 0))
        steps: dict[str, Callable[[], object]] = {"MTU of lo": partial(fcntl.ioctl, control, _SIOCSIFMTU, same)}

        def add_link() -> None:
            # RTM_NEWLINK, create and exclusive, of a kind that does not exist: who may gets EOPNOTSUPP
            kind = struct.pack("=HHHH4s", 12, 18, 8, 1, b"xyz")
            body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + kind
            message = struct.pack("=IHHII", 16 + len(body), 16, 0x605, 1, 0) + body
            with socket.socket(_AF_NETLINK, socket.SOCK_RAW, 0) as route:
                route.settimeout(2)
                route.send(message)
                answer = route.recv(4096)
                code = -struct.unpack_from("=i", answer, 16)[0]
                if code:
                    raise OSError(code, os.strerror(code))

        steps["new interface"] = add_link
        return by_rights(steps)


@probe(network="host")
def low_ports(facts: Facts) -> Outcome:
    """listens on a port that is the administrator's"""
    first = 1024
    with contextlib.suppress(OSError, ValueError):
        first = int(read("/proc/sys/net/ipv4/ip_unprivileged_port_start"))
    if first <= 1:
        return held("this machine has no such ports")

    def listen() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", first - 1))

    return tried({f"port {first - 1}": listen})


@probe()
def sockets_in_files(facts: Facts) -> Outcome:
    """connects to local services by the path of their socket: system bus, container engines, the server"""
    paths = ["/run/dbus/system_bus_socket", "/var/run/docker.sock", "/run/systemd/private", "/run/containerd.sock"]
    paths += [path for path in facts.hidden if path.endswith(".sock")]

    def connect(path: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)

    return tried({path: partial(connect, path) for path in paths})


@probe(languages=("python3",))
def sockets_that_it_has(facts: Facts) -> Outcome:
    """has sockets that reach further than its own job"""
    found = []
    for fd in range(256):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as own:
            if own.family != socket.AF_UNIX or own.type != socket.SOCK_STREAM:
                found.append(f"descriptor {fd}: family {own.family}, type {own.type}")
    return judged(found, "only its job's own")
