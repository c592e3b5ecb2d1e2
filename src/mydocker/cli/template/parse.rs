//! From tokens to nodes.

use super::Fault;
use super::functions::is_function;
use super::lex::{Kind, Piece, Token, pieces};
use serde_json::Value;

/// Which of the three a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    If,
    With,
    Range,
}

/// A part of a template.
#[derive(Debug)]
pub enum Node {
    Text(String),
    Print(Pipeline),
    Branch { branch: Branch, on: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

/// Commands, each handing its value to the next as the last argument.
#[derive(Debug)]
pub struct Pipeline {
    /// Where it begins.
    pub at: usize,
    /// The variables on the left.
    pub variables: Vec<String>,
    /// Whether they exist already (`=`) or are new (`:=`).
    pub assigns: bool,
    /// Each a function or value with its arguments.
    pub commands: Vec<Vec<Operand>>,
}

/// A value: its base, and the fields taken from it.
#[derive(Debug)]
pub struct Operand {
    pub at: usize,
    pub end: usize,
    pub base: Base,
    pub fields: Vec<String>,
}

/// Where an operand begins.
#[derive(Debug)]
pub enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Box<Pipeline>),
}

/// Deeper nesting is refused; it would only serve to exhaust the stack.
const DEEPEST: usize = 64;

/// The nodes of a template.
pub fn parse(source: &str) -> Result<Vec<Node>, Fault> {
    let mut parser = Parser { pieces: pieces(source)?.into_iter(), length: source.len(), depth: 0, loops: 0 };
    match parser.block()? {
        (nodes, Stop::Eof) => Ok(nodes),
        (_, Stop::End(at)) => Err(Fault::at(at, "unexpected {{end}}")),
        (_, Stop::Else(at, _)) => Err(Fault::at(at, "unexpected {{else}}")),
    }
}

enum Stop {
    Eof,
    End(usize),
    Else(usize, Vec<Token>),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    length: usize,
    depth: usize,
    loops: usize,
}

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, Stop), Fault> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (at, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(at, tokens) => (at, tokens),
            };
            let word = match tokens.first().map(|token| &token.kind) {
                Some(Kind::Word(word)) => word.as_str(),
                _ => "",
            };
            if ["end", "break", "continue"].contains(&word) && tokens.len() > 1 {
                return Err(Fault::at(tokens[1].at, format!("unexpected words after {word}")));
            }
            match word {
                "if" => nodes.push(self.branch(Branch::If, at, &tokens[1..])?),
                "with" => nodes.push(self.branch(Branch::With, at, &tokens[1..])?),
                "range" => nodes.push(self.branch(Branch::Range, at, &tokens[1..])?),
                "end" => return Ok((nodes, Stop::End(at))),
                "else" => return Ok((nodes, Stop::Else(at, tokens[1..].to_vec()))),
                "break" | "continue" if self.loops == 0 => return Err(Fault::at(at, format!("{{{{{word}}}}} outside {{{{range}}}}"))),
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" | "template" | "block" => return Err(Fault::at(at, format!("{{{{{word}}}}} is not supported"))),
                _ => nodes.push(Node::Print(Reader { tokens: &tokens, next: 0, end: at + 2, depth: 0 }.whole("command")?)),
            }
        }
        Ok((nodes, Stop::Eof))
    }

    fn branch(&mut self, branch: Branch, at: usize, tokens: &[Token]) -> Result<Node, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Fault::at(at, "nested too deeply"));
        }
        let name = ["if", "with", "range"][branch as usize];
        let on = Reader { tokens, next: 0, end: at + 2, depth: 0 }.whole(name)?;
        if on.variables.len() > 1 && branch != Branch::Range {
            return Err(Fault::at(at, format!("too many declarations in {name}")));
        }
        self.loops += usize::from(branch == Branch::Range);
        let (body, end) = self.block()?;
        self.loops -= usize::from(branch == Branch::Range);
        let otherwise = match end {
            Stop::End(_) => Vec::new(),
            Stop::Eof => return Err(Fault::at(self.length, format!("unexpected EOF: {{{{{name}}}}} has no {{{{end}}}}"))),
            Stop::Else(at, rest) => match rest.first().map(|token| &token.kind) {
                // The chained branch takes the one {{end}} for all.
                Some(Kind::Word(word)) if word == "if" && branch != Branch::Range => vec![self.branch(Branch::If, at, &rest[1..])?],
                Some(Kind::Word(word)) if word == "with" && branch == Branch::With => vec![self.branch(Branch::With, at, &rest[1..])?],
                Some(_) => return Err(Fault::at(rest[0].at, "unexpected words in {{else}}")),
                None => match self.block()? {
                    (nodes, Stop::End(_)) => nodes,
                    (_, Stop::Else(at, _)) => return Err(Fault::at(at, "expected end; found {{else}}")),
                    (_, Stop::Eof) => return Err(Fault::at(self.length, format!("unexpected EOF: {{{{{name}}}}} has no {{{{end}}}}"))),
                },
            },
        };
        self.depth -= 1;
        Ok(Node::Branch { branch, on, body, otherwise })
    }
}

/// Reads the tokens of one action.
struct Reader<'a> {
    tokens: &'a [Token],
    next: usize,
    end: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn at(&self) -> usize {
        self.peek().map_or_else(|| self.tokens.last().map_or(self.end, |last| last.end), |token| token.at)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token { kind: Kind::Sign(found), .. }) if *found == sign);
        self.next += usize::from(found);
        found
    }

    fn whole(mut self, what: &str) -> Result<Pipeline, Fault> {
        let pipeline = self.pipeline(what)?;
        match self.peek() {
            None => Ok(pipeline),
            Some(Token { kind: Kind::Sign(sign), at, .. }) => Err(Fault::at(*at, format!("unexpected {sign:?} in {what}"))),
            Some(token) => Err(Fault::at(token.at, format!("unexpected words in {what}"))),
        }
    }

    fn pipeline(&mut self, what: &str) -> Result<Pipeline, Fault> {
        let at = self.at();
        let (variables, assigns) = self.declaration();
        let mut commands = vec![self.command(what)?];
        while self.takes("|") {
            commands.push(self.command(what)?);
        }
        for command in &commands[1..] {
            if matches!(command[0].base, Base::Literal(_) | Base::Dot) && command[0].fields.is_empty() {
                return Err(Fault::at(command[0].at, "non executable command in pipeline"));
            }
        }
        Ok(Pipeline { at, variables, assigns, commands })
    }

    /// `$v :=`, `$v =` or `$i, $v :=`; nothing is taken if none of them is there.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let start = self.next;
        let mut variables = Vec::new();
        while let Some(Token { kind: Kind::Variable(name), .. }) = self.peek() {
            variables.push(name.clone());
            self.next += 1;
            if variables.len() == 1 && self.takes(",") {
                continue;
            }
            if self.takes(":=") {
                return (variables, false);
            }
            if self.takes("=") {
                return (variables, true);
            }
            break;
        }
        self.next = start;
        (Vec::new(), false)
    }

    fn command(&mut self, what: &str) -> Result<Vec<Operand>, Fault> {
        let mut operands = Vec::new();
        loop {
            let glued = !operands.is_empty() && self.peek().is_some_and(|token| !token.spaced);
            let Some(operand) = self.operand()? else { break };
            if glued {
                return Err(Fault::at(operand.at, "a space is missing before it"));
            }
            operands.push(operand);
        }
        if operands.is_empty() { Err(Fault::at(self.at(), format!("missing value for {what}"))) } else { Ok(operands) }
    }

    fn operand(&mut self) -> Result<Option<Operand>, Fault> {
        let Some(token) = self.peek().cloned() else { return Ok(None) };
        let (mut fields, mut end) = (Vec::new(), token.end);
        let base = match token.kind {
            Kind::Sign("(") => {
                self.next += 1;
                self.depth += 1;
                if self.depth > DEEPEST {
                    return Err(Fault::at(token.at, "nested too deeply"));
                }
                let inner = self.pipeline("parenthesized pipeline")?;
                end = self.at() + 1;
                if !self.takes(")") {
                    return Err(Fault::at(token.at, "unclosed left paren"));
                }
                self.depth -= 1;
                self.next -= 1;
                Base::Group(Box::new(inner))
            }
            Kind::Sign(_) => return Ok(None),
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Base::Dot
            }
            Kind::Variable(name) => Base::Variable(name),
            Kind::Literal(value) => Base::Literal(value),
            Kind::Word(name) if is_function(&name) => Base::Function(name),
            Kind::Word(name) => return Err(Fault::at(token.at, format!("function {name:?} not defined"))),
        };
        self.next += 1;
        while let Some(Token { kind: Kind::Field(name), spaced: false, end: field_end, .. }) = self.peek() {
            if matches!(base, Base::Literal(_)) {
                return Err(Fault::at(token.at, "a literal has no fields"));
            }
            fields.push(name.clone());
            end = *field_end;
            self.next += 1;
        }
        Ok(Some(Operand { at: token.at, end, base, fields }))
    }
}
