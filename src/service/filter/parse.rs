//! The grammar: a text into the selectors of one filter.

use std::iter::Peekable;
use std::str::CharIndices;

use regex::Regex;

use super::{Error, Selector, Test};

/// Reads one filter. The empty text has no selector, so that every record matches it.
pub(super) fn filter(text: &str) -> Result<Vec<Selector>, Error> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut parser = Parser { text, rest: text.char_indices().peekable() };
    let mut selectors = vec![parser.selector()?];
    while parser.next_if(|c| c == ',') {
        selectors.push(parser.selector()?);
    }
    match parser.peek() {
        None => Ok(selectors),
        Some(c) => Err(parser.error(format!("unexpected {c:?}; selectors are separated by a comma"))),
    }
}

/// The spelling of quoted texts that a place in the grammar allows.
#[derive(Clone, Copy)]
enum Quotes {
    Double,
    /// `"…"`, `/…/` and `|…|`: convenient around regular expressions.
    Any,
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl Parser<'_> {
    fn selector(&mut self) -> Result<Selector, Error> {
        let path = self.fieldpath()?;
        let test = match self.peek() {
            None | Some(',') => Test::Present,
            Some(_) => self.test()?,
        };
        Ok(Selector { path, test })
    }

    fn fieldpath(&mut self) -> Result<Vec<String>, Error> {
        let mut path = vec![self.field()?];
        while self.next_if(|c| c == '.') {
            path.push(self.field()?);
        }
        Ok(path)
    }

    fn field(&mut self) -> Result<String, Error> {
        self.skip_space();
        match self.peek() {
            Some(c) if is_quote(c) => self.quoted(Quotes::Double),
            Some(c) if is_field(c) => Ok(self.take_while(is_field)),
            _ => Err(self.error("expected a field name or a quoted text")),
        }
    }

    fn test(&mut self) -> Result<Test, Error> {
        self.skip_space();
        let at = self.column();
        match self.take_while(is_operator).as_str() {
            "==" => self.value(Quotes::Double).map(Test::Equal),
            "!=" => self.value(Quotes::Double).map(Test::NotEqual),
            "~=" => self.pattern().map(Test::Matches),
            "" => Err(self.error("expected an operator: ==, != or ~=")),
            other => Err(self.error_at(at, format!("{other:?} is no operator; there are ==, != and ~="))),
        }
    }

    fn pattern(&mut self) -> Result<Regex, Error> {
        self.skip_space();
        let at = self.column();
        let text = self.value(Quotes::Any)?;
        Regex::new(&text)
            .map_err(|error| self.error_at(at, format!("{text:?} is no regular expression: {error}")))
    }

    fn value(&mut self, quotes: Quotes) -> Result<String, Error> {
        self.skip_space();
        match self.peek() {
            Some(c) if is_quote(c) => self.quoted(quotes),
            Some(c) if is_value(c) && c != '.' => Ok(self.take_while(is_value)),
            _ => Err(self.error("expected a value or a quoted text")),
        }
    }

    /// Reads a quoted text. The next character is a quote.
    fn quoted(&mut self, quotes: Quotes) -> Result<String, Error> {
        let at = self.column();
        let Some(quote) = self.next() else {
            return Err(self.error("expected a quoted text"));
        };
        if matches!(quotes, Quotes::Double) && quote != '"' {
            return Err(self.error_at(at, format!("{quote} does not quote here; use \"…\"")));
        }
        let mut bytes = Vec::new();
        loop {
            match self.next() {
                Some(c) if c == quote => break,
                Some('\\') => self.escape(quote, &mut bytes)?,
                None | Some('\n' | '\0') => {
                    return Err(self.error_at(at, "quoted text without end; texts with / or | need quotes"));
                }
                Some(c) => push_char(&mut bytes, c),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.error_at(at, "the quoted text is not UTF-8"))
    }

    /// Reads what follows a backslash, in Go's string syntax.
    fn escape(&mut self, quote: char, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let at = self.column();
        let Some(c) = self.next() else {
            return Err(self.error("quoted text without end"));
        };
        match c {
            'a' => bytes.push(0x07),
            'b' => bytes.push(0x08),
            't' => bytes.push(b'\t'),
            'n' => bytes.push(b'\n'),
            'v' => bytes.push(0x0b),
            'f' => bytes.push(0x0c),
            'r' => bytes.push(b'\r'),
            '\\' => bytes.push(b'\\'),
            'x' => bytes.push(self.byte(0, 16, 2)?),
            'u' => push_char(bytes, self.code_point(4)?),
            'U' => push_char(bytes, self.code_point(8)?),
            '0'..='7' => bytes.push(self.byte(c.to_digit(8).unwrap_or_default(), 8, 2)?),
            _ if c == quote => push_char(bytes, c),
            _ => return Err(self.error_at(at, format!("\\{c} is no escape sequence"))),
        }
        Ok(())
    }

    fn byte(&mut self, first: u32, base: u32, digits: u32) -> Result<u8, Error> {
        let at = self.column();
        let value = self.number(first, base, digits)?;
        u8::try_from(value).map_err(|_| self.error_at(at, "the escape sequence is more than a byte"))
    }

    fn code_point(&mut self, digits: u32) -> Result<char, Error> {
        let at = self.column();
        let value = self.number(0, 16, digits)?;
        char::from_u32(value).ok_or_else(|| self.error_at(at, "the escape sequence is no character"))
    }

    /// Exactly `digits` more digits after those that make up `first`. Eight hexadecimal ones fit.
    fn number(&mut self, first: u32, base: u32, digits: u32) -> Result<u32, Error> {
        (0..digits).try_fold(first, |value, _| match self.peek().and_then(|c| c.to_digit(base)) {
            Some(digit) => {
                self.next();
                Ok(value * base + digit)
            }
            None => Err(self.error("the escape sequence lacks digits")),
        })
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, c)| *c)
    }

    fn next(&mut self) -> Option<char> {
        self.rest.next().map(|(_, c)| c)
    }

    fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        self.rest.next_if(|(_, c)| wanted(*c)).is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        std::iter::from_fn(|| self.rest.next_if(|(_, c)| wanted(*c))).map(|(_, c)| c).collect()
    }

    fn skip_space(&mut self) {
        while self.next_if(char::is_whitespace) {}
    }

    fn column(&mut self) -> usize {
        let at = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        1 + self.text.char_indices().take_while(|(index, _)| *index < at).count()
    }

    fn error(&mut self, problem: impl Into<String>) -> Error {
        let column = self.column();
        self.error_at(column, problem)
    }

    fn error_at(&self, column: usize, problem: impl Into<String>) -> Error {
        Error { filter: self.text.to_owned(), column, problem: problem.into() }
    }
}

fn push_char(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '/' | '|')
}

fn is_field(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_operator(c: char) -> bool {
    matches!(c, '=' | '!' | '~')
}

fn is_value(c: char) -> bool {
    c != ',' && !c.is_whitespace() && !c.is_control()
}
