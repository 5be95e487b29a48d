//! containerd's filters: which records a List call returns.
//!
//! The grammar is that of containerd's package `pkg/filters`:
//!
//! ```text
//! filter    = [ selector *( "," selector ) ]        empty: every record
//! selector  = fieldpath [ operator value ]          without operator: the field is present
//! fieldpath = field *( "." field )
//! field     = 1*( letter / digit / "_" ) / quoted
//! operator  = "==" / "!=" / "~="
//! value     = 1*( any character but comma, white space and control characters ) / quoted
//! quoted    = Go's string syntax in "…"; the value of "~=" may be in /…/ or |…| as well
//! ```
//!
//! White space may stand before a field, an operator or a value. Of several filters one must match; of a
//! filter's selectors all must match. One thing differs: there an invalid regular expression matches
//! nothing and tells only the server's log; here it is an error that the client sees.

mod parse;
mod snapshot;

use std::borrow::Cow;

use regex::Regex;

use crate::error::{Classify, Kind};

/// What filters look at: something with named fields.
pub trait Record {
    /// The value of the field at `path`, which has at least one element; `None` if it is absent.
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>>;
}

/// A text that is not a filter.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("filter {filter:?}, column {column}: {problem}")]
pub struct Error {
    filter: String,
    /// Where the problem is, counted in characters from 1.
    column: usize,
    problem: String,
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        Kind::InvalidArgument
    }
}

/// The filters of one call.
#[derive(Clone, Debug)]
pub struct Filters {
    /// Each is a filter; none at all lets every record pass.
    alternatives: Vec<Vec<Selector>>,
}

#[derive(Clone, Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filters {
    /// Reads the filters of a request.
    ///
    /// # Errors
    ///
    /// The first text that the grammar does not allow, and invalid regular expressions.
    pub fn parse(texts: &[String]) -> Result<Self, Error> {
        let alternatives = texts.iter().map(|text| parse::filter(text)).collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// Whether `record` passes.
    #[must_use]
    pub fn matches(&self, record: &impl Record) -> bool {
        self.alternatives.is_empty()
            || self
                .alternatives
                .iter()
                .any(|selectors| selectors.iter().all(|selector| selector.matches(record)))
    }
}

impl Selector {
    /// An absent field has the empty value, except that it does not equal it.
    fn matches(&self, record: &impl Record) -> bool {
        let value = record.field(&self.path);
        let text = value.as_deref().unwrap_or_default();
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value.is_some() && text == wanted,
            Test::NotEqual(unwanted) => text != unwanted,
            Test::Matches(pattern) => pattern.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests;
