# The guest's side of the scenario of the network card: it sends frames of its own making, and tells which answers the
# card lets through. The card has no address of IP yet. It runs with Debian's python3-minimal.
import socket
import struct
import time

CARD = "eth0"
PACKET = 263  # SOL_PACKET
# Of include/uapi/linux/if_packet.h.
ADD, DROP, PROMISCUOUS = 1, 2, 1
OTHER = bytes([2, 0, 0, 0, 0, 0x77])
# All nodes, and all routers.
NODES, ROUTERS = bytes([0x33, 0x33, 0, 0, 0, 1]), bytes([0x33, 0x33, 0, 0, 0, 2])
# How long a frame may take on a busy machine, in seconds, and how often the card is asked until it has its filter.
PATIENCE, ATTEMPTS = 30, 600
# The network's answer to this one passes every filter, and comes after those to what was asked before.
MARK = bytes([10, 0, 2, 78])


def say(text):
    print("card:", text, flush=True)


s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((CARD, 3))
index = socket.if_nametoindex(CARD)
own = s.getsockname()[4]
# Frames to the other card that have come.
others = 0


def member(option):
    s.setsockopt(PACKET, option, struct.pack("=IHH8s", index, PROMISCUOUS, 0, bytes(8)))


def arp(sender, address):
    """Asks for the gateway's address."""
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, sender, address, bytes(6), bytes([10, 0, 2, 2]))
    s.send(b"\xff" * 6 + sender + b"\x08\x06" + body)


def question():
    """Asks for the gateway's address, as another card would."""
    arp(OTHER, bytes([10, 0, 2, 77]))


def solicitation():
    """Asks for routers, which answer to all nodes (RFC 4861)."""
    source, target = bytes(16), bytes.fromhex("ff02" + "0" * 26 + "02")
    body = struct.pack("!BBHI", 133, 0, 0, 0)
    data = source + target + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = struct.pack("!BBHI", 133, 0, ~total & 0xFFFF, 0)
    s.send(ROUTERS + own + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + source + target + body)


def passes(ask, target, kind):
    """Returns true if the answer to a question comes before that to a later one, which every filter lets through."""
    global others
    ask()
    arp(own, MARK)
    found = False
    end = time.monotonic() + PATIENCE
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            frame, (_, _, packet_type, _, _) = s.recvfrom(2048)
        except TimeoutError:
            break
        others += frame[:6] == OTHER
        if packet_type == socket.PACKET_OUTGOING:
            continue
        if frame[:6] == own and frame[12:14] == b"\x08\x06" and frame[38:42] == MARK:
            return found
        found |= frame[:6] == target and frame[12:14] == kind
    raise AssertionError((ask.__name__, "the network is silent"))


def becomes(wanted, answer):
    """Asks until an answer passes, or none does: the driver tells the card a new filter later."""
    for _ in range(ATTEMPTS):
        if passes(*answer) == wanted:
            return
        time.sleep(0.1)
    raise AssertionError((answer[0].__name__, "never becomes", wanted))


UNICAST = question, OTHER, b"\x08\x06"
GROUP = solicitation, NODES, b"\x86\xdd"
# Linux wants multicast frames as soon as a card is up: it has joined all hosts (net/ipv4/igmp.c, `ip_mc_up`).
becomes(True, GROUP)
becomes(False, UNICAST)
say("directed and multicast frames")
member(ADD)
becomes(True, UNICAST)
becomes(True, GROUP)
say("all frames")
member(DROP)
becomes(False, UNICAST)
becomes(True, GROUP)
say("directed frames again")
say("%d to the other card" % others)
