//! What the kernel does with a seccomp program: net/core/filter.c's classic BPF, as far as seccomp(2) admits it.

use keel::sys::SockFilter;

/// `struct seccomp_data` of linux/seccomp.h.
#[derive(Clone, Copy, Debug, Default)]
pub struct Data {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 | 12 => 0,
            16..=60 if offset.is_multiple_of(4) => (self.args[(offset as usize - 16) / 8] >> (8 * (offset % 8))) as u32,
            _ => panic!("load from {offset}"),
        }
    }
}

/// The value that the program returns. Panics where the kernel would have refused the program.
pub fn run(program: &[SockFilter], data: &Data) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let SockFilter { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = data.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x45 => at += jump(accumulator & k != 0),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}
