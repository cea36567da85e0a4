"""An OpenAI-compatible upstream that sends every stream so many tokens a second, and costs as little as it can.

    python -m benchmarks.paced_upstream --streams 2000 --rate 20 --seconds 4

It holds the streams that come until all are open, then sends to each in turn, spread evenly over the tick. One thread
does it with prepared bytes. A token says its number and when it was sent: `0042:000123456789 `, the time in
microseconds of the machine's monotonic clock, so that a client can tell how long it was on its way.
"""

from __future__ import annotations

import argparse
import gc
import re
import resource
import select
import socket
import time

from benchmarks.answers import MODELS
from tests.upstream import DONE, chunk_of, event

TOKEN = re.compile(rb'"content":"(\d{4}):(\d{12}) "')  # finds a token in what a client received
WARM_UP = 1.0  # seconds of tokens before the time that is measured
PAUSE = 1.0  # seconds between the last stream's opening and the first token
ENDS_A_SECOND = 500  # streams that are ended, so that ends delay neither tokens nor each other much
SLICE = 0.0005  # seconds to sleep before looking which streams are due
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return an HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


BEFORE, AFTER = chunk(event("N" * 18)).split(b"N" * 18)
ROLE = chunk(event(chunk_of({"role": "assistant", "content": ""})))
END = chunk(event(chunk_of({}, finish_reason="stop"))) + chunk(DONE) + b"0\r\n\r\n"


class Stream:
    """One connection: a request that comes in, then an answer that goes out."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self.request = b""
        self.waiting = b""  # what the connection does not take yet
        self.left = False

    def asked(self) -> bool:
        """Read on; whether the request is whole."""
        piece = self.connection.recv(1 << 16)
        self.request += piece
        self.left = not piece
        head, end, body = self.request.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        return bool(piece and end and len(body) >= (int(length[1]) if length else 0))

    def send(self, data: bytes) -> None:
        """Send without waiting; what is not taken goes with the next."""
        data = self.waiting + data
        try:
            self.waiting = data[self.connection.send(data) :]
        except BlockingIOError:
            self.waiting = data
        except OSError:  # who left needs no more
            self.waiting = b""

    def finish(self) -> None:
        """Send the end of the answer."""
        self.connection.setblocking(True)
        self.send(END)
        if b"\r\nconnection: close\r\n" in self.request.lower():
            self.connection.close()


def collect(listener: socket.socket, count: int) -> list[Stream]:
    """Answer requests with headers and a first chunk without text, until so many streams are open."""
    streams: dict[int, Stream] = {}
    ready = []
    with select.epoll() as poll:
        poll.register(listener, select.EPOLLIN)
        while len(ready) < count:
            for fd, _ in poll.poll():
                if fd == listener.fileno():
                    stream = Stream(listener.accept()[0])
                    streams[stream.connection.fileno()] = stream
                    poll.register(stream.connection, select.EPOLLIN)
                elif streams[fd].asked():
                    if streams[fd].request.startswith(b"GET "):  # which models there are
                        streams[fd].send(MODELS)
                        streams[fd].request = b""
                        continue
                    poll.unregister(fd)
                    streams[fd].send(HEAD + ROLE)
                    ready.append(streams[fd])
                elif streams[fd].left:
                    poll.unregister(fd)
                    streams.pop(fd).connection.close()
    return ready


def pace(streams: list[Stream], rate: float, count: int) -> float:
    """Send `count` tokens to every stream, in turn; return how late the latest of all was, in seconds."""
    clock = time.monotonic
    step = 1 / rate / len(streams)
    latest = 0.0
    begun = clock()
    due = begun
    for number in range(count):
        prefix = BEFORE + b"%04d:" % number
        for place, stream in enumerate(streams):
            due = begun + (number * len(streams) + place) * step
            while (now := clock()) < due:
                time.sleep(SLICE)
            latest = max(latest, now - due)
            stream.send(prefix + b"%012d " % (now * 1_000_000) + AFTER)
    return latest


def main() -> None:
    """Serve once, and say on which port and at the end how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, required=True)
    parser.add_argument("--rate", type=float, default=20, help="tokens a second for each stream (20)")
    parser.add_argument("--seconds", type=float, default=4, help="of tokens, after a second to warm up (4)")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(listener.getsockname()[1], flush=True)
        streams = collect(listener, options.streams)
        gc.disable()  # a collection would be a pause for all
        time.sleep(PAUSE)
        begun = time.process_time()
        latest = pace(streams, options.rate, round(options.rate * (WARM_UP + options.seconds)))
        print(f"{latest:.4f} {time.process_time() - begun:.3f}", flush=True)
        for stream in streams:
            time.sleep(1 / ENDS_A_SECOND)
            stream.finish()
        input()  # the connections stay open, for the server keeps them


if __name__ == "__main__":
    main()
