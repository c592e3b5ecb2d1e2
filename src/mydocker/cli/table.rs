//! Tables as docker prints them: columns at least ten wide with three spaces after the widest cell, the last one ragged.

use super::visible::visible;
use unicode_width::UnicodeWidthStr;

/// Spaces after the widest cell of a column; this and the least width with them are what docker gives Go's tabwriter.
const PADDING: usize = 3;
/// See [`PADDING`].
const LEAST: usize = 10;

/// Lines whose cells are separated by tabs, aligned. Where a cell was not written by a template, which sees to its values itself,
/// it is shown without what a terminal would obey.
pub fn align(lines: &str) -> String {
    let rows: Vec<Vec<String>> = lines.lines().map(|line| line.split('\t').map(|cell| visible(cell).into_owned()).collect()).collect();
    let mut widths = Vec::new();
    for row in &rows {
        // The last cell of a line has no tab after it and widens nothing.
        for (column, cell) in row[..row.len() - 1].iter().enumerate() {
            if column == widths.len() {
                widths.push(LEAST);
            }
            widths[column] = widths[column].max(cell.width() + PADDING);
        }
    }
    let mut out = String::new();
    for row in &rows {
        let (last, cells) = row.split_last().expect("a line has at least one cell");
        for (cell, width) in cells.iter().zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
        }
        out.push_str(last);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns_as_docker_aligns_them() {
        let images = "REPOSITORY\tTAG\tIMAGE ID\tSIZE\nbusybox\tlatest\t3c19bafed223\t4.26MB\n";
        assert_eq!(align(images), "REPOSITORY   TAG       IMAGE ID       SIZE\nbusybox      latest    3c19bafed223   4.26MB\n");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(align("名前名前名\tx\nab\ty\n"), "名前名前名   x\nab           y\n");
    }

    #[test]
    fn a_cell_cannot_command_the_terminal() {
        assert_eq!(align("a\u{1b}[2J\tb\n"), "a\\x1b[2J   b\n");
    }

    #[test]
    fn nothing_and_one_column() {
        assert_eq!(align(""), "");
        assert_eq!(align("VOLUME NAME\na\n"), "VOLUME NAME\na\n");
    }
}
