//! Values as people write them in annotations: GVariant's text format, as far as properties of units need it
//! (`'text'`, `15`, `uint64 5`, `1.5`, `['a', 'b']`, `[('/dev/x', 'rwm')]`, `@as []`).

use super::message::Value;

/// Reads one value. The error is a sentence.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text.trim_start() };
    let value = parser.value(0)?;
    if parser.rest.is_empty() { Ok(value) } else { Err(format!("{:?} is left over", parser.rest)) }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn word(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.rest.strip_prefix(c);
        self.rest = found.map_or(self.rest, str::trim_start);
        found.is_some()
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > 8 {
            return Err("it is nested too deeply".into());
        }
        match self.rest.chars().next() {
            None => Err("a value is missing".into()),
            Some('\'' | '"') => self.string().map(Value::Str),
            Some('[') => self.list(None, depth),
            Some('(') => self.tuple(depth),
            Some('<') => {
                self.eat('<');
                let inner = self.value(depth + 1)?;
                if self.eat('>') { Ok(Value::Variant(Box::new(inner))) } else { Err("a > is missing".into()) }
            }
            Some('@') => {
                self.eat('@');
                let signature = self.word(|c| !c.is_whitespace());
                match signature.strip_prefix('a') {
                    Some(element) => self.list(Some(element), depth),
                    None => Err(format!("the type {signature:?} before a value is not known")),
                }
            }
            Some(c) if c.is_ascii_alphabetic() => self.keyword(),
            Some(_) => number("", self.word(is_of_number)),
        }
    }

    fn keyword(&mut self) -> Result<Value, String> {
        let word = self.word(|c| c.is_ascii_alphanumeric());
        match word {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "string" => self.string().map(Value::Str),
            "objectpath" => self.string().map(Value::Path),
            "signature" => self.string().map(Value::Signature),
            "boolean" => self.keyword(),
            "byte" | "int16" | "uint16" | "int32" | "uint32" | "int64" | "uint64" | "double" => number(word, self.word(is_of_number)),
            _ => Err(format!("{word:?} is no value; a text needs quotes")),
        }
    }

    /// Between quotes of either kind; a backslash takes the next character as it is, but for `\n` and `\t`.
    fn string(&mut self) -> Result<String, String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')).ok_or("a text needs quotes")?;
        let (mut text, mut chars) = (String::new(), self.rest[1..].char_indices());
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c)) => text.push(c),
                    None => break,
                },
                '\0' => return Err("a text has a NUL".into()),
                c if c == quote => {
                    self.rest = self.rest[1 + at + 1..].trim_start();
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err("a quote is missing".into())
    }

    fn items(&mut self, close: char, depth: usize) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        loop {
            if self.eat(close) {
                return Ok(items);
            }
            items.push(self.value(depth + 1)?);
            if !self.eat(',') && !self.rest.starts_with(close) {
                return Err(format!("a {close} is missing"));
            }
        }
    }

    fn list(&mut self, element: Option<&str>, depth: usize) -> Result<Value, String> {
        if !self.eat('[') {
            return Err("a [ is missing".into());
        }
        let items = self.items(']', depth)?;
        let signature = match (items.first(), element) {
            (Some(first), _) => first.signature(),
            (None, Some(element)) if element.bytes().all(|b| b"ybnqiuxtdsogv()a".contains(&b)) && !element.is_empty() => {
                element.to_string()
            }
            (None, _) => return Err("the type of an empty list is not known: @as []".into()),
        };
        match items.iter().all(|item| item.signature() == signature) && element.is_none_or(|element| element == signature) {
            true => Ok(Value::Array(signature, items)),
            false => Err("the values of a list are of several types".into()),
        }
    }

    fn tuple(&mut self, depth: usize) -> Result<Value, String> {
        self.eat('(');
        match self.items(')', depth)? {
            items if items.is_empty() => Err("an empty tuple is no value".into()),
            items => Ok(Value::Struct(items)),
        }
    }
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')
}

/// A number of the named type; without one, 32 bits with a sign, or a double where it is no whole number.
fn number(kind: &str, text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is no {}", if kind.is_empty() { "value" } else { kind });
    let double = || text.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| Value::Double(n.to_bits()));
    let whole: Option<i128> = match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let value = match (kind, whole) {
        ("double", _) => double(),
        ("", None) => double(),
        ("byte", Some(n)) => n.try_into().ok().map(Value::Byte),
        ("int16", Some(n)) => n.try_into().ok().map(Value::I16),
        ("uint16", Some(n)) => n.try_into().ok().map(Value::U16),
        ("" | "int32", Some(n)) => n.try_into().ok().map(Value::I32),
        ("uint32", Some(n)) => n.try_into().ok().map(Value::U32),
        ("int64", Some(n)) => n.try_into().ok().map(Value::I64),
        ("uint64", Some(n)) => n.try_into().ok().map(Value::U64),
        _ => None,
    };
    value.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_gvariant_writes_them() {
        let text = |s: &str| Value::text(s);
        let table = [
            ("15", Value::I32(15)),
            ("-1", Value::I32(-1)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("0x10", Value::I32(16)),
            ("int16 -5", Value::I16(-5)),
            ("byte 255", Value::Byte(255)),
            ("1.5", Value::Double(1.5f64.to_bits())),
            ("double 2", Value::Double(2f64.to_bits())),
            (" true ", Value::Bool(true)),
            ("'inactive-or-failed'", text("inactive-or-failed")),
            (r#""it's \"so\"""#, text("it's \"so\"")),
            ("objectpath '/a/b'", Value::Path("/a/b".into())),
            ("['a', 'b']", Value::Array("s".into(), vec![text("a"), text("b")])),
            ("@as []", Value::Array("s".into(), vec![])),
            ("@a(ss) []", Value::Array("(ss)".into(), vec![])),
            ("[('/dev/x', 'rwm')]", Value::Array("(ss)".into(), vec![Value::Struct(vec![text("/dev/x"), text("rwm")])])),
            ("<uint32 5>", Value::Variant(Box::new(Value::U32(5)))),
        ];
        for (given, value) in table {
            assert_eq!(parse(given), Ok(value), "{given}");
        }
        for bad in [
            "",
            "word",
            "'open",
            "[1, 'a']",
            "[]",
            "()",
            "5 6",
            "uint64 -1",
            "byte 256",
            "4294967296",
            "@z []",
            "@as [5]",
            "<5",
            "[1 2]",
            "nan",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"[".repeat(5000)).is_err());
    }
}
