//! A system call by its number, without the C library: errno stays in a register, so that a process
//! whose thread-local memory is gone may make it too.

use rustix::io::{Errno, Result};

/// Makes system call `number` with up to six arguments; those that it does not use are ignored by
/// the kernel (syscall(2)).
///
/// # Safety
/// The arguments are what the system call's man page asks for: pointers refer to memory that may be
/// read or written as the call does, and stays so for as long as the kernel uses it.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn syscall<const N: usize>(number: i64, arguments: [usize; N]) -> Result<usize> {
    let [a, b, c, d, e, f] = six(arguments);
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the kernel keeps all registers but rax, rcx and r11.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack, preserves_flags),
        );
    }
    told(result)
}

/// Makes system call `number` with up to six arguments; those that it does not use are ignored by
/// the kernel (syscall(2)).
///
/// # Safety
/// The arguments are what the system call's man page asks for: pointers refer to memory that may be
/// read or written as the call does, and stays so for as long as the kernel uses it.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn syscall<const N: usize>(number: i64, arguments: [usize; N]) -> Result<usize> {
    let [a, b, c, d, e, f] = six(arguments);
    let result: isize;
    // SAFETY: the caller vouches for the arguments; the kernel keeps all registers but x0.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number as usize,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack, preserves_flags),
        );
    }
    told(result)
}

fn six<const N: usize>(arguments: [usize; N]) -> [usize; 6] {
    const { assert!(N <= 6) };
    std::array::from_fn(|i| if i < N { arguments[i] } else { 0 })
}

/// The kernel returns errors as -4095 to -1.
fn told(result: isize) -> Result<usize> {
    match result {
        -4095..=-1 => Err(Errno::from_raw_os_error(-result as i32)),
        other => Ok(other.cast_unsigned()),
    }
}
