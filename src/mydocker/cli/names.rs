//! Names for containers whose user gave none: `steady_brunel`.

use crate::mydocker::files::random;

const MANNERS: [&str; 60] = [
    "able",
    "agile",
    "amiable",
    "apt",
    "ardent",
    "astute",
    "balanced",
    "bold",
    "brisk",
    "calm",
    "candid",
    "careful",
    "cheerful",
    "civil",
    "clever",
    "constant",
    "curious",
    "daring",
    "deft",
    "diligent",
    "eager",
    "earnest",
    "exact",
    "fair",
    "faithful",
    "frank",
    "gentle",
    "graceful",
    "hardy",
    "honest",
    "humble",
    "ingenious",
    "keen",
    "kind",
    "lively",
    "loyal",
    "lucid",
    "merry",
    "mindful",
    "modest",
    "neat",
    "nimble",
    "noble",
    "patient",
    "placid",
    "plucky",
    "prudent",
    "quick",
    "quiet",
    "robust",
    "sage",
    "sincere",
    "sober",
    "steady",
    "sturdy",
    "tidy",
    "upright",
    "vivid",
    "witty",
    "zealous",
];

const PEOPLE: [&str; 60] = [
    "abel",
    "ampere",
    "arkwright",
    "babbage",
    "backus",
    "bardeen",
    "bessemer",
    "boole",
    "brunel",
    "carnot",
    "cayley",
    "church",
    "codd",
    "curie",
    "daimler",
    "dalton",
    "diesel",
    "dijkstra",
    "eiffel",
    "erlang",
    "euler",
    "faraday",
    "fourier",
    "galois",
    "gauss",
    "germain",
    "hamming",
    "hertz",
    "hollerith",
    "hopper",
    "huygens",
    "joule",
    "kepler",
    "knuth",
    "lagrange",
    "lamarr",
    "lovelace",
    "maxwell",
    "mccarthy",
    "meitner",
    "naur",
    "newcomen",
    "noether",
    "ohm",
    "otis",
    "pascal",
    "perlis",
    "planck",
    "ritchie",
    "roebling",
    "savery",
    "shannon",
    "stephenson",
    "telford",
    "tesla",
    "turing",
    "volta",
    "watt",
    "wirth",
    "zuse",
];

/// A name of a manner and a scientist or engineer, at random among 3,600. Names in use are the caller's to refuse: it
/// asks again, and after some attempts adds digits.
pub fn random_name() -> String {
    let number = usize::from_str_radix(&random(8), 16).unwrap_or(0);
    format!("{}_{}", MANNERS[number % MANNERS.len()], PEOPLE[number / MANNERS.len() % PEOPLE.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_good_and_differ() {
        let words: BTreeSet<&str> = MANNERS.into_iter().chain(PEOPLE).collect();
        assert_eq!(words.len(), 120, "a word stands twice");
        let names: BTreeSet<String> = (0..200).map(|_| random_name()).collect();
        assert!(names.len() > 150, "{} of 200 differ", names.len());
        for name in &names {
            crate::mydocker::cli::options::name("container", name).unwrap();
        }
    }
}
