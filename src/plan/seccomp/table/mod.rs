//! The kernel's system calls by name, a column of numbers and of argument widths for each ABI of a
//! CPU family.
//!
//! The rows are made by `hack/syscalls` from the kernel's headers and sources. What the binary
//! holds is packed without pointers:
//! pointers would be relocated at every start of the position-independent executable, also when no filter is wanted.

mod arm;
mod widths;
mod x86;

pub(super) use widths::Widths;

/// In a row: this ABI has no such system call.
pub(super) const NONE: u32 = u32::MAX;

/// Name, numbers and argument letters ([`Widths::new`]) of one system call.
type Row<const COLUMNS: usize> = (&'static str, [u32; COLUMNS], [&'static str; COLUMNS]);

/// What a table knows of a system call, by column.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub numbers: &'static [u32],
    pub widths: &'static [Widths],
}

struct Packed<const ROWS: usize, const COLUMNS: usize, const BYTES: usize> {
    /// All names, one after the other.
    names: [u8; BYTES],
    /// Where in `names` each row's name begins; a row's name ends where the next begins.
    starts: [u16; ROWS],
    numbers: [[u32; COLUMNS]; ROWS],
    widths: [[Widths; COLUMNS]; ROWS],
    /// Rows by the hash of their names, one more than their index; 0 ends the search for a name, which else goes on to
    /// the next slot.
    slots: [u16; SLOTS],
}

/// More than twice the rows, so that a search seldom goes on.
const SLOTS: usize = 2048;

/// FNV-1a, folded.
const fn hash(name: &[u8]) -> usize {
    let (mut hash, mut i) = (0x811c_9dc5_u32, 0);
    while i < name.len() {
        hash = (hash ^ name[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (hash ^ hash >> 16) as usize % SLOTS
}

impl<const ROWS: usize, const COLUMNS: usize, const BYTES: usize> Packed<ROWS, COLUMNS, BYTES> {
    /// The first column is that of the native ABI, whose registers have 64 bits; the others' have
    /// 32.
    const fn new(rows: &[Row<COLUMNS>; ROWS]) -> Self {
        assert!(ROWS < SLOTS / 2 && BYTES <= u16::MAX as usize);
        let mut packed = Self {
            names: [0; BYTES],
            starts: [0; ROWS],
            numbers: [[NONE; COLUMNS]; ROWS],
            widths: [[Widths::LONG; COLUMNS]; ROWS],
            slots: [0; SLOTS],
        };
        let (mut row, mut end) = (0, 0);
        while row < ROWS {
            packed.starts[row] = end as u16;
            packed.numbers[row] = rows[row].1;
            let mut column = 0;
            while column < COLUMNS {
                let others = if column == 0 { Widths::LONG } else { Widths::INT };
                packed.widths[row][column] = Widths::new(rows[row].2[column], others);
                column += 1;
            }
            let name = rows[row].0.as_bytes();
            let mut i = 0;
            while i < name.len() {
                packed.names[end] = name[i];
                (i, end) = (i + 1, end + 1);
            }
            let mut slot = hash(name);
            while packed.slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            row += 1;
            packed.slots[slot] = row as u16;
        }
        packed
    }

    fn name(&self, row: usize) -> &[u8] {
        let end = self.starts.get(row + 1).map_or(BYTES, |end| usize::from(*end));
        &self.names[usize::from(self.starts[row])..end]
    }

    /// The name of a number in a column; of several the first.
    fn named(&self, column: usize, number: u32) -> Option<&str> {
        let row = self.numbers.iter().position(|numbers| numbers.get(column) == Some(&number))?;
        std::str::from_utf8(self.name(row)).ok()
    }

    fn find(&'static self, name: &str) -> Option<Entry> {
        let mut slot = hash(name.as_bytes());
        loop {
            let row = usize::from(self.slots[slot]).checked_sub(1)?;
            if self.name(row) == name.as_bytes() {
                return Some(Entry { numbers: &self.numbers[row], widths: &self.widths[row] });
            }
            slot = (slot + 1) % SLOTS;
        }
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

/// A system call in x86_64, x32 (without `__X32_SYSCALL_BIT`) and x86.
pub(super) fn x86(name: &str) -> Option<Entry> {
    X86.find(name)
}

/// A system call in aarch64 and arm (EABI).
pub(super) fn arm(name: &str) -> Option<Entry> {
    ARM.find(name)
}

/// The system call with a number in a column of [`x86`].
pub(super) fn x86_name(column: usize, number: u32) -> Option<&'static str> {
    X86.named(column, number)
}

/// The system call with a number in a column of [`arm`].
pub(super) fn arm_name(column: usize, number: u32) -> Option<&'static str> {
    ARM.named(column, number)
}
