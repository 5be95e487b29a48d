//! The fields of a snapshot's record: `name`, `parent`, `kind` and `labels.KEY`.

use std::borrow::Cow;

use super::Record;
use crate::snapshot::{Info, Kind};

impl Record for Info {
    fn field(&self, path: &[String]) -> Option<Cow<'_, str>> {
        let (field, rest) = path.split_first()?;
        match field.as_str() {
            "name" => Some(Cow::Borrowed(&self.name)),
            // A snapshot without a parent has an empty one: containerd asks with `parent==""`.
            "parent" => Some(Cow::Borrowed(self.parent.as_deref().unwrap_or_default())),
            "kind" => Some(Cow::Borrowed(kind(self.kind))),
            // A key with dots may be written as one quoted field or as several.
            "labels" => self.labels.get(&rest.join(".")).map(|value| Cow::Borrowed(value.as_str())),
            _ => None,
        }
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::View => "view",
        Kind::Active => "active",
        Kind::Committed => "committed",
    }
}
