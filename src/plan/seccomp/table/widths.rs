//! How much of each argument of a system call the kernel reads.

/// What is read of the six arguments of one call: two bits for each.
///
/// A register has 64 bits, but the kernel casts it to the type of the argument before it looks at
/// it (`SYSCALL_DEFINEn` of include/linux/syscalls.h), so that nobody sees the upper half of an
/// `int`: a program may put there what it likes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::plan::seccomp) struct Widths(u16);

const ALL: u16 = 0;
const INT: u16 = 1;
const SHORT: u16 = 2;

impl Widths {
    /// Registers of 64 bits that are read whole, which is also what is taken for granted of a call
    /// that no table has.
    pub const LONG: Self = Self(ALL);
    /// Registers of 32 bits.
    pub const INT: Self = Self(0b01_01_01_01_01_01);

    /// From the letters of `hack/syscall-arguments`; the rest is as in `others`.
    pub const fn new(letters: &str, others: Self) -> Self {
        assert!(letters.len() <= 6);
        let (mut widths, mut i) = (others.0, 0);
        while i < letters.len() {
            let width = match letters.as_bytes()[i] {
                b'l' => ALL,
                b'i' => INT,
                b's' => SHORT,
                _ => panic!("a letter that hack/syscall-arguments does not write"),
            };
            widths = widths & !(3 << (2 * i)) | width << (2 * i);
            i += 1;
        }
        Self(widths)
    }

    /// The bits of an argument that are read.
    pub fn mask(self, index: u8) -> u64 {
        match self.0 >> (2 * index) & 3 {
            ALL => u64::MAX,
            INT => 0xffff_ffff,
            _ => 0xffff,
        }
    }

    /// The same for the given arguments, and nothing said about the others: calls that differ only
    /// there can share code.
    pub fn of(self, indices: impl Iterator<Item = u8>) -> Self {
        Self(indices.fold(0, |kept, index| kept | self.0 & 3 << (2 * index)))
    }
}
