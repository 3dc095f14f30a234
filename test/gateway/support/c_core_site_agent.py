"""A SiteAgent on the C core of gRPC, on raw bytes: no generated code, nothing of ours.

Usage: c_core_site_agent.py [PORT [CA CERTIFICATE KEY]]

With the three PEM files it serves and calls with TLS, as a C++ SiteAgent with -s does: it asks nobody for a certificate
and shows its own.

Serves ISiteAgent, IKey.GetKeyStores and IReporting as a C++ SiteAgent does, and calls devices as one does: without
deadlines, WaitForSession and GetStatistics at the left, then StartNode at the other site, then WaitForSession and
RunSession at the right. Prints one JSON object a line: listening, registered, unregistered, step, keys, streamEnded,
answer. Takes one JSON object a line: {"digest": N}, {"keys": true}, {"cut": true}.
"""

import hashlib
import json
import queue
import sys
import threading
import time
from concurrent import futures

import grpc

SITE = "/cqp.remote.ISiteAgent/"
DEVICE = "/cqp.remote.IDevice/"
STATISTICS = "/cqp.remote.IReporting/GetStatistics"


def as_is(data):
    return data


# --- the wire form of protobuf, as much as is needed ---


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number, data):
    if isinstance(data, str):
        data = data.encode()
    return varint(number << 3 | 2) + varint(len(data)) + data


def number_field(number, value):
    return varint(number << 3) + varint(value)


def read_varint(data, at):
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def fields(data):
    """Yields (number, value): bytes for length-delimited fields, int for varints."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind == 2:
            size, at = read_varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def first(data, number, default=b""):
    for found, value in fields(data):
        if found == number:
            return value
    return default


# --- the site ---

output = threading.Lock()


def say(**event):
    event["atMs"] = time.time() * 1000
    with output:
        print(json.dumps(event), flush=True)


class Site:
    def __init__(self, credentials):
        self.credentials = credentials
        self.lock = threading.Lock()
        self.address = ""
        self.devices = []
        self.keys = []
        self.watchers = []
        self.sessions = {}

    def channel(self, address):
        if self.credentials is None:
            return grpc.insecure_channel(address)
        return grpc.secure_channel(address, self.credentials)

    # ISiteAgent

    def register_device(self, request, context):
        config = first(request, 1)
        with self.lock:
            self.devices.append(request)
        say(event="registered", id=first(config, 1).decode(), address=first(request, 2).decode())
        return b""

    def unregister_device(self, request, context):
        wanted = first(request, 1)
        with self.lock:
            for index, device in enumerate(self.devices):
                if first(first(device, 1), 1) == wanted:
                    del self.devices[index]
                    break
            else:
                context.abort(grpc.StatusCode.NOT_FOUND, "Device not registered")
        say(event="unregistered", id=wanted.decode())
        return b""

    def get_site_details(self, request, context):
        with self.lock:
            return length_delimited(1, self.address) + b"".join(length_delimited(2, d) for d in self.devices)

    def start_node(self, request, context):
        hop = first(request, 1)
        left, right = first(hop, 1), first(hop, 2)
        if first(left, 1).decode() == self.address:
            self.start_left(left, right, first(hop, 3), context)
        else:
            self.start_right(left, right, first(hop, 3))
        return b""

    def control_address(self, device_id):
        with self.lock:
            for device in self.devices:
                if first(first(device, 1), 1) == device_id:
                    return first(device, 2).decode()
        return None

    def start_left(self, left, right, params, context):
        device_id = first(left, 2)
        address = self.control_address(device_id)
        if address is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "Unknown device")
        if device_id not in self.sessions:
            self.open_session(device_id, address, 4)
        filled = left + length_delimited(3, address)
        pair = length_delimited(1, filled) + length_delimited(2, right) + length_delimited(3, params)
        say(event="step", step=5, name="StartNode")
        other = self.channel(first(right, 1).decode())
        other.unary_unary(SITE + "StartNode", as_is, as_is)(length_delimited(1, pair))

    def start_right(self, left, right, params):
        device_id = first(right, 2)
        channel = self.sessions.get(device_id)
        if channel is None:
            channel = self.open_session(device_id, self.control_address(device_id), 6)
        say(event="step", step=7, name="RunSession")
        details = length_delimited(1, params) + length_delimited(2, first(left, 3))
        try:
            channel["channel"].unary_unary(DEVICE + "RunSession", as_is, as_is)(details)
            say(event="answer", name="RunSession", code=0, details="")
        except grpc.RpcError as error:
            say(event="answer", name="RunSession", code=error.code().value[0], details=error.details())

    def open_session(self, device_id, address, step):
        channel = self.channel(address)
        say(event="step", step=step, name="WaitForSession")
        keys = channel.unary_stream(DEVICE + "WaitForSession", as_is, as_is)(b"")
        statistics = channel.unary_stream(STATISTICS, as_is, as_is)(number_field(2, 1))
        session = {"channel": channel, "streams": [keys, statistics]}
        self.sessions[device_id] = session
        threading.Thread(target=self.read_keys, args=(keys,), daemon=True).start()
        threading.Thread(target=self.read_statistics, args=(statistics,), daemon=True).start()
        return session

    def read_keys(self, stream):
        code, details = 0, ""
        try:
            for message in stream:
                batch = [value for number, value in fields(message) if number == 1]
                with self.lock:
                    self.keys.extend(batch)
                    total = len(self.keys)
                    watchers = list(self.watchers)
                report = self.report(total)
                for watcher in watchers:
                    watcher.put(report)
                say(event="keys", batch=len(batch), count=total)
        except grpc.RpcError as error:
            code, details = error.code().value[0], error.details()
        say(event="streamEnded", code=code, details=details)

    def read_statistics(self, stream):
        try:
            for _ in stream:
                pass
        except grpc.RpcError:
            pass

    def end_key_exchange(self, request, context):
        hop = first(request, 1)
        left, right = first(hop, 1), first(hop, 2)
        is_left = first(left, 1).decode() == self.address
        device_id = first(left if is_left else right, 2)
        session = self.sessions.pop(device_id, None)
        if session is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Unknown device")
        for stream in session["streams"]:
            stream.cancel()
        for _ in range(2):
            try:
                session["channel"].unary_unary(DEVICE + "EndSession", as_is, as_is)(b"", timeout=10)
            except grpc.RpcError as error:
                say(event="answer", name="EndSession", code=error.code().value[0], details=error.details())
        session["channel"].close()
        if is_left:
            other = self.channel(first(right, 1).decode())
            other.unary_unary(SITE + "EndKeyExchange", as_is, as_is)(request)
        return b""

    # IKey and IReporting

    def get_key_stores(self, request, context):
        return b""

    def report(self, total):
        value = number_field(1, 1) + number_field(3, total)
        path = length_delimited(1, "Key Generation") + length_delimited(1, "Key Generated")
        return path + number_field(2, 7) + number_field(4, 1) + length_delimited(9, value)

    def get_statistics(self, request, context):
        reports = queue.Queue()
        with self.lock:
            self.watchers.append(reports)
        context.add_callback(lambda: reports.put(None))
        try:
            while True:
                report = reports.get()
                if report is None:
                    return
                yield report
        finally:
            with self.lock:
                self.watchers.remove(reports)

    def command(self, command):
        with self.lock:
            keys = list(self.keys)
        if "digest" in command:
            wanted = command["digest"]
            digest = hashlib.sha256(b"".join(keys[:wanted])).hexdigest() if len(keys) >= wanted else None
            say(event="digest", keys=wanted, digest=digest)
        elif "keys" in command:
            say(event="allKeys", keys=[key.hex() for key in keys])
        elif "cut" in command:
            for session in self.sessions.values():
                for stream in session["streams"]:
                    stream.cancel()


def handlers(service, unary, streams=()):
    methods = {name: grpc.unary_unary_rpc_method_handler(call, as_is, as_is) for name, call in unary.items()}
    for name, call in streams:
        methods[name] = grpc.unary_stream_rpc_method_handler(call, as_is, as_is)
    return grpc.method_handlers_generic_handler(service, methods)


def main():
    tls = sys.argv[2:5]
    ca, certificate, key = [open(file, "rb").read() for file in tls] or (None, None, None)
    site = Site(grpc.ssl_channel_credentials(ca, key, certificate) if tls else None)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
    server.add_generic_rpc_handlers(
        (
            handlers(
                "cqp.remote.ISiteAgent",
                {
                    "RegisterDevice": site.register_device,
                    "UnregisterDevice": site.unregister_device,
                    "GetSiteDetails": site.get_site_details,
                    "StartNode": site.start_node,
                    "EndKeyExchange": site.end_key_exchange,
                },
            ),
            handlers("cqp.remote.IKey", {"GetKeyStores": site.get_key_stores}),
            handlers("cqp.remote.IReporting", {}, [("GetStatistics", site.get_statistics)]),
        )
    )
    wanted = "127.0.0.1:" + (sys.argv[1] if len(sys.argv) > 1 else "0")
    if tls:
        port = server.add_secure_port(wanted, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        port = server.add_insecure_port(wanted)
    site.address = "127.0.0.1:%d" % port
    server.start()
    say(event="listening", address=site.address)
    for line in sys.stdin:
        site.command(json.loads(line))
    server.stop(0)


main()
