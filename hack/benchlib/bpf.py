"""A seccomp program for `floor`: the profile of a config.json in the cheapest form known.

A binary search over ranges of system call numbers with equal verdicts, instead of libseccomp's one comparison per call. Only what
docker's default profile uses is understood: one condition per rule, values below 2**32, little-endian x86-64 with its two others.
"""
import ctypes
import struct

ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
AUDIT_X86_64, AUDIT_I386, X32_BIT = 0xC000003E, 0x40000003, 0x40000000
SCMP_X86_64, SCMP_X86, SCMP_X32 = 0xC000003E, 0x40000003, 0x4000003E
LD, AND, JA, JEQ, JGT, JGE, RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
ARCH_OFFSET, NR_OFFSET, ARGS_OFFSET = 4, 0, 16


class Program:
    """Built from its end, so that every jump (they only go forward) knows its target: an index into the reversed code."""

    def __init__(self):
        self.reversed = []
        self.returns = {}

    def put(self, code, k, jt=0, jf=0):
        self.reversed.append(struct.pack("<HBBI", code, jt, jf, k))
        return len(self.reversed) - 1

    def ret(self, verdict):
        """Equal verdicts share one instruction while it is near."""
        at = self.returns.get(verdict)
        if at is None or len(self.reversed) - at > 200:
            at = self.returns[verdict] = self.put(RET, verdict)
        return at

    def near(self, target):
        """A conditional jump reaches 255 instructions; JA takes the rest of the way."""
        distance = len(self.reversed) - 1 - target
        return target if distance < 250 else self.put(JA, distance)

    def jump(self, code, k, if_true, if_false):
        if_true, if_false = self.near(if_true), self.near(if_false)
        here = len(self.reversed)
        return self.put(code, k, here - 1 - if_true, here - 1 - if_false)

    def load(self, offset, then):
        distance = len(self.reversed) - 1 - then
        if distance:
            self.put(JA, distance)
        return self.put(LD, offset)

    def condition(self, arg, if_true, if_false):
        """One rule's argument, compared as 64 bits in two halves."""
        low, high = ARGS_OFFSET + 8 * arg["index"], ARGS_OFFSET + 8 * arg["index"] + 4
        value, op = arg["value"], arg["op"]
        if op == "SCMP_CMP_MASKED_EQ":
            self.jump(JEQ, arg.get("valueTwo", 0), if_true, if_false)
            self.put(AND, value)
            return self.put(LD, low)
        if op == "SCMP_CMP_EQ":
            then, high_set = self.jump(JEQ, value, if_true, if_false), if_false
        elif op == "SCMP_CMP_LT":
            then, high_set = self.jump(JGE, value, if_false, if_true), if_false
        elif op == "SCMP_CMP_GT":
            then, high_set = self.jump(JGT, value, if_true, if_false), if_true
        else:
            raise ValueError(f"floor's seccomp compiler does not know {op}")
        return self.load(high, self.jump(JEQ, 0, self.load(low, then), high_set))

    def leaf(self, verdict):
        """A verdict is a number, or (rules, default): conditions tried in turn."""
        if isinstance(verdict, int):
            return self.ret(verdict)
        rules, default = verdict
        at = self.ret(default)
        for arg, action in reversed(rules):
            at = self.condition(arg, self.ret(action), at)
        return at

    def search(self, ranges):
        """A binary search; ranges are (first number, verdict), ascending."""
        if len(ranges) == 1:
            return self.leaf(ranges[0][1])
        middle = len(ranges) // 2
        if_true = self.search(ranges[middle:])
        return self.jump(JGE, ranges[middle][0], if_true, self.search(ranges[:middle]))


def action_of(action, errno_ret, default_errno):
    if action == "SCMP_ACT_ALLOW":
        return ALLOW
    if action == "SCMP_ACT_ERRNO":
        return ERRNO | (default_errno if errno_ret is None else errno_ret)
    raise ValueError(f"floor's seccomp compiler does not know {action}")


def table(seccomp, token, first):
    """Ranges of equal verdicts for one architecture, from `first` on."""
    library = ctypes.CDLL("libseccomp.so.2")
    default = action_of(seccomp["defaultAction"], None, seccomp.get("defaultErrnoRet", 1))
    verdicts = {}
    for rule in seccomp["syscalls"]:
        action = action_of(rule["action"], rule.get("errnoRet"), 1)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(token), name.encode())
            if number < 0:
                continue  # not on this architecture, or newer than this libseccomp
            if rule.get("args"):
                verdicts.setdefault(number, ([], default))[0].append((rule["args"][0], action))
            else:
                verdicts[number] = action
    ranges = [(first, verdicts.get(first, default))]
    for number in sorted(verdicts):
        for at in (number, number + 1):
            verdict = verdicts.get(at, default)
            if verdict != ranges[-1][1]:
                ranges.append((at, verdict))
    return ranges


def compile_profile(seccomp):
    """The raw program, as struct sock_filter[], for x86-64 with x32 and i386."""
    program = Program()
    i386 = program.load(NR_OFFSET, program.search(table(seccomp, SCMP_X86, 0)))
    narrow = program.jump(JEQ, AUDIT_I386, i386, program.ret(KILL_PROCESS))
    x32 = program.search(table(seccomp, SCMP_X32, X32_BIT))
    native = program.search(table(seccomp, SCMP_X86_64, 0))
    wide = program.load(NR_OFFSET, program.jump(JGE, X32_BIT, x32, native))
    program.load(ARCH_OFFSET, program.jump(JEQ, AUDIT_X86_64, wide, narrow))
    return b"".join(reversed(program.reversed))
