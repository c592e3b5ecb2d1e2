//! What load, pull, push, commit and unpack show of their progress, on stderr: a bar for each layer on a terminal, else one
//! plain line for each layer that is finished.

use super::units::human_size;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// The bars of one command.
#[derive(Debug)]
pub struct Bars {
    /// `None` where nobody watches.
    drawn: Option<MultiProgress>,
    quiet: bool,
}

impl Bars {
    /// For stderr as it is.
    pub fn new() -> Self {
        let watched = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self { drawn: watched.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))), quiet: false }
    }

    /// Nothing at all, for `--quiet`.
    pub fn quiet() -> Self {
        Self { drawn: None, quiet: true }
    }

    /// A new bar below the others. `id` is what docker shows first, twelve digits of the layer; `total` its bytes, or
    /// `None` where the size is not known beforehand.
    pub fn layer(&self, id: &str, total: Option<u64>) -> Layer {
        let bar = self.drawn.as_ref().map(|drawn| {
            let bar = drawn.add(total.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
            bar.set_style(style(total.is_some()));
            bar.set_prefix(id.to_owned());
            bar
        });
        if let Some(bar) = bar.as_ref().filter(|_| total.is_none()) {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Layer { id: id.to_owned(), bar, quiet: self.quiet }
    }

    /// A line above the bars: `latest: Pulling from library/busybox`.
    pub fn line(&self, text: &str) {
        match &self.drawn {
            // A terminal that is gone is no reason to stop the work; so also below.
            Some(drawn) => drop(drawn.println(text)),
            None => say(self.quiet, text),
        }
    }
}

impl Default for Bars {
    fn default() -> Self {
        Self::new()
    }
}

/// One layer's bar. Dropped before [`Layer::done`], it leaves the screen.
#[derive(Debug)]
pub struct Layer {
    id: String,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Layer {
    /// What is being done: `Downloading`, `Extracting`.
    pub fn doing(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// So many bytes more.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// Back to the start with a new total, as when a layer that was downloaded is extracted.
    pub fn restart(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(0);
        }
    }

    /// The last word: `Pull complete`, `Already exists`.
    pub fn done(self, word: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_style(ProgressStyle::with_template("{prefix}: {msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.finish_with_message(word.to_owned());
            }
            None => say(self.quiet, &format!("{}: {word}", self.id)),
        }
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.as_ref().filter(|bar| !bar.is_finished()) {
            bar.finish_and_clear();
        }
    }
}

fn style(sized: bool) -> ProgressStyle {
    let template = if sized { "{prefix}: {msg} [{bar:40}] {done}/{all}" } else { "{prefix}: {msg} {spinner} {done}" };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let number = |of: fn(&indicatif::ProgressState) -> u64| {
        move |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| out.write_str(&human_size(of(state))).unwrap_or_default()
    };
    style
        .with_key("done", number(indicatif::ProgressState::pos))
        .with_key("all", number(|state| state.len().unwrap_or(0)))
        .progress_chars("=> ")
}

fn say(quiet: bool, text: &str) {
    if !quiet {
        drop(writeln!(std::io::stderr(), "{text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::{InMemoryTerm, TermLike};

    fn screen(show: impl FnOnce(&Bars)) -> String {
        let term = InMemoryTerm::new(10, 100);
        let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
        let bars = Bars { drawn: Some(MultiProgress::with_draw_target(target)), quiet: false };
        show(&bars);
        drop(term.flush());
        term.contents()
    }

    #[test]
    fn a_bar_shows_bytes_and_its_last_word_stays() {
        let half = screen(|bars| {
            let layer = bars.layer("3c19bafed223", Some(4_000_000));
            layer.doing("Downloading");
            layer.advance(2_000_000);
            std::mem::forget(layer);
        });
        assert_eq!(half, "3c19bafed223: Downloading [====================>                   ] 2MB/4MB");
        assert_eq!(screen(|bars| bars.layer("3c19bafed223", None).done("Pull complete")), "3c19bafed223: Pull complete");
    }

    #[test]
    fn what_was_given_up_leaves_the_screen() {
        assert_eq!(screen(|bars| drop(bars.layer("3c19bafed223", Some(10)))), "");
    }
}
