"""A SiteAgent's calls with the C core of gRPC, on raw bytes: no generated code.

Usage: c_core_peer.py HOST:PORT [CA.pem [CERT.pem KEY.pem]]

Reads commands from stdin, one JSON object a line, and answers each with one JSON object a line:
  {"call": "/pkg.Service/Method", "request": "<hex>", "kind": "unary" | "stream", "take": 3, "timeout": 10}
A stream is cancelled once `take` messages came; without `take` it is read to its end. `hold` keeps it open under that
name, unread; {"drop": name} cancels it.
"""

import json
import sys

import grpc


def as_is(data):
    return data


def channel_to(arguments):
    target = arguments[0]
    if len(arguments) == 1:
        return grpc.insecure_channel(target)
    parts = [open(path, "rb").read() for path in arguments[1:]]
    root, chain, key = parts[0], None, None
    if len(parts) == 3:
        chain, key = parts[1], parts[2]
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(root, key, chain))


def answer(error):
    return {"code": error.code().value[0], "details": error.details()}


def main():
    channel = channel_to(sys.argv[1:])
    held = {}
    for line in sys.stdin:
        command = json.loads(line)
        if "drop" in command:
            held.pop(command["drop"]).cancel()
            print(json.dumps({"code": 0}), flush=True)
            continue
        request = bytes.fromhex(command.get("request", ""))
        timeout = command.get("timeout", 20)
        try:
            if command["kind"] == "unary":
                method = channel.unary_unary(command["call"], as_is, as_is)
                result = {"code": 0, "messages": [method(request, timeout=timeout).hex()]}
            else:
                if command["kind"] == "stream":
                    stream = channel.unary_stream(command["call"], as_is, as_is)(request, timeout=timeout)
                else:
                    stream = channel.stream_stream(command["call"], as_is, as_is)(iter([request]), timeout=timeout)
                if "hold" in command:
                    held[command["hold"]] = stream
                    print(json.dumps({"code": 0}), flush=True)
                    continue
                messages = []
                for message in stream:
                    messages.append(message.hex() if command.get("bytes", True) else len(message))
                    if len(messages) == command.get("take"):
                        stream.cancel()
                        break
                result = {"code": 0, "messages": messages}
        except grpc.RpcError as error:
            result = answer(error)
        print(json.dumps(result), flush=True)


main()
