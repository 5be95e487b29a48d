//! What a Rust file uses, found in its tokens.
//!
//! Tokens and not text, so that comments and strings do not count; tokens and not a syntax tree,
//! so that paths inside macro calls do. Names are not resolved: a path counts as it is written.

use std::iter::Peekable;
use std::vec::IntoIter;

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// A path that a file names, such as `crate::image::tree::Tree` or `tonic::Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Its segments; `super` and `self` at the start are replaced by `crate` and what they mean.
    pub(crate) segments: Vec<String>,
    /// Line of its first segment, counted from 1.
    pub(crate) line: usize,
    /// Whether it stands in code for tests only.
    pub(crate) in_tests: bool,
}

/// What one file uses.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Every path of two or more segments, and every one in a `use`.
    pub(crate) paths: Vec<Path>,
    /// Lines with the word `unsafe`.
    pub(crate) unsafe_lines: Vec<usize>,
}

/// Reads `text`, the file of the module `module` (empty for the crate's root).
pub(crate) fn read(text: &str, module: &[&str]) -> Result<Source, proc_macro2::LexError> {
    let mut reader = Reader {
        module: module.iter().map(|name| (*name).to_owned()).collect(),
        in_tests: module.last() == Some(&"tests"),
        source: Source::default(),
    };
    reader.stream(text.parse()?);
    Ok(reader.source)
}

/// Keywords that a path with `::` at its very start may follow, so that they are not part of it.
const KEYWORDS: [&str; 12] =
    ["use", "return", "break", "in", "as", "dyn", "impl", "for", "match", "if", "while", "mut"];

type Tokens = Peekable<IntoIter<TokenTree>>;

fn tokens(stream: TokenStream) -> Tokens {
    stream.into_iter().collect::<Vec<_>>().into_iter().peekable()
}

struct Reader {
    /// The module that is being read.
    module: Vec<String>,
    in_tests: bool,
    source: Source,
}

impl Reader {
    fn stream(&mut self, stream: TokenStream) {
        let mut tokens = tokens(stream);
        let mut last_word = String::new();
        let mut test_attribute = false;
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) if is_test_attribute(&group) => test_attribute = true,
                TokenTree::Group(group) => {
                    self.stream(group.stream());
                    test_attribute &= group.delimiter() != Delimiter::Brace;
                }
                TokenTree::Ident(word) => {
                    let text = word.to_string();
                    match text.as_str() {
                        "mod" => self.module(&mut tokens, test_attribute),
                        word if KEYWORDS.contains(&word) => {}
                        "unsafe" => self.source.unsafe_lines.push(word.span().start().line),
                        _ => self.path(&word, &mut tokens, matches!(last_word.as_str(), "use" | "crate")),
                    }
                    last_word = text;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// The rest of `mod name { … }`, after the word `mod`.
    fn module(&mut self, tokens: &mut Tokens, for_tests: bool) {
        let Some(TokenTree::Ident(name)) = tokens.peek().cloned() else { return };
        tokens.next();
        if let Some(TokenTree::Group(body)) = tokens.next_if(is_brace) {
            let outside = self.in_tests;
            self.in_tests |= for_tests;
            self.module.push(name.to_string());
            self.stream(body.stream());
            self.module.pop();
            self.in_tests = outside;
        }
    }

    /// The path that begins with `first`.
    fn path(&mut self, first: &Ident, tokens: &mut Tokens, in_use: bool) {
        let line = first.span().start().line;
        let mut segments = vec![first.to_string()];
        while skip_colons(tokens) {
            match tokens.peek() {
                Some(TokenTree::Ident(segment)) => segments.push(segment.to_string()),
                Some(TokenTree::Group(_)) => {
                    if let Some(TokenTree::Group(list)) = tokens.next() {
                        self.use_list(&segments, list.stream());
                    }
                    return;
                }
                _ => break,
            }
            tokens.next();
        }
        self.record(segments, line, in_use);
    }

    /// The `{a, b::{c, d}}` of a `use`, each with the path before it.
    fn use_list(&mut self, prefix: &[String], list: TokenStream) {
        let mut tokens = tokens(list);
        while let Some(token) = tokens.next() {
            let TokenTree::Ident(first) = token else { continue };
            let line = first.span().start().line;
            let mut segments = [prefix, &[first.to_string()]].concat();
            let mut listed = false;
            while skip_colons(&mut tokens) {
                match tokens.next() {
                    Some(TokenTree::Ident(segment)) => segments.push(segment.to_string()),
                    Some(TokenTree::Group(inner)) => {
                        self.use_list(&segments, inner.stream());
                        listed = true;
                    }
                    _ => break,
                }
            }
            if !listed {
                self.record(segments, line, true);
            }
            // What follows up to the comma is `as name`, which names nothing of others.
            while tokens.next_if(|token| !is_punct(token, ',')).is_some() {}
        }
    }

    fn record(&mut self, segments: Vec<String>, line: usize, in_use: bool) {
        if segments.len() > 1 || in_use {
            let segments = self.resolve(segments);
            self.source.paths.push(Path { segments, line, in_tests: self.in_tests });
        }
    }

    /// `super` and `self` at the start of a path, replaced by the module that they mean.
    fn resolve(&self, segments: Vec<String>) -> Vec<String> {
        let supers = segments.iter().take_while(|segment| *segment == "super").count();
        let skipped = if segments[0] == "self" { 1 } else { supers };
        if skipped == 0 {
            return segments;
        }
        let kept = self.module.len().saturating_sub(supers);
        let base = std::iter::once("crate".to_owned()).chain(self.module[..kept].iter().cloned());
        base.chain(segments.into_iter().skip(skipped)).collect()
    }
}

fn is_brace(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

/// Whether this is the `[cfg(test)]` of an attribute.
fn is_test_attribute(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket && group.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// Takes a `::` if one comes next.
fn skip_colons(tokens: &mut Tokens) -> bool {
    let mut ahead = tokens.clone();
    let found = ahead.next().is_some_and(|token| is_punct(&token, ':'))
        && ahead.next().is_some_and(|token| is_punct(&token, ':'));
    if found {
        *tokens = ahead;
    }
    found
}
