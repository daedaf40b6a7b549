#!/usr/bin/python3
"""A seccomp agent (seccomp_unotify(2)) for the tests: agent.py SOCKET NUMBER

Each connection to SOCKET brings a container process state and a listener. Of the calls that come over it, the one
of this NUMBER fails with EDQUOT, every other is let through. What happens is printed, a JSON document a line.
"""
import errno
import fcntl
import json
import select
import socket
import struct
import sys
import threading

RECV = 0xC0502100  # _IOWR('!', 0, struct seccomp_notif)
SEND = 0xC0182101  # _IOWR('!', 1, struct seccomp_notif_resp)
CONTINUE = 1


def say(**what):
    print(json.dumps(what), flush=True)


def answer(listener, denied):
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        (_, events), = poll.poll()
        if not events & select.POLLIN:
            return
        request = bytearray(80)
        try:
            fcntl.ioctl(listener, RECV, request)
            cookie, pid, _, number = struct.unpack_from("=QIIi", request)
            say(call=number)
            if number == denied:
                reply = struct.pack("=QqiI", cookie, 0, -errno.EDQUOT, 0)
            else:
                reply = struct.pack("=QqiI", cookie, 0, 0, CONTINUE)
            fcntl.ioctl(listener, SEND, reply)
        except OSError as error:
            # The process has gone meanwhile.
            if error.errno != errno.ENOENT:
                raise


def serve(connection, denied):
    text, descriptors = b"", []
    while True:
        part, fds, _, _ = socket.recv_fds(connection, 1 << 16, 8)
        descriptors += fds
        if not part:
            break
        text += part
    say(descriptors=len(descriptors), state=json.loads(text))
    answer(descriptors[0], denied)


server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.bind(sys.argv[1])
server.listen()
say(ready=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0], int(sys.argv[2])), daemon=True).start()
