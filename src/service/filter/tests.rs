//! The table's answers are those of containerd v2.3.4 (`pkg/filters`) for the same records.

use std::collections::BTreeMap;

use super::*;

/// A record with a name, one more field and labels.
struct Entry {
    name: &'static str,
    other: &'static str,
    labels: BTreeMap<&'static str, &'static str>,
}

impl Record for Entry {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        let value = match path[0].as_str() {
            "name" => Some(self.name),
            "other" => Some(self.other).filter(|other| !other.is_empty()),
            "labels" => self.labels.get(path[1..].join(".").as_str()).copied(),
            _ => None,
        };
        value.map(Cow::Borrowed)
    }
}

fn entries() -> Vec<Entry> {
    let entry = |name, other, labels: &[(&'static str, &'static str)]| Entry {
        name,
        other,
        labels: labels.iter().copied().collect(),
    };
    vec![
        entry("a", "", &[("foo", "true")]),
        entry("b", "too complex, yo", &[]),
        entry("c", "abc", &[("foo", "present"), ("more complex", "x")]),
        entry("d", "", &[("with \\ and \"", "x")]),
        entry("e", "", &[("with \\ and \".post", "x"), ("containerd.io/snapshot.ref", "sha256:12")]),
        entry("f", "é\u{1}", &[("foo", "omg_asdf.asdf-qwer/1")]),
    ]
}

/// The names of the entries that pass, in one text.
fn passing(filters: &[&str]) -> Result<String, Error> {
    let texts: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
    let filters = Filters::parse(&texts)?;
    Ok(entries().iter().filter(|entry| filters.matches(*entry)).map(|entry| entry.name).collect())
}

#[test]
fn filters_pass_what_containerd_passes() {
    for (filter, expected) in [
        // No selector.
        ("", "abcdef"),
        // Presence.
        ("name", "abcdef"),
        ("other", "bcf"),
        ("labels.foo", "acf"),
        ("labels", ""),
        ("unknown", ""),
        ("unknown.field", ""),
        // Equality.
        ("name==a", "a"),
        ("name == a", "a"),
        (" name==a", "a"),
        ("name==\ta", "a"),
        ("name==\"a\"", "a"),
        ("labels.foo==omg_asdf.asdf-qwer/1", "f"),
        ("other==\"too complex, yo\"", "b"),
        ("unknown==\"\"", ""),
        // Inequality: an absent field differs from everything but the empty text.
        ("name!=a", "bcdef"),
        ("labels.foo!=true", "bcdef"),
        ("labels.foo!=\"\"", "acf"),
        ("unknown!=x", "abcdef"),
        // Regular expressions, unanchored.
        ("other~=[abc]+", "bc"),
        ("other~=^[abc]+$", "c"),
        ("other~=/[abc]{1,2}/", "bc"),
        ("other~=|x, y|", "b"),
        ("other~=\"x, y\"", "b"),
        ("other~=/[abc]{0,1}\"\\//", ""),
        ("labels.foo~=/qwer\\/1$/", "f"),
        ("unknown~=/.*/", "abcdef"),
        ("unknown~=/.+/", ""),
        // All selectors must match.
        ("labels.foo,name==a", "a"),
        ("labels.foo, other", "cf"),
        ("name==a,labels.foo==wrong", ""),
        ("other~=[abc]+,name!=b", "c"),
        // Quoted fields.
        ("name==c,labels.\"more complex\"", "c"),
        (r#"labels."with \\ and \""==x"#, "d"),
        (r#"labels."with \\ and \"".post==x"#, "e"),
        ("labels.\"containerd.io/snapshot.ref\"==sha256:12", "e"),
        ("labels.containerd.\"io/snapshot\".ref==sha256:12", "e"),
        ("\"name\"==a", "a"),
        ("labels. foo", "acf"),
        // Escape sequences.
        (r#"other=="\u00e9\x01""#, "f"),
        (r#"other=="\xc3\xa9\001""#, "f"),
        (r#"other=="\U000000e9\x01""#, "f"),
        (r#"name!="\a\b\f\n\r\t\v""#, "abcdef"),
    ] {
        assert_eq!(passing(&[filter]).as_deref(), Ok(expected), "{filter}");
    }
}

#[test]
fn texts_that_containerd_refuses_are_refused() {
    for (filter, column) in [
        // Fields.
        (",", 1),
        (" ", 2),
        ("name==a,", 9),
        ("labels.", 8),
        (".name", 1),
        ("labels.|foo|==x", 8),
        ("labels.ns/key==value", 10),
        ("labels.?\"x\"==y", 8),
        ("labels.a-b==y", 9),
        ("labels.\"\\q\"", 10),
        // Operators.
        ("name ", 6),
        ("name a", 6),
        ("name=a", 5),
        ("name===a", 5),
        ("name!a", 5),
        ("name .x", 6),
        ("name ,x", 6),
        // Values.
        ("name==", 7),
        ("name==,other", 7),
        ("name==.a", 7),
        ("name~=.*", 7),
        ("name==a b", 8),
        ("name==a ,other", 8),
        ("name==\"a\"b", 10),
        ("name==/a/", 7),
        ("name==|a|", 7),
        ("name~=/a", 7),
        ("name==\"a", 7),
        ("name==\"a\nb\"", 7),
        ("name==\"\\", 9),
        ("name==\"\\x1\"", 11),
        ("name==\"\\09\"", 10),
        ("name==\"\\777\"", 10),
        ("name==\"\\/\"", 9),
    ] {
        assert_eq!(passing(&[filter]).map_err(|error| error.column), Err(column), "{filter}");
    }
}

#[test]
fn an_invalid_regular_expression_is_refused() {
    assert_eq!(passing(&["name~=a("]).map_err(|error| error.column), Err(7));
}

#[test]
fn one_of_several_filters_is_enough() {
    assert_eq!(passing(&[]).as_deref(), Ok("abcdef"));
    assert_eq!(passing(&["name==a", "other==abc"]).as_deref(), Ok("ac"));
    assert_eq!(passing(&["name==a", ""]).as_deref(), Ok("abcdef"));
    assert!(passing(&["name==a", "name=="]).is_err());
}

#[test]
fn an_error_shows_the_filter_and_the_place() {
    let error = passing(&["name=x"]).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "filter \"name=x\", column 5: \"=\" is no operator; there are ==, != and ~="
    );
    assert_eq!(error.kind(), Kind::InvalidArgument);
}
