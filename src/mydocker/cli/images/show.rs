//! What the image library tells of its progress, as bars.

use super::super::progress::{Bars, Layer};
use crate::mydocker::image::Progress;
use std::io::IsTerminal;

/// The bars of one command, one for each layer or file.
pub struct Show {
    bars: Bars,
    layers: Vec<Shown>,
}

struct Shown {
    what: String,
    doing: String,
    done: u64,
    layer: Layer,
    /// What its line ends with.
    word: &'static str,
}

/// docker's words for what is going on and for its end.
fn words(doing: &str) -> (&'static str, &'static str) {
    match doing {
        "pull" => ("Downloading", "Download complete"),
        "push" => ("Pushing", "Pushed"),
        "exists" => ("Waiting", "Already exists"),
        "unpack" => ("Extracting", "Extracted"),
        "load" => ("Loading", "Loaded"),
        "import" => ("Importing", "Imported"),
        "commit" => ("Committing", "Committed"),
        "save" => ("Saving", "Saved"),
        _ => ("Working", "Done"),
    }
}

impl Show {
    /// Bars on a terminal, else a line for each layer: `pull` and `push`, unless they are quiet.
    pub fn lines(quiet: bool) -> Self {
        Self { bars: if quiet { Bars::quiet() } else { Bars::new() }, layers: Vec::new() }
    }

    /// Bars on a terminal, else nothing.
    pub fn bars() -> Self {
        Self::lines(!std::io::stderr().is_terminal())
    }

    /// A line above the bars.
    pub fn line(&self, text: &str) {
        self.bars.line(text);
    }

    /// For [`crate::mydocker::image::Watcher`].
    pub fn watch(&mut self, progress: Progress<'_>) {
        let (doing, word) = words(progress.doing);
        let at = self.layers.iter().position(|shown| shown.what == progress.what);
        let shown = match at {
            Some(at) => &mut self.layers[at],
            None => {
                let layer = self.bars.layer(progress.what, progress.total);
                let new = Shown { what: progress.what.to_owned(), doing: String::new(), done: 0, layer, word };
                self.layers.push(new);
                self.layers.last_mut().expect("one was pushed")
            }
        };
        if shown.doing != progress.doing {
            if !shown.doing.is_empty() {
                shown.layer.restart(progress.total.unwrap_or(0));
            }
            // What was pulled and is then unpacked is docker's "Pull complete".
            shown.word = if shown.doing == "pull" && progress.doing == "unpack" { "Pull complete" } else { word };
            (shown.doing, shown.done) = (progress.doing.to_owned(), 0);
            shown.layer.doing(doing);
        }
        shown.layer.advance(progress.done.saturating_sub(shown.done));
        shown.done = shown.done.max(progress.done);
    }

    /// All is well: every line gets its last word. Without this the bars leave the screen.
    pub fn finish(self) {
        for shown in self.layers {
            shown.layer.done(shown.word);
        }
    }
}
