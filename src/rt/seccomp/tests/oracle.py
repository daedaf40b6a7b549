"""What libseccomp makes of seccomp profiles, with the tree of its optimisation 2.

Reads one JSON object a line, {"arches": [...], "profile": {...}}: the profile as in config.json, and the
architectures of the filter, the machine's own first. Answers with one object a line: the program in
hexadecimal, the names that libseccomp does not know, and the rules that it refused with its reasons.
{"names": [...]} asks for the numbers of system calls instead, for each architecture in the order of ARCHES.
"""

import json
import signal
import sys
import tempfile

import seccomp

ARCHES = {name: getattr(seccomp.Arch, name) for name in ["X86_64", "X86", "X32", "AARCH64", "ARM"]}


def action(name, errno):
    errno = 1 if errno is None else errno
    return {
        "SCMP_ACT_ALLOW": lambda: seccomp.ALLOW,
        "SCMP_ACT_LOG": lambda: seccomp.LOG,
        "SCMP_ACT_KILL": lambda: seccomp.KILL,
        "SCMP_ACT_KILL_THREAD": lambda: seccomp.KILL,
        "SCMP_ACT_KILL_PROCESS": lambda: seccomp.KILL_PROCESS,
        "SCMP_ACT_TRAP": lambda: seccomp.TRAP,
        "SCMP_ACT_NOTIFY": lambda: seccomp.NOTIFY,
        "SCMP_ACT_ERRNO": lambda: seccomp.ERRNO(errno),
        "SCMP_ACT_TRACE": lambda: seccomp.TRACE(errno),
    }[name]()


def condition(arg):
    operator = getattr(seccomp, arg["op"].removeprefix("SCMP_CMP_"))
    return seccomp.Arg(arg["index"], operator, arg["value"], arg.get("valueTwo") or 0)


def build(arches, profile):
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    seccomp.set_api(3)
    made = seccomp.SyscallFilter(default)
    for arch in arches:
        if not made.exist_arch(ARCHES[arch]):
            made.add_arch(ARCHES[arch])
    for arch in ARCHES:
        if arch not in arches and made.exist_arch(ARCHES[arch]):
            made.remove_arch(ARCHES[arch])
    made.set_attr(seccomp.Attr.CTL_OPTIMIZE, 2)
    unknown, refused = set(), []
    for at, rule in enumerate(profile["syscalls"]):
        verdict = action(rule["action"], rule.get("errnoRet"))
        if verdict == default:
            continue
        args = rule.get("args") or []
        indices = [arg["index"] for arg in args]
        # Two conditions on one argument are two rules (runc's libcontainer/seccomp).
        alternatives = [[arg] for arg in args] if len(set(indices)) < len(indices) else [args]
        for name in rule["names"]:
            if all(seccomp.resolve_syscall(ARCHES[arch], name) == -1 for arch in ARCHES):
                unknown.add(name)
                continue
            for alternative in alternatives:
                try:
                    made.add_rule(verdict, name, *map(condition, alternative))
                except Exception as error:
                    refused.append([at, name, str(error)])
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        return {"program": file.read().hex(), "unknown": sorted(unknown), "refused": refused}


for line in sys.stdin:
    asked = json.loads(line)
    signal.alarm(2)  # ends this process: in some trees libseccomp never finds its way out
    if "names" in asked:
        answer = [[seccomp.resolve_syscall(arch, name) for arch in ARCHES.values()] for name in asked["names"]]
    else:
        answer = build(asked["arches"], asked["profile"])
    print(json.dumps(answer), flush=True)
