//! Colour for words, where a person reads them: only on a terminal, and never against <https://no-color.org>.

use std::io::IsTerminal;

/// Whether one stream gets colours.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    coloured: bool,
}

impl Words {
    /// For what is written to stdout.
    pub fn stdout() -> Self {
        Self::on(std::io::stdout().is_terminal(), |name| std::env::var_os(name))
    }

    /// For what is written to stderr.
    pub fn stderr() -> Self {
        Self::on(std::io::stderr().is_terminal(), |name| std::env::var_os(name))
    }

    fn on(terminal: bool, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let forbidden = variable("NO_COLOR").is_some_and(|value| !value.is_empty()) || variable("TERM").is_none_or(|term| term == "dumb");
        Self { coloured: terminal && !forbidden }
    }

    /// Something well: `running`, `healthy`.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Something to look at: `paused`, a warning.
    pub fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Something wrong: an error, `unhealthy`.
    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn colours_only_where_they_are_wanted() {
        let with = |terminal, no_color: &str, term: &str| {
            let said = [("NO_COLOR", no_color), ("TERM", term)];
            Words::on(terminal, |name| said.iter().find(|(n, v)| *n == name && *v != "-").map(|(_, v)| v.into())).bad("x")
        };
        assert_eq!(with(true, "-", "xterm"), "\x1b[31mx\x1b[0m");
        assert_eq!(with(true, "", "xterm"), "\x1b[31mx\x1b[0m");
        for plain in [with(false, "-", "xterm"), with(true, "1", "xterm"), with(true, "-", "dumb"), with(true, "-", "-")] {
            assert_eq!(plain, "x");
        }
    }
}
