//! The words of a template: text as it stands, and the tokens between `{{` and `}}`.

use super::Fault;
use serde_json::{Number, Value};

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A lone `.`.
    Dot,
    /// `.Name`, without the dot.
    Field(String),
    /// `$name` with the dollar; `$` alone is the data as a whole.
    Variable(String),
    /// The name of a function or a keyword.
    Word(String),
    /// A string, number, `true`, `false` or `nil`.
    Literal(Value),
    /// `(`, `)`, `|`, `,`, `=` or `:=`.
    Sign(&'static str),
}

/// A token with its place in bytes, and whether white space stands before it: `.A.B` is one operand and `.A .B` two.
#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub at: usize,
    pub end: usize,
    pub spaced: bool,
}

/// Text to copy, or an action at a place.
#[derive(Debug)]
pub enum Piece {
    Text(String),
    Action(usize, Vec<Token>),
}

/// Cuts a template into pieces; comments are gone and `{{-`, `-}}` have eaten the white space beside them.
pub fn pieces(source: &str) -> Result<Vec<Piece>, Fault> {
    let (mut out, mut at, mut trim) = (Vec::new(), 0, false);
    loop {
        let open = source[at..].find("{{").map_or(source.len(), |found| at + found);
        let mut text = &source[at..open];
        if trim {
            text = text.trim_start();
        }
        let inside = source.get(open + 2..).unwrap_or_default();
        let trim_left = inside.starts_with('-') && inside[1..].starts_with(char::is_whitespace);
        if trim_left {
            text = text.trim_end();
        }
        if !text.is_empty() {
            out.push(Piece::Text(text.to_owned()));
        }
        if open == source.len() {
            return Ok(out);
        }
        let start = open + if trim_left { 4 } else { 2 };
        if source[start..].trim_start().starts_with("/*") {
            (at, trim) = comment(source, start)?;
            continue;
        }
        let mut lexer = Lexer { source, at: start, tokens: Vec::new() };
        trim = lexer.action(open)?;
        at = lexer.at;
        out.push(Piece::Action(open, lexer.tokens));
    }
}

/// Where the text goes on after a comment, and whether it is trimmed there.
fn comment(source: &str, start: usize) -> Result<(usize, bool), Fault> {
    let end = source[start..].find("*/").ok_or_else(|| Fault::at(start, "unclosed comment"))? + start + 2;
    let rest = source[end..].trim_start();
    let after = source.len() - rest.len();
    match (rest.strip_prefix("-}}"), rest.strip_prefix("}}")) {
        (Some(_), _) if after > end => Ok((after + 3, true)),
        (_, Some(_)) => Ok((after + 2, false)),
        _ => Err(Fault::at(end, "comment ends before closing delimiter")),
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    /// Reads to the end of the action; whether the text after it is trimmed.
    fn action(&mut self, open: usize) -> Result<bool, Fault> {
        loop {
            let before = self.at;
            self.at = self.source.len() - self.rest().trim_start().len();
            let spaced = self.at > before;
            if spaced && self.rest().starts_with("-}}") {
                self.at += 3;
                return Ok(true);
            }
            if self.rest().starts_with("}}") {
                self.at += 2;
                return Ok(false);
            }
            if self.rest().is_empty() {
                return Err(Fault::at(open, "unclosed action"));
            }
            let at = self.at;
            let kind = self.token()?;
            self.tokens.push(Token { kind, at, end: self.at, spaced });
        }
    }

    fn token(&mut self) -> Result<Kind, Fault> {
        for sign in [":=", "(", ")", "|", ",", "="] {
            if self.rest().starts_with(sign) {
                self.at += sign.len();
                return Ok(Kind::Sign(sign));
            }
        }
        let mut chars = self.rest().chars();
        let (first, second) = (chars.next().unwrap_or_default(), chars.next().unwrap_or_default());
        match first {
            '"' | '\'' => self.quoted(first),
            '`' => {
                let end = self.rest()[1..].find('`').ok_or_else(|| Fault::at(self.at, "unterminated raw quoted string"))?;
                let text = self.rest()[1..=end].to_owned();
                self.at += end + 2;
                Ok(Kind::Literal(text.into()))
            }
            '.' if second.is_ascii_digit() => self.number(),
            '.' => {
                self.at += 1;
                let name = self.name();
                Ok(if name.is_empty() { Kind::Dot } else { Kind::Field(name) })
            }
            '$' => {
                self.at += 1;
                Ok(Kind::Variable(format!("${}", self.name())))
            }
            '+' | '-' => self.number(),
            c if c.is_ascii_digit() => self.number(),
            c if c.is_alphabetic() || c == '_' => Ok(match self.name().as_str() {
                "true" => Kind::Literal(true.into()),
                "false" => Kind::Literal(false.into()),
                "nil" => Kind::Literal(Value::Null),
                word => Kind::Word(word.to_owned()),
            }),
            c => Err(Fault::at(self.at, format!("unexpected {c:?} in command"))),
        }
    }

    fn name(&mut self) -> String {
        let end = self.rest().find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest().len());
        let name = self.rest()[..end].to_owned();
        self.at += end;
        name
    }

    fn number(&mut self) -> Result<Kind, Fault> {
        let body = self.rest();
        let mut end = usize::from(body.starts_with(['+', '-']));
        while let Some(c) = body[end..].chars().next() {
            let sign = matches!(c, '+' | '-') && body[..end].ends_with(['e', 'E']) && !body.contains("0x");
            if !(c.is_alphanumeric() || c == '.' || c == '_' || sign) {
                break;
            }
            end += c.len_utf8();
        }
        let text = &body[..end];
        let bad = || Fault::at(self.at, format!("bad number syntax: {text:?}"));
        let digits = text.replace('_', "");
        let (sign, digits) = digits.strip_prefix('-').map_or((1, digits.trim_start_matches('+')), |rest| (-1, rest));
        let radix = |prefix, radix| digits.strip_prefix(prefix).and_then(|rest| i64::from_str_radix(rest, radix).ok());
        let whole = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).or_else(|| digits.parse().ok());
        let number = match whole {
            Some(whole) => Number::from(sign * whole),
            None if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                digits.parse::<f64>().ok().and_then(|n| Number::from_f64(sign as f64 * n)).ok_or_else(bad)?
            }
            None => return Err(bad()),
        };
        self.at += end;
        Ok(Kind::Literal(Value::Number(number)))
    }

    /// A string, or a character as its number.
    fn quoted(&mut self, quote: char) -> Result<Kind, Fault> {
        let start = self.at;
        let unclosed = if quote == '"' { "unterminated quoted string" } else { "unterminated character constant" };
        let mut text = String::new();
        self.at += 1;
        loop {
            let c = self.rest().chars().next().filter(|c| *c != '\n').ok_or_else(|| Fault::at(start, unclosed))?;
            self.at += c.len_utf8();
            match c {
                '\\' => text.push(self.escape(start)?),
                c if c == quote => break,
                c => text.push(c),
            }
        }
        if quote == '"' {
            return Ok(Kind::Literal(text.into()));
        }
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Kind::Literal(u32::from(c).into())),
            _ => Err(Fault::at(start, "malformed character constant")),
        }
    }

    fn escape(&mut self, start: usize) -> Result<char, Fault> {
        let bad = || Fault::at(start, "invalid escape in a string");
        let c = self.rest().chars().next().ok_or_else(bad)?;
        let (skip, length, radix) = match c {
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='7' => (0, 3, 8),
            _ => {
                self.at += c.len_utf8();
                let plain = [('n', '\n'), ('t', '\t'), ('r', '\r'), ('a', '\x07'), ('b', '\x08'), ('f', '\x0c'), ('v', '\x0b')];
                let found = plain.iter().find(|(letter, _)| *letter == c).map(|(_, means)| *means);
                return found.or(matches!(c, '\\' | '"' | '\'').then_some(c)).ok_or_else(bad);
            }
        };
        let digits = self.rest().get(skip..skip + length).ok_or_else(bad)?;
        let found = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).ok_or_else(bad)?;
        self.at += skip + length;
        Ok(found)
    }
}
