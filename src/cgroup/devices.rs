//! Which devices the container's processes may open and make: the rules of `linux.resources.devices`, their meaning,
//! and the two forms the kernel takes them in.
//!
//! Meaning: nothing is allowed at first; for each kind of access (`r`, `w`, `m`) the last rule that names the device
//! and that access decides; what every container needs is allowed at the end, whatever the rules say, as in runc
//! (its `specconv.AllowedDevices`). For the rules that callers send this is what runc and crun do; it also holds
//! where cgroup v1's own rules could not (a hole in a wildcard), which is refused there.

use crate::spec::DeviceRule;
use crate::sys::{BpfInsn, Error, Result};

// The bits of BPF_DEVCG_ACC_*, linux/bpf.h.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = READ | WRITE | MKNOD;

/// A device's numbers; an absent one stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    char: bool,
    major: Option<u32>,
    minor: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    node: Node,
    access: u8,
}

/// Device rules, validated, with the ones that every container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    rules: Vec<Rule>,
}

/// What runc allows in every container: making any node, and using the devices of config-linux.md, "Default Devices",
/// with the container's own terminals (the console is such a terminal; 5:1 is not among them), and tun, which runc 1.2.0
/// left out and 1.2.4 took back, since VPN programs count on it.
const DEFAULTS: [(bool, Option<u32>, Option<u32>, u8); 11] = [
    (false, None, None, MKNOD),
    (true, None, None, MKNOD),
    (true, Some(1), Some(3), ALL),
    (true, Some(1), Some(5), ALL),
    (true, Some(1), Some(7), ALL),
    (true, Some(1), Some(8), ALL),
    (true, Some(1), Some(9), ALL),
    (true, Some(5), Some(0), ALL),
    (true, Some(5), Some(2), ALL),
    (true, Some(10), Some(200), ALL),
    (true, Some(136), None, ALL),
];

fn number(value: Option<i64>, at: &str) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| Error::new(format!("{value} is no device number")).at(at)),
    }
}

impl Devices {
    /// Reads the rules of `linux.resources.devices`.
    pub fn new(rules: &[DeviceRule]) -> Result<Self> {
        let mut all = Vec::with_capacity(rules.len() + DEFAULTS.len());
        for (i, rule) in rules.iter().enumerate() {
            let at = format!("linux.resources.devices[{i}]");
            let mut access = 0;
            for letter in rule.access.bytes() {
                access |= match letter {
                    b'r' => READ,
                    b'w' => WRITE,
                    b'm' => MKNOD,
                    // `validate` has told that it means nothing.
                    b'a' => 0,
                    _ => return Err(Error::new(format!("device access {:?} is not made of r, w and m", rule.access)).at(at)),
                };
            }
            if access == 0 {
                return Err(Error::new("device access is empty").at(at));
            }
            let (major, minor) = (number(rule.major, &at)?, number(rule.minor, &at)?);
            let kinds: &[bool] = match rule.kind.as_str() {
                "c" => &[true],
                "b" => &[false],
                "a" | "" => &[true, false],
                other => return Err(Error::new(format!("device type {other:?} is not a, b or c")).at(at)),
            };
            all.extend(kinds.iter().map(|&char| Rule { allow: rule.allow, node: Node { char, major, minor }, access }));
        }
        let defaults = DEFAULTS.map(|(char, major, minor, access)| Rule { allow: true, node: Node { char, major, minor }, access });
        all.extend(defaults);
        Ok(Self { rules: all })
    }

    /// The v1 files and their values in order, each to be written by itself: all is denied or allowed first, then
    /// come the exceptions. Refused where one exception would have to be cut out of another: the kernel cannot.
    pub(super) fn v1(&self) -> Result<Vec<(&'static str, String)>> {
        let mut table = Table::default();
        for rule in &self.rules {
            table.apply(*rule)?;
        }
        let (first, then) = if table.allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
        let mut writes = vec![(first, "a".to_string())];
        writes.extend(table.exceptions.iter().map(|(node, access)| (then, format!("{node} {}", letters(*access)))));
        Ok(writes)
    }

    /// The v2 program: `bpf_cgroup_dev_ctx` in, 1 (allowed) or 0 out.
    ///
    /// It goes through the rules backwards, with the kinds of access that no rule has decided yet in a register: an
    /// allowing rule takes its own out, a denying one that finds one of its own ends it.
    pub fn program(&self) -> Vec<BpfInsn> {
        let mut asm = Asm::default();
        asm.load();
        let mut wild = [0u8; 2];
        for rule in self.rules.iter().rev() {
            asm.rule(rule);
            let Node { char, major, minor } = rule.node;
            if (major, minor) == (None, None) {
                wild[usize::from(char)] |= rule.access;
            }
            if wild == [ALL; 2] {
                break; // every access has been decided: earlier rules have no say
            }
        }
        asm.end(false);
        asm.program
    }
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|(bit, _)| access & bit != 0).map(|(_, c)| c).collect()
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_string(), |n| n.to_string());
        write!(f, "{} {}:{}", if self.char { 'c' } else { 'b' }, number(self.major), number(self.minor))
    }
}

impl Node {
    /// Whether every device of `other` is one of `self`.
    fn covers(&self, other: &Self) -> bool {
        let covers = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
        self.char == other.char && covers(self.major, other.major) && covers(self.minor, other.minor)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.char == other.char && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// What a v1 devices cgroup can hold: one verdict for all, and exceptions from it.
#[derive(Default)]
struct Table {
    allow: bool,
    exceptions: Vec<(Node, u8)>,
    /// For each of block and character, the kinds of access whose last rule was the opposite of `allow` for all.
    flipped: [u8; 2],
}

impl Table {
    fn apply(&mut self, rule: Rule) -> Result<()> {
        let everything = (rule.node.major, rule.node.minor) == (None, None) && rule.allow != self.allow;
        if everything {
            self.flipped[usize::from(rule.node.char)] |= rule.access;
            if self.flipped == [ALL; 2] {
                *self = Self { allow: rule.allow, ..Self::default() };
                return Ok(());
            }
        }
        if rule.allow == self.allow { self.narrow(rule) } else { self.widen(rule) }
    }

    /// Adds an exception. The kernel wants one exception that grants the whole of a request, so a narrow one also
    /// carries what the wider ones around it grant.
    fn widen(&mut self, rule: Rule) -> Result<()> {
        for (node, access) in &mut self.exceptions {
            if rule.node.covers(node) {
                *access |= rule.access;
            }
        }
        if !self.exceptions.iter().any(|(node, _)| *node == rule.node) {
            let inherited = self.exceptions.iter().filter(|(node, _)| node.covers(&rule.node)).fold(0, |all, (_, access)| all | access);
            self.exceptions.push((rule.node, rule.access | inherited));
        }
        Ok(())
    }

    /// Takes a kind of access back from the exceptions for these devices.
    fn narrow(&mut self, rule: Rule) -> Result<()> {
        for (node, access) in &mut self.exceptions {
            if rule.node.covers(node) {
                *access &= !rule.access;
            } else if rule.node.overlaps(node) && *access & rule.access != 0 {
                let verb = if rule.allow { "allow" } else { "deny" };
                let hole = format!("{verb} {} {}", rule.node, letters(rule.access));
                let what = format!("cgroup v1 cannot {hole} as an exception from {node} {}", letters(*access));
                return Err(Error::new(what).at("linux.resources.devices").hint("name the devices one by one, or use cgroup v2"));
            }
        }
        if (rule.node.major, rule.node.minor) == (None, None) {
            self.flipped[usize::from(rule.node.char)] &= !rule.access;
        }
        self.exceptions.retain(|(_, access)| *access != 0);
        Ok(())
    }
}

/// Opcodes of linux/bpf_common.h and linux/bpf.h, class and source in place.
const LOAD_WORD: u8 = 0x61;
const MOV_IMM: u8 = 0xb7;
const AND_IMM: u8 = 0x57;
const RSH_IMM: u8 = 0x77;
const JA: u8 = 0x05;
const JNE_IMM: u8 = 0x56; // 32 bits wide: numbers above i32::MAX would be sign-extended in 64
const JSET_IMM: u8 = 0x45;
const EXIT: u8 = 0x95;

const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`, indexed by `Node::char`.
const KINDS: [i32; 2] = [1, 2];

#[derive(Default)]
struct Asm {
    program: Vec<BpfInsn>,
}

impl Asm {
    fn push(&mut self, code: u8, regs: u8, off: i16, imm: i32) {
        self.program.push(BpfInsn { code, regs, off, imm });
    }

    /// `struct bpf_cgroup_dev_ctx { u32 access_type /* access << 16 | kind */, major, minor }` into registers.
    fn load(&mut self) {
        for (to, offset) in [(KIND, 0), (UNDECIDED, 0), (MAJOR, 4), (MINOR, 8)] {
            self.push(LOAD_WORD, CONTEXT << 4 | to, offset, 0);
        }
        self.push(AND_IMM, KIND, 0, 0xffff);
        self.push(RSH_IMM, UNDECIDED, 0, 16);
    }

    fn end(&mut self, allow: bool) {
        self.push(MOV_IMM, VERDICT, 0, i32::from(allow));
        self.push(EXIT, 0, 0, 0);
    }

    fn rule(&mut self, rule: &Rule) {
        let mut tests = vec![self.test(KIND, KINDS[usize::from(rule.node.char)])];
        for (register, number) in [(MAJOR, rule.node.major), (MINOR, rule.node.minor)] {
            if let Some(number) = number {
                tests.push(self.test(register, number.cast_signed()));
            }
        }
        let access = i32::from(rule.access);
        if rule.allow {
            self.push(AND_IMM, UNDECIDED, 0, !access);
            tests.push(self.test(UNDECIDED, 0));
        } else {
            self.push(JSET_IMM, UNDECIDED, 1, access);
            tests.push(self.program.len());
            self.push(JA, 0, 0, 0);
        }
        self.end(rule.allow);
        let next = self.program.len();
        for at in tests {
            // A rule is at most nine instructions, so the distance fits.
            self.program[at].off = (next - at - 1) as i16;
        }
    }

    /// "Unless the register holds this, go to the next rule", whose place is filled in later.
    fn test(&mut self, register: u8, value: i32) -> usize {
        self.push(JNE_IMM, register, 0, value);
        self.program.len() - 1
    }
}
