"""The part of the CRI (runtime.v1) that the suite speaks: messages as dicts, over gRPC.

A message is a table of `field=number`, with `:type` if it is a message or a map, `*` if repeated.
"""
import base64
import json
import os
import socket
import urllib.parse

import grpc

MESSAGES = {name: dict(field.split("=") for field in fields.split()) for name, fields in {
    "Int64Value": "value=1",
    "KeyValue": "key=1 value=2",
    "SecurityProfile": "profile_type=1 localhost_ref=2",
    "NamespaceOption": "network=1 pid=2 ipc=3 target_id=4",
    "Capability": "add_capabilities=1* drop_capabilities=2*",
    "Resources": "cpu_period=1 cpu_quota=2 cpu_shares=3 memory_limit_in_bytes=4 oom_score_adj=5 cpuset_cpus=6"
                 " memory_swap_limit_in_bytes=10",
    "SandboxSecurity": "namespace_options=1:NamespaceOption privileged=6 seccomp=9:SecurityProfile",
    "LinuxPodSandboxConfig": "cgroup_parent=1 security_context=2:SandboxSecurity sysctls=3:map",
    "PodSandboxMetadata": "name=1 uid=2 namespace=3 attempt=4",
    "PodSandboxConfig": "metadata=1:PodSandboxMetadata hostname=2 log_directory=3 linux=8:LinuxPodSandboxConfig",
    "RunPodSandboxRequest": "config=1:PodSandboxConfig runtime_handler=2",
    "RunPodSandboxResponse": "pod_sandbox_id=1",
    "StopPodSandboxRequest": "pod_sandbox_id=1", "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "pod_sandbox_id=1", "RemovePodSandboxResponse": "",
    "PodSandboxStatusRequest": "pod_sandbox_id=1 verbose=2",
    "PodSandboxNetworkStatus": "ip=1",
    "PodSandboxStatus": "id=1 state=3 network=5:PodSandboxNetworkStatus",
    "PodSandboxStatusResponse": "status=1:PodSandboxStatus info=2:map",
    "ListPodSandboxRequest": "", "PodSandbox": "id=1 state=3",
    "ListPodSandboxResponse": "items=1:PodSandbox*",
    "ContainerMetadata": "name=1 attempt=2", "ImageSpec": "image=1",
    "Mount": "container_path=1 host_path=2 readonly=3",
    "Device": "container_path=1 host_path=2 permissions=3",
    "ContainerSecurity": "capabilities=1:Capability privileged=2 namespace_options=3:NamespaceOption"
                         " run_as_user=5:Int64Value run_as_group=12:Int64Value run_as_username=6"
                         " readonly_rootfs=7 supplemental_groups=8* no_new_privs=11 masked_paths=13*"
                         " readonly_paths=14* seccomp=15:SecurityProfile",
    "LinuxContainerConfig": "resources=1:Resources security_context=2:ContainerSecurity",
    "ContainerConfig": "metadata=1:ContainerMetadata image=2:ImageSpec command=3* args=4* working_dir=5"
                       " envs=6:KeyValue* mounts=7:Mount* devices=8:Device* log_path=11 stdin=12 tty=14"
                       " linux=15:LinuxContainerConfig",
    "CreateContainerRequest": "pod_sandbox_id=1 config=2:ContainerConfig sandbox_config=3:PodSandboxConfig",
    "CreateContainerResponse": "container_id=1",
    "StartContainerRequest": "container_id=1", "StartContainerResponse": "",
    "StopContainerRequest": "container_id=1 timeout=2", "StopContainerResponse": "",
    "RemoveContainerRequest": "container_id=1", "RemoveContainerResponse": "",
    "Container": "id=1 pod_sandbox_id=2 state=6",
    "ListContainersRequest": "", "ListContainersResponse": "containers=1:Container*",
    "ContainerStatusRequest": "container_id=1 verbose=2",
    "ContainerStatus": "id=1 state=3 exit_code=7 reason=10 message=11",
    "ContainerStatusResponse": "status=1:ContainerStatus info=2:map",
    "UpdateContainerResourcesRequest": "container_id=1 linux=2:Resources", "UpdateContainerResourcesResponse": "",
    "ExecSyncRequest": "container_id=1 cmd=2* timeout=3", "ExecSyncResponse": "stdout=1 stderr=2 exit_code=3",
    "ExecRequest": "container_id=1 cmd=2* tty=3 stdin=4 stdout=5 stderr=6", "ExecResponse": "url=1",
    "AttachRequest": "container_id=1 stdin=2 tty=3 stdout=4 stderr=5", "AttachResponse": "url=1",
    "ContainerStatsRequest": "container_id=1", "UInt64Value": "value=1",
    "CpuUsage": "timestamp=1 usage_core_nano_seconds=2:UInt64Value",
    "MemoryUsage": "timestamp=1 working_set_bytes=2:UInt64Value",
    "ContainerStats": "cpu=2:CpuUsage memory=3:MemoryUsage",
    "ContainerStatsResponse": "stats=1:ContainerStats",
    "VersionRequest": "version=1", "VersionResponse": "version=1 runtime_name=2 runtime_version=3",
    "StatusRequest": "verbose=1", "Condition": "type=1 status=2 reason=3 message=4",
    "RuntimeStatus": "conditions=1:Condition*", "StatusResponse": "status=1:RuntimeStatus",
}.items()}


def field_type(text):
    """`8:Device*` is (8, "Device", True)."""
    number, _, kind = text.rstrip("*").partition(":")
    return int(number), kind, text.endswith("*")


def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def encode(name, message):
    out = b""
    for field, value in message.items():
        number, kind, _ = field_type(MESSAGES[name][field])
        if kind == "map":
            kind, value = "KeyValue", [{"key": key, "value": item} for key, item in value.items()]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += varint(number << 3) + varint(item)
            else:
                data = encode(kind, item) if kind else item.encode()
                out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(name, data):
    """All repeated fields are there, others only if they were sent."""
    fields = {field_type(text)[0]: (field, *field_type(text)[1:]) for field, text in MESSAGES[name].items()}
    message = {field: {} if kind == "map" else [] for field, kind, many in fields.values() if many or kind == "map"}
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
    while at < len(data):
        tag = number()
        size = {0: None, 1: 8, 5: 4}.get(tag & 7, -1)
        if size is None:
            value = number()
        else:
            size = number() if size < 0 else size
            value = data[at:at + size]
            at += size
        field, kind, many = fields.get(tag >> 3, (None, None, None))
        if not field:
            continue
        if kind and kind != "map":
            value = decode(kind, value)
        elif kind == "map":
            pair = decode("KeyValue", value)
            message[field][pair.get("key", "")] = pair.get("value", "")
            continue
        elif isinstance(value, bytes):
            value = value.decode(errors="replace")
        if many:
            message[field].append(value)
        else:
            message[field] = value
    return message


class Service:
    """The runtime service behind a socket: `service.Version(version="v1")`."""

    def __init__(self, socket):
        self.channel = grpc.insecure_channel("unix://" + socket)

    def __getattr__(self, method):
        call = self.channel.unary_unary(
            "/runtime.v1.RuntimeService/" + method,
            request_serializer=lambda message: encode(method + "Request", message),
            response_deserializer=lambda data: decode(method + "Response", data))
        return lambda **message: call(message, timeout=60)


class Stream:
    """What the url of an Exec or Attach answer leads to: a WebSocket (RFC 6455), whose messages begin
    with a channel: 0 standard input, 1 output, 2 error, 3 how it ended."""

    def __init__(self, url, seconds=20):
        place = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((place.hostname, place.port), seconds)
        self.file = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
                             "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
                             % (place.path, place.netloc, key)).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            if not line:
                raise AssertionError("no WebSocket: %r" % head)
            head += line
        if b" 101 " not in head.splitlines()[0]:
            raise AssertionError("no WebSocket: %r" % head)
        self.out = {1: "", 2: "", 3: ""}

    def send(self, text):
        """To standard input; at most 124 bytes, masked with zeros."""
        data = b"\0" + text.encode()
        self.socket.sendall(bytes([0x82, 0x80 | len(data), 0, 0, 0, 0]) + data)

    def receive(self):
        """One message; false at the end."""
        head = self.file.read(2)
        if len(head) < 2 or head[0] & 0xF == 8:
            return False
        length = head[1] & 0x7F
        if length > 125:
            length = int.from_bytes(self.file.read(2 if length == 126 else 8), "big")
        data = self.file.read(length)
        if head[0] & 0xF in (1, 2, 0) and data:
            self.out[data[0]] += data[1:].decode(errors="replace")
        return True

    def until(self, text):
        """Reads until standard output has this."""
        while text not in self.out[1]:
            if not self.receive():
                raise AssertionError("%r never came: %r" % (text, self.out))

    def end(self):
        """Exit status, output, errors."""
        while self.receive():
            pass
        self.socket.close()
        how = json.loads(self.out[3] or "{}")
        causes = how.get("details", {}).get("causes", [])
        status = 0 if how.get("status") == "Success" else int(causes[0]["message"]) if causes else None
        return status, self.out[1], self.out[2]
