# The guest's side of the scenarios of sockets: arguments are the numbers of connections one after another and at a time, and of 64 KiB
# blocks each way. It runs with Debian's python3-minimal.
import select
import socket
import struct
import sys
import threading
import time
import zlib

COUNT, AT_A_TIME, BLOCKS = map(int, sys.argv[1:4])
HOST = 2
BLOCK = 65536
SUM, SOURCE, ECHO, DEAF, NOBODY = 5000, 5001, 5002, 5003, 5999
# More than both rings, the tool and the host's socket hold of a stream.
FULL = 8 << 20
quit_wanted = threading.Event()


def say(text):
    print("sockets:", text, flush=True)


def connect(port, attempts=100):
    # Linux waits two seconds for an answer, which a busy machine may take.
    for attempt in range(attempts):
        try:
            s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            s.connect((HOST, port))
            return s
        except TimeoutError:
            s.close()
    raise TimeoutError


def block(number):
    return struct.pack("<I", number) * (BLOCK // 4)


def exactly(s, length):
    data = b""
    while len(data) < length:
        part = s.recv(length - len(data))
        assert part, "the stream has ended early"
        data += part
    return data


def line(s):
    data = b""
    while not data.endswith(b"\n"):
        data += exactly(s, 1)
    return data.decode().split()


def send_blocks(s, blocks):
    total = 1
    for number in range(blocks):
        data = block(number)
        total = zlib.adler32(data, total)
        s.sendall(data)
    return total


def read_all(s):
    total, length = 1, 0
    while True:
        data = s.recv(BLOCK)
        if not data:
            return length, total
        length += len(data)
        total = zlib.adler32(data, total)


def serve(s):
    words = line(s)
    if words[0] == "echo":
        while data := s.recv(BLOCK):
            s.sendall(data)
    elif words[0] == "sum":
        # The host has closed its direction, and still reads.
        s.sendall(b"%d %d\n" % read_all(s))
    elif words[0] == "blocks":
        send_blocks(s, int(words[1]))
    elif words[0] == "deaf":
        quit_wanted.wait()
    elif words[0] == "quit":
        quit_wanted.set()
    s.close()


def server():
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, 22))
    listener.listen(512)
    say("ready")
    while True:
        s, (cid, port) = listener.accept()
        assert cid == HOST and port >= 1 << 30, (cid, port)
        threading.Thread(target=serve, args=(s,), daemon=True).start()


def echo(s, number):
    data = struct.pack("<I", number)
    s.sendall(data)
    assert exactly(s, 4) == data


threading.Thread(target=server, daemon=True).start()

s = connect(SUM)
assert s.getpeername() == (HOST, SUM)
total = send_blocks(s, BLOCKS)
s.shutdown(socket.SHUT_WR)
assert line(s) == [str(BLOCKS * BLOCK), str(total)]
assert s.recv(1) == b""
s.close()
say("sent blocks")

s = connect(SOURCE)
s.sendall(b"%d\n" % BLOCKS)
length, total = read_all(s)
expected = 1
for number in range(BLOCKS):
    expected = zlib.adler32(block(number), expected)
assert (length, total) == (BLOCKS * BLOCK, expected), (length, total)
s.close()
say("got blocks")

deaf = connect(DEAF)
deaf.setblocking(False)
sent = 0
while select.select([], [deaf], [], 1)[1]:
    try:
        sent += deaf.send(block(0))
    except BlockingIOError:
        pass
    assert sent < FULL, sent
say("deaf after %d bytes" % sent)

many = [connect(ECHO) for number in range(AT_A_TIME)]
for number, s in enumerate(many):
    echo(s, number)
for s in many:
    s.close()
say("at a time %d" % len(many))

for number in range(COUNT):
    s = connect(ECHO)
    echo(s, number)
    s.close()
say("one after another %d" % COUNT)
deaf.close()

# Linux drops the host's refusal: its own limit of two seconds ends the connection.
start = time.monotonic()
try:
    connect(NOBODY, 1)
    raise AssertionError("there is a listener")
except TimeoutError:
    assert time.monotonic() - start > 1.9
    say("refused")

quit_wanted.wait()
say("all good")
