//! The kernel's system calls by name, a column of numbers for each ABI of a CPU family.
//!
//! The rows are made by `hack/syscalls` from the kernel's headers. What the binary holds is packed without pointers:
//! pointers would be relocated at every start of the position-independent executable, also when no filter is wanted.

mod arm;
mod x86;

/// In a row: this ABI has no such system call.
pub(super) const NONE: u32 = u32::MAX;

/// Name and numbers of one system call.
type Row<const COLUMNS: usize> = (&'static str, [u32; COLUMNS]);

struct Packed<const ROWS: usize, const COLUMNS: usize, const BYTES: usize> {
    /// All names, one after the other, sorted.
    names: [u8; BYTES],
    /// Where in `names` each row's name begins; a row's name ends where the next begins.
    starts: [u16; ROWS],
    numbers: [[u32; COLUMNS]; ROWS],
}

impl<const ROWS: usize, const COLUMNS: usize, const BYTES: usize> Packed<ROWS, COLUMNS, BYTES> {
    const fn new(rows: &[Row<COLUMNS>; ROWS]) -> Self {
        let mut packed = Self { names: [0; BYTES], starts: [0; ROWS], numbers: [[NONE; COLUMNS]; ROWS] };
        let (mut row, mut end) = (0, 0);
        while row < ROWS {
            packed.starts[row] = end as u16;
            packed.numbers[row] = rows[row].1;
            let name = rows[row].0.as_bytes();
            let mut i = 0;
            while i < name.len() {
                packed.names[end] = name[i];
                (i, end) = (i + 1, end + 1);
            }
            row += 1;
        }
        packed
    }

    fn name(&self, row: usize) -> &[u8] {
        let end = self.starts.get(row + 1).map_or(BYTES, |end| usize::from(*end));
        &self.names[usize::from(self.starts[row])..end]
    }

    fn find(&self, name: &str) -> Option<&[u32]> {
        let (mut low, mut high) = (0, ROWS);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.name(middle).cmp(name.as_bytes()) {
                std::cmp::Ordering::Equal => return Some(&self.numbers[middle]),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

const fn bytes<const COLUMNS: usize>(rows: &[Row<COLUMNS>]) -> usize {
    let (mut row, mut sum) = (0, 0);
    while row < rows.len() {
        sum += rows[row].0.len();
        row += 1;
    }
    sum
}

static X86: Packed<{ x86::ROWS.len() }, 3, { bytes(&x86::ROWS) }> = Packed::new(&x86::ROWS);
static ARM: Packed<{ arm::ROWS.len() }, 2, { bytes(&arm::ROWS) }> = Packed::new(&arm::ROWS);

/// The numbers of a system call in x86_64, x32 (without `__X32_SYSCALL_BIT`) and x86.
pub(super) fn x86(name: &str) -> Option<&'static [u32]> {
    X86.find(name)
}

/// The numbers of a system call in aarch64 and arm (EABI).
pub(super) fn arm(name: &str) -> Option<&'static [u32]> {
    ARM.find(name)
}

#[cfg(test)]
mod tests {
    /// The search halves the table, so an unsorted row would be a system call that cannot be found.
    #[test]
    fn rows_are_sorted() {
        assert!(super::x86::ROWS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(super::arm::ROWS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
